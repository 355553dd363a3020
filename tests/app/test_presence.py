"""The presence of extensions, by the calls that are made here."""

from typing import Any

import pytest

from app.calls import transitions
from app.calls.model import Call
from app.calls.transitions import LegReport
from app.presence.services import BUSY, RINGING, Presence, presence
from app.store.calls import CallStore
from app.store.writes import Note
from app.web.resource import date
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, Ask
from tests.app.test_phone_calls import SIMPLE, is_error

PATH = "/uapi/extensions/@me"
LOCAL = {"extension": "024", "phoneCallView": [{"source": ["210"], "destination": ["211"]}]}


def statuses(ask: Ask, path: str = f"{PATH}/@self/presence", **query: Any) -> dict[str, int]:
    answer = ask("GET", path, **query)
    assert answer.status_code == 200, answer.json
    return {entry["extension"]: entry["status"] for entry in answer.json["entry"]}


@pytest.fixture
def call(ask: Ask, store: CallStore) -> Call:
    """From 210 to 211, charged to 024."""
    call = store.get(ask("POST", SIMPLE, LOCAL).json[0]["id"])
    assert call is not None
    return call


def follow(store: CallStore, call: Call, *reports: LegReport) -> Call:
    for report in reports:
        call = store.change(
            call, lambda c, r=report: transitions.report_leg(c, r), Note("event", "test")
        )
    return call


def test_an_extension_that_rings_talks_and_is_free_again(
    ask: Ask, store: CallStore, call: Call
) -> None:
    source, destination = (leg.uuid for leg in call.legs)
    at = call.accepted
    free = {"0003*003": 1, "0003*024": 1, "0003*210": 1, "0003*211": 1}
    assert statuses(ask) == free
    call = follow(store, call, LegReport(source, created=at, ringing=at + 1))
    assert statuses(ask) == {**free, "0003*210": 2}
    call = follow(store, call, LegReport(source, answered=at + 5))
    call = follow(store, call, LegReport(destination, created=at + 5))
    assert statuses(ask) == {**free, "0003*210": 3, "0003*211": 2}
    link = {"self": "http://localhost/uapi/extensions/@me/0003*210/presence"}
    answer = ask("GET", f"{PATH}/210/presence/").json
    assert answer == {
        "totalResults": 1,
        "startIndex": 0,
        "itemsPerPage": 20,
        "entry": [
            {
                "extension": "0003*210",
                "status": 3,
                "registration": [{"registration": 0, "status": 3}],
                "since": date(at + 5),
                "calls": 1,
                "link": link,
                "links": link,
            }
        ],
    }
    call = follow(store, call, LegReport(destination, ended=at + 9, cause="USER_BUSY"))
    follow(store, call, LegReport(source, ended=at + 9, cause="USER_BUSY"))
    assert statuses(ask) == free
    (idle,) = ask("GET", f"{PATH}/210/presence").json["entry"]
    assert (idle["calls"], "since" in idle) == (0, False)


def test_the_lists_parameters(ask: Ask) -> None:
    path = f"{PATH}/@self/presence"
    numbers = ["0003*003", "0003*024", "0003*210", "0003*211"]
    assert list(statuses(ask)) == numbers
    assert list(statuses(ask, sortOrder="descending", count=1)) == numbers[3:]
    page = ask("GET", path, count=3).json
    assert (page["totalResults"], set(page["paging"])) == (4, {"next"})
    assert list(statuses(ask, page["paging"]["next"])) == numbers[3:]
    by = {"filterBy": "extension"}
    assert list(statuses(ask, **by, filterValue="0003*024")) == ["0003*024"]
    assert list(statuses(ask, **by, filterOp="contains", filterValue="*21")) == numbers[2:]
    some = {"filterOp": "inArray", "filterValue": ["0003*003", "0003*211"]}
    assert list(statuses(ask, **by, **some)) == ["0003*003", "0003*211"]
    (only,) = ask("GET", f"{PATH}/210/presence", fields="status").json["entry"]
    assert only == {"status": 1}
    is_error(ask("GET", path, filterBy="status", filterValue="1"), 400, "filterby_invalid")
    is_error(ask("GET", path, fields="colour"), 400, "fields_invalid")


def test_whose_presence(ask: Ask) -> None:
    for path in ("/uapi/extensions/12/@self", "/unifiedapi/extensions/@owner/@self"):
        for token in (ORGANIZATION, ADMINISTRATOR):
            assert len(statuses(ask, f"{path}/presence", token=token)) == 4
    is_error(ask("GET", f"{PATH}/999/presence"), 400, "extension_invalid")
    is_error(ask("GET", f"{PATH}/@self/presence", token=ORGANIZATION), 400, "user_invalid")
    is_error(ask("GET", f"{PATH}/@self/presence", token=None), 401, "access_denied")


def test_an_extension_that_pays_for_many_newer_calls_is_still_busy(
    ask: Ask, store: CallStore
) -> None:
    own = {**LOCAL, "extension": "210"}
    call = store.get(ask("POST", SIMPLE, own).json[0]["id"])
    assert call is not None
    at = call.accepted
    call = follow(store, call, LegReport(call.legs[0].uuid, created=at, answered=at + 1))
    view = {"source": ["15500"], "destination": ["15600"]}
    for _ in range(6):
        assert ask("POST", SIMPLE, {**own, "phoneCallView": [view] * 20}).status_code == 202
    (busy,) = ask("GET", f"{PATH}/210/presence").json["entry"]
    assert (busy["status"], busy["calls"]) == (3, 1)
    follow(store, call, LegReport(call.legs[0].uuid, ended=at + 9, cause="NORMAL_CLEARING"))
    (free,) = ask("GET", f"{PATH}/210/presence").json["entry"]
    assert (free["status"], free["calls"]) == (1, 0)


def test_of_several_calls_talking_counts(ask: Ask, store: CallStore, call: Call) -> None:
    other = store.get(ask("POST", SIMPLE, LOCAL).json[0]["id"])
    assert other is not None
    at = call.accepted
    call = follow(store, call, LegReport(call.legs[0].uuid, created=at, answered=at + 1))
    other = follow(store, other, LegReport(other.legs[0].uuid, created=at + 2))
    for calls in ([call, other], [other, call]):
        assert presence("0003*210", calls) == Presence("0003*210", BUSY, 2, at + 1)
    assert presence("0003*210", [other]) == Presence("0003*210", RINGING, 1, at + 2)
    # It pays for both and is in none.
    assert presence("0003*024", [call, other]) == Presence("0003*024")
