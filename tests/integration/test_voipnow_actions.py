"""The updates of calls that 4PSA's own client for VoipNow sends.

See docs/internals/uapi.md#the-version-5-client. The calls are there, on a running stack.
"""

from collections.abc import Callable
from typing import Any

import pytest

from app.calls.model import Call, State
from tests.integration.conftest import Ringback

TOKEN = "demo-voipnow-token"
VIEW = {"phoneCallViewId": "01"}
TO = {"sendCallTo": "0003*024"}
RING = {**TO, "callerId": "John Doe <4242425>", "waitForPickup": "25"}


def _bridged(call: Call) -> bool:
    return call.state is State.BRIDGED


def _rings(call: Call) -> bool:
    return any(leg.ringing for leg in call.destinations)


# What the call must have come to, whom it calls, and the requests one after the other.
REQUESTS: list[tuple[Callable[[Call], bool], str, list[dict[str, Any]]]] = [
    (_bridged, "5354317", [{"action": "OnHold", **VIEW}, {"action": "OffHold", **VIEW}]),
    (
        _bridged,
        "5354317",
        [
            {"action": "Park", **VIEW, "maxInParking": 180},
            {"action": "UnPark", **VIEW, **TO, "waitForPickup": "25"},
        ],
    ),
    (_rings, "5354308", [{"action": "PickUp", "phoneCallViewId": "00", **RING}]),
    (_rings, "5354308", [{"action": "PickUp", **VIEW, **RING}]),
    (_bridged, "5354317", [{"action": "BargeIn", **VIEW, **RING}]),
    (_bridged, "5354317", [{"action": "Whisper", **VIEW, **RING, "private": "0"}]),
    (_bridged, "5354317", [{"action": "Monitor", **VIEW, **RING}]),
    (
        _bridged,
        "5354317",
        [
            {"action": "StartRecording", **VIEW, "format": "wav"},
            {"action": "StopRecording", **VIEW},
        ],
    ),
    (
        _bridged,
        "5354317",
        [{"action": "Transfer", "sendCallTo": "3334444", "transferFromNumber": "0003*210"}],
    ),
    (
        _bridged,
        "5354317",
        [{"action": "TransferToVoicemail", **TO, "transferNumber": "0003*210"}],
    ),
]


@pytest.mark.parametrize(
    ("until", "destination", "requests"),
    REQUESTS,
    ids=[" ".join(request["action"] for request in case[2]) for case in REQUESTS],
)
def test_updates(
    ringback: Ringback,
    until: Callable[[Call], bool],
    destination: str,
    requests: list[dict[str, Any]],
) -> None:
    body = {
        "extension": "0003*210",
        "phoneCallView": [{"source": ["0003*210"], "destination": [destination]}],
        "nonce": "MTE1NDQzNzc3",
    }
    path = "@me/simple/?waitForPickup=20&allowPublicTransfer=true"
    status, answer = ringback.request("POST", path, body, TOKEN)
    assert status == 200, answer
    call_id = answer[0]["id"]
    try:
        ringback.wait(call_id, until)
        for request in requests:
            path = f"@me/0003*210/{call_id}/"
            status, answer = ringback.request("PUT", path, request, TOKEN)
            assert status in (200, 202), (request, answer)
            assert answer[0]["id"] == call_id
    finally:
        ringback.request("DELETE", f"@me/0003*210/{call_id}/", token=TOKEN)
        ringback.ended(call_id)
