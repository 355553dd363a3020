"""What the HTTP server refuses before the application sees it."""

import json
import socket

import pytest

from tests.integration.conftest import LIMIT, Ringback


@pytest.mark.parametrize(
    ("request_text", "status", "code"),
    [
        ("GET / HTTP/9.9\r\n\r\n", 400, "request_invalid"),
        ("nonsense\r\n\r\n", 400, "request_invalid"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "request_invalid"),
        (f"GET /{'x' * 5000} HTTP/1.1\r\n\r\n", 414, "request_too_large"),
        (f"GET / HTTP/1.1\r\nHost: a\r\nX: {'x' * 9000}\r\n\r\n", 431, "request_too_large"),
    ],
)
def test_a_refusal_is_json(ringback: Ringback, request_text: str, status: int, code: str) -> None:
    with socket.create_connection(
        ringback.stack.settings.http_address, timeout=LIMIT
    ) as connection:
        connection.sendall(request_text.encode())
        text = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = text.decode().partition("\r\n\r\n")
    assert int(head.split(" ")[1]) == status
    assert "Content-Type: application/json" in head
    error = json.loads(body)["error"]
    assert error["code"] == code and error["message"]
    assert f"X-Request-Id: {error['request_id']}" in head and len(error["request_id"]) == 24


def test_a_refusal_names_the_request_as_it_was_sent(ringback: Ringback) -> None:
    # gunicorn takes the script's name from no client.
    text = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: here\r\nSCRIPT_NAME: /x\r\n\r\n"
    with socket.create_connection(
        ringback.stack.settings.http_address, timeout=LIMIT
    ) as connection:
        connection.sendall(text.encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    assert answer.startswith("HTTP/1.1 500 ") and "X-Request-Id: here\r\n" in answer
