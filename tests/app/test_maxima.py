"""The operator's maxima: at the door, and again where calls are dialled."""

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.calls import actions
from app.calls.actions import Request, Target, Way
from app.calls.model import Action, NumberKind, State, evolve
from app.services import create_services
from app.settings import Settings
from app.store.calls import CallStore
from app.web.services import EXTENSION
from workers.dial_command import originate_command, within_maxima

from .conftest import Ask
from .test_actions import talking

SIMPLE = "/uapi/phoneCalls/@me/simple"


def parties(count: int, views: int = 1) -> dict[str, Any]:
    numbers = [str(15500 + n) for n in range(count - 1)]
    view = {"source": ["0003*210"], "destination": numbers}
    return {"extension": "0003*210", "phoneCallView": [view] * views}


@pytest.fixture
def limited(client: FlaskClient, settings: Settings) -> Settings:
    """The settings of an API whose operator allows little."""
    small = replace(
        settings,
        max_call_duration=600,
        max_wait_for_pickup=20,
        max_views=2,
        max_parties=4,
        max_request_parties=6,
    )
    client.application.extensions[EXTENSION] = {type(each): each for each in create_services(small)}
    return small


@pytest.mark.parametrize(
    ("body", "query", "code", "says"),
    [
        (parties(2), {"callDuration": 601}, "pc_duration_invalid", "1 to 600"),
        (parties(2), {"waitForPickup": 26}, "pc_timeout_invalid", "1 to 20"),
        (parties(2, 3), {}, "pc_source_invalid", "at most 2 views, not 3"),
        (parties(5), {}, "pc_destination_invalid", "at most 4 parties, not 5"),
        (parties(4, 2), {}, "pc_destination_invalid", "at most 6 parties together, not 8"),
    ],
)
def test_what_exceeds_a_maximum_is_refused(
    limited: Settings, ask: Ask, body: Any, query: Any, code: str, says: str
) -> None:
    answer = ask("POST", SIMPLE, body, **query)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, code)
    assert says in answer.json["error"]["reason"]


def test_what_is_within_goes_and_defaults_are_shortened(
    limited: Settings, ask: Ask, store: CallStore
) -> None:
    answer = ask("POST", SIMPLE, parties(3, 2), callDuration=600)
    assert answer.status_code == 202
    call = store.get(answer.json[0]["id"])
    assert call is not None
    assert (call.wait_for_pickup, call.call_duration) == (20, 600)
    answer = ask("POST", SIMPLE, parties(2))
    call = store.get(answer.json[0]["id"])
    assert call is not None and call.call_duration == 600


def test_one_small_request_rings_no_hundreds_of_phones(ask: Ask) -> None:
    answer = ask("POST", SIMPLE, parties(33, 20))
    assert answer.json["error"]["code"] == "pc_destination_invalid"
    assert "at most 128 parties together" in answer.json["error"]["reason"]


def test_a_call_is_dialled_within_the_maxima_of_that_moment(
    settings: Settings, ask: Ask, store: CallStore
) -> None:
    answer = ask("POST", SIMPLE, parties(2), callDuration=7000, waitForPickup=300)
    call = store.get(answer.json[0]["id"])
    assert call is not None
    assert within_maxima(call, settings) is call
    small = replace(settings, max_call_duration=60, max_wait_for_pickup=10)
    command = originate_command(within_maxima(call, small), "PCMU")
    assert "sched_hangup +60 allotted_timeout" in command
    assert "originate_timeout=11" in command


def test_so_many_third_parties_at_a_time() -> None:
    call = talking()
    assert call.state is State.BRIDGED
    desk = Target("0003*211", NumberKind.EXTENSION, (Way(dial_string="user/211"),))
    for number in range(3):
        asked = Request(id=str(number), action=Action.MONITOR, leg="a1", target=desk)
        before, call = call, actions.begin(call, asked, at=20.0, most_thirds=2)
        assert (call is before) is (number == 2)
    assert actions.refusal(call, asked, most_thirds=2) == (
        "A call has at most 2 third parties at a time."
    )
    # One has gone.
    call = call.with_leg(evolve(call.thirds[0], ended=21.0))
    assert actions.refusal(call, asked, most_thirds=2) is None
