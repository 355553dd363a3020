"""Calls are cut off when a cap on minutes or cost is reached, by the switch itself."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from app.accounts.model import PriceOf
from app.accounts.prompts import Prompt
from app.accounts.store import AccountStore, read_accounts
from app.calls import cost
from app.calls.model import Call, State
from app.store.counted import DAY
from app.store.pace import Claims, Limit, Pacer
from app.store.switches import SwitchStore
from tests.conftest import Stacks, eventually
from tests.integration.conftest import REAL, SWITCHES, Ringback

MINUTE = 60
HOLDER = "organization:3"


@pytest.fixture
def real_time(stacks: Stacks) -> Iterator[Ringback]:
    """A stack whose switch counts real seconds."""
    ringback = stacks(SWITCHES, simulator_speed=1.0, reconcile_interval=0.5, action_timeout=3.0)
    yield ringback
    redis, keys = ringback.store.redis, ringback.store.keys
    AccountStore(redis, keys).replace(read_accounts(None), demo=True)
    redis.delete(*redis.keys("ringback:quota:*") or ["-"])
    ringback.heal()


def capped(
    ringback: Ringback,
    rates: tuple[PriceOf, ...] = (),
    prompts: dict[str, Prompt] | None = None,
    **caps: Any,
) -> None:
    accounts = replace(read_accounts(None), prompts=prompts or {})
    organizations = {n: replace(o, **caps) for n, o in accounts.organizations.items()}
    new = replace(
        accounts, organizations=organizations, rates={each.prefix: each for each in rates}
    )
    store = AccountStore(ringback.store.redis, ringback.store.keys)
    store.replace(new, demo=True)
    # The API has seen them once it counts a call.
    while True:
        call = ringback.store.get(ringback.place("15509", "15500"))
        assert call is not None
        ringback.ended(call.id)
        if call.counted:
            break


def have_used(ringback: Ringback, field: str, amount: int) -> None:
    day = int(ringback.store.now() // DAY)
    ringback.store.redis.hset(ringback.store.keys.quota(day, HOLDER), field, amount)


def used(ringback: Ringback, field: str, at: float) -> int:
    found: Any = ringback.store.redis.hget(ringback.store.keys.quota(int(at // DAY), HOLDER), field)
    return int(found or 0)


def talked(call: Call) -> float:
    leg = call.destinations[0]
    assert leg.answered is not None and leg.ended is not None
    return leg.ended - leg.answered


def cut_off(call: Call) -> Call:
    assert (call.ended_by, call.hangup_cause, call.disposition) == (
        "quota",
        "FACILITY_NOT_SUBSCRIBED",
        0,
    ), call
    return call


def test_a_call_ends_when_the_minutes_of_the_day_are_used(real_time: Ringback) -> None:
    capped(real_time, minutes_per_day=1)
    have_used(real_time, "seconds", MINUTE - 4)
    call = cut_off(real_time.ended(real_time.place("0003*210", "15500")))
    assert 2.9 <= talked(call) <= 5.0
    assert used(real_time, "seconds", call.ended or 0) == MINUTE
    redis = real_time.store.redis
    assert redis.hlen(real_time.store.keys.running(HOLDER)) == 0

    def percents() -> list[bytes]:
        alerts = [fields for _, fields in redis.xrange(real_time.store.keys.alerts)]
        return [a[b"percent"] for a in alerts if a[b"cap"] == b"minutes_per_day"]

    # The use began above 80 percent.
    eventually(lambda: percents()[-2:] == [b"80", b"100"])


def test_fifty_clients_at_once_have_ten_calls_dialled(real_time: Ringback) -> None:
    capped(real_time, calls_per_day=1_000, max_legs=10_000)
    before = used(real_time, "calls_per_day", real_time.store.now())
    capped(real_time, calls_per_day=before + 1 + 10, max_legs=10_000)
    body = {
        "extension": "210",
        "phoneCallView": [{"source": ["0003*210"], "destination": ["15509"]}],
    }

    def place(_: int) -> tuple[int, Any]:
        return real_time.request("POST", "@me/simple", body)

    known = 0 if REAL else len(real_time.originates())
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(place, range(50)))
    placed = [answer[0]["id"] for status, answer in answers if status == 202]
    assert sorted({status for status, _ in answers}) == [202, 429]
    calls = [real_time.ended(call_id) for call_id in placed]
    assert len(calls) == 10
    if not REAL:
        dialled = {originate["job_uuid"] for originate in real_time.originates()[known:]}
        assert dialled == {call.job_uuid for call in calls}
    assert used(real_time, "calls_per_day", real_time.store.now()) == before + 11


def test_a_call_ends_when_the_money_of_the_day_is_used(real_time: Ringback) -> None:
    # 0.01 for the call, and 0.002 a second: four seconds are left.
    price = PriceOf("", per_minute="0.12", per_call="0.01", increment=1, currency="USD")
    capped(real_time, (price,), cost_per_day="1")
    have_used(real_time, "cost", cost.MILLION - 18_000)
    call = cut_off(real_time.ended(real_time.place("0003*210", "15500")))
    assert 2.9 <= talked(call) <= 5.0
    leg = call.destinations[0]
    assert leg.rate == "0.12 0.01 1 USD"
    assert cost.cost(call, leg) == "0.018"
    assert call.sources[0].rate is None
    assert used(real_time, "cost", call.ended or 0) == cost.MILLION


def test_calls_that_share_a_cap_end_when_their_sum_reaches_it(real_time: Ringback) -> None:
    """Even if no process of Ringback is left by then."""
    capped(real_time, minutes_per_day=1)
    have_used(real_time, "seconds", MINUTE - 16)
    ids = [real_time.place("0003*210", "15500") for _ in range(4)]
    calls = [real_time.wait_state(call_id, State.BRIDGED) for call_id in ids]
    # Each alone would talk for 16 seconds.
    for call in calls:
        dialled = real_time.api(f"uuid_getvar {call.sources[0].uuid} bridge_pre_execute_bleg_data")
        assert dialled == "+16 facility_not_subscribed"
    eventually(lambda: all(2 <= timer(real_time, call) <= 4 for call in calls))
    for name in ("api", "worker", "listener"):
        real_time.kill(name)
    uuids = [call.destinations[0].uuid for call in calls]
    eventually(lambda: all(real_time.api(f"uuid_exists {uuid}") == "false" for uuid in uuids))
    over = real_time.store.now()
    begun = [real_time.store.get(call_id) for call_id in ids]
    answered = [call.destinations[0].answered or 0.0 for call in begun if call is not None]
    # The sum of four legs, each cut off within a second of the moment at which they have used 16.
    assert 16.0 - 4 * 1.1 <= sum(over - at for at in answered) <= 16.0 + 4 * 1.1
    for name in ("api", "worker", "listener"):
        real_time.start(name)
    for call_id in ids:
        real_time.ended(call_id)
    eventually(lambda: listens(real_time))


def test_a_cap_counts_while_a_destination_hears_a_prompt(real_time: Ringback) -> None:
    """Even if no process of Ringback hears of its answer. The prompt alone may take two minutes."""
    prompt = Prompt("press-one", file="silence_stream://2000")
    capped(real_time, minutes_per_day=1, prompts={prompt.name: prompt})
    have_used(real_time, "seconds", MINUTE - 4)
    accept = {"prompt": "press-one", "timeout": 60, "attempts": 2, "of": "destination"}
    # It answers after two seconds.
    call_id = real_time.place("0003*210", "15512", accept=accept)
    call = real_time.wait(call_id, lambda call: call.destinations[0].created is not None)
    for name in ("worker", "listener"):
        real_time.kill(name)
    uuid = call.destinations[0].uuid
    eventually(lambda: real_time.api(f"uuid_exists {uuid}") == "false")
    for name in ("worker", "listener"):
        real_time.start(name)
    real_time.ended(call_id)


def test_a_call_that_finds_nothing_left_is_not_dialled(real_time: Ringback) -> None:
    capped(real_time, minutes_per_day=1)
    real_time.kill("worker")
    call_id = real_time.place("0003*210", "15500")
    have_used(real_time, "seconds", MINUTE)
    real_time.start("worker")
    call = real_time.ended(call_id)
    assert (call.ended_by, call.hangup_cause, call.disposition) == (
        "quota",
        "FACILITY_NOT_SUBSCRIBED",
        5,
    )
    if not REAL:
        assert call.job_uuid not in {o["job_uuid"] for o in real_time.originates()}
    # A call between extensions needs none.
    inside = real_time.place("0003*210", "0003*024")
    real_time.wait_state(inside, State.BRIDGED)


def test_a_transfer_to_a_public_number_takes_what_is_left(real_time: Ringback) -> None:
    capped(real_time, minutes_per_day=1)
    have_used(real_time, "seconds", MINUTE)
    call_id = real_time.place("0003*210", "0003*024")
    call = real_time.wait_state(call_id, State.BRIDGED)
    body = {"action": "Transfer", "phoneCallViewId": "00", "sendCallTo": "15600"}

    def transfer() -> tuple[int, Any]:
        token = "demo-organization-token"
        return real_time.request("PUT", f"12/@self/{call_id}", body, token=token)

    status, answer = transfer()
    assert status == 429
    assert answer["error"]["cap"] == "organization:3 minutes_per_day"
    assert real_time.store.get(call_id) == call
    have_used(real_time, "seconds", MINUTE - 4)
    assert transfer()[0] == 200
    call = cut_off(real_time.ended(call_id))
    (third,) = call.thirds
    assert third.counted == f"time:{HOLDER}"
    assert third.answered is not None and third.ended is not None
    assert 2.9 <= third.ended - third.answered <= 5.0
    assert used(real_time, "seconds", call.ended or 0) == MINUTE


@pytest.mark.skipif(bool(REAL), reason="asks the simulator what it was told to dial")
def test_listeners_come_no_faster_than_the_limit(real_time: Ringback) -> None:
    """Each waits for its turn until RINGBACK_ACTION_TIMEOUT, or is refused and never dialled."""
    call_id = real_time.place("0003*210", "15500")
    call = real_time.wait_state(call_id, State.BRIDGED)
    limit = {"organization:3": Limit(legs_per_second=1)}
    Pacer(real_time.store.redis, real_time.store.keys).set_limits(limit)

    def monitor(_: int) -> tuple[int, Any]:
        body = {"action": "Monitor", "phoneCallViewId": "00", "sendCallTo": "0003*211"}
        return real_time.request(
            "PUT", f"12/@self/{call_id}", body, token="demo-organization-token"
        )

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(monitor, range(12)))
    done = [answer for status, answer in answers if status == 200]
    refused = [answer["error"] for status, answer in answers if status == 429]
    assert len(done) + len(refused) == 12, [status for status, _ in answers]
    assert 1 <= len(done) <= 4
    for error in refused:
        assert (error["code"], error["cap"]) == (
            "quota_exceeded",
            "organization:3 legs_per_second",
        )
        assert (error["limit"], error["used"]) == (1, 1)
    # The job of a third party has its uuid.
    dialled = [o["time"] for o in real_time.originates() if "-0000000c" in o["job_uuid"]]
    assert len(dialled) == len(done)
    assert all(later - sooner > 0.9 for sooner, later in pairwise(dialled))
    known = real_time.store.get(call_id)
    assert known is not None and len(known.thirds) == len(done)
    assert call.switch is not None


def test_a_worker_that_dies_between_claim_and_send_loses_no_count_and_doubles_none(
    real_time: Ringback,
) -> None:
    store = real_time.store
    capped(real_time, max_legs=2, max_waiting=1, calls_per_day=100, minutes_per_day=1)
    before = used(real_time, "calls_per_day", store.now())
    real_time.kill("worker")
    call_id = real_time.place("0003*210", "15500")
    call = store.get(call_id)
    assert call is not None and call.state is State.QUEUED
    assert refused(real_time) == "organization:3 max_waiting"
    # Another worker claims it, and dies before it sends anything.
    (name,) = SwitchStore(store.redis, store.keys).names()
    run: Any = store.redis.hget(store.keys.switch(name), "core_uuid")
    (claimed,) = Claims(store, "dead").next({name: run.decode()}, 1).calls
    assert claimed.id == call_id
    legs = store.keys.taken(f"legs:{HOLDER}")
    assert store.redis.scard(legs) == 2
    assert refused(real_time) == "organization:3 max_legs"
    call = real_time.ended(call_id)
    assert call.ended_by == "worker_lost"
    assert store.redis.scard(legs) == 0
    assert used(real_time, "calls_per_day", store.now()) == before + 1
    assert used(real_time, "seconds", store.now()) == 0
    real_time.start("worker")
    assert real_time.ended(real_time.place("15509", "15500")).hangup_cause == "USER_BUSY"
    assert store.redis.scard(legs) == 0
    assert used(real_time, "calls_per_day", store.now()) == before + 2


def refused(ringback: Ringback) -> str:
    """The cap that refuses one more call."""
    view = {"source": ["0003*210"], "destination": ["15500"]}
    body = {"extension": "210", "phoneCallView": [view]}
    status, answer = ringback.request("POST", "@me/simple", body)
    assert status == 429
    cap: str = answer["error"]["cap"]
    return cap


def listens(ringback: Ringback) -> bool:
    try:
        socket.create_connection(ringback.stack.settings.http_address).close()
    except ConnectionRefusedError:
        return False
    return True


def timer(ringback: Ringback, call: Call) -> int:
    """The seconds of the timer that was set last for the call, by its timeline."""
    timers = [e["data"] for e in ringback.store.timeline(call.id) if e["name"] == "sched_hangup"]
    return int(timers[-1].split(" ")[0]) if timers else 0
