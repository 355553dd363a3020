"""Compresses answers, for clients that take them compressed."""

import zlib
from collections.abc import Iterable

from flask import Flask, Response, request

from app.web.turns import piece

# The fewest bytes that are worth it, and from how many on the lowest level has to do: a list of
# thousands of calls shrinks to a tenth even so.
_LEAST = 1024
_BIG = 32 * 1024
_LEVEL, _LOWEST = 5, 1
# The bytes that are compressed in one slice.
_PIECE = 64 * 1024
_TEXT = ("application/json", "text/")


def compress_answers(app: Flask) -> None:
    """Compress the answers of ``app``. The stream stays as it is: each event has to leave at
    once."""

    @app.after_request
    def _compress(response: Response) -> Response:
        if (
            response.is_streamed
            or (response.content_length or len(response.data)) < _LEAST
            or response.content_encoding is not None
            or not (response.mimetype or "").startswith(_TEXT)
        ):
            return response
        response.vary.add("Accept-Encoding")
        if takes_gzip():
            response.data = b"".join(_compressed(response.data))
            response.content_encoding = "gzip"
        return response


def takes_gzip() -> bool:
    """Whether the client takes an answer that gzip has compressed."""
    return request.accept_encodings.quality("gzip") > 0


def ready(content: bytes, compressed: bytes, mimetype: str | None) -> Response:
    """An answer whose content is the same each time, and was compressed once."""
    response = Response(content, mimetype=mimetype)
    if takes_gzip():
        response.data = compressed
        response.content_encoding = "gzip"
    response.vary.add("Accept-Encoding")
    response.add_etag()
    response.make_conditional(request)
    # The server writes it too.
    del response.headers["Date"]
    return response


def _compressed(content: bytes) -> Iterable[bytes]:
    level = _LOWEST if len(content) > _BIG else _LEVEL
    gzip = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    if len(content) <= _PIECE:
        yield gzip.compress(content)
    else:
        for begin in range(0, len(content), _PIECE):
            with piece():
                yield gzip.compress(content[begin : begin + _PIECE])
    yield gzip.flush()
