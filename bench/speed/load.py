"""Requests to the API at a given rate, whatever it answers: one prepared request, connections that
are kept."""

import random
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import gevent
import gevent.socket
from gevent.lock import BoundedSemaphore

CONNECTIONS = 256
# Seconds after which the server may be about to close a connection that is not used.
_IDLE = 3.0
_TIMEOUT = 15.0
_ID = re.compile(rb'"id":\s*"([0-9a-f]{20})"')
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Posted:
    """One request: when it was due, when its answer was there, both in epoch seconds."""

    at: float
    answered: float = 0.0
    # The HTTP status, 0 where there was no answer.
    status: int = 0
    call_id: str | None = None


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A request of the demo user, ready to be sent."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer demo-user-token\r\n"
    )
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class Generator:
    """Sends one request again and again; what it did is in ``posted``, until that is cleared."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.posted: list[Posted] = []
        # Seconds that this process itself was late.
        self.lags: list[float] = []
        self.on_answer: Callable[[Posted], object] = id
        self._address = address
        self._request = request
        self._free = BoundedSemaphore(CONNECTIONS)
        self._idle: deque[tuple[float, gevent.socket.socket]] = deque()

    def open_loop(self, rate: float, seconds: float) -> None:
        """So many requests per second on average, at random times, as many callers make them."""
        due = time.time()
        end = due + seconds
        while (due := due + random.expovariate(rate)) < end:
            gevent.sleep(max(0.0, due - time.time()))
            self.lags.append(time.time() - due)
            self.fire()

    def closed_loop(self, seconds: float) -> None:
        """One request after the other."""
        end = time.time() + seconds
        while time.time() < end:
            self.posted.append(posted := Posted(time.time()))
            self._exchange(posted)

    def fire(self) -> None:
        """Send one, and wait for nothing."""
        self.posted.append(posted := Posted(time.time()))
        gevent.spawn(self._exchange, posted)

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    def _exchange(self, posted: Posted) -> None:
        with self._free:
            connection = self._connection()
            try:
                connection.sendall(self._request)
                answer = _answer(connection)
            except OSError:
                connection.close()
            else:
                self._idle.append((time.monotonic(), connection))
                posted.status = int(answer[9:12])
                found = _ID.search(answer)
                posted.call_id = found[1].decode() if found and posted.status < 300 else None
        posted.answered = time.time()
        self.on_answer(posted)

    def _connection(self) -> gevent.socket.socket:
        # The one that was used last; those below it may have been closed at the other end.
        if self._idle:
            used, connection = self._idle.pop()
            if time.monotonic() - used < _IDLE:
                return connection
            connection.close()
            self.close()
        connection = gevent.socket.socket()
        connection.settimeout(_TIMEOUT)
        connection.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        connection.connect(self._address)
        return connection


def _answer(connection: gevent.socket.socket) -> bytes:
    """One whole answer. Raises OSError where the connection ends before."""
    answer = b""
    while True:
        data: bytes = connection.recv(65_536)
        if not data:
            raise ConnectionResetError("no whole answer")
        answer += data
        if (end := answer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(answer, 0, end)
            if length is None or len(answer) >= end + 4 + int(length[1]):
                return answer
