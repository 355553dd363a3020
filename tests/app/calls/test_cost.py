"""What legs cost, and when legs that talk reach a cap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from app.calls import cost, transitions
from app.calls.cost import MILLION, Rate, Running
from app.calls.model import Call, Leg, NumberKind, Role, State
from app.calls.transitions import LegReport
from app.store import counted, scripts
from app.store.keys import Keys

RATES = st.builds(
    Rate,
    per_minute=st.integers(0, 10 * MILLION),
    per_call=st.integers(0, MILLION),
    increment=st.integers(1, 3600),
)
RUNNING = st.builds(Running, answered=st.integers(0, 9999).map(lambda n: n / 10), rate=RATES)


@pytest.mark.parametrize(
    ("text", "talked", "costs"),
    [
        ("0.012 0.001 6 USD", 0, "0.001"),
        ("0.012 0.001 6 USD", 1, "0.0022"),
        ("0.012 0.001 6 USD", 6, "0.0022"),
        ("0.012 0.001 6 USD", 7, "0.0034"),
        ("0.012 0 60 USD", 61, "0.024"),
        ("0.01 0 1 EUR", 1, "0.000167"),
        ("0 0 1 EUR", 3600, "0"),
        ("1.5 0.25 30 EUR", 3600, "90.25"),
    ],
)
def test_a_price_by_hand(text: str, talked: int, costs: str) -> None:
    assert cost.decimal(cost.price(Rate.loads(text), talked)) == costs


@given(st.integers(0, 10**15))
def test_no_amount_loses_anything(amount: int) -> None:
    assert cost.millionths(cost.decimal(amount)) == amount


def leg(**fields: object) -> Leg:
    known = {"kind": NumberKind.PUBLIC, "rate": "0.6 0 1 USD", **fields}
    return Leg("b1", Role.DESTINATION, "15500", uuid="uuid-b1", **known)  # type: ignore[arg-type]


CALL = Call(
    id="c3a5fbf2be57af92c581",
    kind="simple",
    app="crm",
    user="12",
    organization="3",
    organization_name="One",
    extension="0003*210",
    accepted=1000.0,
    wait_for_pickup=25,
    call_duration=7200,
    queue_timeout=60,
    job_uuid="job",
    counted="time:organization:3",
)


def test_a_leg_costs_once_it_has_ended() -> None:
    talks = leg(answered=1000.0)
    assert cost.used(CALL, talks) == (0, 0)
    assert cost.used(CALL, leg(answered=1000.0, ended=1060.5)) == (60, 600_000)
    assert cost.used(CALL, leg(ended=1060.5)) == (0, 0)
    assert cost.used(CALL, leg(answered=1000.0, ended=1010.0, rate=None)) == (10, 0)
    inside = leg(answered=1000.0, ended=1060.5, kind=NumberKind.EXTENSION, rate=None)
    assert cost.used(CALL, inside) == (0, 0)
    assert cost.cost(CALL, inside) is None


@given(st.lists(RUNNING, max_size=5), st.integers(0, 20_000))
def test_lua_counts_as_python_does(redis_url: str, legs: list[Running], tenths: int) -> None:
    script = scripts.script(
        scripts.lua("quota") + "return {running_amounts(ARGV[1], ARGV[2], tonumber(ARGV[3]))}"
    )
    redis = Redis.from_url(redis_url)
    redis.delete("ringback:running:user:1")
    for number, each in enumerate(legs):
        redis.hset("ringback:running:user:1", str(number), each.dumps())
    at = tenths / 10
    found = scripts.run(redis, script, [0, "ringback:", "user:1", f"{at * 1e6:.0f}"])
    assert tuple(found) == cost.running_amounts(legs, at)


@given(
    st.lists(RUNNING, min_size=1, max_size=5),
    st.integers(0, 20_000),
    st.integers(0, 10 * MILLION),
)
def test_the_moment_is_where_the_sum_passes_the_cap(
    legs: list[Running], seconds: int, money: int
) -> None:
    begun = max(each.answered for each in legs)
    until = begun + 86_400
    at = cost.moment(legs, begun, seconds=seconds, cost=money, until=until)

    def over(moment: float) -> bool:
        talked, spent = cost.running_amounts(legs, moment)
        return talked > seconds or spent > money

    if at is None:
        assert not over(until)
    else:
        assert over(at + 1e-5)
        assert at == begun or not over(at)


def test_no_leg_reaches_no_cap() -> None:
    assert cost.moment([], 0.0, seconds=0, cost=0, until=10.0) is None
    one = [Running(0.0, Rate())]
    assert cost.moment(one, 0.0, seconds=None, cost=None, until=10.0) is None
    assert cost.moment(one, 5.0, seconds=3, cost=None, until=10.0) == 5.0


# The end of a call that was cut off


def cut(*, by_far_end: bool = False, bridged: bool = True) -> Call:
    source = Leg("a1", Role.SOURCE, "0003*210", NumberKind.EXTENSION, "uuid-a1")
    call = transitions.claim(
        Call(**{**{f: getattr(CALL, f) for f in CALL.__dict__}, "legs": (source, leg())}),
        worker="w",
        switch="s",
        core_uuid="r",
        at=1001.0,
    )
    cause, ours = transitions.QUOTA_CAUSE, "recv_bye" if by_far_end else "send_bye"
    reports = [
        LegReport("uuid-a1", created=1001.0, answered=1002.0),
        LegReport("uuid-b1", created=1002.0, answered=1003.0),
        *([LegReport("uuid-a1", bridged=1003.0, bridged_to="uuid-b1")] if bridged else []),
        LegReport("uuid-b1", ended=1060.0, cause=cause, sip_disposition=ours),
        LegReport("uuid-a1", ended=1060.0, cause=cause, sip_disposition="send_bye"),
    ]
    for report in reports:
        call = transitions.report_leg(call, report)
    assert call.state is State.ENDED
    return call


def test_a_call_that_the_timer_ended_says_so() -> None:
    call = cut()
    assert (call.ended_by, call.hangup_cause, call.disposition) == (
        "quota",
        "FACILITY_NOT_SUBSCRIBED",
        transitions.ANSWERED,
    )
    assert cut(bridged=False).disposition == transitions.NOT_ALLOWED


def test_a_far_end_that_gives_the_same_cause_is_no_cap() -> None:
    assert cut(by_far_end=True).ended_by == "destination"


def test_a_call_that_is_not_dialled_for_its_caps() -> None:
    call = transitions.end_for_quota(CALL, at=1001.0)
    assert (call.ended_by, call.disposition) == ("quota", transitions.NOT_ALLOWED)
    assert transitions.end_for_quota(call, at=1002.0) is call


def test_what_a_leg_used_is_added_once() -> None:
    call = cut()
    added = [c for c in counted.commands(Keys(), None, call) if c[0] == "HINCRBY"]
    day = 1060 // 86_400
    assert added == [
        ("HINCRBY", f"ringback:quota:{day}:organization:3", "seconds", "57"),
        ("HINCRBY", f"ringback:quota:{day}:organization:3", "cost", "570000"),
    ]
    assert not [c for c in counted.commands(Keys(), call, call) if c[0] == "HINCRBY"]
