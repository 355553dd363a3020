"""Calls whose parties must accept by a key: who has taken the call, and what its end is called."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls import watch
from app.calls.call_events import ANSWER_IN, outbox
from app.calls.cdr import record
from app.calls.model import Accept, Call, NumberKind, Phase, State, from_hash, to_hash
from app.calls.transitions import LegReport, finish_originate, report_leg, request_hangup
from app.web.phone_call import status
from tests.app.calls.make import dialled, make_leg

ACCEPT = Accept("1", "press-one", timeout=8, attempts=2).dumps()
A1, A2 = make_leg("a1", accept=ACCEPT), make_leg("a2", accept=ACCEPT)
B1, B2 = make_leg("b1", accept=ACCEPT), make_leg("b2", accept=ACCEPT)


def tell(call: Call, leg: str, **fields: Any) -> Call:
    found = call.leg_named(leg)
    assert found is not None
    return report_leg(call, LegReport(found.uuid, **fields))


def answered(call: Call, leg: str, at: float) -> Call:
    return tell(call, leg, created=at - 1.0, ringing=at - 0.5, answered=at)


def end(call: Call) -> tuple[State, str | None, int | None, str | None]:
    return call.state, call.hangup_cause, call.disposition, call.ended_by


def test_what_it_takes_is_read_as_it_is_written() -> None:
    assert Accept.loads(ACCEPT) == Accept("1", "press-one", 8, 2)
    assert Accept.loads(ACCEPT).seconds == 16
    call = tell(dialled(A1, "b1"), "a1", created=1003.0, answered=1004.0, accepted=1006.0)
    assert from_hash(to_hash(call)) == call


def test_the_source_that_accepts_takes_the_call_not_the_one_that_answers() -> None:
    call = answered(answered(dialled(A1, A2, "b1"), "a1", 1004.0), "a2", 1005.0)
    assert (call.state, call.answered, call.winner) == (State.RINGING, None, None)
    assert [leg.phase for leg in call.sources] == [Phase.RINGING, Phase.RINGING]
    call = tell(call, "a2", accepted=1007.0)
    assert (call.state, call.answered) == (State.ANSWERED, 1007.0)
    assert call.winner is not None and call.winner.id == "a2"
    call = tell(call, "a1", ended=1007.1, cause="LOSE_RACE")
    call = answered(call, "b1", 1009.0)
    call = tell(call, "a2", bridged=1009.0, bridged_to=B1.uuid)
    assert (call.state, call.answered, call.bridged) == (State.BRIDGED, 1007.0, 1009.0)
    assert [leg["accepted"] for leg in record(call)["legs"][:2]] == [False, True]
    assert "accepted" not in record(call)["legs"][2]


def test_a_source_without_a_key_wins_by_its_answer() -> None:
    call = answered(answered(dialled(A1, "a2", "b1"), "a1", 1004.0), "a2", 1005.0)
    assert (call.state, call.answered) == (State.ANSWERED, 1005.0)


@pytest.mark.parametrize(
    ("cause", "sip", "hangup_cause"),
    [
        ("ALLOTTED_TIMEOUT", "send_bye", "NO_ANSWER"),
        ("NORMAL_CLEARING", "recv_bye", "NORMAL_CLEARING"),
    ],
)
@pytest.mark.parametrize("first", ["leg", "reply"])
def test_no_source_accepts(cause: str, sip: str, hangup_cause: str, first: str) -> None:
    call = answered(dialled(A1, A2, "b1"), "a1", 1004.0)
    call = tell(call, "a2", created=1003.0, ended=1005.0, cause="USER_BUSY")
    last = LegReport(A1.uuid, ended=1020.0, cause=cause, sip_disposition=sip)
    if first == "reply":
        call = finish_originate(call, error=cause, at=1020.0)
        assert call.state is not State.ENDED
    call = report_leg(call, last)
    assert end(call) == (State.ENDED, hangup_cause, 3, "not_accepted")
    assert call.answered is None
    leg = record(call)["legs"][0]
    assert (leg["accepted"], leg["seconds"]) == (False, 16)


def test_no_destination_accepts() -> None:
    call = answered(dialled("a1", B1), "a1", 1004.0)
    call = answered(call, "b1", 1006.0)
    assert (call.state, status(call, call.legs[1].role)) == (State.ANSWERED, 3)
    call = tell(call, "b1", ended=1022.0, cause="ALLOTTED_TIMEOUT", sip_disposition="send_bye")
    call = tell(
        call,
        "a1",
        ended=1022.1,
        cause="ALLOTTED_TIMEOUT",
        originate_disposition="ALLOTTED_TIMEOUT",
    )
    assert end(call) == (State.ENDED, "NO_ANSWER", 3, "not_accepted")


def test_the_source_gives_up_while_the_destination_is_asked() -> None:
    call = answered(answered(dialled("a1", B1), "a1", 1004.0), "b1", 1006.0)
    call = tell(call, "a1", ended=1008.0, cause="NORMAL_CLEARING", sip_disposition="recv_bye")
    call = tell(call, "b1", ended=1008.1, cause="ORIGINATOR_CANCEL")
    assert end(call) == (State.ENDED, "NORMAL_CLEARING", 3, "source")


def test_the_source_is_killed_while_the_destination_is_asked() -> None:
    call = answered(answered(dialled("a1", B1), "a1", 1004.0), "b1", 1006.0)
    call = tell(call, "a1", ended=1008.0, cause="NORMAL_CLEARING", sip_disposition="send_bye")
    call = tell(call, "b1", ended=1008.1, cause="ORIGINATOR_CANCEL")
    assert end(call) == (State.ENDED, "NORMAL_CLEARING", 3, "switch")


def test_a_destination_hangs_up_in_an_announcement() -> None:
    call = answered(answered(dialled("a1", "b1"), "a1", 1004.0), "b1", 1006.0)
    call = tell(call, "b1", ended=1008.0, cause="NORMAL_CLEARING", sip_disposition="recv_bye")
    call = tell(
        call,
        "a1",
        ended=1008.1,
        cause="NORMAL_CLEARING",
        originate_disposition="NORMAL_CLEARING",
        sip_disposition="send_bye",
    )
    assert end(call) == (State.ENDED, "NORMAL_CLEARING", 3, "destination")


def test_cancelled_in_the_prompt() -> None:
    call = request_hangup(answered(dialled(A1, "b1"), "a1", 1004.0), at=1005.0)
    call = tell(call, "a1", ended=1005.1, cause="NORMAL_CLEARING", sip_disposition="send_bye")
    assert end(call) == (State.ENDED, "NORMAL_CLEARING", 3, "api")


def test_a_leg_that_had_hung_up_has_not_accepted() -> None:
    """The result of an originate may come after the end of the leg that it names."""
    call = answered(dialled(A1, "b1"), "a1", 1004.0)
    call = tell(call, "a1", ended=1006.0, cause="NORMAL_CLEARING", sip_disposition="recv_bye")
    call = tell(call, "a1", accepted=1006.01)
    assert end(call) == (State.ENDED, "NORMAL_CLEARING", 3, "not_accepted")
    assert call.answered is None


def test_an_answer_is_told_when_it_is_accepted() -> None:
    desk = make_leg("b1", accept=ACCEPT, number="0003*211", kind=NumberKind.EXTENSION)
    before = answered(dialled("a1", desk), "a1", 1004.0)
    asked = answered(before, "b1", 1006.0)
    assert not [e for _, e in outbox(before, asked) if e["type"] == str(ANSWER_IN)]
    talks = tell(asked, "a1", bridged=1008.0, bridged_to=desk.uuid)
    (told,) = [e for _, e in outbox(asked, talks) if e["type"] == str(ANSWER_IN)]
    assert told["extension"] == "0003*211"


STORY = (
    LegReport(A1.uuid, created=1003.0),
    LegReport(A1.uuid, created=1003.0, ringing=1003.1, answered=1004.0),
    LegReport(A1.uuid, created=1006.0, answered=1006.0, accepted=1006.0),
    LegReport(B1.uuid, created=1006.1, peers=(A1.uuid,)),
    LegReport(B1.uuid, created=1006.1, ringing=1006.2, answered=1007.0),
    LegReport(A1.uuid, created=1003.0, answered=1004.0, bridged=1009.0, bridged_to=B1.uuid),
)


@given(st.permutations(STORY), st.sets(st.sampled_from(range(5))))
def test_what_is_lost_or_comes_late_changes_no_end(
    reports: list[LegReport], lost: set[int]
) -> None:
    """The bridge says that both have accepted, whatever else was heard."""
    call = dialled(A1, B1)
    for report in reports:
        if STORY.index(report) not in lost:
            call = report_leg(call, report)
    assert (call.state, call.bridged) == (State.BRIDGED, 1009.0)
    assert call.answered == call.legs[0].accepted
    assert [leg.accepted for leg in call.legs] == [1009.0 if 2 in lost else 1006.0, 1009.0]
    assert all(leg.won for leg in call.legs)


def test_the_limits_have_the_seconds_of_the_prompt() -> None:
    call, plain = dialled(A1, B1), dialled("a1", "b1")
    assert watch.limit(call) == watch.limit(plain) + 16
    asked = answered(call, "a1", 1004.0)
    assert watch.limit(asked) == 1003.0 + 20 + 16 + watch.MARGIN
    assert call.prompt_seconds == 16
    # The prompts of both sides, and the talk that they lengthen.
    longest = watch.UNSENT_LIMIT + 2 * (20 + 16 + watch.MARGIN) + 600 + 16
    assert watch.fate_unreachable(call, unreachable_for=longest - 1) is None
    assert watch.fate_unreachable(call, unreachable_for=longest) == "switch_unreachable"
    assert dialled(make_leg("a1", announce="recorded"), "b1").prompt_seconds == 60
