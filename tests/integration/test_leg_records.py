"""The seconds of each leg in the record, beside the switch's own record of its channels."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from app.calls.model import Call, State
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, REAL, Ringback
from workers.runtime import switch_addresses


class SwitchRecord:
    """What the switch itself counts: billsec of each channel that has ended, by uuid."""

    def __init__(self, ringback: Ringback) -> None:
        address = switch_addresses(ringback.stack.settings)[0]
        self.seconds: dict[str, int] = {}
        self._socket = socket.create_connection((address.host, address.port), timeout=LIMIT)
        self._file = self._socket.makefile("rb")
        self._frame()
        login = f"userauth {address.user}:" if address.user else "auth "
        for command in (login + address.password, "event json CHANNEL_HANGUP_COMPLETE"):
            self._socket.sendall(f"{command}\n\n".encode())
            while not self._frame()[0].get("Reply-Text", "").startswith("+OK"):
                pass
        # The calls of a test may be quiet for longer than a frame takes.
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(LIMIT)
        self._file.close()
        self._socket.close()

    def _read(self) -> None:
        while (frame := self._frame()) != ({}, b""):
            if frame[0].get("Content-Type") == "text/event-json":
                event = json.loads(frame[1])
                self.seconds[event["Unique-ID"]] = int(event["variable_billsec"])

    def _frame(self) -> tuple[dict[str, str], bytes]:
        headers = {}
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name] = value
        return headers, self._file.read(int(headers.get("Content-Length", 0)))


@pytest.fixture
def switch(ringback: Ringback) -> Iterator[SwitchRecord]:
    record = SwitchRecord(ringback)
    yield record
    record.close()


def record(ringback: Ringback, call_id: str) -> dict[str, Any]:
    found: Any = ringback.store.redis.get(ringback.store.keys.record(call_id))
    return dict(orjson.loads(found))


def by_number(ringback: Ringback, switch: SwitchRecord, call_id: str) -> Counter[str]:
    """The seconds by number of an ended call in the switch's record, once ours is the same."""
    ringback.ended(call_id)
    call = ringback.wait(call_id, lambda call: not any(leg.live for leg in call.legs))
    dialled = [leg for leg in call.legs if leg.created is not None]
    eventually(lambda: all(leg.uuid in switch.seconds for leg in dialled))
    expected: Counter[str] = Counter()
    for leg in dialled:
        expected[leg.number] += switch.seconds[leg.uuid]

    def ours() -> Counter[str]:
        found: Counter[str] = Counter()
        for leg in record(ringback, call_id)["legs"]:
            found[leg["number"]] += leg["seconds"]
        return found

    eventually(lambda: ours() == expected)
    return ours()


def bridged(ringback: Ringback, source: Any, destination: Any, query: str) -> Call:
    return ringback.wait_state(ringback.place(source, destination, query), State.BRIDGED)


def act(ringback: Ringback, call: Call, token: str, **fields: Any) -> None:
    path = f"12/@self/{call.id}"
    assert ringback.request("PUT", path, fields, token)[0] == 200


def test_a_transfer_to_a_public_number(ringback: Ringback, switch: SwitchRecord) -> None:
    call = bridged(ringback, "0003*210", "15600", "?callDuration=8&allowPublicTransfer=true")
    act(
        *(ringback, call, "demo-organization-token"),
        **{"action": "Transfer", "phoneCallViewId": "00", "sendCallTo": "15700"},
    )
    seconds = by_number(ringback, switch, call.id)
    assert seconds["15600"] and seconds["15700"]
    assert seconds["15600"] >= seconds["15700"]
    found = record(ringback, call.id)
    (leg,) = (leg for leg in found["legs"] if leg["role"] == "third")
    by = {"app": "demo-organization", "user": "12"}
    assert (leg["number"], leg["gateway"], leg["asked_by"]) == ("15700", "pstn", by)
    (asked,) = found["actions"]
    assert (asked["action"], asked["number"], asked["asked_by"]) == ("Transfer", "15700", by)
    assert (asked["party"], asked["result"]) == ("15600", "done")


def test_ring_all_where_several_answer(ringback: Ringback, switch: SwitchRecord) -> None:
    sources, destinations = ["15500", "15501", "15502"], ["15600", "15601", "15602"]
    call = bridged(ringback, sources, destinations, "?callDuration=6")
    seconds = by_number(ringback, switch, call.id)
    assert seconds.keys() == {*sources, *destinations}
    legs = record(ringback, call.id)["legs"]
    assert [leg["role"] for leg in legs if leg["cause"] != "LOSE_RACE"] == ["source", "destination"]
    assert all(leg["created"] <= leg["ended"] for leg in legs)


def test_a_source_whose_destination_never_answers(ringback: Ringback, switch: SwitchRecord) -> None:
    call_id = ringback.place("15500", "15508", "?waitForPickup=6")
    seconds = by_number(ringback, switch, call_id)
    assert seconds["15500"] >= 1 and seconds["15508"] == 0
    found = record(ringback, call_id)
    # The call's own field counts from the bridge, and bills nothing.
    assert (found["billed"], found["disposition"]) == (0, 3)


def test_a_third_party_that_listens(ringback: Ringback, switch: SwitchRecord) -> None:
    call = bridged(ringback, "0003*210", "15600", "?callDuration=8")
    listen = {"action": "Monitor", "phoneCallViewId": "00", "sendCallTo": "024"}
    act(ringback, call, "demo-user-token", **listen)
    act(ringback, call, "demo-user-token", action="StartRecording", phoneCallViewId="01")
    ringback.wait(call.id, lambda call: any(leg.listens and leg.answered for leg in call.legs))
    seconds = by_number(ringback, switch, call.id)
    assert seconds["0003*024"] >= 1
    found = record(ringback, call.id)
    assert [asked["action"] for asked in found["actions"]] == ["Monitor", "StartRecording"]
    (recorded,) = (leg for leg in found["legs"] if "recording" in leg)
    assert recorded["number"] == "15600"
    assert recorded["recording"] == found["actions"][1]["recording"]


@pytest.mark.skipif(bool(REAL), reason="the stack that may die has the simulator")
def test_a_call_that_ended_while_no_listener_was_there(mortal: Ringback) -> None:
    call = mortal.wait_state(mortal.place("0003*210", "15600"), State.BRIDGED)
    mortal.kill("listener")
    mortal.api("hupall")
    mortal.start("listener")
    call = mortal.ended(call.id)
    assert call.ended_by == "events_lost"
    # Each leg has an end, which is Ringback's word, as there is no cause.
    assert all(leg.ended and leg.cause is None for leg in call.legs)
    for leg in record(mortal, call.id)["legs"]:
        assert leg["ended"] >= leg["answered"] and "cause" not in leg
        assert leg["seconds"] == int(leg["ended"]) - int(leg["answered"])
