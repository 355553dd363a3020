"""Frames of an event socket, cut from its bytes without a socket.

A frame is a block of `key: value` lines, a blank line, and as many bytes of body as its
Content-Length says. The outer headers are not URL-encoded, so this module decodes nothing.
Decoding before the lines are split would turn an encoded newline in a caller's name into a header.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_BODY = 128 * 1024 * 1024
"""Bytes. The longest body, a list of channels, has about 900 for each channel."""

MAX_EVENT = 1024 * 1024
"""Bytes. The longest body of any frame that no command asked for. A real switch's largest event of
a call has 11 kB. To read a far larger one would keep all others waiting."""

MAX_HEADERS = 1024 * 1024
"""Bytes, far more than the largest header block: a whole channel in the reply to `connect`."""

_NAME = re.compile(rb"[A-Za-z0-9_.-]+")
_ASKED_FOR = frozenset({"api/response", "command/reply"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the switch: its outer headers, and its body, which may be empty.

    `dropped` is the number of bytes of a body above MAX_EVENT, which the parser does not keep.
    """

    headers: dict[str, str]
    body: bytes = b""
    dropped: int = 0

    @property
    def content_type(self) -> str:
        """The Content-Type, such as `command/reply`; empty if the frame has none."""
        return self.headers.get("Content-Type", "")


class FramingError(ValueError):
    """Bytes that are not a frame. The bytes after them cannot be read either."""

    frames: Sequence[Frame] = ()
    """The good frames that came before them with the same bytes."""


class FrameParser:
    """A parser that keeps the bytes of a frame that is not complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no blank line begins before this offset
        self._headers: dict[str, str] | None = None  # of a frame that still lacks its body
        self._body_length = 0
        self._to_drop = 0  # bytes of a body that is too long, and still to come

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, in order, and keep the bytes that are left.

        A header may lack its value: `key:`. Raises FramingError for a line that is no header, a
        header that comes twice, a Content-Length that is not a number or above MAX_BODY, and a
        header block above MAX_HEADERS. Do not use the parser after that.
        """
        self._buffer += data
        frames: list[Frame] = []
        try:
            while (frame := self._next()) is not None:
                frames.append(frame)
        except FramingError as error:
            error.frames = frames
            raise
        return frames

    def _next(self) -> Frame | None:
        if self._headers is None:
            end = self._buffer.find(b"\n\n", self._searched)
            if (end if end >= 0 else len(self._buffer) - 1) > MAX_HEADERS:
                raise FramingError(f"a header block of more than {MAX_HEADERS} bytes")
            if end < 0:
                self._searched = max(0, len(self._buffer) - 1)
                return None
            self._headers = _parse_headers(self._take(end))
            del self._buffer[:2]
            self._body_length = self._to_drop = _content_length(self._headers)
            asked_for = self._headers.get("Content-Type") in _ASKED_FOR
            if self._body_length <= MAX_EVENT or asked_for:
                self._to_drop = 0
        if self._to_drop:
            gone = min(self._to_drop, len(self._buffer))
            del self._buffer[:gone]
            self._to_drop -= gone
            if self._to_drop:
                return None
            frame = Frame(self._headers, dropped=self._body_length)
        elif len(self._buffer) < self._body_length:
            return None
        else:
            frame = Frame(self._headers, self._take(self._body_length))
        self._headers, self._searched = None, 0
        return frame

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        # A bytearray drops its front by moving a pointer, so this copies nothing that stays.
        del self._buffer[:size]
        return taken


def _parse_headers(block: bytes) -> dict[str, str]:
    """Split a header block, without its blank line, at line feeds only. Values stay as they are.

    Bytes that are not UTF-8 (a SIP name in Latin-1) become U+FFFD.
    """
    headers = {}
    for line in block.split(b"\n"):
        key, colon, value = line.partition(b": ")
        if not colon and line.endswith(b":"):
            key, colon = line[:-1], b":"
        if not (colon and _NAME.fullmatch(key)):
            raise FramingError(f"not a `key: value` header line: {line[:80]!r}")
        if (name := key.decode()) in headers:
            # The first part of one frame and all of another.
            raise FramingError(f"a frame has {name[:80]} twice")
        headers[name] = value.decode(errors="replace")
    return headers


def _content_length(headers: dict[str, str]) -> int:
    """The bytes of body that the headers announce, 0 without Content-Length."""
    text = headers.get("Content-Length", "0")
    if not (text.isascii() and text.isdecimal()):
        raise FramingError(f"Content-Length must be a number, not {text[:80]!r}")
    # The length of the text comes first: int() rejects thousands of digits with its own error.
    if len(text) > 20 or int(text) > MAX_BODY:
        raise FramingError(f"Content-Length must be at most {MAX_BODY}, not {text[:80]}")
    return int(text)
