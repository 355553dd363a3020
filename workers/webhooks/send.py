"""One attempt at one message: a signed HTTP request with time and size limits."""

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from importlib.metadata import version
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any
from urllib.parse import urlsplit

import gevent
from standardwebhooks.webhooks import Webhook

from app.web.urls import port
from workers.webhooks.target import CheckedConnection, CheckedTlsConnection, TargetRefused

# Seconds to connect, and the bytes read of an answer, its headers included.
CONNECT_TIMEOUT = 5.0
_ANSWER = 16 * 1024
_USER_AGENT = f"Ringback/{version('ringback-server')}"


class Failed(Exception):
    """The receiver did not take the message; with ``final`` a retry would not help."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        # The receiver's words may be part of the reason, which goes to logs and terminals.
        self.reason = "".join(letter if letter.isprintable() else "?" for letter in reason)
        super().__init__(self.reason)
        self.final = final


FORM, JSON = "application/x-www-form-urlencoded", "application/json"


def send(
    url: str,
    message_id: str,
    content: str,
    *,
    post: str | None,
    at: float,
    secret: str | None,
    timeout: float,
    open_socket: Callable[..., socket],
) -> int:
    """Send a message to a URL. Returns the status of the answer, 200 to 299. Raises Failed.

    The content is the body of a POST of the media type ``post``, or with None a part of the query
    of a GET. ``at`` is the time of this attempt in epoch seconds. ``timeout`` (seconds) limits the
    whole attempt. ``open_socket`` connects (workers.webhooks.target). Redirects are not followed.
    """
    parts = urlsplit(url)
    query = parts.query if post else "&".join(filter(None, (parts.query, content)))
    target = (parts.path or "/") + (f"?{query}" if query else "")
    headers = {
        "User-Agent": _USER_AGENT,
        "Connection": "close",
        **signature_headers(message_id, at, content if post else query, secret),
    }
    if post:
        headers["Content-Type"] = post
    kind = CheckedTlsConnection if parts.scheme == "https" else CheckedConnection
    status = None
    connection = kind(parts.hostname or "", port(parts), min(timeout, CONNECT_TIMEOUT), open_socket)
    connection.response_class = _Answer
    try:
        with gevent.Timeout(timeout):
            connection.connect()
            connection.sock.settimeout(timeout)
            body = content.encode() if post else None
            connection.request("POST" if post else "GET", target, body, headers)
            answer = connection.getresponse()
            status = answer.status
            # Read a short answer to its end: some receivers fail if the client closes early.
            answer.read(_ANSWER)
    except TargetRefused as error:
        raise Failed(str(error), final=True) from error
    except (gevent.Timeout, OSError, HTTPException, ValueError) as error:
        if status is None:
            name = "Timeout" if isinstance(error, gevent.Timeout) else type(error).__name__
            raise Failed(f"{name}: {error}"[:200]) from error
    finally:
        connection.close()
    if status is None or not 200 <= status < 300:
        raise Failed(f"HTTP {status}", final=status == 410)
    return status


class _Answer(HTTPResponse):
    """An answer of which only the first bytes are read. Those that only announce it, such as 103,
    are passed over (RFC 9110, section 15.2)."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        raw = self.fp.detach()
        self.fp = BufferedReader(_Limited(raw, _ANSWER))

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            # `begin` reads an answer only while there is none.
            self.headers = None  # type: ignore[assignment]
            super().begin()


class _Limited(RawIOBase):
    """The first bytes of a stream, and then its end."""

    def __init__(self, raw: RawIOBase, left: int) -> None:
        self._raw = raw
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._raw.readinto(memoryview(buffer)[: self._left])
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def signature_headers(
    message_id: str, at: float, content: str, secret: str | None
) -> dict[str, str]:
    """The headers of Standard Webhooks; ``content`` is the body, or a GET's query as it is sent."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(at))}
    if secret is not None:
        time = datetime.fromtimestamp(int(at), UTC)
        headers["webhook-signature"] = Webhook(secret).sign(message_id, time, content)
    return headers
