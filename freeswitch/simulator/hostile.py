"""Frames that no healthy switch sends: the order `simulator send KIND` sends them."""

import json
from collections.abc import Callable

_DEEP = 100_000
_LARGE = 16 * 1024 * 1024


def _event(body: bytes) -> bytes:
    return b"Content-Length: %d\nContent-Type: text/event-json\n\n" % len(body) + body


def _length(text: bytes) -> bytes:
    return b"Content-Length: " + text + b"\nContent-Type: text/event-json\n\n{}"


def _flood() -> bytes:
    """An event of a call that nobody knows, as large as a real one."""
    headers = {f"variable_{number}": "x" * 40 for number in range(100)}
    headers |= {"Event-Name": "CHANNEL_ANSWER", "Unique-ID": "flood"}
    return _event(json.dumps(headers | {"variable_ringback_call": "f" * 32}).encode())


KINDS: dict[str, Callable[[], bytes]] = {
    # Events that nobody can read, in good frames.
    "nested": lambda: _event(b'{"Event-Name":"CHANNEL_ANSWER","a":' + b"[" * _DEEP + b"]" * _DEEP),
    "large": lambda: _event(b'{"Event-Name":"CHANNEL_ANSWER","a":"' + b"x" * _LARGE + b'"}'),
    "no-json": lambda: _event(b'{"Event-Name":'),
    "no-utf8": lambda: _event(b'{"Event-Name":"CHANNEL_ANSWER","a":"\xff\xfe\\ud800"}'),
    "no-texts": lambda: _event(b'{"Event-Name":"CHANNEL_ANSWER","variable_ringback_call":{}}'),
    "no-event": lambda: b"Content-Type: text/event-json\n\n",
    "unknown": lambda: b"Content-Type: text/unknown\nContent-Length: 3\n\nabc",
    # Frames at the edge of what is one.
    "no-value": lambda: b"Reply-Text:\nContent-Type: text/unknown\n\n",
    "no-type": lambda: b"Reply-Text: +OK\n\n",
    "no-colon": lambda: b"Content-Type text/event-json\n\n",
    "length-huge": lambda: _length(b"9" * 30),
    "length-negative": lambda: _length(b"-2"),
    "length-text": lambda: _length(b"two"),
    "half": lambda: b"Content-Length: 100\nContent-Type: text/event-json\n\n{",
    "half-header": lambda: b"Content-Type: text/eve",
    "reply": lambda: b"Content-Type: command/reply\nReply-Text: +OK\n\n",
    "notice": lambda: b"Content-Type: text/disconnect-notice\nContent-Length: 5\n\nbye!\n",
    "flood": _flood,
}
