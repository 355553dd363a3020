"""How a call changes: events in any order, and what each end is called."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls import cdr, transitions
from app.calls.model import Action, Call, Leg, Role, State
from app.calls.transitions import (
    ANSWERED,
    BUSY,
    FAILED,
    FAULTS,
    NO_ANSWER,
    NOT_ALLOWED,
    UNKNOWN,
    LegReport,
    Marks,
    claim,
    end_for_quota,
    end_leg,
    end_queued,
    finish_originate,
    give_up,
    hang_up_number,
    mark_sent,
    report_leg,
    request_hangup,
)
from tests.app.calls.make import dialled, make_call, make_leg

CAUSES = ("NORMAL_CLEARING", "USER_BUSY", "NO_ANSWER", "CALL_REJECTED", "UNALLOCATED_NUMBER")


def report(call: Call, leg: str, **fields: Any) -> Call:
    found = call.leg_named(leg)
    assert found is not None
    return report_leg(call, LegReport(found.uuid, **fields))


def ended(call: Call) -> tuple[State, str | None, str | None, int | None]:
    return call.state, call.hangup_cause, call.ended_by, call.disposition


# Whole calls as a switch tells of them, in any order


@dataclass
class Told:
    """What the switch knows of one leg, and a report of each time that it learnt more."""

    leg: Leg
    known: dict[str, Any] = field(default_factory=dict)
    reports: list[LegReport] = field(default_factory=list)

    def learn(self, **fields: Any) -> None:
        self.known |= fields
        self.reports.append(LegReport(self.leg.uuid, **self.known))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Call, list[Told], bool]:
    """A call that was dialled, what its legs went through, and whether all of it is over.

    Of the sources one at most answers; then all destinations are dialled, and one at most answers.
    As the listener reads its events, a leg names among its peers the one that it was bridged to.
    """
    sources = [f"a{n}" for n in range(1, draw(st.integers(1, 3)) + 1)]
    destinations = [f"b{n}" for n in range(1, draw(st.integers(1, 2)) + 1)]
    call = dialled(*sources, *destinations)
    told = {leg.id: Told(leg) for leg in call.legs}
    at = 1002.0

    def later() -> float:
        nonlocal at
        at += draw(st.integers(1, 20)) / 8
        return at

    def ring(names: list[str]) -> str | None:
        """All of them are dialled; the one that answers, if any."""
        for name in names:
            told[name].learn(created=later())
        for name in draw(st.lists(st.sampled_from(names), unique=True)):
            told[name].learn(**{draw(st.sampled_from(("ringing", "early_media"))): later()})
        failed = draw(st.lists(st.sampled_from(names), unique=True))
        for name in failed:
            told[name].learn(ended=later(), cause=draw(st.sampled_from(CAUSES)))
        left = [name for name in names if name not in failed]
        if not left or not draw(st.booleans()):
            return None
        answers = draw(st.sampled_from(left))
        told[answers].learn(answered=later())
        for name in left:
            if name != answers:
                told[name].learn(ended=at, cause="LOSE_RACE")
        return answers

    winner = ring(sources)
    if winner is None:
        return call, list(told.values()), not any("ended" not in told[n].known for n in sources)
    peers = tuple(told[name].leg.uuid for name in destinations)
    answered = ring(destinations)
    if answered is not None:
        moment = later()
        one, other = told[winner], told[answered]
        one.learn(bridged=moment, bridged_to=other.leg.uuid, peers=peers)
        other.learn(bridged=moment, bridged_to=one.leg.uuid, peers=(one.leg.uuid,))
        if not draw(st.booleans()):
            return call, list(told.values()), False
        for leg, sip in draw(st.permutations([(one, "recv_bye"), (other, "send_bye")])):
            leg.learn(ended=later(), cause="NORMAL_CLEARING", sip_disposition=sip)
        return call, list(told.values()), True
    if any("ended" not in told[name].known for name in destinations):
        return call, list(told.values()), False
    cause = told[destinations[-1]].known["cause"]
    told[winner].learn(ended=later(), cause=cause, originate_disposition=cause, peers=peers)
    return call, list(told.values()), True


def fed(call: Call, reports: Sequence[LegReport]) -> Call:
    """The call after the reports, which never take it back."""
    for one in reports:
        before, call = call, report_leg(call, one)
        assert call.state.rank >= before.state.rank, one
        assert report_leg(call, one) == call, "a report that comes twice changes something"
    return call


def in_turns(lists: list[list[LegReport]], rng: Random) -> Iterator[LegReport]:
    """Those of each list in their order, the lists mixed."""
    order = [number for number, one in enumerate(lists) for _ in one]
    rng.shuffle(order)
    left = [iter(one) for one in lists]
    return (next(left[number]) for number in order)


@given(histories(), st.randoms(use_true_random=False))
def test_events_in_any_order_give_the_same_call(
    history: tuple[Call, list[Told], bool], rng: Random
) -> None:
    call, told, over = history
    in_order = fed(call, [one for leg in told for one in leg.reports])
    assert (in_order.state is State.ENDED) is over
    mixed = [one for leg in told for one in leg.reports for _ in range(rng.choice((1, 1, 2)))]
    rng.shuffle(mixed)
    assert fed(call, mixed) == in_order


@given(histories(), st.randoms(use_true_random=False))
def test_lost_events_cost_nothing_if_the_last_of_each_leg_comes(
    history: tuple[Call, list[Told], bool], rng: Random
) -> None:
    call, told, _ = history
    in_order = fed(call, [one for leg in told for one in leg.reports])
    kept = [
        [*(r for r in leg.reports[:-1] if rng.random() < 0.5), *leg.reports[-1:]] for leg in told
    ]
    assert fed(call, list(in_turns(kept, rng))) == in_order


# Anything at all, in any order

TIMES = st.none() | st.integers(1, 40).map(float)
REPORTS = st.builds(
    LegReport,
    st.sampled_from([leg.uuid for leg in make_call("a1", "a2", "b1", "b2", "c1").legs]),
    **{name: TIMES for name in ("created", "early_media", "ringing", "answered", "ended")},
    bridged=TIMES,
    bridged_to=st.none() | st.sampled_from([leg.uuid for leg in make_call("a1", "b1").legs]),
    cause=st.none() | st.sampled_from((*CAUSES, "LOSE_RACE")),
    sip_disposition=st.sampled_from((None, "recv_bye", "recv_refuse")),
    peers=st.sampled_from(((), tuple(leg.uuid for leg in make_call("b1", "b2").legs))),
    marks=st.none() | st.builds(Marks, held=TIMES, unheld=TIMES, parked=TIMES, unparked=TIMES),
)
# A change as the product makes them: of the call and a time.
CHANGES: st.SearchStrategy[Callable[[Call, float], Call]] = st.one_of(
    REPORTS.map(lambda one: lambda call, at: report_leg(call, one)),
    st.just(lambda call, at: claim(call, worker="w", switch="s", core_uuid="c", at=at)),
    st.just(lambda call, at: mark_sent(call, at=at, job_uuid=call.job_uuid)),
    st.just(lambda call, at: request_hangup(call, at=at)),
    st.just(lambda call, at: end_queued(call, at=at)),
    st.sampled_from((*CAUSES, "INVALID_GATEWAY")).map(
        lambda error: lambda call, at: finish_originate(call, error=error, at=at)
    ),
    st.sampled_from(sorted(FAULTS)).map(
        lambda fault: lambda call, at: transitions.end(call, fault, at=at)
    ),
    st.sampled_from((transitions.BY_POLICY, transitions.NOT_REPLICATED)).map(
        lambda by: lambda call, at: give_up(call, by, worker="w1", claimed=1001.0, at=at)
    ),
    st.just(lambda call, at: end_for_quota(call, at=at)),
    st.sampled_from((None, "15100", "15200", "15300")).map(
        lambda number: lambda call, at: hang_up_number(call, number, at=at)
    ),
    st.sampled_from([leg.uuid for leg in make_call("a1", "b1", "c1").legs]).map(
        lambda uuid: lambda call, at: end_leg(call, uuid, cause="USER_BUSY", at=at)
    ),
)
# What is said of an end but its disposition, and what no end comes without.
LAST_WORDS = ("ended", "hangup_cause", "ended_by")


@given(st.booleans(), st.lists(CHANGES, max_size=25))
def test_whatever_comes_a_call_only_moves_forward_and_ends_once(
    is_queued: bool, changes: list[Callable[[Call, float], Call]]
) -> None:
    legs = "a1", "a2", "b1", "b2", make_leg("c1", action=Action.TRANSFER, of="b1")
    call = make_call(*legs) if is_queued else dialled(*legs)
    for at, change in enumerate(changes, start=1003):
        before, call = call, change(call, float(at))
        assert change(call, float(at + 1)) == call, "what comes twice counts twice"
        assert call.state.rank >= before.state.rank
        for name in (
            f.name for f in fields(Call) if f.name not in ("state", "legs", "disposition")
        ):
            was = getattr(before, name)
            # When it was answered may come to be known better.
            assert was is None or name == "answered" or getattr(call, name) == was, name
        assert [leg.id for leg in call.legs] == [leg.id for leg in before.legs]
        said = [getattr(call, name) is not None for name in (*LAST_WORDS, "disposition")]
        assert said == [call.state is State.ENDED] * 4
        if before.state is State.ENDED and call.disposition != before.disposition:
            # It turns out to have talked.
            assert before.bridged is None and call.bridged is not None
            assert call.disposition == ANSWERED


@given(st.booleans(), st.lists(CHANGES, max_size=15), CHANGES)
def test_no_end_leaves_a_leg_open(
    is_queued: bool,
    changes: list[Callable[[Call, float], Call]],
    late: Callable[[Call, float], Call],
) -> None:
    """Only the last event of a listener comes after the end of a call."""
    legs = "a1", "a2", "b1", "b1.2", make_leg("c1", action=Action.MONITOR, of="b1")
    call = make_call(*legs) if is_queued else dialled(*legs)
    for at, change in enumerate(changes, start=1003):
        call = change(call, float(at))
        if call.state is State.ENDED:
            assert not [leg.id for leg in call.legs if leg.live and not leg.listens]
            break
    else:
        call = transitions.end(call, transitions.EVENTS_LOST, at=2000.0)
        assert not [leg.id for leg in call.legs if leg.live]
    for known in (call, late(call, 3000.0)):
        for row in cdr.record(known)["legs"]:
            assert ("created" in row) <= ("ended" in row)


# The ways to the switch


def test_a_claim_says_who_dials_and_where() -> None:
    claimed = claim(make_call(), worker="w1", switch="s1", core_uuid="core-1", at=1001.0)
    assert claimed.state is State.DIALING
    assert (claimed.worker, claimed.switch) == ("w1", "s1")
    assert (claimed.core_uuid, claimed.claimed) == ("core-1", 1001.0)
    assert claimed.sent is None


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
def test_only_a_queued_call_is_claimed(state: State) -> None:
    call = dialled(state=state)
    assert claim(call, worker="w2", switch="s2", core_uuid="core-2", at=1009.0) is call


def test_what_is_sent_is_noted_once_and_not_of_what_is_over() -> None:
    claimed = dialled(sent=None)
    sent = mark_sent(claimed, at=1002.5, job_uuid=claimed.job_uuid)
    assert sent == replace(claimed, sent=1002.5)
    assert mark_sent(sent, at=1003.0, job_uuid=sent.job_uuid) is sent
    over = replace(claimed, state=State.ENDED)
    assert mark_sent(over, at=1003.0, job_uuid=over.job_uuid) is over


def test_a_channel_says_that_it_was_sent() -> None:
    """By the switch's clock, and never before the claim."""
    assert report(dialled(sent=None), "a1", created=1001.5).sent == 1001.5
    assert report(dialled(sent=None), "a1", created=900.0).sent == 1001.0
    assert report(dialled(), "a1", created=1001.5).sent == 1002.0


def test_a_report_of_another_s_channel_changes_nothing() -> None:
    call = dialled()
    assert report_leg(call, LegReport("somebody's", answered=1003.0)) is call


def test_states_on_the_way_of_an_ordinary_call() -> None:
    call = dialled()
    seen = [call.state]
    for leg, known in [
        ("a1", {"created": 1003.0}),
        ("a1", {"ringing": 1004.0}),
        ("a1", {"answered": 1005.0}),
        ("b1", {"created": 1006.0}),
        ("b1", {"ringing": 1007.0}),
        ("b1", {"answered": 1008.0}),
        ("a1", {"bridged": 1008.5, "bridged_to": call.legs[1].uuid}),
        ("a1", {"ended": 1020.0, "cause": "NORMAL_CLEARING", "sip_disposition": "recv_bye"}),
        ("b1", {"ended": 1020.5, "cause": "NORMAL_CLEARING"}),
    ]:
        call = report(call, leg, **known)
        seen.append(call.state)
    assert [state.value for state in seen] == [
        *("dialing", "dialing", "ringing", "answered", "answered", "answered", "answered"),
        *("bridged", "bridged", "ended"),
    ]
    assert (call.answered, call.bridged, call.ended) == (1005.0, 1008.5, 1020.5)
    assert ended(call) == (State.ENDED, "NORMAL_CLEARING", "source", ANSWERED)
    assert call.legs[1].bridged == 1008.5


def test_early_media_rings_and_a_ringing_destination_does_not() -> None:
    assert report(dialled(), "a1", early_media=1003.0).state is State.RINGING
    assert report(dialled(), "b1", ringing=1003.0).state is State.DIALING


def test_who_is_bridged_has_answered() -> None:
    call = report(dialled(), "a1", created=1003.0, answered=1004.0)
    call = report(call, "a1", bridged=1006.0, bridged_to=call.legs[1].uuid)
    assert (call.legs[1].answered, call.legs[1].bridged) == (1006.0, 1006.0)
    # Its own event, which came late, knows better.
    assert report(call, "b1", answered=1005.5).legs[1].answered == 1005.5
    assert report(call, "b1", answered=1007.0).legs[1].answered == 1006.0


def test_a_leg_that_another_has_dialled_keeps_the_call_alive() -> None:
    call = dialled()
    peers = (call.legs[1].uuid,)
    left = report(call, "a1", answered=1004.0, ended=1009.0, cause="NORMAL_CLEARING", peers=peers)
    assert left.state is State.ANSWERED and left.legs[1].created == 1009.0
    # When its channel was made comes to be known.
    assert report(left, "b1", created=1005.0).legs[1].created == 1005.0


# How it ended


@pytest.mark.parametrize(
    ("cause", "by", "disposition"),
    [
        ("USER_BUSY", "source", BUSY),
        ("CALL_REJECTED", "source", BUSY),
        ("UNALLOCATED_NUMBER", "source", FAILED),
        ("SUBSCRIBER_ABSENT", "source", FAILED),
        ("NO_ANSWER", "timeout", NO_ANSWER),
        ("NO_USER_RESPONSE", "timeout", NO_ANSWER),
        ("PROGRESS_TIMEOUT", "timeout", NO_ANSWER),
        ("NORMAL_CLEARING", "switch", NO_ANSWER),
        ("ORIGINATOR_CANCEL", "switch", NO_ANSWER),
        ("NORMAL_TEMPORARY_FAILURE", "switch", FAILED),
        ("OUTGOING_CALL_BARRED", "switch", NOT_ALLOWED),
        ("BEARERCAPABILITY_NOTAUTH", "switch", NOT_ALLOWED),
    ],
)
def test_a_source_that_never_answered(cause: str, by: str, disposition: int) -> None:
    call = report(dialled(), "a1", created=1003.0, ended=1005.0, cause=cause)
    assert ended(call) == (State.ENDED, cause, by, disposition)
    assert call.ended == 1005.0
    # The switch's reply may come alone, or first.
    refused = finish_originate(dialled(), error=cause, at=1005.0)
    assert ended(refused) == ended(call) and refused.ended == 1005.0


@pytest.mark.parametrize(
    ("causes", "telling"),
    [
        (("USER_BUSY", "NO_ANSWER"), "NO_ANSWER"),
        (("CALL_REJECTED", "USER_BUSY"), "USER_BUSY"),
        (("UNALLOCATED_NUMBER", "CALL_REJECTED"), "CALL_REJECTED"),
        (("NORMAL_TEMPORARY_FAILURE", "UNALLOCATED_NUMBER"), "UNALLOCATED_NUMBER"),
        (("GATEWAY_DOWN", "NORMAL_TEMPORARY_FAILURE"), "GATEWAY_DOWN"),
    ],
)
def test_of_several_sources_that_failed_one_cause_says_most(
    causes: tuple[str, str], telling: str
) -> None:
    call = dialled("a1", "a2", "b1")
    for leg, cause in zip(("a1", "a2"), causes, strict=True):
        assert call.state is not State.ENDED
        call = report(call, leg, created=1003.0, ended=1005.0, cause=cause)
    assert call.hangup_cause == telling


@pytest.mark.parametrize(
    ("cause", "sip", "by", "disposition"),
    [
        ("USER_BUSY", "recv_refuse", "destination", BUSY),
        ("UNALLOCATED_NUMBER", "recv_refuse", "destination", FAILED),
        ("NO_ANSWER", "send_cancel", "timeout", NO_ANSWER),
        ("NORMAL_TEMPORARY_FAILURE", "send_cancel", "switch", FAILED),
    ],
)
def test_a_destination_that_failed_is_the_call_s_cause(
    cause: str, sip: str, by: str, disposition: int
) -> None:
    call = report(dialled(), "a1", created=1003.0, answered=1004.0)
    call = report(call, "b1", created=1005.0, ended=1009.0, cause=cause, sip_disposition=sip)
    assert call.state is State.ANSWERED
    # The switch hangs the source up for it.
    call = report(call, "a1", ended=1009.1, cause="NORMAL_CLEARING", originate_disposition=cause)
    assert ended(call) == (State.ENDED, cause, by, disposition)


@pytest.mark.parametrize("nothing", ["SUCCESS", "failure", "NONE", "ORIGINATOR_CANCEL", None])
def test_an_originate_disposition_that_says_nothing(nothing: str | None) -> None:
    call = report(dialled(), "a1", created=1003.0, answered=1004.0)
    call = report(
        *(call, "a1"), ended=1009.0, cause="MANAGER_REQUEST", originate_disposition=nothing
    )
    assert call.hangup_cause == "MANAGER_REQUEST"


def test_the_ringing_of_all_destinations_was_over() -> None:
    """leg_timeout ends each with ALLOTTED_TIMEOUT, and no time of the call's own is over."""
    call = report(dialled(), "a1", created=1003.0, answered=1004.0)
    call = report(call, "b1", created=1005.0, ended=1025.0, cause="ALLOTTED_TIMEOUT")
    call = report(call, "a1", ended=1025.1, cause="NORMAL_CLEARING")
    assert ended(call) == (State.ENDED, "NO_ANSWER", "timeout", NO_ANSWER)


@pytest.mark.parametrize(
    ("source", "destination", "cause", "by"),
    [
        ("recv_bye", "send_bye", "NORMAL_CLEARING", "source"),
        ("send_bye", "recv_bye", "NORMAL_CLEARING", "destination"),
        ("send_bye", "send_bye", "MANAGER_REQUEST", "switch"),
        ("send_bye", "send_bye", "ALLOTTED_TIMEOUT", "duration"),
        ("send_bye", "send_bye", "MEDIA_TIMEOUT", "media_lost"),
        # A far end that says this by itself has hung up.
        ("recv_bye", "send_bye", "MEDIA_TIMEOUT", "source"),
    ],
)
def test_who_ended_a_talk(source: str, destination: str, cause: str, by: str) -> None:
    call = report(dialled(), "a1", created=1003.0, answered=1004.0)
    call = report(call, "a1", bridged=1006.0, bridged_to=call.legs[1].uuid)
    call = report(call, "b1", ended=1020.0, cause=cause, sip_disposition=destination)
    assert call.state is State.BRIDGED
    call = report(call, "a1", ended=1020.1, cause=cause, sip_disposition=source)
    assert ended(call) == (State.ENDED, cause, by, ANSWERED)


def test_a_source_that_went_silent_before_its_destination_answered() -> None:
    call = report(dialled(), "a1", created=1003.0, answered=1004.0)
    call = report(call, "b1", created=1005.0, ended=1014.0, cause="ORIGINATOR_CANCEL")
    said = {"cause": "MEDIA_TIMEOUT", "sip_disposition": "send_bye"}
    call = report(call, "a1", ended=1014.0, originate_disposition="ORIGINATOR_CANCEL", **said)
    assert ended(call) == (State.ENDED, "MEDIA_TIMEOUT", "media_lost", FAILED)


def test_a_conference_is_talked_in_from_the_answer() -> None:
    call = report(dialled("a1", conference="3"), "a1", created=1003.0, answered=1004.0)
    assert (call.state, call.bridged) == (State.BRIDGED, 1004.0)
    left = report(call, "a1", ended=1009.0, cause="NORMAL_CLEARING", sip_disposition="recv_bye")
    assert ended(left) == (State.ENDED, "NORMAL_CLEARING", "destination", ANSWERED)
    kicked = report(call, "a1", ended=1009.0, cause="NORMAL_CLEARING", sip_disposition="send_bye")
    assert kicked.ended_by == "switch"
    busy = report(dialled("a1", conference="3"), "a1", ended=1004.0, cause="USER_BUSY")
    assert ended(busy) == (State.ENDED, "USER_BUSY", "destination", BUSY)


def test_a_refused_second_originate_leaves_the_living_alone() -> None:
    talking = report(dialled(), "a1", created=1003.0, answered=1004.0)
    told = finish_originate(talking, error="DESTINATION_OUT_OF_ORDER", at=1005.0)
    assert told.state is State.ANSWERED
    assert finish_originate(told, error="USER_BUSY", at=1006.0) is told


def test_what_late_events_say_of_a_call_that_was_given_up() -> None:
    lost = transitions.end(dialled(), "events_lost", at=1010.0)
    assert lost.disposition == UNKNOWN
    answered = report(lost, "a1", created=1003.0, answered=1004.0)
    assert (answered.answered, answered.disposition) == (1004.0, UNKNOWN)
    talked = report(answered, "a1", bridged=1005.0, bridged_to=lost.legs[1].uuid)
    assert (talked.bridged, talked.disposition) == (1005.0, ANSWERED)
    assert (talked.ended, talked.ended_by) == (1010.0, "events_lost")


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_what_is_ended_without_an_event(fault: str) -> None:
    call = transitions.end(dialled(), fault, at=1010.0)
    known = fault in ("queue_timeout", "home_unavailable", "not_replicated")
    expected = FAILED if known else UNKNOWN
    assert ended(call) == (State.ENDED, "NORMAL_UNSPECIFIED", fault, expected)
    talked = transitions.end(dialled(bridged=1005.0), fault, at=1010.0)
    assert talked.disposition == ANSWERED
    wanted = transitions.end(dialled(hangup_requested=1004.0), fault, at=1010.0)
    assert (wanted.ended_by, wanted.disposition) == ("api", NO_ANSWER)
    assert transitions.end(call, "worker_lost", at=1020.0) is call
    assert transitions.end(dialled(), fault, at=1010.0, cause="X").hangup_cause == "X"


def test_the_legs_of_a_call_out_of_sight_end_until_the_switch_says_when() -> None:
    call = report(dialled(), "a1", created=1003.0, answered=1004.0)
    call = transitions.end(call, "events_lost", at=1100.0)
    source, destination = call.legs
    # The destination never had a channel.
    assert (source.ended, source.cause, destination.ended) == (1100.0, None, None)
    # A look that says no more than that the channel is gone changes nothing.
    assert report(call, "a1", ended=1101.0) == call
    told = report(call, "a1", ended=1050.0, cause="NORMAL_CLEARING")
    assert (told.legs[0].ended, told.legs[0].cause) == (1050.0, "NORMAL_CLEARING")
    assert report(told, "a1", ended=1060.0, cause="USER_BUSY") == told
    # The switch itself ends a call after its duration, 600 seconds here.
    late = transitions.end(report(dialled(), "a1", answered=1004.0, created=1003.0), "x", at=9e3)
    assert (late.legs[0].ended, late.ended) == (1604.0, 9e3)
    later = report(dialled(), "a1", created=1003.0, answered=1004.0)
    later = report(later, "b1", created=1700.0)
    assert transitions.end(later, "events_lost", at=9e3).legs[1].ended == 1700.0


def test_only_a_queued_call_is_too_late_for_its_turn() -> None:
    assert ended(end_queued(make_call(), at=1060.0))[2:] == ("queue_timeout", FAILED)
    claimed = dialled()
    assert end_queued(claimed, at=1060.0) is claimed


# What clients want hung up


def test_a_queued_call_is_hung_up_at_once() -> None:
    call = request_hangup(make_call(), at=1005.0)
    assert ended(call) == (State.ENDED, "ORIGINATOR_CANCEL", "api", NO_ANSWER)
    assert (call.ended, call.hangup_requested) == (1005.0, 1005.0)
    assert request_hangup(call, at=1006.0) is call


def test_a_dialled_call_is_hung_up_by_the_switch() -> None:
    asked = request_hangup(dialled(), at=1005.0)
    assert (asked.state, asked.hangup_requested) == (State.DIALING, 1005.0)
    assert request_hangup(asked, at=1006.0) is asked
    call = report(asked, "a1", created=1003.0, ended=1006.0, cause="NORMAL_CLEARING")
    assert ended(call) == (State.ENDED, "NORMAL_CLEARING", "api", NO_ANSWER)


def numbers() -> Call:
    """Two sources and two destinations, each with a number of its own, the first with two ways."""
    return dialled(
        *(make_leg(name, number="1") for name in ("a1", "a1.2")),
        *(make_leg(name, number=name[1] + name[0]) for name in ("a2", "b1", "b2")),
    )


def test_one_of_several_parties_is_hung_up_in_all_its_ways() -> None:
    call = hang_up_number(numbers(), "1", at=1005.0)
    assert call.hangup_requested is None
    assert [leg.hangup_requested for leg in call.legs] == [1005.0, 1005.0, None, None, None]
    assert hang_up_number(call, "1", at=1006.0) == call
    assert hang_up_number(call, "nobody's", at=1006.0) == call
    assert not transitions.is_unwanted(call, call.legs[2])
    assert transitions.is_unwanted(call, call.legs[0])


def test_a_party_that_leaves_a_queued_call_is_over_at_once() -> None:
    queued = make_call("a1", "a2", "b1", "b2", "b2.2", "b3")
    call = hang_up_number(queued, "15200", at=1005.0)
    gone = [leg for leg in call.legs if leg.party in ("a2", "b2")]
    assert {(each.hangup_requested, each.ended, each.cause) for each in gone} == {
        (1005.0, 1005.0, None)
    }
    assert call.state is State.QUEUED
    # It says nothing of how the others end.
    call = claim(call, worker="w", switch="s", core_uuid="c", at=1006.0)
    call = report(call, "a1", created=1007.0, ended=1008.0, cause="UNALLOCATED_NUMBER")
    assert ended(call) == (State.ENDED, "UNALLOCATED_NUMBER", "source", FAILED)


@pytest.mark.parametrize(("first", "last"), [("1", "2a"), ("2b", "1b"), ("2a", "1")])
def test_the_last_of_a_side_takes_the_call_along(first: str, last: str) -> None:
    call = hang_up_number(numbers(), first, at=1005.0)
    call = hang_up_number(call, last, at=1006.0)
    assert call.hangup_requested == 1006.0
    assert all(transitions.is_unwanted(call, leg) for leg in call.legs)


def test_a_conference_has_one_side() -> None:
    call = hang_up_number(dialled("a1", conference="3"), "15100", at=1005.0)
    assert call.hangup_requested == 1005.0


def test_no_number_means_all() -> None:
    assert hang_up_number(numbers(), None, at=1005.0).hangup_requested == 1005.0
    over = replace(numbers(), state=State.ENDED)
    assert hang_up_number(over, "1", at=1005.0) is over


def test_every_channel_of_an_ended_call_is_unwanted() -> None:
    call = transitions.end(dialled(), "events_lost", at=1010.0)
    assert all(transitions.is_unwanted(call, leg) for leg in call.legs)
    assert not any(transitions.is_unwanted(dialled(), leg) for leg in dialled().legs)


# Legs that an action brings in


def test_a_leg_that_the_switch_refused_ends_with_all_that_were_not_tried() -> None:
    tried = make_leg("c1", created=1008.0, ended=1009.0, cause="NORMAL_TEMPORARY_FAILURE")
    call = dialled("a1", "b1", tried, "c1.2", "c1.3", "c2")
    call = end_leg(call, call.legs[3].uuid, cause="INVALID_GATEWAY", at=1010.0)
    assert [(leg.ended, leg.cause) for leg in call.thirds] == [
        (1009.0, "NORMAL_TEMPORARY_FAILURE"),
        *[(1010.0, "INVALID_GATEWAY")] * 2,
        (None, None),
    ]
    assert end_leg(call, call.legs[3].uuid, cause="USER_BUSY", at=1011.0) is call
    assert end_leg(call, tried.uuid, cause="USER_BUSY", at=1011.0) is call
    assert end_leg(call, "nobody's", cause="USER_BUSY", at=1011.0) is call


@pytest.mark.parametrize(
    ("role", "by"), [(Role.SOURCE, "source"), (Role.THIRD, "third_party")], ids=str
)
def test_a_transferred_call_ends_with_the_last_who_hung_up(role: Role, by: str) -> None:
    """The destination has handed the source on to a third."""
    call = report(dialled("a1", "b1", make_leg("c1", action=Action.TRANSFER, of="a1")), "a1")
    call = report(call, "a1", created=1003.0, answered=1004.0, bridged=1006.0)
    call = report(call, "b1", created=1005.0, ended=1010.0, cause="NORMAL_CLEARING")
    call = report(call, "c1", created=1010.5, answered=1012.0)
    assert call.state is State.BRIDGED
    for name in ("a1", "c1"):
        sip = "recv_bye" if ROLES_OF[name] is role else "send_bye"
        call = report(call, name, ended=1030.0, cause="NORMAL_CLEARING", sip_disposition=sip)
    assert ended(call) == (State.ENDED, "NORMAL_CLEARING", by, ANSWERED)


ROLES_OF = {"a1": Role.SOURCE, "c1": Role.THIRD}


def test_nobody_answered_a_transfer_through_several_gateways() -> None:
    """The switch's limit of the last leg's ringing has the cause of the end of the call's time."""
    target = [make_leg(name, action=Action.TRANSFER, of="a1") for name in ("c1", "c1.2")]
    call = report(dialled("a1", "b1", *target), "a1", created=1003.0, answered=1004.0)
    call = report(call, "b1", created=1005.0, answered=1006.0, bridged=1006.0)
    call = report(call, "a1", bridged=1006.0)
    call = report(call, "b1", ended=1010.0, cause="NORMAL_CLEARING")
    call = report(call, "c1", created=1010.0, ended=1011.0, cause="NORMAL_TEMPORARY_FAILURE")
    call = report(call, "c1.2", created=1011.0, ended=1021.0, cause="ALLOTTED_TIMEOUT")
    call = report(call, "a1", ended=1021.0, cause="ALLOTTED_TIMEOUT")
    assert ended(call) == (State.ENDED, "NO_ANSWER", "timeout", ANSWERED)


@pytest.mark.parametrize(
    ("begin", "over"), [("held", "unheld"), ("parked", "unparked"), ("recording", "recorded")]
)
def test_an_end_that_is_heard_of_first_is_kept_out_until_its_begin(begin: str, over: str) -> None:
    call = dialled(make_leg("a1", created=1003.0), "b1")
    assert report(call, "a1", marks=Marks(**{over: 1009.0})) == call
    both = report(call, "a1", marks=Marks(**{begin: 1008.0, over: 1009.0}))
    assert (getattr(both.legs[0], begin), getattr(both.legs[0], over)) == (1008.0, 1009.0)
    # Begun again, and what was over before is no end of it.
    again = report(both, "a1", marks=Marks(**{begin: 1010.0}))
    assert report(again, "a1", marks=Marks(**{over: 1009.0})) == again
    assert getattr(again.legs[0], over) == 1009.0 < getattr(again.legs[0], begin)
