"""The connections of the client to the API: sockets that keep one limit for a whole request."""

import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore2
from httpcore2 import SOCKET_OPTION, NetworkBackend, NetworkStream, Response, SyncBackend

from ringback.answers import Answer
from ringback.retrying import Limit, NoAnswer

# Connections without a request that a client keeps, and for how many seconds. The server keeps them
# for 5: an action that meets the end of its connection has an unknown outcome.
KEPT, KEPT_FOR = 16, 4.0
# Errors of a connection, with those of looking up its host.
FAILURES = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    OSError,
)
SENDING = "http11.send_request_headers.started"
# Seconds that a time limit which is over still has: a socket takes 0 for something else.
_OVER = 0.001

Headers = list[tuple[str, str]]


def answer_of(response: Response, body: bytes) -> Answer:
    headers = {name.decode("latin-1").lower(): v.decode("latin-1") for name, v in response.headers}
    return Answer(response.status, headers, body)


def reason(url: str, limit: Limit, error: Exception) -> str:
    if isinstance(error, (httpcore2.TimeoutException, TimeoutError)):
        return f"{url} sent no answer within {limit.seconds:g} seconds."
    return f"{url} sent no answer: {error or type(error).__name__}."


class Transport:
    """Sends requests. One is enough for many threads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = httpcore2.ConnectionPool(
            max_connections=None,
            max_keepalive_connections=KEPT,
            keepalive_expiry=KEPT_FOR,
            network_backend=_Backend(),
        )

    def open(
        self, method: str, path: str, headers: Headers, body: bytes | None, limit: Limit
    ) -> "Stream":
        """The beginning of an answer, whose body is still to be read. Raises NoAnswer."""
        sent = False

        def trace(name: str, _: Any) -> None:
            nonlocal sent
            sent = sent or name == SENDING

        until = _Until(limit)
        timeouts: dict[str, float] = dict.fromkeys(("connect", "read", "write", "pool"), until)
        stream = self._pool.stream(
            method,
            self._url + path,
            headers=headers,
            content=body,
            extensions={"timeout": timeouts, "trace": trace},
        )
        try:
            response = stream.__enter__()
        except FAILURES as error:
            raise NoAnswer(reason(self._url, limit, error), sent) from error
        return Stream(self._url, stream, response, timeouts, limit)

    def close(self) -> None:
        self._pool.close()


class Stream:
    """An answer whose body is not read yet."""

    def __init__(
        self, url: str, stream: Any, response: Response, timeouts: dict[str, float], limit: Limit
    ) -> None:
        self.status = response.status
        self._url, self._stream, self._response = url, stream, response
        self._timeouts, self._limit = timeouts, limit

    def read(self) -> Answer:
        """The whole answer, within the limit of its request. Raises NoAnswer."""
        try:
            return answer_of(self._response, self._response.read())
        except FAILURES as error:
            raise NoAnswer(reason(self._url, self._limit, error), sent=True) from error
        finally:
            self.close()

    def chunks(self, silence: float) -> Iterator[bytes]:
        """The parts of an endless body as they come, with at most so many seconds between two.
        Raises NoAnswer at its end."""
        self._timeouts["read"] = silence
        try:
            yield from self._response.iter_stream()
        except FAILURES as error:
            raise NoAnswer(str(error), sent=True) from error
        raise NoAnswer("The stream has ended.", sent=True)

    def close(self) -> None:
        self._stream.__exit__(None, None, None)


class _Until(float):
    """The seconds that a limit has left. A connection looks again before each step: otherwise each
    step, and each byte of an answer, would have the time of all."""

    limit: Limit

    def __new__(cls, limit: Limit) -> "_Until":
        until = super().__new__(cls, max(_OVER, limit.left))
        until.limit = limit
        return until


def _now(timeout: float | None) -> float | None:
    return max(_OVER, timeout.limit.left) if isinstance(timeout, _Until) else timeout


class _Backend(NetworkBackend):
    def __init__(self) -> None:
        self._sockets = SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        # Each address by itself: the library gives each of them the time of all.
        failure: Exception = OSError(f"{host} has no address.")
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                stream = self._sockets.connect_tcp(
                    str(address[0]), port, _now(timeout), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream)
        raise failure


class _Stream(NetworkStream):
    def __init__(self, stream: NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _now(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _now(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _now(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
