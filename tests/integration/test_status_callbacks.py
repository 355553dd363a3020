"""Status callbacks, metadata and SIP headers of whole calls: from the create request to the
receiver and to the telephones."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from app.accounts.policy import Policy
from app.accounts.store import AccountStore
from app.calls.model import State
from tests.conftest import Stacks, eventually
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


def test_a_switch_that_dies(mortal: Ringback, receiver: Receiver) -> None:
    def run() -> Any:
        return mortal.store.redis.hget(mortal.store.keys.switch("simulator"), "core_uuid")

    call_id = place(mortal, receiver, "211")
    told(receiver, call_id, *ALL[:3])
    before = run()
    mortal.kill("simulator")
    try:
        mortal.start("simulator")
        (ended,) = told(receiver, call_id, "ended")
        assert ended["call"]["endedBy"] == "switch_restarted"
        # The next call's events are heard from then on.
        eventually(lambda: run() != before)
    finally:
        mortal.heal()


def test_a_call_that_the_worker_refuses(mortal: Ringback, receiver: Receiver) -> None:
    """The policy changes while the call waits."""
    accounts = AccountStore(mortal.store.redis, mortal.store.keys)
    before = accounts.current()
    mortal.kill("worker")
    try:
        call_id = place(mortal, receiver, "4915550109")
        policy = Policy("not-germany", deny=("+49",))
        organization = replace(before.organizations["0003"], policy=policy.name)
        barring = replace(
            before, organizations={"0003": organization}, policies={policy.name: policy}
        )
        accounts.replace(barring, demo=True)
        mortal.start("worker")
        (ended,) = told(receiver, call_id, "ended")
        assert ended["call"]["endedBy"] == "policy"
    finally:
        accounts.replace(before, demo=True)
        body = {"extension": "210", "phoneCallView": [{"source": "15509", "destination": "15500"}]}
        eventually(lambda: mortal.request("POST", "@me/simple", body)[0] == 202)
        mortal.heal()


@pytest.fixture(scope="module")
def impatient(stacks: Stacks) -> Ringback:
    return stacks(None, queue_timeout=1, webhook_retry_delay=0.1)


def test_a_receiver_that_dies_is_told_again(impatient: Ringback, receiver: Receiver) -> None:
    answers = iter([500, 500])
    receiver.answer = lambda _: next(answers, 200)
    call_id = place(impatient, receiver, "15509")
    first = receiver.next()
    again, third = receiver.next(), receiver.next()
    assert again["id"] == third["id"] == first["id"]
    assert again["content"] == third["content"] == first["content"]
    eventually(lambda: receiver.seen[-1]["id"] == f"{call_id}-ended")


def test_a_call_that_waits_too_long(impatient: Ringback, receiver: Receiver) -> None:
    impatient.kill("worker")
    call_id = place(impatient, receiver, "211")
    (ended,) = told(receiver, call_id, "ended")
    assert ended["call"]["endedBy"] == "queue_timeout"
    assert "ringing" not in ended["call"]["phoneCallView"][0]


def test_headers_are_sent_on_their_side_alone(ringback: Ringback) -> None:
    headers = {"source": {"X-Account": "42"}, "destination": {"X-Order": "no. 7; urgent=yes"}}
    call_id = ringback.place("15500", "15500", headers=headers)
    call = ringback.wait_state(call_id, State.BRIDGED)
    for leg, side in ((call.sources[0], "source"), (call.destinations[0], "destination")):
        sent = {name: ringback.api(f"uuid_getvar {leg.uuid} sip_h_{name}") for name in NAMES}
        assert {n: v for n, v in sent.items() if v != "_undef_"} == headers[side]
    ringback.request("DELETE", f"@me/210/{call_id}")
    assert ringback.ended(call_id).disposition == 0


NAMES = ("X-Account", "X-Order")


@pytest.mark.parametrize("leaves", ["15600", "15601"])
def test_headers_reach_no_party_that_a_transfer_brings_in(ringback: Ringback, leaves: str) -> None:
    headers = {"source": {"X-Account": "42"}, "destination": {"X-Order": "7"}}
    call_id = ringback.place("15600", "15601", headers=headers)
    ringback.wait_state(call_id, State.BRIDGED)
    body = {"action": "Transfer", "transferFromNumber": leaves, "sendCallTo": "211"}
    assert ringback.request("PUT", f"@me/210/{call_id}", body)[0] == 200
    call = ringback.wait(call_id, lambda call: any(leg.bridged for leg in call.thirds))
    third = call.thirds[0].uuid
    sent = {ringback.api(f"uuid_getvar {third} sip_h_{name}") for name in NAMES}
    assert sent == {"_undef_"}
    ringback.request("DELETE", f"@me/210/{call_id}")
    ringback.ended(call_id)


def test_headers_of_a_conference(ringback: Ringback) -> None:
    body = {
        "extension": "003",
        "phoneCallView": [{"destination": "15500", "headers": {"destination": {"X-Room": "3"}}}],
    }
    status, answer = ringback.request("POST", "@me/conferenceInvite", body)
    assert status == 202, answer
    call = ringback.wait_state(answer[0]["id"], State.BRIDGED)
    assert ringback.api(f"uuid_getvar {call.sources[0].uuid} sip_h_X-Room") == "3"
    ringback.request("DELETE", f"@me/003/{call.id}")
    ringback.ended(call.id)
