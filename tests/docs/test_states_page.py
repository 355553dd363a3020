"""docs/states.md and its picture say what app.calls does."""

import re
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from app.calls import transitions
from app.calls.model import Call, Leg, NumberKind, Role, State, evolve
from app.calls.transitions import FAULTS, LegReport, Marks
from app.web.phone_call import status
from tests.docs.blocks import ROOT
from tests.docs.tables import names, table

PAGE = "states.md"
SVG = "{http://www.w3.org/2000/svg}"
CAUSES = ("USER_BUSY", "NORMAL_CLEARING")
SOURCE, DESTINATION = (
    Leg(f"{role.letter}1", role, "15500", NumberKind.PUBLIC, f"{role}") for role in list(Role)[:2]
)
CALL = Call(
    id="1",
    kind="simple",
    app="app",
    user="12",
    organization="3",
    organization_name="",
    extension="0003*210",
    accepted=1.0,
    wait_for_pickup=25,
    call_duration=60,
    queue_timeout=60,
    job_uuid="job",
    legs=(SOURCE, DESTINATION),
)
INVITATION = evolve(CALL, legs=(SOURCE,), conference="room")
claim = partial(transitions.claim, worker="", switch="", core_uuid="", at=2.0)


def after(call: Call) -> Iterator[Call]:
    """What may become of a call with the next thing that happens to it."""
    yield claim(call)
    yield transitions.request_hangup(call, at=3.0)
    yield transitions.end_queued(call, at=3.0)
    if call.state is State.QUEUED:
        return
    yield transitions.finish_originate(call, error="USER_BUSY", at=3.0)
    yield transitions.end(call, transitions.EVENTS_LOST, at=3.0)
    for leg in call.legs:
        yield transitions.report_leg(call, LegReport(leg.uuid, created=3.0))
        yield transitions.report_leg(call, LegReport(leg.uuid, created=3.0, ringing=4.0))
        yield transitions.report_leg(call, LegReport(leg.uuid, created=3.0, answered=5.0))
        for cause in CAUSES:
            yield transitions.report_leg(call, LegReport(leg.uuid, ended=7.0, cause=cause))
    if len(call.legs) == 2:
        bridge = LegReport(SOURCE.uuid, answered=5.0, bridged=6.0, bridged_to=DESTINATION.uuid)
        yield transitions.report_leg(call, bridge)


@cache
def reached(first: Call) -> tuple[set[Call], set[tuple[State, State]]]:
    """All that may become of a call, and its steps from state to state."""
    seen, steps, left = {first}, set(), [first]
    while left:
        call = left.pop()
        for new in after(call):
            if new.state is not call.state:
                steps.add((call.state, new.state))
            if new not in seen:
                seen.add(new)
                left.append(new)
    return seen, steps


def test_steps_are_those_of_the_code() -> None:
    told = {(State(a), State(b)) for a, b, _ in table(PAGE, "from", "to")}
    assert told == reached(CALL)[1] | reached(INVITATION)[1]


def test_the_picture_shows_the_same_steps() -> None:
    picture = ElementTree.parse(ROOT / "docs/img/states.svg")
    drawn = {path.get("id") for path in picture.iter(f"{SVG}path") if path.get("id")}
    assert drawn == {f"{a}-{b}" for a, b, _ in table(PAGE, "from", "to")}
    assert {text.text for text in picture.iter(f"{SVG}text")} >= {state.value for state in State}


def test_states_stand_in_their_order_with_their_statuses() -> None:
    rows = table(PAGE, "state", "since")
    assert [row[0] for row in rows] == [state.value for state in State]
    calls, _ = reached(CALL)
    for name, _, *cells in rows:
        of_state = [call for call in calls if call.state == name]
        for role, cell in zip((Role.SOURCE, Role.DESTINATION), cells, strict=True):
            told: set[int | None] = {int(number) for number in re.findall(r"\d", cell)}
            told = told or {None}
            assert told == {status(call, role) for call in of_state}, (name, role)


def test_marks_are_fields_of_a_leg() -> None:
    told = {name for row in table(PAGE, "", "in the view") for name in re.findall(r"\w+", row[2])}
    assert told >= {*Marks.__dataclass_fields__} - {"stands_parked"}


@pytest.mark.parametrize(
    ("disposition", "cause"),
    [
        (int(row[0][0]), cause)
        for row in table(PAGE, "disposition")
        for cause in re.findall(r"[A-Za-z]+_[A-Za-z_]+", " ".join(row[1:]))
    ],
)
def test_a_cause_brings_its_disposition(disposition: int, cause: str) -> None:
    call = claim(CALL)
    if cause in FAULTS:
        ended = transitions.end(call, cause, at=3.0)
    else:
        ended = transitions.report_leg(call, LegReport(SOURCE.uuid, ended=3.0, cause=cause))
    assert (ended.state, ended.disposition) == (State.ENDED, disposition)


def test_no_cause_is_left_out() -> None:
    told = " ".join(cell for row in table(PAGE, "disposition") for cell in row)
    assert {*transitions._DISPOSITIONS, *FAULTS} <= set(re.findall(r"\w+", told))


def test_every_end_is_told_of_the_faults_last() -> None:
    told = [name for row in table(PAGE, "endedBy") for name in names(row[0])]
    known = {value for name, value in vars(transitions).items() if name.startswith("BY_")}
    assert set(told) == known | FAULTS
    assert set(told[-len(FAULTS) :]) == FAULTS
    assert all(a != b for a, b in pairwise(told))
