"""What a PUT does to a call, without Redis or a switch."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls import actions, transitions, watch
from app.calls.actions import Request, Target, Way
from app.calls.model import (
    HANG_UP,
    Action,
    Asked,
    Call,
    Leg,
    NumberKind,
    Role,
    State,
    changed_fields,
    from_hash,
    leg_uuid,
    to_hash,
)
from app.calls.transitions import LegReport, Marks
from app.console import resource
from ringback_cli.screen import state_text

CALL_ID = "0123456789abcdef0123"
DESK = Target("0003*024", NumberKind.EXTENSION, (Way(dial_string="sofia/gateway/pstn/0003024"),))


def talking(**changes: object) -> Call:
    legs = tuple(
        Leg(
            *(f"{role.letter}1", role, number, kind, leg_uuid(CALL_ID, role, 1, 1)),
            created=10.0,
            answered=11.0,
            bridged=12.0,
        )
        for role, number, kind in (
            (Role.SOURCE, "0003*210", NumberKind.EXTENSION),
            (Role.DESTINATION, "15600", NumberKind.PUBLIC),
        )
    )
    call = Call(
        *(CALL_ID, "simple", "demo-user", "12", "3", "Default Organization", "0003*210"),
        accepted=9.0,
        wait_for_pickup=25,
        call_duration=60,
        queue_timeout=60,
        job_uuid="job",
        legs=legs,
        state=State.BRIDGED,
        switch="s1",
        claimed=9.5,
        sent=9.6,
        answered=11.0,
        bridged=12.0,
    )
    return replace(call, **changes)  # type: ignore[arg-type]


def request(action: Action, leg: str = "b1", **fields: object) -> Request:
    return Request(f"{CALL_ID}_1", action, leg, **fields)  # type: ignore[arg-type]


def report(call: Call, leg: str, **fields: object) -> Call:
    uuid = next(each.uuid for each in call.legs if each.id == leg)
    return transitions.report_leg(call, LegReport(uuid, **fields))  # type: ignore[arg-type]


def the_leg(call: Call, leg: str) -> Leg:
    return next(each for each in call.legs if each.id == leg)


def test_a_request_is_read_back_as_it_was_written() -> None:
    asked = request(Action.PARK, by="0003*210", target=DESK, max_in_parking=30)
    assert Request.loads(asked.dumps()) == asked


def test_whom_an_action_brings_in_belongs_to_the_call_once() -> None:
    asked = request(Action.BARGE_IN, target=DESK)
    once = actions.begin(talking(), asked, at=20.0)
    assert actions.begin(once, asked, at=21.0) == once
    (leg,) = actions.third_legs(once, asked)
    assert (leg.id, leg.of, leg.brought, leg.uuid[-5:]) == ("c1", "b1", 20.0, "c0101")
    assert once.extensions == ("0003*210", "0003*024")
    assert from_hash(to_hash(once)) == once
    again = actions.begin(once, replace(asked, id="another"), at=22.0)
    assert [each.id for each in again.thirds] == ["c1", "c2"]


@pytest.mark.parametrize("target", [None, DESK])
def test_what_is_asked_is_in_the_call_once(target: Target | None) -> None:
    action = Action.TRANSFER if target else Action.ON_HOLD
    asked = request(action, target=target, app="boss-app", user="7")
    once = actions.begin(talking(), asked, at=20.0)
    assert actions.begin(once, asked, at=21.0) is once
    (said,) = once.actions
    assert said == Asked(
        asked.id, action, 20.0, "boss-app", "7", leg="b1", number=target and target.number
    )
    assert [(leg.asked_app, leg.asked_user) for leg in once.thirds] == (
        [("boss-app", "7")] if target else []
    )
    assert from_hash(to_hash(once)) == once
    # The hash gets one field, however many there are.
    twice = actions.begin(once, replace(asked, id="2"), at=22.0)
    assert [n for n in changed_fields(once, twice) if n.startswith("actions:")] == ["actions:2"]
    done = actions.settle(twice, asked, "done")
    assert [each.result for each in done.actions] == ["done", None]
    assert actions.settle(done, asked, "unknown") is done
    assert actions.settle(talking(), asked, "done") == talking()


def test_a_call_takes_so_many_actions() -> None:
    call = talking()
    for number in range(actions.MAX_ACTIONS):
        call = actions.begin(call, replace(request(Action.ON_HOLD), id=str(number)), at=20.0)
    last = replace(request(Action.ON_HOLD), id=str(actions.MAX_ACTIONS - 1))
    assert actions.refusal(call, last) is None
    more = replace(last, id="more")
    assert "500 actions" in (actions.refusal(call, more) or "")
    assert actions.begin(call, more, at=21.0) is call
    # A hang-up is never refused.
    asked = Asked("h", HANG_UP, 30.0, "app")
    ended = actions.hang_up(call, None, asked)
    assert ended.hangup_requested == 30.0 and ended.actions[-1] == asked
    assert actions.hang_up(ended, None, replace(asked, at=31.0)) is ended


def test_a_call_does_not_live_on_for_who_listens() -> None:
    call = actions.begin(talking(), request(Action.MONITOR, target=DESK), at=20.0)
    call = report(call, "c1", created=21.0, answered=22.0)
    for leg in ("a1", "b1"):
        call = report(call, leg, ended=30.0, cause="NORMAL_CLEARING")
    assert (call.state, call.disposition, call.ended) == (State.ENDED, 0, 30.0)


def test_a_call_lives_on_for_the_target_of_a_transfer() -> None:
    call = actions.begin(talking(), request(Action.TRANSFER, target=DESK), at=20.0)
    call = report(call, "a1", ended=20.1, cause="NORMAL_CLEARING", sip_disposition="send_bye")
    call = report(call, "c1", created=20.2, answered=21.0, bridged=21.1)
    assert call.state is State.BRIDGED
    call = report(call, "c1", ended=40.0, cause="NORMAL_CLEARING", sip_disposition="recv_bye")
    call = report(call, "b1", ended=40.1, cause="NORMAL_CLEARING", sip_disposition="send_bye")
    assert (call.state, call.ended_by, call.ended) == (State.ENDED, "third_party", 40.1)


def test_a_target_that_the_switch_refuses_has_left() -> None:
    target = replace(DESK, ways=(Way(gateway="one"), Way(gateway="two")))
    call = actions.begin(talking(), request(Action.UN_PARK, target=target), at=20.0)
    assert not call.thirds
    parked = report(talking(), "b1", marks=Marks(parked=13.0, parked_pos="5901"))
    call = actions.begin(parked, request(Action.UN_PARK, target=target), at=20.0)
    first = call.thirds[0].uuid
    call = transitions.end_leg(call, first, cause="INVALID_GATEWAY", at=21.0)
    assert [(leg.ended, leg.cause) for leg in call.thirds] == [(21.0, "INVALID_GATEWAY")] * 2
    assert call.state is State.BRIDGED
    assert transitions.end_leg(call, first, cause="USER_BUSY", at=22.0) == call


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (talking(state=State.ENDED), request(Action.ON_HOLD)),
        (talking(hangup_requested=15.0), request(Action.ON_HOLD)),
        (talking(), request(Action.ON_HOLD, "c1")),
        (talking(state=State.ANSWERED), request(Action.ON_HOLD)),
        (talking(), request(Action.OFF_HOLD)),
        (talking(), request(Action.PICK_UP, "a1", target=DESK)),
        (talking(), request(Action.UN_PARK, target=DESK)),
        (talking(), request(Action.STOP_RECORDING)),
        (talking(conference="room"), request(Action.PARK, target=DESK)),
    ],
)
def test_what_cannot_be_done_changes_nothing(call: Call, asked: Request) -> None:
    assert actions.refusal(call, asked)
    assert actions.begin(call, asked, at=20.0) == call


def test_a_dropped_party_that_leaves_another_alone_ends_the_call() -> None:
    call = actions.begin(talking(), request(Action.TRANSFER, target=DESK), at=20.0)
    call = report(call, "a1", ended=20.1, cause="NORMAL_CLEARING")
    call = report(call, "c1", created=20.2, answered=21.0, bridged=21.1)
    assert transitions.hang_up_number(call, "0003*024", at=30.0).hangup_requested == 30.0
    listened = actions.begin(talking(), request(Action.MONITOR, "a1", target=DESK), at=20.0)
    listened = report(listened, "c1", created=20.2, answered=21.0)
    dropped = transitions.hang_up_number(listened, "0003*024", at=30.0)
    assert dropped.hangup_requested is None
    assert the_leg(dropped, "c1").hangup_requested == 30.0
    assert transitions.hang_up_number(listened, "15600", at=30.0).hangup_requested == 30.0


def test_hold_and_what_is_heard_of_it_in_any_order() -> None:
    """As the switch tells it: begun at 13, over at 14, begun again at 15, over at 16."""
    heard = [
        Marks(held=13.0),
        Marks(held=13.0, unheld=14.0),
        Marks(held=15.0),
        Marks(held=15.0, unheld=16.0),
    ]
    for order in permutations(heard):
        call = talking()
        for marks in order:
            call = report(call, "b1", marks=marks)
        assert not the_leg(call, "b1").on_hold, order
    held = report(report(talking(), "b1", marks=heard[1]), "b1", marks=heard[2])
    assert the_leg(held, "b1").on_hold


_times = st.lists(st.integers(1, 40), unique=True, max_size=8).map(sorted)


@given(_times)
def test_a_recording_lasts_until_its_last_word(times: list[int]) -> None:
    """Begun and over by turns: whatever is heard twice or late, the last word counts."""
    words = [
        Marks(recording=float(at), recording_file=f"/{at}.wav")
        if number % 2 == 0
        else Marks(recorded=float(at))
        for number, at in enumerate(times)
    ]
    call = talking()
    for word in (*words, *words):
        call = report(call, "a1", marks=word)
    leg = the_leg(call, "a1")
    assert leg.is_recorded is (len(words) % 2 == 1)
    if words:
        begun = times[-1 - (len(words) + 1) % 2]
        assert leg.recording_file == f"/{begun}.wav"


def picking_up() -> Call:
    """The source has answered, the destination rings, and so does another phone."""
    source, destination = talking().legs
    ringing = talking(
        state=State.ANSWERED,
        bridged=None,
        legs=(
            replace(source, bridged=None),
            replace(destination, answered=None, bridged=None, ringing=10.5),
        ),
    )
    call = actions.begin(ringing, request(Action.PICK_UP, "a1", target=DESK), at=20.0)
    return report(call, "c1", created=20.1, ringing=20.2)


def test_nobody_rings_for_a_party_who_has_left_or_talks_by_now() -> None:
    call = picking_up()
    assert not transitions.is_unwanted(call, the_leg(call, "c1"))
    gone = report(call, "a1", ended=21.0, cause="NORMAL_CLEARING")
    assert transitions.is_unwanted(gone, the_leg(gone, "c1"))
    talks = report(report(call, "b1", answered=21.0, bridged=21.1), "a1", bridged=21.1)
    assert transitions.is_unwanted(talks, the_leg(talks, "c1"))
    taken = report(report(call, "c1", answered=21.0, bridged=21.1), "a1", bridged=21.1)
    assert not transitions.is_unwanted(taken, the_leg(taken, "c1"))


@pytest.mark.parametrize(
    ("cause", "sip", "by"),
    [("NORMAL_CLEARING", "recv_bye", "source"), ("USER_BUSY", "", "destination")],
)
def test_a_pick_up_that_failed_says_nothing_of_how_the_call_ended(
    cause: str, sip: str, by: str
) -> None:
    call = report(picking_up(), "c1", ended=21.0, cause="USER_BUSY", sip_disposition="recv_refuse")
    theirs = "recv_refuse" if by == "destination" else "send_cancel"
    call = report(call, "b1", ended=22.0, cause=cause, sip_disposition=theirs)
    call = report(
        call, "a1", ended=22.1, cause=cause, sip_disposition=sip, originate_disposition=cause
    )
    assert (call.state, call.hangup_cause, call.ended_by) == (State.ENDED, cause, by)


def parked() -> Call:
    call = actions.begin(talking(), request(Action.PARK, by="0003*210", target=DESK), at=13.0)
    call = report(call, "b1", marks=Marks(parked=13.5, parked_pos="5901"))
    return report(call, "a1", ended=13.6, cause="NORMAL_CLEARING", sip_disposition="send_bye")


def test_a_call_of_which_only_a_parked_party_is_left_is_parked() -> None:
    call = parked()
    assert call.is_parked and state_text(call).plain == "parked"
    assert resource.row(call, None, None, inside=False)["parked"] is True
    back = report(call, "c1", created=14.0)
    assert back.is_parked
    talks = report(report(back, "c1", answered=15.0), "b1", marks=Marks(unparked=15.0))
    over = report(call, "b1", ended=71.0, cause="ALLOTTED_TIMEOUT")
    for other in (talking(), talks, over):
        assert not other.is_parked
        assert "parked" not in resource.row(other, None, None, inside=False)
        assert state_text(other).plain != "parked"


def test_a_parked_call_whose_time_is_over() -> None:
    call = report(parked(), "b1", ended=71.0, cause="ALLOTTED_TIMEOUT")
    assert (call.hangup_cause, call.ended_by) == ("ALLOTTED_TIMEOUT", "duration")


def test_the_way_back_that_nobody_took_is_no_party() -> None:
    call = parked()
    assert transitions.hang_up_number(call, "0003*024", at=20.0) == call
    assert transitions.hang_up_number(call, "15600", at=20.0).hangup_requested == 20.0


def test_a_target_that_does_not_answer() -> None:
    call = actions.begin(talking(), request(Action.TRANSFER, target=DESK), at=20.0)
    call = report(call, "a1", ended=20.1, cause="NORMAL_CLEARING", sip_disposition="send_bye")
    call = report(call, "c1", created=20.2, ended=45.0, cause="NO_ANSWER")
    call = report(call, "b1", ended=45.1, cause="NORMAL_CLEARING", sip_disposition="send_bye")
    assert (call.hangup_cause, call.ended_by) == ("NO_ANSWER", "timeout")


def test_only_the_first_way_to_a_party_is_missed() -> None:
    target = replace(DESK, ways=(Way(gateway="one"), Way(gateway="two")))
    call = actions.begin(talking(), request(Action.TRANSFER, target=target), at=20.0)
    assert [watch.is_unsent(leg) for leg in call.legs] == [False, False, True, False]


def test_a_mailbox_is_tried_again_by_another_request() -> None:
    asked = request(Action.TRANSFER_TO_VOICEMAIL, mailbox="211@example.com")
    once = actions.begin(talking(), asked, at=20.0)
    assert actions.is_begun(once, asked)
    assert not actions.is_begun(once, replace(asked, id="another"))


def test_a_lot_that_was_heard_nothing_of_is_seen_by_a_look() -> None:
    seen = Marks(stands_parked=30.0, parked_pos="5902")
    call = report(talking(), "b1", marks=seen)
    assert (the_leg(call, "b1").parked, the_leg(call, "b1").parked_pos) == (30.0, "5902")
    assert report(call, "b1", marks=replace(seen, stands_parked=60.0)) == call
    assert not the_leg(report(call, "b1", marks=Marks(unparked=61.0)), "b1").in_lot
