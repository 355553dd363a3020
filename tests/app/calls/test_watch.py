"""When a call is looked at though no event says so, and what is done about it then."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls import transitions, watch
from app.calls.model import GATEWAY_FAILURES, Action, Call, Leg, State
from app.calls.watch import (
    COMMAND_LIMIT,
    GONE_LIMIT,
    HANG_UP_LOOK,
    LOOK_LIMIT,
    MARGIN,
    QUEUE_LOOK,
    RING_MARGIN,
    SEND_WITHIN,
    UNSENT_LIMIT,
    UNSENT_LOOK,
    deadline,
    fate,
    fate_unreachable,
    is_doubtful,
    is_hang_up_pending,
    is_unsent,
    limit,
    queued_until,
    rang_too_long,
)
from freeswitch import dialstring
from freeswitch.event_socket import DELIVERY_LIMIT
from tests.app.calls.make import dialled, make_call, make_leg

# The smallest step of times that are written with microseconds.
MOMENT = 1e-6
# Of the calls made here.
ACCEPTED, CLAIMED, SENT, RINGING, DURATION = 1000.0, 1001.0, 1002.0, 20, 600


def talking(**fields: Any) -> Call:
    legs = [
        make_leg(name, created=1003.0, answered=1004.0, bridged=1006.0) for name in ("a1", "b1")
    ]
    given = {"state": State.BRIDGED, "answered": 1004.0, "bridged": 1006.0, **fields}
    return dialled(*legs, **given)


def test_limits_leave_room_for_each_other() -> None:
    """What was sent as late as is allowed, and arrived as late, has a channel before its call is
    given up."""
    assert UNSENT_LIMIT > SEND_WITHIN + COMMAND_LIMIT + DELIVERY_LIMIT
    # A look that comes late counts as none: absence is measured by looks.
    assert 0 < LOOK_LIMIT < GONE_LIMIT < UNSENT_LIMIT


# When to look


@pytest.mark.parametrize(
    ("queue_timeout", "due"), [(60, ACCEPTED + QUEUE_LOOK), (5, 1005.0), (2, 1002.0)]
)
def test_a_queued_call_is_looked_at_soon_and_by_its_end(queue_timeout: int, due: float) -> None:
    call = make_call(queue_timeout=queue_timeout)
    assert deadline(call) == due
    assert queued_until(call) == ACCEPTED + queue_timeout


def test_a_claim_is_looked_at_until_it_was_sent() -> None:
    assert deadline(dialled(sent=None)) == CLAIMED + UNSENT_LOOK
    # Hung up or not: whether it was sent is what is not known.
    assert deadline(dialled(sent=None, hangup_requested=1001.5)) == CLAIMED + UNSENT_LOOK


@pytest.mark.parametrize(
    ("call", "due"),
    [
        (dialled(), SENT + RINGING + MARGIN),
        (dialled(make_leg("a1", created=1003.0), "b1"), 1003.0 + RINGING + MARGIN),
        (dialled(answered=1009.0), 1009.0 + RINGING + MARGIN),
        (talking(), 1004.0 + DURATION + MARGIN),
        # When its answer was lost.
        (talking(answered=None), 1006.0 + DURATION + MARGIN),
        # All ways to reach a party share its time.
        (dialled("a1", "a1.2", "a1.3", "b1", "b1.2"), SENT + RINGING + MARGIN),
    ],
)
def test_a_call_that_goes_on_is_looked_at_once_the_switch_has_ended_it(
    call: Call, due: float
) -> None:
    assert limit(call) == deadline(call) == due


def test_a_party_with_several_gateways_rings_for_the_time_of_one() -> None:
    first = make_leg("a1", created=1003.0, ended=1009.0, cause="NORMAL_TEMPORARY_FAILURE")
    second, third = make_leg("a1.2", created=1009.0), make_leg("a1.3")
    call = dialled(first, second, third, "b1")
    until = 1003.0 + RINGING + RING_MARGIN
    assert deadline(call) == until < limit(call)
    assert rang_too_long(call, until - MOMENT) == []
    assert rang_too_long(call, until) == [second]
    answered = replace(second, answered=1010.0)
    for over in (dialled(first, answered, third), dialled(first, replace(second, ended=1011.0))):
        assert deadline(over) == limit(over)
        assert rang_too_long(over, until) == []
    # The switch keeps the time of a party with one gateway by itself.
    assert rang_too_long(dialled(make_leg("a1", created=1003.0)), until) == []


def test_what_is_to_be_hung_up_is_looked_at_soon() -> None:
    assert deadline(talking(hangup_requested=1050.0)) == 1050.0 + HANG_UP_LOOK
    # Not after the switch has ended it anyway.
    late = 1004.0 + DURATION + MARGIN - 1
    assert deadline(talking(hangup_requested=late)) == late + 1


def test_one_party_that_is_to_be_hung_up_is_looked_at_while_it_is_there() -> None:
    one, other = talking().legs
    asked = replace(one, hangup_requested=1050.0)
    assert deadline(talking(legs=(asked, other))) == 1050.0 + HANG_UP_LOOK
    assert deadline(talking(legs=(replace(asked, ended=1051.0), other))) == limit(talking())
    assert deadline(talking(legs=(replace(asked, created=None), other))) == limit(talking())
    earlier = replace(other, hangup_requested=1040.0)
    assert deadline(talking(legs=(asked, earlier))) == 1040.0 + HANG_UP_LOOK


@given(
    st.sampled_from(State),
    *(st.none() | st.integers(1000, 1100).map(float) for _ in range(5)),
)
def test_every_call_that_lives_is_looked_at_again(
    state: State,
    claimed: float | None,
    sent: float | None,
    answered: float | None,
    bridged: float | None,
    asked: float | None,
) -> None:
    drawn = {"claimed": claimed, "sent": sent, "answered": answered, "bridged": bridged}
    # A call is claimed before it is sent, and so on.
    in_order = iter(sorted(at for at in drawn.values() if at is not None))
    times = {name: None if at is None else next(in_order) for name, at in drawn.items()}
    call = make_call(state=state, hangup_requested=asked, **times)
    due = deadline(call)
    assert (due is None) is (state is State.ENDED)
    if due is not None:
        assert ACCEPTED < due <= max(queued_until(call), limit(call))


# What is to be hung up


@pytest.mark.parametrize(
    ("state", "pending"),
    [(State.QUEUED, False), (State.ENDED, False)]
    + [(s, True) for s in State if s not in (State.QUEUED, State.ENDED)],
)
def test_a_hang_up_is_pending_while_something_may_ring_or_talk(state: State, pending: bool) -> None:
    assert is_hang_up_pending(talking(state=state, hangup_requested=1050.0)) is pending
    assert not is_hang_up_pending(talking(state=state))
    one, other = talking().legs
    asked = replace(one, hangup_requested=1050.0)
    assert is_hang_up_pending(talking(state=state, legs=(asked, other))) is pending
    # Before it is there too: it may come.
    unborn = make_leg("a1", hangup_requested=1050.0)
    dialling = talking(state=state, answered=None, bridged=None, legs=(unborn, make_leg("b1")))
    assert is_hang_up_pending(dialling) is pending
    over = replace(asked, ended=1051.0)
    assert not is_hang_up_pending(talking(state=state, legs=(over, other)))


def gone(leg: str, cause: str | None) -> Leg:
    return make_leg(leg, created=1004.0, ended=1005.0, cause=cause, hangup_requested=1005.0)


@pytest.mark.parametrize(
    ("leg", "cause", "pending"),
    [
        *((leg, cause, True) for leg in ("b1", "c1") for cause in sorted(GATEWAY_FAILURES)),
        *((leg, cause, False) for leg in ("b1", "c1") for cause in ("USER_BUSY", "NO_ANSWER")),
        # The last event was lost.
        ("b1", None, True),
    ],
)
def test_another_way_to_a_party_comes_only_after_a_gateway_failed(
    leg: str, cause: str | None, pending: bool
) -> None:
    source = make_leg("a1", created=1003.0, answered=1004.0)
    more = make_leg(f"{leg}.2", hangup_requested=1005.0)
    legs = source, gone(leg, cause), more, make_leg("b2", created=1004.0)
    state = State.BRIDGED if leg == "c1" else State.ANSWERED
    call = dialled(*legs, state=state, answered=1004.0)
    assert is_hang_up_pending(call) is pending
    # Once the parties talk, the switch dials none of the first ones any more.
    talks = replace(call, bridged=1006.0, state=State.BRIDGED)
    assert is_hang_up_pending(talks) is (pending and leg == "c1")


def test_a_source_comes_no_more_once_another_has_answered() -> None:
    waiting = make_leg("a2", hangup_requested=1005.0)
    for answered, pending in ((None, True), (1004.0, False)):
        call = dialled(make_leg("a1", created=1003.0, answered=answered), waiting, "b1")
        assert is_hang_up_pending(call) is pending


def test_the_causes_after_which_another_way_is_tried_are_those_of_the_dial_string() -> None:
    assert frozenset(dialstring.GATEWAY_FAILURES) == GATEWAY_FAILURES


# What became of a call that its switch says nothing of


@pytest.mark.parametrize(
    ("call", "there", "gone_for", "fault"),
    [
        (dialled(sent=None), False, UNSENT_LIMIT - MOMENT, None),
        (dialled(sent=None), False, UNSENT_LIMIT, "worker_lost"),
        (dialled(), False, GONE_LIMIT - MOMENT, None),
        (dialled(), False, GONE_LIMIT, "events_lost"),
        (talking(), False, GONE_LIMIT, "events_lost"),
        # It is there, whatever was counted before.
        (dialled(sent=None), True, UNSENT_LIMIT, None),
        (talking(), True, 1e9, None),
    ],
)
def test_the_fate_of_a_call_without_channels(
    call: Call, there: bool, gone_for: float, fault: str | None
) -> None:
    assert fate(call, core_uuid="core-1", there=there, gone_for=gone_for) == fault
    # Another run has none of its channels, unless it has recovered a call that talked.
    another = fate(call, core_uuid="core-2", there=there, gone_for=gone_for)
    recovered = call.state is State.BRIDGED and there
    assert another == (None if recovered else "switch_restarted")
    over = replace(call, state=State.ENDED)
    assert fate(over, core_uuid="core-2", there=there, gone_for=gone_for) is None


@pytest.mark.parametrize(
    ("call", "new_for", "fault"),
    [
        (talking(), 5.0 - MOMENT, None),
        (talking(), 5.0, "switch_restarted"),
        # The switch would dial the destination of such a call again.
        (dialled(), 0.0, "switch_restarted"),
    ],
)
def test_a_call_that_talked_waits_for_its_recovery(
    call: Call, new_for: float, fault: str | None
) -> None:
    found = fate(
        call, core_uuid="core-2", there=False, gone_for=0.0, new_for=new_for, recover_wait=5.0
    )
    assert found == fault
    after = transitions.recover(call, core_uuid="core-2")
    assert fate(after, core_uuid="core-2", there=True, gone_for=0.0) is None
    assert (
        transitions.recover(replace(call, state=State.ENDED), core_uuid="x").core_uuid == "core-1"
    )


@pytest.mark.parametrize(
    "call", [dialled(sent=None), talking(), dialled("a1", "a1.2")], ids=["sent", "talking", "ways"]
)
def test_a_call_outlives_the_absence_of_its_switch_by_all_its_limits(call: Call) -> None:
    longest = UNSENT_LIMIT + 2 * (RINGING + MARGIN) + DURATION
    assert fate_unreachable(call, unreachable_for=longest - MOMENT) is None
    assert fate_unreachable(call, unreachable_for=longest) == "switch_unreachable"
    # Whatever the switch did on its own was over before.
    assert longest > limit(replace(call, sent=CLAIMED)) - CLAIMED
    assert fate_unreachable(replace(call, state=State.ENDED), unreachable_for=longest) is None


# Whether the list of channels and the call say the same


def states(call: Call, *call_states: str) -> dict[str, str]:
    """By uuid; a leg whose state is empty is in no list."""
    return {leg.uuid: s for leg, s in zip(call.legs, call_states, strict=True) if s}


RINGS = dialled(make_leg("a1", created=1003.0, ringing=1004.0), "b1", state=State.RINGING)
ANSWERS = dialled(make_leg("a1", created=1003.0, answered=1004.0), "b1", state=State.ANSWERED)


@pytest.mark.parametrize(
    ("call", "shown", "doubtful"),
    [
        (dialled(), ("", ""), True),
        (dialled(), ("DOWN", ""), True),
        (dialled(make_leg("a1", created=1003.0), "b1"), ("DOWN", ""), False),
        (dialled(make_leg("a1", created=1003.0), "b1"), ("RINGING", ""), True),
        (dialled(make_leg("a1", created=1003.0), "b1"), ("EARLY", ""), True),
        (RINGS, ("RINGING", ""), False),
        (RINGS, ("ACTIVE", ""), True),
        (RINGS, ("RING_WAIT", ""), True),
        (ANSWERS, ("RING_WAIT", ""), False),
        (ANSWERS, ("ACTIVE", ""), False),
        # The destination is there, and was not heard of; or talks, and is not bridged.
        (ANSWERS, ("ACTIVE", "RINGING"), True),
        (replace(talking(), bridged=None), ("ACTIVE", "ACTIVE"), True),
        (talking(), ("ACTIVE", "ACTIVE"), False),
        (talking(), ("ACTIVE", ""), True),
        (talking(), ("HELD", "ACTIVE"), True),
        (talking(hangup_requested=1050.0), ("ACTIVE", "ACTIVE"), True),
    ],
)
def test_a_call_is_looked_at_where_the_list_says_otherwise(
    call: Call, shown: tuple[str, ...], doubtful: bool
) -> None:
    assert is_doubtful(call, states(call, *shown)) is doubtful


@pytest.mark.parametrize(
    ("unheld", "state"), [(None, "HELD"), (1009.0, "ACTIVE"), (1009.0, "UNHELD")]
)
def test_a_hold_that_is_known_raises_no_doubt(unheld: float | None, state: str) -> None:
    one, other = talking().legs
    call = talking(legs=(replace(one, held=1008.0, unheld=unheld), other))
    assert not is_doubtful(call, states(call, state, "ACTIVE"))
    otherwise = "ACTIVE" if state == "HELD" else "HELD"
    assert is_doubtful(call, states(call, otherwise, "ACTIVE"))


def test_a_lot_of_which_the_list_says_nothing_raises_doubt() -> None:
    one, other = talking().legs
    parked = replace(other, parked=1008.0, parked_by="0003*210")
    call = talking(legs=(one, parked))
    assert is_doubtful(call, states(call, "ACTIVE", "ACTIVE"))
    assert is_doubtful(call, states(call, "", "ACTIVE"))


@pytest.mark.parametrize(
    ("leg", "unsent"),
    [
        (make_leg("c1", action=Action.TRANSFER), True),
        (make_leg("c1", action=Action.MONITOR), True),
        # The way back of a parked party comes later, if at all; other ways only after the first.
        (make_leg("c1", action=Action.PARK), False),
        (make_leg("c1.2", action=Action.TRANSFER), False),
        (make_leg("c1", action=Action.TRANSFER, created=1003.0), False),
        (make_leg("c1", action=Action.TRANSFER, ended=1003.0), False),
        (make_leg("b2"), False),
    ],
)
def test_who_was_to_come_in_at_once_and_has_no_channel(leg: Any, unsent: bool) -> None:
    assert is_unsent(leg) is unsent
    call = talking(legs=(*talking().legs, leg))
    there = "" if leg.created is None or leg.ended is not None else "DOWN"
    assert is_doubtful(call, states(call, "ACTIVE", "ACTIVE", there)) is unsent


def test_a_deadline_follows_the_call_s_own_limits() -> None:
    assert watch.deadline(talking(call_duration=30)) == 1004.0 + 30 + MARGIN
    assert watch.deadline(dialled(wait_for_pickup=7)) == SENT + 7 + MARGIN
