"""The headers that all answers have: the id of the request, and whether the answer may be kept."""

from hashlib import sha1

from flask import Flask, Response, g, request

from app.telemetry.request_ids import HEADER
from app.web.auth import CHALLENGE
from app.web.turns import piece

# The bytes of an answer that are digested in one slice.
_PIECE = 1024 * 1024


def add_headers(app: Flask) -> None:
    """Add the headers that every answer of ``app`` has. Call it before all else that looks at
    answers: Flask runs these functions in reverse order."""

    @app.after_request
    def _add(response: Response) -> Response:
        headers = response.headers
        headers[HEADER] = g.request_id
        headers["X-Content-Type-Options"] = "nosniff"
        # Answers are about calls and accounts as they are now. A view may say otherwise.
        if "Cache-Control" not in headers:
            headers["Cache-Control"] = "no-store"
        if response.status_code == 401 and "WWW-Authenticate" not in headers:
            headers["WWW-Authenticate"] = CHALLENGE
        return response


def revalidated(response: Response) -> Response:
    """An answer to a GET that a client may keep for itself if it asks each time whether it still
    holds: 304 without a body if the client has this one."""
    response.headers["Cache-Control"] = "private, no-cache"
    tag = _digest(response.data)
    # Weak, because the answer may be compressed.
    response.set_etag(tag, weak=True)
    if request.if_none_match.contains_weak(tag):
        response.status_code = 304
        response.data = b""
        del response.headers["Content-Length"], response.headers["Content-Type"]
    return response


def _digest(content: bytes) -> str:
    """The SHA-1 of an answer, as ``add_etag`` has it."""
    digest = sha1(usedforsecurity=False)
    if len(content) <= _PIECE:
        digest.update(content)
        return digest.hexdigest()
    for begin in range(0, len(content), _PIECE):
        with piece():
            digest.update(content[begin : begin + _PIECE])
    return digest.hexdigest()
