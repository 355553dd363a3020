"""Frames of an event socket, cut from its bytes without a socket.

A frame is a block of `key: value` lines, a blank line, and as many bytes of body as its
Content-Length says. The outer headers are not URL-encoded, so this module decodes nothing.
Decoding before the lines are split would turn an encoded newline in a caller's name into a header.
"""

from dataclasses import dataclass

MAX_BODY = 128 * 1024 * 1024
"""Bytes. The longest body, a list of channels, has about 900 for each channel."""

MAX_HEADERS = 1024 * 1024
"""Bytes, far more than the largest header block: a whole channel in the reply to `connect`."""


class FramingError(ValueError):
    """Bytes that are not a frame. The bytes after them cannot be read either."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the switch: its outer headers, and its body, which may be empty."""

    headers: dict[str, str]
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """The Content-Type, such as `command/reply`; empty if the frame has none."""
        return self.headers.get("Content-Type", "")


class FrameParser:
    """A parser that keeps the bytes of a frame that is not complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no blank line begins before this offset
        self._headers: dict[str, str] | None = None  # of a frame that still lacks its body
        self._body_length = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, in order, and keep the bytes that are left.

        Raises FramingError for a header line without `: `, a Content-Length that is not a number or
        above MAX_BODY, and a header block above MAX_HEADERS. Do not use the parser after that.
        """
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
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
            self._body_length = _content_length(self._headers)
        if len(self._buffer) < self._body_length:
            return None
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
        if not (key and colon):
            raise FramingError(f"not a `key: value` header line: {line[:80]!r}")
        headers[key.decode(errors="replace")] = value.decode(errors="replace")
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
