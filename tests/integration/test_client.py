"""The Python client against the whole of Ringback."""

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from app.accounts.store import AccountStore
from app.calls.model import State
from ringback import (
    STATES,
    AsyncClient,
    Client,
    EventStream,
    Invalid,
    NewCall,
    NotFound,
    RingbackError,
    verify_status,
    verify_webhook,
)
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, REAL, Ringback
from tests.receiver import receiving


@pytest.fixture
def client(ringback: Ringback) -> Client:
    return Client(ringback.stack.url, "demo-user-token")


def told(events: EventStream, call_id: str) -> list[str]:
    """The states of a call to its end."""
    states: list[str] = []
    for event in events:
        if event.call_id == call_id:
            states.append(event.state)
            if event.state == "ended":
                return states
    raise AssertionError(states)


def test_a_call_from_its_creation_to_its_record(ringback: Ringback, client: Client) -> None:
    begun = datetime.now(UTC) - timedelta(minutes=1)
    with client.events() as events:
        call = client.simple("210", "15500", ["15600"], nonce="a-call", wait_for_pickup=20)
        assert client.simple("210", "15500", ["15600"], nonce="a-call", wait_for_pickup=20) == call
        bridged = client.wait_until(call.id, "bridged", LIMIT)
        assert bridged.has_reached("bridged") and bridged.views[0].source == ("15500",)
        assert call.id in {each.id for each in client.calls()}
        assert [c.id for c in client.calls(nonce="a-call")] == [call.id]
        (ended,) = client.hang_up(call.id)
        assert (ended.state, ended.ended_by, ended.disposition) == ("ended", "api", 0)
        states = told(events, call.id)
    assert tuple(dict.fromkeys(states)) == STATES
    # Taken up where another left off, and nothing once it is closed.
    with client.events(call_id=call.id, last_event_id=events.last_event_id) as later:
        assert later.last_event_id >= events.last_event_id
    assert list(later) == []
    record = next(r for r in client.cdr(start=begun) if r.id == call.id)
    assert (record.user, record.destination, record.disposition) == ("12", "15600", 0)
    assert 0 < record.billed <= record.duration
    with pytest.raises(NotFound):
        client.get("0" * 20)


def test_the_same_under_asyncio(ringback: Ringback) -> None:
    async def main() -> None:
        async with (
            AsyncClient(ringback.stack.url, "demo-user-token") as client,
            client.events() as events,
        ):
            call = await client.simple("210", "15500", "15600")
            seen = []
            async for event in events:
                if event.call_id == call.id:
                    seen.append(event.state)
                    if event.state == "bridged":
                        await client.hang_up(call.id)
                    if event.state == "ended":
                        break
            assert tuple(dict.fromkeys(seen)) == STATES
            assert (await client.wait_until(call.id, "ended")).ended_by == "api"
            assert call.id not in {live.id async for live in client.calls()}
            records = client.cdr(start=datetime.now(UTC) - timedelta(minutes=5))
            assert call.id in {record.id async for record in records}

    asyncio.run(main())


def test_hanging_up_all(ringback: Ringback, client: Client) -> None:
    placed = [client.simple("210", "15508", "15600") for _ in range(2)]
    for call in placed:
        client.wait_until(call.id, "dialing", LIMIT)
    assert client.hang_up_all(extension="212") == []
    ended = {call.id: call.state for call in client.hang_up_all(extension="210")}
    assert ended.items() >= {(call.id, "ended") for call in placed}


def test_other_ways_to_place_a_call(ringback: Ringback, client: Client) -> None:
    placed = [
        client.callback("212", "15500", "15600", caller_id="Shop <4242400>"),
        client.invite("003", "15500", number="3", pin="2233"),
        *client.create("simple", "210", [NewCall(source="15500", destination="15600")] * 2),
    ]
    for call in placed:
        client.wait_until(call.id, "answered", LIMIT)
        client.hang_up(call.id)
        ringback.ended(call.id)
    with pytest.raises(Invalid) as raised:
        client.simple("999", "15500", "15600")
    error = raised.value
    assert (error.status, error.code) == (400, "extension_invalid")
    assert (error.field, error.value) == ("/extension", "999")
    assert error.request_id and error.doc and error.doc.endswith("#extension_invalid")
    with pytest.raises(NotFound):
        client.wait_until("0" * 20, "ended")
    waiting = client.simple("210", "15508", "15600")
    with pytest.raises(TimeoutError):
        client.wait_until(waiting.id, "answered", 0.1)
    client.hang_up(waiting.id)


@pytest.mark.skipif(REAL is not None, reason="needs extensions that answer as the simulator's")
def test_actions(ringback: Ringback, client: Client) -> None:
    call = client.simple("210", "210", "15600")
    client.wait_until(call.id, "bridged", LIMIT)
    held = client.hold(call.id, "00")
    assert held.done and held.call.views[0].on_hold is not None
    assert client.unhold(call.id, "00").done
    assert client.start_recording(call.id, "00").call.views[0].recording is not None
    assert client.stop_recording(call.id, "00").done
    listening = client.monitor(call.id, "024", "00")
    assert listening.done and listening.call.views[2].action == "Monitor"
    parked = client.park(call.id, "00", 60)
    assert parked.call.views[1].parked_position is not None
    assert client.unpark(call.id, "01", "211").done
    with pytest.raises(RingbackError) as raised:
        client.pick_up(call.id, "211")
    assert raised.value.code == "pc_action_invalid"
    client.hang_up(call.id)
    call = client.simple("210", "210", "15600", allow_public_transfer=True)
    client.wait_until(call.id, "bridged", LIMIT)
    assert client.transfer(call.id, "15601", leaves="210").done
    client.hang_up(call.id)
    assert ringback.ended(call.id).state is State.ENDED


@pytest.fixture
def signing(ringback: Ringback) -> Iterator[str]:
    """Gives the app of the demo's user a secret to sign with."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    accounts = AccountStore(ringback.store.redis, ringback.store.keys)
    before = accounts.current()
    app = replace(before.apps["demo-user"], webhook_secret=secret)
    tokens = {**before.tokens, str(app.token_sha256): app}
    changed = replace(before, apps={**before.apps, app.id: app}, tokens=tokens)
    accounts.replace(changed, demo=True)
    yield secret
    accounts.replace(before, demo=True)


def is_signed(message: dict[str, Any]) -> bool:
    return "webhook-signature" in message["headers"]


@pytest.mark.skipif(REAL is not None, reason="needs an extension that answers as the simulator's")
@pytest.mark.parametrize("post", [True, False])
def test_call_events_are_verified(
    ringback: Ringback, client: Client, signing: str, post: bool
) -> None:
    with receiving() as receiver:
        # The process that sends sees the secret within a second, and sends again what is refused.
        receiver.answer = lambda told: 200 if is_signed(told) else 503
        client.add_call_event("210", 2, f"{receiver.url}/?of=calls", post=post)
        try:
            call = client.simple("210", "210", "15511")
            while not is_signed(message := receiver.next()):
                pass
        finally:
            client.remove_call_events("210")
    event = verify_webhook(message["headers"], message["content"], signing)
    assert (event["CallAPIID"], event["CallStatus"]) == (call.id, "ANSWER")


def test_a_status_callback_is_verified(ringback: Ringback, client: Client, signing: str) -> None:
    mark = secrets.token_hex(4)
    with receiving() as receiver:
        receiver.answer = lambda told: 200 if is_signed(told) else 503
        call = client.simple(
            "210",
            "15500",
            "15600",
            metadata={"order": "4711", "try": mark},
            status_callback={"url": receiver.url, "events": ["bridged", "ended"]},
            headers={"destination": {"X-Order": "4711"}},
        )
        pairs = {"order": "4711", "try": mark}
        assert [c.id for c in client.calls(metadata=pairs)] == [call.id]
        told = []
        for state in ("bridged", "ended"):
            client.wait_until(call.id, "bridged", LIMIT)
            if state == "ended":
                client.hang_up(call.id)
            while not is_signed(message := receiver.next()):
                pass
            told.append(verify_status(message["headers"], message["content"], signing))
    assert [(s.type, s.id) for s in told] == [
        ("bridged", f"{call.id}-bridged"),
        ("ended", f"{call.id}-ended"),
    ]
    assert told[1].call.ended_by == "api"
    assert told[1].call.metadata == {"order": "4711", "try": mark}
    assert list(client.calls(metadata=pairs)) == []
    assert [c.id for c in client.calls(metadata=pairs, status="all")] == [call.id]
    (record,) = client.cdr(metadata=pairs)
    assert record.id == call.id and record.metadata == {"order": "4711", "try": mark}


def test_a_revoked_token_is_replaced(ringback: Ringback) -> None:
    secret = {"client_id": "demo-user", "client_secret": "demo-user-secret"}
    client = Client(ringback.stack.url, **secret)
    assert list(client.calls(nonce="nobody")) == []

    def revoke_and_go_on() -> None:
        old = client._tokens.current
        form = urlencode({"token": old, **secret}).encode()
        with urlopen(f"{ringback.stack.url}/oauth/revoke", form) as answer:
            assert answer.status == 200
        with client.events():
            # No request fails, whenever a process hears of the revocation.
            eventually(
                lambda: list(client.calls(nonce="nobody")) == [] and client._tokens.current != old
            )

    revoke_and_go_on()
    revoke_and_go_on()
