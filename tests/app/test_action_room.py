"""What an action dials takes from the limits of calls, and both get their turn."""

import time
from collections.abc import Callable

import pytest
from redis import Redis

from app.calls.model import Action, Call, Leg, NumberKind, Role, evolve, leg_id, leg_uuid
from app.calls.quota import Check, Count, NoRoom, QuotaExceeded, Refusal, Wait, dumps, loads
from app.store.pace import Limit
from app.store.writes import Note

from .test_pace import Line

NOTE = Note("command", "claim", data="Monitor")


def bringing(call: Call, counted: str | None = None) -> Callable[[Call], Call]:
    """The transition that brings one more listener into the call."""
    party = len(call.thirds) + 1
    third = Leg(
        leg_id(Role.THIRD, party, 1),
        Role.THIRD,
        "0003*211",
        NumberKind.EXTENSION,
        leg_uuid(call.id, Role.THIRD, party, 1),
        dial_string="sofia/gateway/pstn/211",
        action=Action.MONITOR,
        action_id=f"{call.id}_{party}",
        counted=counted,
    )
    return lambda c: c if c.leg_named(third.id) else evolve(c, legs=(*c.legs, third))


@pytest.fixture
def line(redis: Redis) -> Line:
    return Line(redis)


def last_ends(call: Call) -> Call:
    return call.with_leg(evolve(call.thirds[-1], ended=5.0))


def talking(line: Line) -> Call:
    (call,) = line.calls(1)
    return next(each for each in line.turn().calls if each.id == call.id)


def test_a_third_party_takes_places_from_the_moment_it_begins(line: Line) -> None:
    line.pacer.set_limits({"gateway:pstn": Limit(most=3)})
    call = talking(line)
    begun = line.store.begin(call, bringing(call), NOTE)
    uuid = begun.thirds[0].uuid.encode()
    for limit in ("gateway:pstn", "switch:s"):
        assert uuid in line.redis.smembers(line.keys.taken(limit))
        assert line.redis.scard(line.keys.taken(limit)) == 3
    with pytest.raises(NoRoom) as full:
        line.store.begin(begun, bringing(begun), NOTE)
    assert full.value.wait == Wait("gateway:pstn", "max_legs", 3, 3, 0.1)
    assert line.store.get(call.id) == begun
    line.ended(begun)
    for limit in ("gateway:pstn", "switch:s"):
        assert line.redis.scard(line.keys.taken(limit)) == 0


def test_a_third_party_takes_from_the_rates(line: Line) -> None:
    call = talking(line)
    line.pacer.set_limits({"organization:3": Limit(legs_per_second=0.5)})
    begun = line.store.begin(call, bringing(call), NOTE)
    with pytest.raises(NoRoom) as full:
        line.store.begin(begun, bringing(begun), NOTE)
    wait = full.value.wait
    assert (wait.limit, wait.kind, wait.most) == ("organization:3", "legs_per_second", 0.5)
    assert 1.0 < wait.seconds <= 2.0


def test_the_calls_of_an_organization_are_no_limit_of_its_actions(line: Line) -> None:
    call = talking(line)
    line.pacer.set_limits({"organization:3": Limit(most=1), "user:12": Limit(most=1)})
    assert line.store.begin(call, bringing(call), NOTE).thirds


def test_a_cap_refuses_and_nothing_is_taken(line: Line) -> None:
    call = talking(line)
    counted = "legs:user:12"
    check = Check("user:12", "max_legs", Count.SET, 1, of=counted, taken=1)
    begun = line.store.begin(call, bringing(call, counted=counted), NOTE, [check])
    with pytest.raises(QuotaExceeded) as full:
        line.store.begin(begun, bringing(begun, counted=counted), NOTE, [check])
    assert full.value.refusal == Refusal(check, 1, None)
    assert line.store.get(call.id) == begun
    line.ended(begun)
    assert line.redis.scard(line.keys.taken(counted)) == 0


def test_a_window_takes_nothing_while_a_limit_has_no_room(line: Line) -> None:
    line.pacer.set_limits({"gateway:pstn": Limit(most=2)})
    call = talking(line)
    check = Check("policy:a", "calls_to_number_per_hour", Count.WINDOW, 9, "+1", 3600)
    check = Check(**{**{n: getattr(check, n) for n in check.__slots__}, "members": ("x",)})
    with pytest.raises(NoRoom):
        line.store.begin(call, bringing(call), NOTE, [check])
    assert line.redis.keys("ringback:quota:*") == []


def test_a_change_in_between_is_begun_on_the_call_as_it_is(line: Line) -> None:
    call = talking(line)
    line.store.change(call, lambda c: evolve(c, sent=5.0), Note("event", "x"))
    begun = line.store.begin(call, bringing(call), NOTE)
    assert (begun.sent, len(begun.thirds)) == (5.0, 1)
    # A second run finds it begun.
    assert line.store.begin(begun, bringing(call), NOTE) is begun


@pytest.mark.parametrize(
    "limit", [Limit(legs_per_second=40), Limit(most=4)], ids=["legs_per_second", "max_legs"]
)
def test_calls_and_actions_take_turns(line: Line, limit: Limit) -> None:
    """Both want more than the limit gives, at every moment."""
    call = talking(line)
    line.pacer.set_limits({"gateway:pstn": limit})
    waiting = line.calls(60)
    calls: list[str] = []
    actions = 0
    again = 0.0
    end = time.monotonic() + 60.0
    while min(len(calls), actions) < 8:
        assert time.monotonic() < end, (len(calls), actions)
        for claimed in line.turn(most=1).calls:
            calls.append(claimed.id)
            if limit.most:
                # It is over at once.
                line.ended(claimed)
        if time.monotonic() >= again:
            try:
                call = line.store.begin(call, bringing(call), NOTE)
            except NoRoom as error:
                again = time.monotonic() + error.wait.seconds
            else:
                actions += 1
                if limit.most:
                    call = line.store.change(call, last_ends, Note("event", "x"))
    assert len(calls) <= 3 * actions + 3
    assert actions <= 3 * len(calls) + 3
    assert calls == [each.id for each in waiting[: len(calls)]]


def test_why_a_job_found_no_room_is_read_as_it_was_written() -> None:
    wait = Wait("gateway:pstn", "max_legs", 3.0, 3.0, 0.25)
    check = Check("policy:a", "w", Count.WINDOW, 3, "+1", 3600, members=("a", "b"))
    for why in (wait, Refusal(check, 3, 17.5), Refusal(check, 3, None)):
        assert loads(dumps(why)) == why
    assert loads("The call has ended.") is None
