"""Status callbacks and metadata of whole calls: from the create request to the receiver."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from app.calls.model import State
from tests.conftest import eventually
from tests.integration.conftest import Ringback
from tests.receiver import Receiver, receiving

METADATA = {"order": "4711", "note": "Zoë: “one”, two"}
ALL = ["ringing", "answered", "bridged", "ended"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def place(ringback: Ringback, receiver: Receiver, destination: str, **callback: Any) -> str:
    body = {
        "extension": "210",
        "phoneCallView": [{"source": "210", "destination": destination}],
        "metadata": METADATA,
        "statusCallback": {"url": f"{receiver.url}/status?key=secret", **callback},
    }
    status, answer = ringback.request("POST", "@me/simple", body)
    assert status == 202, answer
    call_id: str = answer[0]["id"]
    return call_id


def told(receiver: Receiver, call_id: str, *events: str) -> list[dict[str, Any]]:
    """The envelopes that come next, which are these of one call."""
    found = []
    for event in events:
        request = receiver.next()
        assert request["id"] == f"{call_id}-{event}"
        assert request["method"] == "POST" and request["path"] == "/status?key=secret"
        assert request["headers"]["Content-Type"] == "application/json"
        envelope = json.loads(request["content"])
        assert sorted(envelope) == ["call", "id", "time", "type"]
        assert (envelope["type"], envelope["id"]) == (event, request["id"])
        assert datetime.fromisoformat(envelope["time"]).tzinfo is not None
        assert envelope["call"]["id"] == call_id
        found.append(envelope)
    return found


def test_a_call_tells_each_status(ringback: Ringback, receiver: Receiver) -> None:
    call_id = place(ringback, receiver, "211")
    told(receiver, call_id, *ALL[:3])
    ringback.request("DELETE", f"@me/210/{call_id}")
    (ended,) = told(receiver, call_id, "ended")
    assert ended["call"]["state"] == "ended" and ended["call"]["endedBy"] == "api"
    _, answer = ringback.request("GET", f"@me/@self/{call_id}")
    shown = answer["entry"][0]
    # What the stream has: the call without its links.
    assert ended["call"] == {n: v for n, v in shown.items() if n not in ("link", "links")}
    assert shown["metadata"] == METADATA
    assert "secret" not in json.dumps(answer)


def test_only_the_statuses_that_were_asked_for(ringback: Ringback, receiver: Receiver) -> None:
    call_id = place(ringback, receiver, "15509", events=["ended"])
    (ended,) = told(receiver, call_id, "ended")
    assert ended["call"]["hangupCause"] == "USER_BUSY"
    assert ended["call"]["metadata"] == METADATA


def test_a_call_that_was_never_dialled(mortal: Ringback, receiver: Receiver) -> None:
    """No worker takes it: a client hangs it up."""
    mortal.kill("worker")
    try:
        call_id = place(mortal, receiver, "211")
        assert mortal.request("DELETE", f"@me/210/{call_id}")[0] == 200
        (ended,) = told(receiver, call_id, "ended")
        assert ended["call"]["endedBy"] == "api"
        assert "answered" not in ended["call"]
    finally:
        mortal.heal()


@pytest.mark.parametrize("part", ["worker", "listener", "webhooks"])
def test_a_process_dies_in_the_middle(mortal: Ringback, receiver: Receiver, part: str) -> None:
    """Each status comes, and the one terminal status once unless its answer was lost."""
    call_id = place(mortal, receiver, "211")
    mortal.wait_state(call_id, State.BRIDGED)
    mortal.kill(part)
    try:
        if part != "webhooks":
            mortal.start(part)
        mortal.request("DELETE", f"@me/210/{call_id}")
        mortal.ended(call_id)
        if part == "webhooks":
            mortal.start(part)
        ids = [f"{call_id}-{event}" for event in ALL]
        eventually(lambda: ids[-1] in [request["id"] for request in receiver.seen])
        seen = [request["id"] for request in receiver.seen]
        # What was in hand when the process died comes again, with the same id.
        assert list(dict.fromkeys(seen)) == ids
        if part != "webhooks":
            assert seen == ids
    finally:
        mortal.heal()


def test_a_receiver_that_dies_is_told_again(ringback: Ringback, receiver: Receiver) -> None:
    answers = iter([500, 500])
    receiver.answer = lambda _: next(answers, 200)
    call_id = place(ringback, receiver, "15509")
    first = receiver.next()
    again, third = receiver.next(), receiver.next()
    assert again["id"] == third["id"] == first["id"]
    assert again["content"] == third["content"] == first["content"]
    eventually(lambda: receiver.seen[-1]["id"] == f"{call_id}-ended")
