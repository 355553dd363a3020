"""What the HTTP server refuses before the application sees it."""

import json
import re
import socket
from typing import Any

import pytest

from app.errors import CODES
from tests.integration.conftest import LIMIT, Ringback


@pytest.mark.parametrize(
    ("request_text", "status", "code"),
    [
        ("GET / HTTP/9.9\r\n\r\n", 400, "request_invalid"),
        ("nonsense\r\n\r\n", 400, "request_invalid"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "request_invalid"),
        (f"GET /{'x' * 65_536} HTTP/1.1\r\n\r\n", 414, "request_too_large"),
        (f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 9000}\r\n\r\n", 431, "request_too_large"),
    ],
)
def test_a_refusal_is_json(ringback: Ringback, request_text: str, status: int, code: str) -> None:
    found, error = sent(ringback, request_text)
    assert (found, error["error"]["code"]) == (status, code)
    assert error["error"]["message"] in CODES[code].sentences
    assert error["error"]["doc"] == f"/errors#{code}"
    assert len(error["error"]["request_id"]) == 24


def sent(ringback: Ringback, text: str) -> tuple[int, Any]:
    """The status and the body of the one answer to the text of a request. The server then closes
    the connection."""
    with socket.create_connection(
        ringback.stack.settings.http_address, timeout=LIMIT
    ) as connection:
        connection.sendall(text.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert "content-type: application/json" in head.lower()
    assert re.search(r"^X-Request-Id: \S+", head, re.MULTILINE)
    return int(head.split(" ")[1]), json.loads(body)


HEAD = (
    "Host: localhost\r\nAuthorization: Bearer demo-user-token\r\nTransfer-Encoding: chunked\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        *("zz\r\n{}\r\n0\r\n\r\n", "-1\r\n{}\r\n0\r\n\r\n", "0x2\r\n{}\r\n0\r\n\r\n"),
        *("\r\n{}\r\n", " 2\r\n{}\r\n0\r\n\r\n", "2;\x00\r\n{}\r\n0\r\n\r\n"),
        "1\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_a_bad_chunk_is_no_fault(ringback: Ringback, body: str) -> None:
    line = "POST /uapi/phoneCalls/@me/simple HTTP/1.1\r\n"
    status, answer = sent(ringback, line + HEAD + body)
    assert (status, answer["error"]["code"]) == (400, "request_invalid")
    assert answer["error"]["message"] == CODES["request_invalid"].others["encoding"]
    status, answer = sent(ringback, f"POST /oauth/token HTTP/1.1\r\n{HEAD}{body}")
    assert (status, answer["error"]) == (400, "invalid_request")
    assert answer["error_description"] == CODES["request_invalid"].others["encoding"]


@pytest.mark.parametrize("between", ["&filterValue=", ",", "%2C"])
def test_a_list_is_filtered_by_500_values(ringback: Ringback, between: str) -> None:
    call_id = ringback.place("15604", "15604")
    ids = between.join([*(f"{n:020x}" for n in range(499)), call_id])
    filtered = f"@me/@self?fields=id&filterBy=id&filterOp=inArray&filterValue={ids}"
    assert len(filtered) > 8_190
    status, answer = ringback.request("GET", filtered)
    assert (status, [each["id"] for each in answer["entry"]]) == (200, [call_id])
    status, answer = ringback.request("GET", f"{filtered}{between}{1:020x}")
    assert (status, answer["error"]["code"]) == (400, "filtervalue_invalid")
    assert "not 501" in answer["error"]["reason"] and len(answer["error"]["value"]) == 100
    ringback.request("DELETE", f"@me/@self/{call_id}")


def test_no_client_says_where_the_application_stands(ringback: Ringback) -> None:
    # gunicorn would take this from loopback.
    text = "GET / HTTP/1.1\r\nHost: localhost\r\nSCRIPT_NAME: /x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(
        ringback.stack.settings.http_address, timeout=LIMIT
    ) as connection:
        connection.sendall(text.encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    assert answer.startswith("HTTP/1.1 404 ")
