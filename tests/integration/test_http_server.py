"""The HTTP server by itself: limits of time and number, proxies, the page of metrics."""

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from ringback_cli.up import free_port, serves
from tests.conftest import LIMIT, eventually
from tests.integration.test_processes import BIN, environment

# The addresses of this machine that the tests send from: a client, another one, and a proxy.
HERE, THERE, PROXY = "127.0.0.1", "127.0.0.2", "127.0.0.9"
MOST = 20
FORM = "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
LENGTH = "Content-Length: 100\r\n\r\n"
FILE = "/console/static/uplot/uplot.js"


@dataclass(frozen=True)
class Server:
    port: int
    # Of the page of metrics.
    side: int

    def connect(self, text: str, source: str = HERE, *, window: int = 0) -> socket.socket:
        """A connection that has sent this; ``window`` is the bytes that it takes unread."""
        connection = socket.socket()
        if window:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        connection.settimeout(LIMIT)
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(text.encode())
        return connection

    def get(
        self, path: str, source: str = HERE, *, side: bool = False, **headers: str
    ) -> tuple[int, Any, Any]:
        """The status, the headers and the document of an answer."""
        port = self.side if side else self.port
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=LIMIT, source_address=(source, 0)
        )
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get_content_subtype() == "json"
            return answer.status, answer.headers, json.loads(text) if is_json else text
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(redis_url: str) -> Iterator[Server]:
    port, side = free_port(), free_port()
    settings = environment(
        RINGBACK_REDIS_URL=redis_url,
        RINGBACK_HTTP=f"127.0.0.1:{port}",
        RINGBACK_METRICS=f"127.0.0.1:{side}",
        RINGBACK_BODY_TIMEOUT="0.5",
        RINGBACK_SEND_TIMEOUT="0.5",
        RINGBACK_CONNECTIONS_PER_ADDRESS=str(MOST),
        RINGBACK_PROXIES=f"{PROXY}/32",
        RINGBACK_LOG_LEVEL="ERROR",
    )
    process = subprocess.Popen([BIN / "ringback", "api"], env=settings)
    try:
        eventually(lambda: serves(("127.0.0.1", port)))
        yield Server(port, side)
    finally:
        process.terminate()
        assert process.wait(LIMIT) == 0


def whole(connection: socket.socket) -> str:
    """All that the server sends until it closes the connection."""
    with connection:
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode(errors="replace")


@pytest.mark.parametrize(
    "request_text",
    [
        f"POST /oauth/token HTTP/1.1\r\n{FORM}Content-Length: 100\r\n\r\ngrant",
        f"POST /oauth/token HTTP/1.1\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n5\r\ngr",
        "POST /uapi/phoneCalls/@me/simple HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
        "Authorization: Bearer demo-user-token\r\n\r\n{",
    ],
)
def test_a_body_that_does_not_end_is_408(server: Server, request_text: str) -> None:
    is_timeout(whole(server.connect(request_text)))


def is_timeout(answer: str) -> None:
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 408 ") and "\r\nConnection: close\r\n" in head, answer
    assert json.loads(body)["error"]["code"] == "request_timeout"


def test_headers_have_a_time_too(server: Server) -> None:
    half, none = server.connect("POST /oauth/token HTTP/1.1\r\nHo"), server.connect("")
    is_timeout(whole(half))
    assert whole(none) == ""


def test_a_client_that_reads_nothing_is_cut(server: Server) -> None:
    asked = 400
    connection = server.connect(
        f"GET {FILE} HTTP/1.1\r\nHost: localhost\r\n\r\n" * asked, window=4096
    )
    # The place that the connection takes is free again, though it has read nothing.
    with ExitStack() as held:
        for _ in range(MOST - 1):
            held.enter_context(server.connect("GET / HTTP/1.1\r\nHo"))
        eventually(lambda: server.get("/healthz")[0] == 200)
    try:
        answers = whole(connection)
    except ConnectionResetError:
        answers = ""
    assert answers.count("HTTP/1.1 200 OK") < asked


def test_a_stream_goes_on(server: Server) -> None:
    """The time for the sending of an answer is for each part of a stream."""
    headers = "Host: localhost\r\nAuthorization: Bearer demo-user-token\r\n"
    stream = server.connect(f"GET /uapi/phoneCalls/@me/events HTTP/1.1\r\n{headers}\r\n")
    text = ""
    while "\r\n\r\n" not in text:
        text += stream.recv(65_536).decode()
    assert text.startswith("HTTP/1.1 200 ")
    body = json.dumps({"extension": "210", "phoneCallView": [{"source": "1", "destination": "2"}]})
    for _ in range(2):
        # By then the time of an answer is over, and that of a body.
        is_timeout(whole(server.connect(f"POST /oauth/token HTTP/1.1\r\n{FORM}{LENGTH}")))
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        placed = server.connect(
            f"POST /uapi/phoneCalls/@me/simple HTTP/1.1\r\n{headers}{length}{body}"
        )
        call_id = json.loads(whole(placed).partition("\r\n\r\n")[2])[0]["id"]
        while call_id not in text:
            part = stream.recv(65_536).decode()
            assert part, "the stream has ended"
            text += part
    stream.close()


def test_one_address_does_not_take_all_connections(server: Server) -> None:
    slow = f"POST /oauth/token HTTP/1.1\r\n{FORM}Content-Length: 100\r\n\r\n"
    with ExitStack() as held:
        for _ in range(MOST):
            held.enter_context(server.connect(slow))
        status, headers, document = server.get("/healthz")
        assert (status, document["error"]["code"]) == (429, "connections_exceeded")
        assert headers["Retry-After"] == "1" and headers["Connection"] == "close"
        assert server.get("/healthz", THERE)[0] == 200
        # Nothing that a client does takes the page of metrics.
        assert server.get("/healthz", side=True)[0] == 200
        status, _, document = server.get("/readyz", side=True)
        assert status == 200 and {"redis", "accounts", "limits"} <= document["parts"].keys()
    eventually(lambda: server.get("/healthz")[0] == 200)


def test_the_page_of_metrics_has_the_counts_of_the_api(server: Server) -> None:
    counted = re.compile(
        r'^ringback_http_requests_total{method="GET",route="/openapi.json",status="200"} 1', re.M
    )
    assert server.get("/openapi.json")[0] == 200
    eventually(lambda: bool(counted.search(server.get("/metrics", side=True)[2])))
    text = server.get("/metrics", side=True)[2]
    assert "ringback_redis_up 1.0" in text and "ringback_build_info" in text
    assert server.get("/uapi/phoneCalls/@me/@self", side=True)[0] == 404


def test_a_proxy_has_connections_for_many_clients(server: Server) -> None:
    slow = f"POST /oauth/token HTTP/1.1\r\n{FORM}Content-Length: 9\r\n"
    slow += "X-Forwarded-For: 192.0.2.1\r\n\r\n"
    with ExitStack() as held:
        for _ in range(MOST):
            held.enter_context(server.connect(slow, PROXY))

        def status(client: str) -> int:
            return server.get("/healthz", PROXY, **{"X-Forwarded-For": client})[0]

        eventually(lambda: status("192.0.2.1") == 429)
        named = {"X-Forwarded-For": "192.0.2.1", "X-Request-Id": "here"}
        assert server.get("/healthz", PROXY, **named)[1]["X-Request-Id"] == "here"
        assert status("192.0.2.2") == 200
        assert status("192.0.2.1, 192.0.2.2") == 200
