"""What a call's changes tell the web hooks of its extensions."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls import transitions
from app.calls.call_events import ANSWER_IN, ANSWER_OUT, DIAL_IN, DIAL_OUT, HANGUP, outbox, wide
from app.calls.model import Call, Leg, NumberKind, Role, State
from app.calls.transitions import LegReport, finish_originate, report_leg

# The holders of webhooks, and what they are told.
Told = list[tuple[list[str], dict[str, str]]]

DESK, SECOND, CALLED = "0003*210", "0003*211", "0003*024"
PUBLIC = "3235742879"


def leg(name: str, number: str) -> Leg:
    role = Role.SOURCE if name.startswith("a") else Role.DESTINATION
    kind = NumberKind.EXTENSION if "*" in number else NumberKind.PUBLIC
    return Leg(name, role, number, kind, f"uuid-{name}")


def call(sources: Sequence[str], destinations: Sequence[str], extension: str = DESK) -> Call:
    return Call(
        id="c3a5fbf2be57af92c581",
        kind="simple",
        app="app",
        user="12",
        organization="3",
        organization_name="One",
        extension=extension,
        accepted=1000.0,
        wait_for_pickup=25,
        call_duration=7200,
        queue_timeout=60,
        job_uuid="job",
        caller_id_destination="Demo Desk <+0003210>",
        state=State.DIALING,
        legs=(
            *(leg(f"a{n}", number) for n, number in enumerate(sources, start=1)),
            *(leg(f"b{n}", number) for n, number in enumerate(destinations, start=1)),
        ),
    )


def report(of: str, at: float, *what: str, **words: str) -> LegReport:
    return LegReport(f"uuid-{of}", **dict.fromkeys(what, at), **words)  # type: ignore[arg-type]


def changes(current: Call, *reports: LegReport) -> tuple[Call, Told]:
    """The call after the reports, and all that its changes tell."""
    entries: Told = []
    for one in reports:
        changed = report_leg(current, one)
        entries += outbox(current, changed)
        current = changed
    return current, entries


def own(entries: Iterable[tuple[list[str], dict[str, str]]]) -> list[tuple[str, dict[str, str]]]:
    """What the extensions themselves are told."""
    return [(e["extension"], e) for holders, e in entries if e["extension"] in holders]


def told(current: Call, *reports: LegReport) -> tuple[Call, list[tuple[str, dict[str, str]]]]:
    """The call after the reports, and all that its changes tell the extensions."""
    current, entries = changes(current, *reports)
    return current, own(entries)


def brief(entries: Iterable[tuple[str, dict[str, str]]]) -> list[tuple[str, int, str]]:
    return [(ext, int(entry["type"]), entry["CallStatus"]) for ext, entry in entries]


def heard(holder: str, entries: Told) -> list[tuple[str, int, str]]:
    """What one holder is told: of which extension, and what."""
    return brief((e["extension"], e) for holders, e in entries if holder in holders)


TALK = (
    report("a1", 1001, "created"),
    report("a1", 1002, "ringing"),
    report("a1", 1003, "answered"),
    report("b1", 1004, "created"),
    report("b1", 1005, "ringing"),
    report("b1", 1006, "answered"),
    report("a1", 1006, "bridged", bridged_to="uuid-b1"),
    report("b1", 1016, "ended", cause="NORMAL_CLEARING"),
    report("a1", 1016, "ended", cause="NORMAL_CLEARING"),
)


def test_a_call_between_two_extensions() -> None:
    _, entries = told(call([DESK], [CALLED]), *TALK)
    assert brief(entries) == [
        (DESK, DIAL_OUT, "CALLING"),
        (CALLED, DIAL_IN, "CALLING"),
        (DESK, ANSWER_OUT, "ANSWER"),
        (CALLED, ANSWER_IN, "ANSWER"),
        (CALLED, HANGUP, "ANSWER"),
        (DESK, HANGUP, "ANSWER"),
    ]
    shared = {
        "CallID": "c3a5fbf2be57af92c581",
        "CallAPIID": "c3a5fbf2be57af92c581",
        "CallerIDNum": "+0003210",
        "CallerIDName": "Demo Desk",
        "CalledDID": "",
        "CallerExtension": DESK,
        "CalledExtension": CALLED,
        "CalledNumber": CALLED,
    }
    # In seconds after 00:16.
    times = {
        **{(DESK, DIAL_OUT): 41, (DESK, ANSWER_OUT): 46, (DESK, HANGUP): 56},
        **{(CALLED, DIAL_IN): 45, (CALLED, ANSWER_IN): 46, (CALLED, HANGUP): 56},
    }
    for extension, entry in entries:
        flow = "OUT" if extension == DESK else "IN"
        assert entry == {
            **shared,
            "type": entry["type"],
            "extension": extension,
            "owner": entry["owner"],
            "organization": "0003",
            "for": entry["for"],
            "CallStatus": entry["CallStatus"],
            "CallFlow": flow,
            "EventType": entry["type"],
            "EventTime": f"1970-01-01T00:16:{times[extension, int(entry['type'])]}.000Z",
            "HangupCause": "NORMAL_CLEARING" if entry["type"] == str(HANGUP) else "",
            "Nonce": "",
        }


def test_what_the_client_called_it_and_why_it_ended() -> None:
    named = replace(call([DESK, SECOND], [PUBLIC]), nonce="order-4711", metadata='{"a":"b"}')
    _, entries = told(
        named,
        report("a1", 1001, "created"),
        report("a2", 1001, "created"),
        report("a2", 1003, "answered"),
        report("a1", 1004, "ended", cause="LOSE_RACE"),
        report("b1", 1005.25, "ended", cause="USER_BUSY"),
        report("a2", 1006.5, "ended", cause="NORMAL_CLEARING", originate_disposition="USER_BUSY"),
    )
    assert {(entry["Nonce"], entry["Metadata"]) for _, entry in entries} == {
        ("order-4711", '{"a":"b"}')
    }
    gone = [(of, e["HangupCause"], e["EventTime"]) for of, e in entries if e["type"] == "2"]
    assert gone == [
        (DESK, "LOSE_RACE", "1970-01-01T00:16:44.000Z"),
        (SECOND, "USER_BUSY", "1970-01-01T00:16:46.500Z"),
    ]


def test_a_public_destination_has_no_extension() -> None:
    _, entries = told(call([DESK], [PUBLIC]), *TALK)
    assert brief(entries) == [(DESK, 1, "CALLING"), (DESK, 4, "ANSWER"), (DESK, 2, "ANSWER")]
    assert {(e["CalledNumber"], e["CalledExtension"]) for _, e in entries} == {(PUBLIC, "")}


def test_the_charged_extension_stands_for_public_sources() -> None:
    _, entries = told(call([PUBLIC], ["5302040"]), *TALK)
    assert brief(entries) == [(DESK, 1, "CALLING"), (DESK, 4, "ANSWER"), (DESK, 2, "ANSWER")]
    # Not where it is what is called.
    _, entries = told(call([PUBLIC], [DESK]), *TALK)
    assert brief(entries) == [(DESK, 0, "CALLING"), (DESK, 3, "ANSWER"), (DESK, 2, "ANSWER")]
    assert {entry["CallerExtension"] for _, entry in entries} == {DESK}


def test_of_several_sources_the_losers_part_ends_first() -> None:
    _, entries = told(
        call([DESK, SECOND], [PUBLIC]),
        report("a1", 1001, "created"),
        report("a2", 1001, "created"),
        report("a2", 1003, "answered"),
        report("a1", 1003, "ended", cause="LOSE_RACE"),
        report("b1", 1006, "answered"),
        report("a2", 1016, "ended", cause="NORMAL_CLEARING"),
        report("b1", 1016, "ended", cause="NORMAL_CLEARING"),
    )
    assert brief(entries) == [
        (DESK, 1, "CALLING"),
        (SECOND, 1, "CALLING"),
        (DESK, 2, "CANCEL"),
        (SECOND, 4, "ANSWER"),
        (SECOND, 2, "ANSWER"),
    ]


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("USER_BUSY", "BUSY"),
        ("CALL_REJECTED", "BUSY"),
        ("NO_ANSWER", "NOANSWER"),
        ("NORMAL_CLEARING", "CANCEL"),
        ("UNALLOCATED_NUMBER", "CHANUNAVAIL"),
        ("NORMAL_TEMPORARY_FAILURE", "CONGESTION"),
        ("NORMAL_CIRCUIT_CONGESTION", "CONGESTION"),
    ],
)
def test_what_became_of_dialling_the_destination(cause: str, status: str) -> None:
    _, entries = told(
        call([DESK], [CALLED]),
        report("a1", 1003, "created", "answered"),
        report("b1", 1004, "created", "ringing"),
        report("b1", 1005, "ended", cause=cause),
        report("a1", 1005, "ended", cause="NORMAL_CLEARING", originate_disposition=cause),
    )
    assert brief(entries) == [
        (DESK, 1, "CALLING"),
        (CALLED, 0, "CALLING"),
        (CALLED, 2, status),
        (DESK, 2, status),
    ]


def test_a_destination_that_never_rings_hears_nothing() -> None:
    busy = report("b1", 1005, "ended", cause="USER_BUSY")
    source = report("a1", 1005, "ended", cause="USER_BUSY", originate_disposition="USER_BUSY")
    _, entries = told(
        call([DESK], [CALLED]), report("a1", 1003, "created", "answered"), busy, source
    )
    assert brief(entries) == [(DESK, 1, "CALLING"), (DESK, 2, "BUSY")]


def test_ends_without_events() -> None:
    ringing, _ = told(call([DESK], [CALLED]), report("a1", 1002, "created", "ringing"))
    lost = transitions.end(ringing, transitions.EVENTS_LOST, at=1010.0)
    assert brief(own(outbox(ringing, lost))) == [(DESK, 2, "UNKNOWN")]
    asked = transitions.request_hangup(ringing, at=1005.0)
    assert not outbox(ringing, asked)  # Nothing has ended yet.
    over = report_leg(asked, report("a1", 1006, "ended", cause="ORIGINATOR_CANCEL"))
    assert brief(own(outbox(asked, over))) == [(DESK, 2, "CANCEL")]
    refused = finish_originate(call([DESK], [CALLED]), error="GATEWAY_DOWN", at=1010.0)
    # Never dialled, so nothing to hang up.
    assert refused.state is State.ENDED and not outbox(call([DESK], [CALLED]), refused)


def test_nothing_is_told_of_a_new_call_nor_after_the_end() -> None:
    new = replace(call([DESK], [CALLED]), state=State.QUEUED)
    assert outbox(None, new) == ()
    ended, _ = told(call([DESK], [CALLED]), *TALK[:3], *TALK[-1:])
    assert ended.state is State.ENDED
    assert told(ended, *TALK)[1] == []


def test_who_is_brought_in_is_called() -> None:
    talking, _ = told(call([DESK], [PUBLIC]), *TALK[:7])
    third = replace(leg("c1", SECOND), role=Role.THIRD)
    joined = replace(talking, legs=(*talking.legs, third))
    _, entries = told(
        joined,
        report("c1", 1010, "created", "ringing"),
        report("c1", 1011, "answered"),
        report("c1", 1012, "ended", cause="NORMAL_CLEARING"),
    )
    assert brief(entries) == [(SECOND, 0, "CALLING"), (SECOND, 3, "ANSWER"), (SECOND, 2, "ANSWER")]


def test_who_comes_back_leaves_once() -> None:
    """The desk hands the call on, and is brought in again."""
    left, entries = told(
        call([DESK], [CALLED]), *TALK[:7], report("a1", 1010, "ended", cause="NORMAL_CLEARING")
    )
    assert left.state is not State.ENDED
    assert brief(entries)[-1] == (DESK, 2, "ANSWER")
    back = replace(left, legs=(*left.legs, replace(leg("c1", DESK), role=Role.THIRD)))
    _, entries = told(
        back,
        report("c1", 1011, "created", "ringing", "answered"),
        report("b1", 1016, "ended", cause="NORMAL_CLEARING"),
        report("c1", 1016, "ended", cause="NORMAL_CLEARING"),
    )
    assert brief(entries) == [(CALLED, 2, "ANSWER")]


def test_a_conference_calls_whom_it_invites() -> None:
    room = replace(call([CALLED], [], extension="0003*003"), conference="3")
    _, entries = told(
        room,
        report("a1", 1001, "created"),
        report("a1", 1002, "ringing"),
        report("a1", 1003, "answered"),
        report("a1", 1010, "ended", cause="NORMAL_CLEARING"),
    )
    assert brief(entries) == [
        ("0003*003", 1, "CALLING"),
        (CALLED, 0, "CALLING"),
        ("0003*003", 4, "ANSWER"),
        (CALLED, 3, "ANSWER"),
        ("0003*003", 2, "ANSWER"),
        (CALLED, 2, "ANSWER"),
    ]
    assert {(e["CallerExtension"], e["CalledExtension"]) for _, e in entries} == {
        ("0003*003", CALLED)
    }


# Two users of one organization.
OWNERS = {DESK: "12", SECOND: "12", CALLED: "13"}
ORGANIZATION, APP = wide(organization="0003"), wide(app="app")


def owned(sources: Sequence[str], destinations: Sequence[str], extension: str = DESK) -> Call:
    made = call(sources, destinations, extension)
    return replace(
        made, legs=tuple(replace(leg, owner=OWNERS.get(leg.number)) for leg in made.legs)
    )


def test_a_user_an_organization_and_an_app_are_told_once() -> None:
    _, entries = changes(owned([DESK], [CALLED]), *TALK)
    assert heard(wide(user="12"), entries) == [
        (DESK, DIAL_OUT, "CALLING"),
        (DESK, ANSWER_OUT, "ANSWER"),
        (DESK, HANGUP, "ANSWER"),
    ]
    assert heard(wide(user="13"), entries) == [
        (CALLED, DIAL_IN, "CALLING"),
        (CALLED, ANSWER_IN, "ANSWER"),
        (CALLED, HANGUP, "ANSWER"),
    ]
    both = [
        (DESK, DIAL_OUT, "CALLING"),
        (CALLED, DIAL_IN, "CALLING"),
        (DESK, ANSWER_OUT, "ANSWER"),
        (CALLED, ANSWER_IN, "ANSWER"),
        # The last to leave.
        (DESK, HANGUP, "ANSWER"),
    ]
    assert heard(ORGANIZATION, entries) == heard(APP, entries) == both
    assert heard(wide(organization="0004"), entries) == heard(wide(app="other"), entries) == []


def test_who_loses_the_race_is_no_end_of_the_call_for_the_user() -> None:
    _, entries = changes(
        owned([DESK, SECOND], [PUBLIC]),
        report("a1", 1001, "created"),
        report("a2", 1001, "created"),
        report("a2", 1003, "answered"),
        report("a1", 1003, "ended", cause="LOSE_RACE"),
        report("b1", 1006, "answered"),
        report("a2", 1016, "ended", cause="NORMAL_CLEARING"),
        report("b1", 1016, "ended", cause="NORMAL_CLEARING"),
    )
    assert heard(wide(user="12"), entries) == [
        (DESK, DIAL_OUT, "CALLING"),
        (SECOND, ANSWER_OUT, "ANSWER"),
        (SECOND, HANGUP, "ANSWER"),
    ]


def test_public_sources_belong_to_the_user_that_pays() -> None:
    _, entries = changes(owned([PUBLIC], ["5302040"]), *TALK)
    for holder in (wide(user="12"), ORGANIZATION, APP):
        assert [kind for _, kind, _ in heard(holder, entries)] == [DIAL_OUT, ANSWER_OUT, HANGUP]


def test_a_user_whose_phone_comes_in_by_an_action() -> None:
    """And one whose second phone comes in after the first has left."""
    talking, _ = changes(owned([DESK], [PUBLIC]), *TALK[:7])
    thirds = tuple(
        replace(leg(name, number), role=Role.THIRD, owner=OWNERS[number])
        for name, number in (("c1", CALLED), ("c2", SECOND))
    )
    _, entries = changes(
        replace(talking, legs=(*talking.legs, *thirds)),
        report("c1", 1010, "created", "ringing"),
        report("c1", 1012, "ended", cause="NORMAL_CLEARING"),
        report("a1", 1013, "ended", cause="NORMAL_CLEARING"),
        report("c2", 1014, "created", "ringing", "answered"),
        report("c2", 1015, "ended", cause="NORMAL_CLEARING"),
        report("b1", 1016, "ended", cause="NORMAL_CLEARING"),
    )
    assert [kind for _, kind, _ in heard(wide(user="13"), entries)] == [DIAL_IN, HANGUP]
    assert heard(wide(user="12"), entries) == [(DESK, HANGUP, "ANSWER")]


REPORTS = st.builds(
    lambda of, what, cause: report(of, 1000.0, what, **({"cause": cause} if cause else {})),
    st.sampled_from(["a1", "a2", "b1", "b2"]),
    st.sampled_from(["created", "early_media", "ringing", "answered", "bridged", "ended"]),
    st.sampled_from([None, "LOSE_RACE", "USER_BUSY", "NORMAL_CLEARING"]),
)


@given(
    st.lists(st.sampled_from([DESK, SECOND, PUBLIC]), min_size=2, max_size=2),
    st.lists(st.sampled_from([CALLED, DESK, PUBLIC]), min_size=2, max_size=2),
    st.lists(REPORTS, max_size=40),
)
def test_whatever_comes_in_whatever_order(
    sources: list[str], destinations: list[str], reports: list[LegReport]
) -> None:
    """Each event once at most; an answer only after its dial, nothing after a hang-up; and the
    end tells of everybody who was told of a beginning. The same holds of each holder."""
    current, entries = changes(owned(sources, destinations), *reports)
    ended = transitions.end(current, transitions.EVENTS_LOST, at=2000.0)
    entries += outbox(current, ended)
    assert all(entry["for"].split() == holders for holders, entry in entries)
    for holder in {holder for holders, _ in entries for holder in holders}:
        types = [int(entry["type"]) for holders, entry in entries if holder in holders]
        assert len(types) == len(set(types))
        assert types[-1] == HANGUP and types[0] in (DIAL_IN, DIAL_OUT)
        for answer, dial in ((ANSWER_IN, DIAL_IN), (ANSWER_OUT, DIAL_OUT)):
            if answer in types:
                assert types.index(dial) < types.index(answer)
    assert all(entry["CallStatus"] and entry["EventTime"] for _, entry in entries)
    # Whoever has all calls is told of a call if anybody is.
    assert ("app:app" in {h for holders, _ in entries for h in holders}) == bool(entries)
