"""Caps: what is refused, what is counted, and that a count is exact."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app.accounts import caps, usage
from app.accounts.store import AccountStore, read_accounts
from app.calls import transitions
from app.calls.model import State
from app.calls.quota import Check, Count
from app.calls.transitions import LegReport
from app.store import quotas, scripts
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.writes import Note
from app.telemetry import counting
from app.web.services import EXTENSION
from tests.conftest import eventually

from .conftest import ORGANIZATION, USER, VOIPNOW, Ask

SIMPLE = "/uapi/phoneCalls/@me/simple"
VIEW = {"source": ["0003*210"], "destination": ["15500"]}
BODY = {"extension": "0003*210", "phoneCallView": [VIEW]}
DAY, YEAR = 86_400, 365
MILLION = 1_000_000

Cap = Callable[..., None]


@pytest.fixture
def cap(client: FlaskClient) -> Cap:
    """Sets caps on the demo's organization, user and app."""

    def _cap(of: str = "organization", **caps: Any) -> None:
        accounts = read_accounts(None)
        tables: dict[str, Any] = {
            "organization": accounts.organizations,
            "user": accounts.users,
            "app": accounts.apps,
        }
        changed = {name: replace(each, **caps) for name, each in tables[of].items()}
        new = replace(accounts, **{f"{of}s": changed})
        new = replace(new, tokens={app.token_sha256 or "": app for app in new.apps.values()})
        client.application.extensions[EXTENSION][AccountStore].replace(new, demo=True)

    return _cap


def place(ask: Ask, views: int = 1, **fields: Any) -> Any:
    token = fields.pop("token", USER)
    return ask("POST", SIMPLE, {**BODY, "phoneCallView": [VIEW] * views, **fields}, token=token)


def refused(answer: Any, cap: str, limit: float, used: float) -> dict[str, Any]:
    assert answer.status_code == 429, answer.json
    error: dict[str, Any] = answer.json["error"]
    assert (error["code"], error["cap"]) == ("quota_exceeded", cap)
    assert (error["limit"], error["used"]) == (limit, used)
    assert int(answer.headers["Retry-After"]) >= 1
    return error


def test_a_day_has_so_many_calls(ask: Ask, cap: Cap, redis: Redis) -> None:
    cap(calls_per_day=3)
    assert place(ask, views=2).status_code == 202
    error = refused(place(ask, views=2), "organization:3 calls_per_day", 3, 2)
    assert error["freeAt"].endswith("T00:00:00Z")
    assert error["freeAt"] in error["reason"]
    # All views or none: nothing was counted, and one call still fits.
    assert place(ask).status_code == 202
    refused(place(ask), "organization:3 calls_per_day", 3, 3)
    assert redis.zcard("ringback:calls:all") == 3


def test_the_caps_of_a_user_and_an_app_count_apart(ask: Ask, cap: Cap) -> None:
    cap("app", calls_per_day=1)
    assert place(ask).status_code == 202
    refused(place(ask), "app:demo-user calls_per_day", 1, 1)
    answer = ask("POST", "/uapi/phoneCalls/12/simple", BODY, token=ORGANIZATION)
    assert answer.status_code == 202
    cap("user", calls_per_minute=1)
    assert place(ask).status_code == 202
    error = refused(place(ask), "user:12 calls_per_minute", 1, 1)
    assert "freeAt" in error


def test_voipnow_gets_the_same_answer(ask: Ask, cap: Cap) -> None:
    cap(calls_per_day=1)
    assert place(ask, token=VOIPNOW).status_code == 200
    refused(place(ask, token=VOIPNOW), "organization:3 calls_per_day", 1, 1)


def test_a_known_nonce_is_answered_though_the_cap_is_full(ask: Ask, cap: Cap) -> None:
    cap(calls_per_day=1)
    first = place(ask, nonce="one")
    again = place(ask, nonce="one")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json == first.json
    refused(place(ask, nonce="two"), "organization:3 calls_per_day", 1, 1)


def test_legs_count_until_they_end(ask: Ask, cap: Cap, store: CallStore, redis: Redis) -> None:
    cap(max_legs=4)
    ids = [call["id"] for call in place(ask, views=2).json]
    error = refused(place(ask), "organization:3 max_legs", 4, 4)
    assert "freeAt" not in error
    # A leg that ended while the call waits, and the end of a call.
    call = store.get(ids[0])
    assert call is not None
    store.change(
        call, lambda c: transitions.request_hangup(c, at=store.now()), Note("request", "x")
    )
    assert redis.scard("ringback:live:legs:organization:3") == 2
    assert place(ask).status_code == 202
    for call_id in redis.zrange("ringback:calls:all", 0, -1):
        call = store.get(call_id.decode())
        assert call is not None
        store.change(
            call,
            lambda c: transitions.end_queued(c, at=store.now()),
            Note("event", "queue_timeout"),
        )
    assert redis.scard("ringback:live:legs:organization:3") == 0


def test_so_many_calls_wait(ask: Ask, cap: Cap, store: CallStore, redis: Redis) -> None:
    cap(max_waiting=2)
    place(ask, views=2)
    refused(place(ask), "organization:3 max_waiting", 2, 2)
    cap("app", max_waiting=1)
    assert place(ask).status_code == 202
    refused(place(ask), "app:demo-user max_waiting", 1, 1)
    (call_id,) = redis.smembers("ringback:live:waiting:app:demo-user")
    call = store.get(call_id.decode())
    assert call is not None
    store.change(
        call, lambda c: transitions.request_hangup(c, at=store.now()), Note("request", "x")
    )
    assert place(ask).status_code == 202


def test_fifty_clients_at_once_take_ten(ask: Ask, cap: Cap, client: FlaskClient) -> None:
    cap(calls_per_day=10)
    headers = {"Authorization": f"Bearer {USER}"}

    def one(_: int) -> int:
        mine = client.application.test_client()
        return mine.post(SIMPLE, json=BODY, headers=headers).status_code

    with ThreadPoolExecutor(50) as pool:
        codes = list(pool.map(one, range(50)))
    assert sorted(set(codes)) == [202, 429]
    assert codes.count(202) == 10


@pytest.mark.parametrize(
    "caps", [{"max_legs": 20}, {"calls_per_minute": 10}, {"max_waiting": 10}, {"calls_per_day": 10}]
)
def test_each_count_is_exact_under_load(ask: Ask, cap: Cap, client: FlaskClient, caps: Any) -> None:
    cap(**caps)
    cap_of_user = {"Authorization": f"Bearer {USER}"}
    with ThreadPoolExecutor(50) as pool:
        codes = list(
            pool.map(
                lambda _: (
                    client.application.test_client()
                    .post(SIMPLE, json=BODY, headers=cap_of_user)
                    .status_code
                ),
                range(50),
            )
        )
    assert codes.count(202) == 10


def test_what_is_not_capped_is_not_counted(ask: Ask, redis: Redis) -> None:
    assert place(ask).status_code == 202
    counted = [key for key in redis.keys("ringback:*") if b":quota:" in key or b"running" in key]
    assert counted == []
    (call_id,) = redis.zrange("ringback:calls:all", 0, -1)
    assert redis.hget(f"ringback:call:{{{call_id.decode()}}}", "counted") is None


def test_the_lane_of_an_app_with_a_limit(ask: Ask, cap: Cap, redis: Redis) -> None:
    cap("app", max_calls=1)
    place(ask)
    (lane,) = redis.hvals("ringback:waiting")
    assert b'["app:demo-user",1,2]' in lane
    assert redis.hget("ringback:limits", "app:demo-user") == b"0.0:1"


# Minutes and cost


def talk(store: CallStore, call_id: str, begun: float, seconds: float | None) -> None:
    """Have the call's legs answered, and ended after so many seconds."""
    call = store.get(call_id)
    assert call is not None
    claimed = store.change(
        call,
        lambda c: transitions.claim(c, worker="w", switch="s", core_uuid="r", at=begun),
        Note("command", "claim"),
    )
    for leg in claimed.legs:
        ended = None if seconds is None else begun + seconds
        report = LegReport(leg.uuid, created=begun, answered=begun, ended=ended)
        claimed = store.change(
            claimed, lambda c, report=report: transitions.report_leg(c, report), Note("event", "x")
        )
    assert (claimed.state is State.ENDED) is (seconds is not None)


def test_minutes_count_public_legs_that_talk_and_have_talked(
    ask: Ask, cap: Cap, store: CallStore, redis: Redis
) -> None:
    cap(minutes_per_day=2)
    first, second = (call["id"] for call in place(ask, views=2).json)
    talk(store, first, int(store.now()) - 70.0, 60.2)
    day = int(store.now() // DAY)
    assert redis.hget(f"ringback:quota:{day}:organization:3", "seconds") == b"60"
    assert redis.hgetall("ringback:running:organization:3") == {}
    assert place(ask).status_code == 202
    talk(store, second, store.now() - 60.0, None)
    assert redis.hlen("ringback:running:organization:3") == 1
    answer = place(ask)
    error = answer.json["error"]
    assert answer.status_code == 429
    assert (error["cap"], error["limit"]) == ("organization:3 minutes_per_day", 2)
    assert error["used"] >= 2.0
    # Calls between extensions use no minutes.
    inside = {"source": ["0003*210"], "destination": ["0003*211"]}
    assert place(ask, phoneCallView=[inside]).status_code == 202


def test_a_late_event_corrects_the_count(
    ask: Ask, cap: Cap, store: CallStore, redis: Redis
) -> None:
    cap(minutes_per_day=100)
    (call,) = place(ask).json
    begun = int(store.now()) - 100.0
    talk(store, call["id"], begun, 50.0)
    found = store.get(call["id"])
    assert found is not None
    leg = found.destinations[0]
    early = LegReport(leg.uuid, answered=begun - 10.0)
    for _ in range(2):
        found = store.change(
            found, lambda c: transitions.report_leg(c, early), Note("event", "CHANNEL_ANSWER")
        )
    day = int((begun + 50.0) // DAY)
    assert redis.hget(f"ringback:quota:{day}:organization:3", "seconds") == b"60"


# quota.lua by itself, at any time

TAKE = scripts.script(
    scripts.lua("quota") + "return {take_quota(ARGV[1], tonumber(ARGV[2]), ARGV[3])}"
)
NOON = (20_000 * DAY + DAY // 2) * MILLION


def take(redis: Redis, now: int, *checks: Check) -> Any:
    """None if all was taken, else the place, what is used, and the seconds until there is room."""
    found = scripts.run(redis, TAKE, [0, "ringback:", now, quotas.dumps(checks)])
    if not found or found[0] is None:
        return None
    place, used, free = found
    return place, used, None if free == -1 else (free - now) / MILLION


def window(*members: str, limit: int = 2, seconds: int = 60, of: str = "") -> Check:
    return Check("organization:3", "w", Count.WINDOW, limit, of, seconds, members=members)


def test_a_window_slides(redis: Redis) -> None:
    assert take(redis, NOON, window("a")) is None
    assert take(redis, NOON + 20 * MILLION, window("b")) is None
    assert take(redis, NOON + 30 * MILLION, window("c")) == (0, 2, 30.0)
    assert take(redis, NOON + 30 * MILLION, window("c", "d")) == (0, 2, 50.0)
    assert take(redis, NOON + 30 * MILLION, window("c", "d", "e")) == (0, 2, None)
    assert take(redis, NOON + 60 * MILLION, window("c")) is None
    assert take(redis, NOON + 61 * MILLION, window("d")) == (0, 2, 19.0)


def test_a_number_has_its_own_window(redis: Redis) -> None:
    one = [window(name, of="+1555", seconds=3600) for name in "ab"]
    assert take(redis, NOON, *one) is None
    assert take(redis, NOON, window("c", of="+1555", seconds=3600)) == (0, 2, 3600.0)
    assert take(redis, NOON, window("c", of="+1556", seconds=3600)) is None


def test_checks_of_one_request_share_a_count(redis: Redis) -> None:
    three = [window(name) for name in "abc"]
    assert take(redis, NOON, *three) == (2, 2, None)
    # Nothing was taken.
    assert take(redis, NOON, window("a"), window("b")) is None
    day = [Check("user:1", "calls_per_day", Count.DAY, 5, taken=3) for _ in range(2)]
    assert take(redis, NOON, *day) == (1, 3, DAY / 2)
    assert take(redis, NOON, day[0]) is None


def new(*members: str) -> Check:
    return Check("policy:office", "new_countries_per_day", Count.NEW, 2, members=members)


def test_a_country_is_new_once_in_thirty_days(redis: Redis) -> None:
    assert take(redis, NOON, new("US"), new("US", "DE")) is None
    assert take(redis, NOON, new("FR")) == (0, 2, DAY / 2)
    assert take(redis, NOON, new("DE")) is None
    tomorrow = NOON + DAY * MILLION
    assert take(redis, tomorrow, new("FR", "DE", "IT")) is None
    assert take(redis, tomorrow, new("ES")) == (0, 2, DAY / 2)
    later = tomorrow + 20 * DAY * MILLION
    assert take(redis, later, new("US")) is None
    assert take(redis, later + 20 * DAY * MILLION, new("US", "A", "B")) is None
    assert take(redis, later + 20 * DAY * MILLION, new("FR")) == (0, 2, DAY / 2)
    assert take(redis, NOON, new("A", "B", "C")) is not None


def test_a_day_ends_at_midnight(redis: Redis) -> None:
    check = Check("user:1", "calls_per_day", Count.DAY, 1, taken=1)
    last = 20_001 * DAY * MILLION - 1
    assert take(redis, last, check) is None
    assert take(redis, last, check) == (0, 1, 1e-6)
    assert take(redis, last + 1, check) is None


def test_80_and_100_percent_are_told_once(redis: Redis) -> None:
    check = Check("user:1", "calls_per_day", Count.DAY, 5, taken=1)
    for _ in range(7):
        take(redis, NOON, check)
    told = [
        (entry[b"holder"], entry[b"cap"], entry[b"percent"], entry[b"used"], entry[b"limit"])
        for _, entry in redis.xrange("ringback:alerts")
    ]
    assert told == [
        (b"user:1", b"calls_per_day", b"80", b"4", b"5"),
        (b"user:1", b"calls_per_day", b"100", b"5", b"5"),
    ]


def test_the_use_of_each_cap(ask: Ask, cap: Cap, store: CallStore, redis: Redis) -> None:
    assert uses(redis, store) == {}
    cap(max_legs=100, calls_per_minute=2, calls_per_day=50, minutes_per_day=1)
    first, _ = place(ask, views=2).json
    now = store.now()
    talk(store, first["id"], int(now) - 40.0, None)
    found = uses(redis, store)
    assert {name: (use.used, use.limit) for name, use in found.items()} == {
        "max_legs": (4, 100),
        "calls_per_minute": (2, 2),
        "calls_per_day": (2, 50),
        "minutes_per_day": (found["minutes_per_day"].used, 60),
        "max_waiting": (1, 10_000),
    }
    assert 40 <= found["minutes_per_day"].used <= 45
    assert found["calls_per_minute"].free == pytest.approx(now + 60, abs=5)
    assert found["calls_per_day"].free is None
    page = ask("GET", "/metrics").text
    assert 'ringback_quota_used_ratio{cap="calls_per_minute",organization="3"} 1.0' in page


def uses(redis: Redis, store: CallStore) -> dict[str, usage.CapUse]:
    accounts = AccountStore(redis, Keys()).current()
    found = usage.read(redis, Keys(), caps.all_holders(accounts), store.now(), 86_400)
    return {use.cap: use for use in found}


def test_counts_that_begin_anew_are_told(
    ask: Ask, cap: Cap, client: FlaskClient, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    cap(calls_per_day=1)
    assert place(ask).status_code == 202
    redis.flushdb()
    # The accounts come back with the next look, and the caps with them.
    eventually(lambda: place(ask).status_code == 202)
    refused(place(ask), "organization:3 calls_per_day", 1, 1)
    assert "the counts of all caps begin anew" in caplog.text
    counting.write()
    page = ask("GET", "/metrics").text
    assert "ringback_quota_counts_lost_total 1.0" in page
    assert 'ringback_quota_refused_total{cap="calls_per_day",holder="organization"}' in page
