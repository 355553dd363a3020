"""Cuts the bytes of an event socket into frames. Pure: bytes in, frames out, no socket.

A frame is a block of `key: value` lines, a blank line, and as many bytes of body as its
Content-Length says. The outer headers are not URL-encoded, so nothing is decoded here: decoding
before the lines are split would let an encoded newline in a caller's name become a header.
"""

from dataclasses import dataclass

MAX_BODY = 128 * 1024 * 1024
"""Bytes. The longest body there is, a list of channels, has 900 for each of them."""

MAX_HEADERS = 1024 * 1024
"""Bytes. Far above the largest header block, a whole channel in the reply to `connect`."""


class FramingError(ValueError):
    """These bytes are no frames; what follows them cannot be understood either."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the switch: its outer headers and its body, empty if it has none."""

    headers: dict[str, str]
    body: bytes = b""

    @property
    def content_type(self) -> str:
        """Such as `command/reply`; the empty string when the frame does not say."""
        return self.headers.get("Content-Type", "")


class FrameParser:
    """Holds the bytes of a frame that has not come whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no blank line begins before this offset
        self._headers: dict[str, str] | None = None  # of the frame whose body is awaited
        self._body_length = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, in order; keep what is left over.

        Raises FramingError for a header line without `: `, a Content-Length that is no number or
        above MAX_BODY, and a header block above MAX_HEADERS. The parser is of no use after it.
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
                raise FramingError(f"header block above {MAX_HEADERS} bytes")
            if end < 0:
                self._searched = max(0, len(self._buffer) - 1)
                return None
            self._headers = parse_headers(self._take(end))
            del self._buffer[:2]
            self._body_length = content_length(self._headers)
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


def parse_headers(block: bytes) -> dict[str, str]:
    """Split a header block, without its blank line, on line feeds only; values stay as they are.

    Bytes that are no UTF-8 (a SIP name in Latin-1) become U+FFFD. Raises FramingError for a line
    without `: `.
    """
    headers = {}
    for line in block.split(b"\n"):
        key, colon, value = line.partition(b": ")
        if not (key and colon):
            raise FramingError(f"no header line: {line[:80]!r}")
        headers[key.decode(errors="replace")] = value.decode(errors="replace")
    return headers


def content_length(headers: dict[str, str]) -> int:
    """Return the bytes of body that the headers announce, 0 without Content-Length.

    Raises FramingError if it is no number, or above MAX_BODY.
    """
    text = headers.get("Content-Length", "0")
    if not (text.isascii() and text.isdecimal()):
        raise FramingError(f"Content-Length is no number: {text[:80]!r}")
    # The length first: int() refuses thousands of digits with an error of its own.
    if len(text) > 20 or int(text) > MAX_BODY:
        raise FramingError(f"Content-Length above {MAX_BODY} bytes: {text[:80]}")
    return int(text)
