"""The connections of the HTTP API: how long the parts of a request may take, and how many
connections one address may have.

gunicorn limits neither a body nor the sending of an answer, and each connection takes one of a
fixed number of places. So a few clients that send or read slowly would leave no place for others.
"""

import errno
import logging
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any

from gevent.socket import socket as GeventSocket
from werkzeug.exceptions import RequestTimeout

from app.settings import Settings
from app.web.proxies import parsed

log = logging.getLogger(__name__)

# Bytes that a client must read in each second that it takes beyond RINGBACK_SEND_TIMEOUT, so that a
# large file may go over a slow line.
_SLOWEST = 64 * 1024
# The most connections of one server process, and the file descriptors that it needs for all else.
_MOST = 10_000
_OTHER_FILES = 256
# Seconds between two requests of one address that were sent ahead of the answers. Usual clients
# send none, and a client that reads no answer can keep a server busy by them.
_PIPELINED = 0.01
# Seconds between two lines in the log about an address with too many connections.
_SAID_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The seconds for the body of a request, and for the sending of an answer."""

    body: float
    send: float


class HeadersTimeout(Exception):
    """The headers of a request did not arrive in time, or no request did."""


class Connection(GeventSocket):  # type: ignore[misc]
    """A client's socket that gives up what takes too long."""

    limits = Limits(0.0, 0.0)
    timeout: float | None
    # The request that gunicorn has read the headers of.
    _request: Any = None
    # Whether something of a request has come that gunicorn has not read the headers of.
    begun = False
    # Whether the client sent this request before it had the answer to the one before.
    is_pipelined = False
    _has_received = False
    # Monotonic seconds: when the body must be here and when the answer must be sent. None before.
    _body_until: float | None = None
    _sent_until: float | None = None
    _is_endless = False

    def begin(self, request: Any) -> None:
        """Note that the headers of a request are here: from now on its body comes."""
        self._request = request
        self.is_pipelined, self._has_received = not self._has_received, False
        self._body_until, self._sent_until = time.monotonic() + self.limits.body, None

    def end(self) -> None:
        """Note that the answer is sent: what comes is the next request, which gunicorn limits."""
        self._request, self.begun = None, False
        self._body_until, self._sent_until, self._is_endless = None, None, False

    def endless(self) -> None:
        """Note that the answer is a stream: each part of it has the time of a whole answer."""
        self._is_endless = True

    def recv(self, *args: Any) -> bytes:
        """Bytes of a request. Raises RequestTimeout, which a view answers as 408."""
        if self._body_until is None:
            data: bytes = super().recv(*args)
            self.begun = self.begun or bool(data)
            self._has_received = True
            return data
        # What is here already is taken, however late Ringback comes to read it.
        self.timeout = max(0.0, self._body_until - time.monotonic())
        try:
            body: bytes = super().recv(*args)
            return body
        except (TimeoutError, BlockingIOError) as error:
            # gunicorn closes the connection after the answer.
            self._request.must_close = True
            raise RequestTimeout from error
        finally:
            self.timeout = None

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all. Raises ConnectionResetError, which gunicorn expects of a client that leaves, if
        the client does not read in time."""
        if self._sent_until is None or self._is_endless:
            self._sent_until = time.monotonic() + self.limits.send
        left = memoryview(data).cast("B")
        while left:
            seconds = self._sent_until - time.monotonic()
            if seconds <= 0:
                raise ConnectionResetError(errno.ECONNRESET, "the client does not read")
            self.timeout = seconds
            try:
                sent = self.send(left, flags)
            except TimeoutError:
                continue
            finally:
                self.timeout = None
            left = left[sent:]
            self._sent_until += sent / _SLOWEST


def limited(client: Any, limits: Limits) -> Connection:
    """The connection in place of the socket that gevent has accepted."""
    connection = Connection(client.family, client.type, client.proto, fileno=client.detach())
    connection.limits = limits
    return connection


class Addresses:
    """The number of connections that each address has. 0 as the most is no limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count: Counter[str] = Counter()
        # Monotonic seconds when the next request that was sent ahead has its turn.
        self._turn: dict[str, float] = {}
        self._said = -_SAID_EVERY

    @contextmanager
    def counted(self, address: str) -> Iterator[bool]:
        """Count a connection, or a request by a proxy, until it ends. Yields False if the address
        has too many."""
        key = network(address)
        if self._most and self._count[key] >= self._most:
            self._say(key)
            yield False
            return
        self._count[key] += 1
        try:
            yield True
        finally:
            self._count[key] -= 1
            if not self._count[key]:
                del self._count[key]
                self._turn.pop(key, None)

    def pause(self, address: str) -> float:
        """Seconds before a request that the client has sent ahead: all connections of the address
        together get one such request served in each _PIPELINED seconds."""
        now, key = time.monotonic(), network(address)
        self._turn[key] = turn = max(now, self._turn.get(key, now)) + _PIPELINED
        return turn - now

    def _say(self, key: str) -> None:
        now = time.monotonic()
        if now - self._said >= _SAID_EVERY:
            self._said = now
            log.warning(
                "%s has %s connections: more are refused (RINGBACK_CONNECTIONS_PER_ADDRESS). If it "
                "is a proxy, add it to RINGBACK_PROXIES.",
                *(key, self._most),
            )


@lru_cache(4096)
def network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, since one client has all of them."""
    found = parsed(address)
    if isinstance(found, IPv6Address):
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return address if found is None else str(found)


def places() -> int:
    """The connections that a server process may have, as many as it may open files for. Raises this
    process's limit of open files as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = wanted if soft == resource.RLIM_INFINITY else soft
    return min(_MOST, max(files - _OTHER_FILES, files // 2))


def most_of_one(settings: Settings, all_of: int) -> int:
    """The most connections of one address: never all that there are."""
    most = settings.connections_per_address
    return min(most, max(1, all_of // 2)) if most else 0
