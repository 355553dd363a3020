"""What 4PSA's own client for VoipNow sends (docs/internals/uapi.md#the-version-5-client).

The app has ``compatibility = "voipnow"``. The client needs JSON, status 200 or 202, no redirect,
and some fields.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

HEADERS = {"Content-Type": "application/json", "User-Agent": "VoipNow Calls MCP/5.7.0"}
TOKEN_BODY = (
    "client_id=demo-voipnow&client_secret=demo-voipnow-secret&grant_type=client_credentials"
    "&type=unifiedapi&redirect_uri=https%3A%2F%2Fhost%2Fouath%2Ftoken.php"
)

CREATE = {
    "extension": "0003*210",
    "phoneCallView": [
        {
            "source": ["0003*210", "5302040"],
            "destination": ["0003*211"],
            "callerId": "John Doe <4242425>",
            "callerDestination": "Jane <+15551234>",
        }
    ],
    "nonce": "MTE1NDQzNzc3",
}
CALLBACK = {
    "extension": "0003*212",
    "phoneCallView": [{"source": ["5354353"], "destination": ["0003*211"]}],
    "nonce": "MTE1NDQzNzc3",
}
INVITE = {
    "extension": "0003*003",
    "phoneCallView": [
        {
            "source": ["0003*003"],
            "destination": ["5302040"],
            "callerId": "John Doe <4242425>",
        }
    ],
}
SIMPLE = (
    "/uapi/phoneCalls/@me/simple/"
    "?waitForPickup=20&callDuration=60&allowPublicTransfer=true&video=true"
)
EVENTS = "/uapi/extensions/@me/0003*210/phoneCallEvents/"

Send = Callable[..., Any]


@pytest.fixture
def send(client: FlaskClient) -> Send:
    """Send as that client does, and read the answer as it does."""
    answer = client.post(
        "/oauth/token.php",
        data=TOKEN_BODY,
        content_type="application/x-www-form-urlencoded",
    )
    token = accepted(answer)
    assert re.fullmatch(r"[A-Za-z0-9_.-]{10,}", token["access_token"])
    assert token["expires_in"] > 0

    def _send(method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body)
        headers = {**HEADERS, "Authorization": f"Bearer {token['access_token']}"}
        return accepted(client.open(path, method=method, data=data, headers=headers))

    return _send


def accepted(answer: Any) -> Any:
    document = json.loads(answer.get_data())
    assert answer.status_code in (200, 202), document
    return document


def test_the_creates(send: Send) -> None:
    for path, body in (
        (SIMPLE, CREATE),
        ("/uapi/phoneCalls/@me/callback/", CALLBACK),
        ("/uapi/phoneCalls/@me/conferenceInvite/?number=3&pin=2233", INVITE),
    ):
        (entry,) = send("POST", path, body)
        assert entry["id"] and entry["extension"] == body["extension"]
        assert entry["links"]["self"].endswith(entry["id"])


def test_one_nonce_for_all_calls(send: Send) -> None:
    first, second = (send("POST", SIMPLE, CREATE)[0]["id"] for _ in range(2))
    assert first != second


def test_the_lists(send: Send) -> None:
    (call,) = send("POST", SIMPLE, CREATE)
    for path in (
        f"0003*210/{call['id']}/?count=20&startIndex=0",
        "0003*210/?count=20&startIndex=0",
        "@self/?count=20&startIndex=0",
        f"0003*210/{call['id']}/?count=5&filterBy=id&filterOp=equals&filterValue={call['id']}"
        "&fields=id%2CphoneCallView&startIndex=0&sortOrder=descending",
    ):
        answer = send("GET", f"/uapi/phoneCalls/@me/{path}")
        assert (answer["totalResults"], answer["itemsPerPage"] in (5, 20)) == (1, True)
        (entry,) = answer["entry"]
        assert all(view["id"] and view["extension"] for view in entry["phoneCallView"])


def test_no_call_of_that_id(send: Send) -> None:
    path = "0003*210/abc/?count=5&filterBy=id&filterOp=equals&filterValue=abc"
    more = "&fields=id%2CphoneCallView&startIndex=0&sortOrder=descending"
    answer = send("GET", f"/uapi/phoneCalls/@me/{path}{more}")
    assert (answer["entry"], answer["totalResults"]) == ([], 0)


def test_hanging_up(send: Send) -> None:
    (call,) = send("POST", SIMPLE, CREATE)
    path = f"/uapi/phoneCalls/@me/0003*210/{call['id']}/"
    assert send("DELETE", f"{path}?phoneNumber=8887777") == []
    assert [entry["id"] for entry in send("DELETE", path)] == [call["id"]]
    assert send("DELETE", "/uapi/phoneCalls/@me/@self/") == []


def test_the_events(send: Send) -> None:
    body = {"type": "0", "url": "https://crm.example.com/calls", "method": "1", "status": "1"}
    event = send("POST", EVENTS, {**body, "note": "crm"})
    assert event["id"]
    path = f"{EVENTS}0/{event['id']}/"
    # The order's name is misspelt.
    query = "?count=20&startIndex=0&sortOder=descending"
    for listed in (f"{EVENTS}{query}", f"{EVENTS}0/{query}", f"{path}{query}"):
        answer = send("GET", listed)
        assert [entry["id"] for entry in answer["entry"]] == [event["id"]]
    send("PUT", path, {"status": "0"})
    assert [entry["id"] for entry in send("DELETE", path)] == [event["id"]]


def test_reports_and_presence(send: Send) -> None:
    answer = send("GET", "/uapi/cdr/@me/?count=20&startIndex=0")
    # By call id, not a list.
    assert (answer["entry"], answer["totalResults"]) == ({}, 0)
    answer = send("GET", "/uapi/extensions/@me/0003*210/presence/?count=20&startIndex=0")
    assert len(answer["entry"]) == 1
