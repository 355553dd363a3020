"""What a Redis that is nearly full, or full, still takes, and from whom."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app.accounts.store import AccountStore, read_accounts
from app.calls import transitions
from app.calls.model import Call, State
from app.settings import SettingsError, load_settings, reserved
from app.store import reserve, unwritten
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.writes import UNDIALLED_KEPT, Note
from tests.app.conftest import Ask
from tests.own_accounts import own_accounts

BODY = {"extension": "210", "phoneCallView": [{"source": ["15509"], "destination": ["15500"]}]}
PLACE = "/uapi/phoneCalls/@me/simple"


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "_MEMORY_AGE", 0.0)
    monkeypatch.setattr(reserve, "_SHARES_AGE", 0.0)


@pytest.fixture
def filled(redis: Redis) -> Iterator[Callable[[float], None]]:
    """Leaves that share of Redis' maxmemory free."""

    # What goes on takes little beside this.
    redis.setrange("padding", 1 << 26, "x")

    def fill(free: float) -> None:
        used = redis.info("memory")["used_memory"]
        redis.config_set("maxmemory", int(used / (1 - free)))

    yield fill
    redis.config_set("maxmemory", 0)


def test_a_redis_that_is_nearly_full_takes_no_new_call(
    ask: Ask, client: FlaskClient, filled: Callable[[float], None]
) -> None:
    first, second = (ask("POST", PLACE, BODY).json[0]["id"] for _ in range(2))
    filled(0.05)
    answer = ask("POST", PLACE, BODY)
    error = answer.json["error"]
    assert (answer.status_code, error["code"]) == (503, "service_unavailable")
    assert error["message"].startswith("Redis is nearly full: no new call is accepted.")
    assert answer.headers["Retry-After"] == "10"
    # What exists goes on, and so do logins.
    assert ask("GET", f"/uapi/phoneCalls/@me/@self/{first}").status_code == 200
    ended = ask("DELETE", f"/uapi/phoneCalls/@me/@self/{first}")
    assert (ended.status_code, ended.json[0]["state"]) == (200, "ended")
    form = {"grant_type": "client_credentials", "type": "unifiedapi"}
    form |= {"client_id": "demo-user", "client_secret": "demo-user-secret"}
    assert client.post("/oauth/token.php", data=form).status_code == 200
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json is not None
    assert ready.json["parts"]["redis"]["status"] == "degraded"
    filled(0.5)
    assert ask("POST", PLACE, BODY).status_code == 202
    assert ask("DELETE", f"/uapi/phoneCalls/@me/@self/{second}").status_code == 200


def test_an_organization_that_fills_redis_is_refused_alone(
    ask: Ask, redis: Redis, filled: Callable[[float], None], tmp_path: Path
) -> None:
    other = (
        own_accounts("another-one", ids=True).replace('"0003', '"0004').replace("0003*", "0004*")
    )
    other = other.replace('id = "3"', 'id = "4"').replace(
        'organization = "3"', 'organization = "4"'
    )
    file = tmp_path / "other.toml"
    file.write_text(other.replace('"12"', '"13"'))
    ours, theirs = read_accounts(None), read_accounts(file)
    both = replace(
        ours,
        organizations=ours.organizations | theirs.organizations,
        users=ours.users | theirs.users,
        extensions=ours.extensions | theirs.extensions,
        apps=ours.apps | theirs.apps,
        tokens=ours.tokens | theirs.tokens,
    )
    AccountStore(redis, Keys()).replace(both, demo=False)
    assert ask("POST", PLACE, BODY).status_code == 202
    for _ in range(3):
        assert ask("POST", PLACE, BODY, "another-one-user-token").status_code == 202
    filled(0.15)
    answer = ask("POST", PLACE, BODY, "another-one-user-token")
    error = answer.json["error"]
    assert (answer.status_code, error["cap"]) == (429, "organization:4 memory")
    assert answer.headers["Retry-After"] == "60"
    assert ask("POST", PLACE, BODY).status_code == 202


def test_a_hang_up_that_redis_refuses_goes_to_the_listeners(
    ask: Ask, store: CallStore, redis: Redis, filled: Callable[[float], None]
) -> None:
    call = claimed(store, ask("POST", PLACE, BODY).json[0]["id"])
    path = f"/uapi/phoneCalls/@me/@self/{call.id}"
    waiting = ask("POST", PLACE, BODY).json[0]["id"]
    with full(redis):
        # No listener is there.
        assert ask("DELETE", path).status_code == 503
        with redis.pubsub(ignore_subscribe_messages=True) as listener:
            listener.subscribe(Keys().hangups)
            assert listener.get_message(timeout=1.0) is None
            assert ask("DELETE", path).status_code == 202
            message = listener.get_message(timeout=60.0)
            assert message is not None
            assert unwritten.HangUp.loads(message["data"]) == unwritten.HangUp(call.id, "main", [])
            one = ask("DELETE", path, phoneNumber="15500")
            assert one.status_code == 202
            # The call has no other party on that side.
            assert listener.get_message(timeout=60.0) is not None
        # Nothing but Redis knows a call that waits.
        assert ask("DELETE", f"/uapi/phoneCalls/@me/@self/{waiting}").status_code == 503
        assert ask("POST", PLACE, BODY).status_code == 503
    assert ask("DELETE", path).status_code == 202
    now = store.get(call.id)
    assert now is not None
    assert now.hangup_requested is not None


def test_only_some_parties_are_hung_up_without_redis(store: CallStore, ask: Ask) -> None:
    body = json.loads(json.dumps(BODY))
    body["phoneCallView"][0]["source"] = ["15509", "15508"]
    call = claimed(store, ask("POST", PLACE, body).json[0]["id"])
    wanted = transitions.hang_up_number(call, "15508", at=call.accepted + 1)
    with store.redis.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(store.keys.hangups)
        assert listener.get_message(timeout=1.0) is None
        assert unwritten.send(store.redis, store.keys, call, wanted) == 1
        message = listener.get_message(timeout=60.0)
        assert message is not None
        (uuid,) = [leg.uuid for leg in call.legs if leg.number == "15508"]
        assert unwritten.HangUp.loads(message["data"]).uuids == [uuid]


def test_all_of_many_calls_are_left_to_workers(ask: Ask, redis: Redis) -> None:
    body = {**BODY, "phoneCallView": BODY["phoneCallView"] * 20}  # type: ignore[operator]
    for _ in range(6):
        assert ask("POST", PLACE, body).status_code == 202
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    answer = ask("DELETE", "/uapi/phoneCalls/@me/@self")
    assert (answer.status_code, len(answer.json)) == (202, 120)
    # All marks and jobs in one step, and the audit's.
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before <= 2
    assert redis.llen("rq:queue:ringback-actions") == 1


def test_a_call_that_was_never_dialled_is_kept_for_an_hour(
    ask: Ask, store: CallStore, redis: Redis
) -> None:
    call_id = ask("POST", PLACE, BODY).json[0]["id"]
    assert ask("DELETE", f"/uapi/phoneCalls/@me/@self/{call_id}").status_code == 200
    for key in (store.keys.call(call_id), store.keys.timeline(call_id)):
        assert UNDIALLED_KEPT - 60 < redis.ttl(key) <= UNDIALLED_KEPT
    # Its record is kept as long as any.
    assert redis.ttl(store.keys.record(call_id)) > UNDIALLED_KEPT


def test_an_organization_keeps_no_more_calls_than_its_cap(
    ask: Ask, redis: Redis, store: CallStore
) -> None:
    accounts = read_accounts(None)
    organizations = {n: replace(o, max_kept=2) for n, o in accounts.organizations.items()}
    AccountStore(redis, Keys()).replace(replace(accounts, organizations=organizations), demo=True)
    first = ask("POST", PLACE, BODY).json[0]["id"]
    ask("POST", PLACE, BODY)
    full = ask("POST", PLACE, BODY)
    assert (full.status_code, full.json["error"]["cap"]) == (429, "organization:3 max_kept")
    assert (full.json["error"]["used"], full.json["error"]["limit"]) == (2, 2)
    # An ended call is kept too, and goes with time.
    assert ask("DELETE", f"/uapi/phoneCalls/@me/@self/{first}").status_code == 200
    full = ask("POST", PLACE, BODY)
    assert full.status_code == 429
    assert 86_000 < int(full.headers["Retry-After"]) <= 86_400


@pytest.mark.parametrize(
    ("text", "size"),
    [("10%", 100), ("0", 0), ("50%", 500), ("123", 123), ("2kb", 2048), ("1mb", 1 << 20)],
)
def test_a_reserve(text: str, size: int) -> None:
    assert reserved(text, 1000) == size


@pytest.mark.parametrize("text", ["", "51%", "x", "1 mb", "-1", "10 %", "1.5mb", "١٠%"])
def test_no_reserve(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_REDIS_RESERVE", text)
    with pytest.raises(SettingsError, match="RINGBACK_REDIS_RESERVE must be a share of maxmemory"):
        load_settings()


def claimed(store: CallStore, call_id: str) -> Call:
    """The call as a worker has claimed it."""
    call = store.get(call_id)
    assert call is not None

    def claim(current: Call) -> Call:
        at = current.accepted + 0.1
        return transitions.claim(current, worker="w", switch="main", core_uuid="c", at=at)

    call = store.change(call, claim, Note("command", "claim"))
    assert call.state is not State.QUEUED
    return call


@contextmanager
def full(redis: Redis) -> Iterator[Any]:
    redis.config_set("maxmemory", 1)
    try:
        yield None
    finally:
        redis.config_set("maxmemory", 0)
