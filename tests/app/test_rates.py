"""Rate limits of apps and of addresses, and the headers that tell them."""

from collections.abc import Callable
from dataclasses import replace
from threading import Timer
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import EnvironBuilder

from app import create_app
from app.accounts.store import read_accounts
from app.settings import Settings
from app.store import buckets
from app.store.buckets import Bucket, Kept, Policy, Shared
from app.store.client import connect
from app.store.keys import Keys
from app.store.mint import Mint
from app.web.auth import JOB, JobRequest, current_caller
from app.web.rates import CALLS, REQUESTS, RateLimits, network
from app.web.services import EXTENSION
from ringback_cli.up import free_port
from tests.app.conftest import USER, VOIPNOW
from tests.app.test_phone_calls import BODY, LIST, SIMPLE
from tests.conftest import eventually

Limited = Callable[..., FlaskClient]

# A token that no Ringback has issued, of the form that issued ones have.
GUESS = "g" * 43


class Clock:
    """A clock that stands until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(buckets, "monotonic", clock)
    return clock


class Never(Timer):
    def run(self) -> None:
        pass


@pytest.fixture
def limited(
    settings: Settings, redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Limited:
    """The API with settings of its limits. Its buckets fill when the test moves the clock, and it
    learns what others took when the test says so."""
    monkeypatch.setattr(buckets, "Timer", Never)

    def make(**changes: int) -> FlaskClient:
        return create_app(replace(settings, **changes)).test_client()

    return make


def limits(client: FlaskClient) -> RateLimits:
    found: RateLimits = client.application.extensions[EXTENSION][RateLimits]
    return found


def settle(client: FlaskClient) -> None:
    for shared in limits(client).buckets.values():
        shared.settle()


def place(client: FlaskClient, calls: int = 1, token: str = USER, **body: Any) -> Any:
    body = {**BODY, "phoneCallView": BODY["phoneCallView"] * calls, **body}
    return client.post(SIMPLE, headers=bearer(token), json=body)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refused(answer: Any) -> bool:
    """Whether a rate limit refused the request, as it is documented."""
    if answer.status_code != 429:
        return False
    assert answer.json["error"]["code"] == "rate_limit_exceeded", answer.json
    assert int(answer.headers["Retry-After"]) >= 1
    return True


# Buckets


def test_a_bucket_fills_by_its_rate_and_holds_no_more_than_its_size(clock: Clock) -> None:
    bucket = Bucket(Policy(10, 5))
    assert [bucket.take(1) for _ in range(5)] == [0.0] * 5
    assert bucket.take(1) == pytest.approx(0.1) and bucket.take(3) == pytest.approx(0.3)
    clock.now += 0.3
    assert bucket.take(3) == 0 and bucket.take(1) > 0
    clock.now += 3600
    assert bucket.level() == 5


def test_a_bucket_serves_more_than_it_holds_once_it_is_full(clock: Clock) -> None:
    bucket = Bucket(Policy(1, 5))
    assert bucket.take(20) == 0 and bucket.level() == -15
    assert bucket.take(20) == 20


def test_a_bucket_may_owe(clock: Clock) -> None:
    bucket = Bucket(Policy(1, 5))
    bucket.take(5)
    assert bucket.take(1) == 1
    assert [bucket.take(1, below=5) for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_a_process_keeps_the_buckets_that_were_used_last() -> None:
    kept = Kept(Policy(1, 5), 2)
    first = kept.of("a")
    kept.of("b")
    assert kept.of("a") is first
    kept.of("c")
    assert kept.of("a") is first and len(kept._buckets) == 2


def shared(redis: Redis, rate: float = 10) -> Shared:
    return Shared(redis, lambda app: Keys().bucket(CALLS, app), Policy(rate, 100), 10)


def test_processes_share_a_bucket(redis: Redis) -> None:
    one, other = shared(redis), shared(redis)
    assert one.take("crm", 100) == 0
    one.settle()
    # The other one has not heard of it yet, and gives a part.
    assert other.take("crm", 4) == 0
    other.settle()
    assert other.level("crm") < 0 < other.take("crm", 1)
    assert other.take("shop", 100) == 0
    assert 0 < redis.pttl("ringback:bucket:calls:crm") <= 20_000


def test_a_process_settles_by_itself_before_it_gives_much(redis: Redis) -> None:
    one, other = (shared(redis, rate=0.001) for _ in range(2))
    while not one.take("crm", 1):
        pass

    def level() -> float:
        kept: Any = redis.get("ringback:bucket:calls:crm")
        return float(kept.split()[0]) if kept else 100.0

    eventually(lambda: level() < 1)
    # The other one thinks that the bucket is full, until it has given a twentieth.
    assert other.take("crm", 5) == 0
    eventually(lambda: other.level("crm") < 0)


def test_a_full_bucket_takes_no_room(redis: Redis) -> None:
    one = shared(redis)
    one.take("crm", 5)
    one.settle()
    assert redis.exists("ringback:bucket:calls:crm")
    one.put("crm", 5)
    one.settle()
    assert not redis.exists("ringback:bucket:calls:crm")


def test_a_debt_is_no_larger_than_the_bucket(redis: Redis) -> None:
    one = shared(redis)
    for _ in range(10):
        one._took("crm", 1000)
        one.settle()
    assert one.level("crm") >= -100


def test_a_process_goes_on_without_redis(clock: Clock) -> None:
    dead = connect(f"redis://127.0.0.1:{free_port()}/0", timeout=0.1, retries=0)
    one = shared(dead)
    assert one.take("crm", 60) == 0
    one.settle()
    assert one.take("crm", 40) == 0 and one.take("crm", 1) > 0
    clock.now += 1
    assert one.take("crm", 10) == 0


# Apps


def test_an_app_over_its_calls_is_refused_alone(
    limited: Limited, redis: Redis, clock: Clock
) -> None:
    client = limited(app_calls=2, app_calls_burst=5)
    assert place(client, 4).status_code == 202
    answer = place(client, 4)
    # One is left, and three take 1.5 s.
    assert refused(answer) and answer.headers["Retry-After"] == "2"
    assert answer.headers["RateLimit"].endswith('"calls";r=1;t=1')
    assert redis.zcard(Keys().calls) == 4
    assert client.get(LIST, headers=bearer(USER)).status_code == 200
    assert place(client, 4, VOIPNOW).status_code == 200
    clock.now += 1.5
    assert place(client, 4).status_code == 202


def test_all_processes_of_the_api_share_the_buckets(limited: Limited) -> None:
    one, other = (limited(app_calls=1, app_calls_burst=20) for _ in range(2))
    assert place(one, 20).status_code == 202
    settle(one)
    assert place(other).status_code == 202
    settle(other)
    assert refused(place(other)) and refused(place(one))


def test_an_app_without_a_token_for_a_call_is_refused_unread(limited: Limited) -> None:
    client = limited(app_calls=1, app_calls_burst=1)
    place(client)
    answer = client.post(SIMPLE, headers=bearer(USER), data=b"no JSON")
    assert refused(answer) and answer.headers["RateLimit"].endswith('"calls";r=0;t=1')


def test_calls_that_were_not_placed_cost_nothing(limited: Limited) -> None:
    client = limited(app_calls=1, app_calls_burst=4)
    for _ in range(5):
        assert place(client, 2, nonce="order-4711").status_code == 202
        assert place(client, 2, extension="299").status_code == 400
        assert place(client, 2, nonce="order-4711", extension="211").status_code == 400
    assert place(client, 2).status_code == 202
    assert refused(place(client))


def test_an_app_over_its_requests_may_still_hang_up(limited: Limited, clock: Clock) -> None:
    client = limited(app_requests=1, app_requests_burst=3)
    (call,) = place(client).json
    here = f"{LIST}/{call['id']}"
    while not refused(answer := client.get(LIST, headers=bearer(USER))):
        assert answer.status_code == 200
    assert refused(place(client))
    assert client.get(LIST, headers=bearer(VOIPNOW)).status_code == 200
    hung_up = [client.delete(here, headers=bearer(USER)) for _ in range(4)]
    assert hung_up[0].status_code in (200, 202)
    assert [refused(each) for each in hung_up] == [False, False, False, True]
    assert hung_up[3].headers["Retry-After"] == "1"
    clock.now += 4
    assert client.get(LIST, headers=bearer(USER)).status_code == 200


def test_no_limit(limited: Limited) -> None:
    client = limited(app_calls=0, app_requests=0, refused_tokens=0)
    for _ in range(70):
        assert client.get(LIST, headers=bearer(GUESS)).status_code == 401
    answer = place(client, 20)
    assert answer.status_code == 202 and "RateLimit" not in answer.headers


def test_an_issued_token_draws_from_its_app(limited: Limited) -> None:
    client = limited(app_requests=2, app_requests_burst=22)
    # A token takes room in Redis.
    token = issued(client)
    assert client.get(LIST, headers=bearer(token)).status_code == 200
    assert client.get(LIST, headers=bearer(USER)).status_code == 200
    assert refused(client.get(LIST, headers=bearer(token)))
    answer = ask_token(client)
    assert (answer.status_code, answer.json["error"]) == (429, "slow_down")
    assert answer.headers["Retry-After"] == "10"


def test_the_console_draws_from_the_app_too(limited: Limited) -> None:
    client = limited(app_requests=1, app_requests_burst=102, app_calls=1, app_calls_burst=1)
    own = {"X-Ringback-Console": "1"}
    assert client.post("/console/api/session", headers=own, json={"token": USER}).status_code == 201
    path = "/console/api/calls/simple"
    assert client.post(path, headers=own, json=BODY).status_code == 202
    assert refused(client.post(path, headers=own, json=BODY))
    assert refused(client.get("/console/api/calls"))
    assert refused(client.get("/console/api/session"))
    assert refused(client.post("/console/api/session", headers=own, json={"token": USER}))


def test_jobs_have_no_limit(settings: Settings, redis: Redis) -> None:
    few = replace(settings, app_requests=1, app_requests_burst=1, app_calls=1, app_calls_burst=1)
    create_app(few)
    client = create_app(few, of_jobs=True).test_client()
    job = {JOB: JobRequest("job", read_accounts(None).apps["demo-user"])}
    for number in range(3):
        body = {**BODY, "nonce": str(number)}
        assert client.post(SIMPLE, environ_base=job, json=body).status_code == 202


# Headers


def test_answers_tell_what_the_app_may_still_send(limited: Limited, clock: Clock) -> None:
    client = limited()
    answer = place(client, 2)
    assert answer.headers["RateLimit-Policy"] == '"requests";q=5000;w=10, "calls";q=1000;w=10'
    assert answer.headers["RateLimit"] == '"requests";r=4999;t=1, "calls";r=998;t=1'
    tag = client.get(LIST, headers=bearer(USER)).headers["ETag"]
    kept = client.get(LIST, headers={**bearer(USER), "If-None-Match": tag})
    assert kept.status_code == 304
    assert kept.headers["RateLimit"] == '"requests";r=4997;t=1, "calls";r=998;t=1'
    bad = client.get(f"{LIST}?count=x", headers=bearer(USER))
    assert (bad.status_code, "RateLimit" in bad.headers) == (400, True)
    denied = client.get(LIST, headers=bearer(GUESS))
    assert (denied.status_code, "RateLimit" in denied.headers) == (401, False)
    assert "RateLimit" not in client.get("/healthz").headers


def test_a_stream_is_one_request(limited: Limited) -> None:
    client = limited()
    environ = EnvironBuilder(LIST, headers=bearer(USER)).get_environ()
    for _ in range(3):
        # So a stream looks again who its caller is.
        with client.application.request_context(environ):
            current_caller()
    assert limits(client).buckets[REQUESTS].level("demo-user") == 4999


# Addresses


def ask_token(client: FlaskClient, address: str = "192.0.2.1", **form: str) -> Any:
    asked = {
        "grant_type": "client_credentials",
        "client_id": "demo-user",
        "client_secret": "demo-user-secret",
    }
    return client.post("/oauth/token", data=asked | form, environ_base={"REMOTE_ADDR": address})


def issued(client: FlaskClient, address: str = "192.0.2.1") -> str:
    token: str = ask_token(client, address).json["access_token"]
    return token


def seen(client: FlaskClient, token: str | None, address: str = "192.0.2.1") -> Any:
    headers = bearer(token) if token else {}
    return client.get(LIST, headers=headers, environ_base={"REMOTE_ADDR": address})


def look_ups(redis: Redis) -> int:
    stats: Any = redis.info("commandstats")
    return int(stats.get("cmdstat_get", {}).get("calls", 0))


@pytest.mark.parametrize("guess", [GUESS, "short", None])
def test_an_address_of_many_refused_tokens_is_refused_but_for_good_ones(
    limited: Limited, redis: Redis, clock: Clock, guess: str | None
) -> None:
    client = limited()
    token = issued(client)
    for _ in range(60):
        assert seen(client, guess).status_code == 401
    before = look_ups(redis)
    for _ in range(189):
        answer = seen(client, guess)
        assert refused(answer) and answer.headers["Retry-After"] == "1"
    assert look_ups(redis) == before
    # A good token is served, whether this process has seen it before or not.
    assert seen(client, token).status_code == seen(client, USER).status_code == 200
    assert seen(client, issued(client, "192.0.2.2")).status_code == 200
    assert seen(client, guess, "192.0.2.2").status_code == 401
    clock.now += 1
    assert seen(client, guess).status_code == 401
    assert refused(seen(client, guess))


def test_all_processes_of_the_api_count_refused_tokens_together(limited: Limited) -> None:
    one, other = (limited(refused_tokens=40) for _ in range(2))
    for _ in range(40):
        assert seen(one, GUESS).status_code == 401
    settle(one)
    assert seen(other, GUESS).status_code == 401
    settle(other)
    assert refused(seen(other, GUESS)) and seen(other, USER).status_code == 200


def test_a_token_that_has_ended_is_looked_up_again_and_again_only_rarely(
    limited: Limited, redis: Redis
) -> None:
    client = limited()
    token = issued(client)
    for key in redis.keys("ringback:oauth:access:*"):
        redis.delete(key)
    assert seen(client, token).status_code == 401
    before = look_ups(redis)
    seen(client, token)
    assert look_ups(redis) == before


def test_a_full_redis_tells_tokens_from_guesses(redis: Redis) -> None:
    name = Mint(redis, Keys().mint).make()
    redis.config_set("maxmemory", 1)
    try:
        other = Mint(redis, Keys().mint)
        assert other.made(name) and not other.made(GUESS) and not other.made(f"{name}=")
    finally:
        redis.config_set("maxmemory", 0)


def test_a_token_of_an_older_ringback_counts(limited: Limited, redis: Redis) -> None:
    client = limited()
    token = issued(client)
    redis.delete(Keys().mint)
    assert seen(limited(), token).status_code == 200


@pytest.mark.parametrize(
    ("address", "one"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("queue", "queue"),
    ],
)
def test_what_counts_as_one_address(address: str, one: str) -> None:
    assert network(address) == one


def test_an_ipv6_network_is_one_address(limited: Limited) -> None:
    client = limited(refused_tokens=3)
    statuses = [seen(client, GUESS, f"2001:db8::{at:x}").status_code for at in range(4)]
    assert statuses == [401, 401, 401, 429]
    assert seen(client, GUESS, "2001:db8:0:1::1").status_code == 401


# Clients and logins


def test_guesses_of_secrets_refuse_nobody_else(limited: Limited, redis: Redis) -> None:
    client = limited()
    for _ in range(10):
        assert ask_token(client, client_secret="guess").status_code == 401
    barred = ask_token(client)
    assert (barred.status_code, barred.headers["Retry-After"]) == (429, "60")
    assert ask_token(client, "192.0.2.2").status_code == 200
    other = {"client_id": "demo-voipnow", "client_secret": "demo-voipnow-secret"}
    assert ask_token(client, **other).status_code == 200


def test_a_client_is_known_where_it_had_a_token(limited: Limited) -> None:
    client = limited()
    assert ask_token(client, "2001:db8::1").status_code == 200
    for _ in range(10):
        assert ask_token(client, "2001:db8::2", client_secret="guess").status_code == 401
    guess = ask_token(client, "2001:db8::2", client_secret="guess")
    assert (guess.status_code, guess.json["error"]) == (429, "slow_down")
    assert ask_token(client, "2001:db8::1").status_code == 200


def test_few_addresses_of_a_client_are_known(limited: Limited, redis: Redis) -> None:
    client = limited(app_requests=0)
    for number in range(102):
        issued(client, f"192.0.2.{number}")
    (key,) = redis.keys("ringback:oauth:known:*")
    assert redis.zcard(key) == 100 and redis.zscore(key, "192.0.2.101") is not None
    assert 0 < redis.ttl(key) <= 30 * 86_400


def test_guesses_of_clients_cost_redis_nothing(limited: Limited, redis: Redis) -> None:
    client = limited(refused_tokens=5)
    for number in range(5):
        assert ask_token(client, client_id=f"no-{number}").status_code == 401
    before = look_ups(redis)
    for name in ("nobody", "demo-voipnow"):
        answer = ask_token(client, client_id=name)
        assert (answer.status_code, answer.json["error"]) == (429, "slow_down")
        assert answer.headers["Retry-After"] == "12"
    assert look_ups(redis) == before
    assert ask_token(client).status_code == 200


def test_guesses_at_the_console_lock_nobody_out(limited: Limited) -> None:
    client = limited(refused_tokens=5)

    def log_in(**body: str) -> int:
        own = {"X-Ringback-Console": "1"}
        return client.post("/console/api/session", headers=own, json=body).status_code

    assert [log_in(token="guess") for _ in range(6)] == [401] * 5 + [429]
    assert log_in(token=USER) == 201
    assert log_in(client_id="demo-user", client_secret="demo-user-secret") == 201


def test_a_guessed_session_costs_redis_nothing(limited: Limited, redis: Redis) -> None:
    client = limited()
    client.set_cookie("ringback_console", GUESS, path="/console")
    assert client.get("/console/api/calls").status_code == 401
    before = look_ups(redis)
    assert client.get("/console/api/calls").status_code == 401
    assert look_ups(redis) == before
