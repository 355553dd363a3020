"""The JSON body of a request."""

import json
from collections.abc import Iterable
from typing import Any

from flask import g, request

from app.errors import ApiError, api_error

# The bytes that one read takes.
_PIECE = 8192


def json_body() -> Any:
    """The request's body, a JSON object. The Content-Type does not matter: clients send JSON
    under other types. Raises ApiError ``request_invalid``."""
    # A body without Content-Length may be too large. Werkzeug notices this only while the body is
    # read in pieces to its end.
    text = b"".join(iter(lambda: request.stream.read(_PIECE), b""))
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _no_json(text, error) from error
    if not isinstance(document, dict):
        raise api_error("request_invalid", f"It is {_kind(document)}.", cause="object")
    # For the audit, should the request be refused.
    g.body = document
    return document


def _no_constant(word: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"JSON has no {word}")


def is_broken(error: Exception) -> bool:
    """Whether an error says that the client's body broke off, or is not encoded as HTTP asks.
    gunicorn raises such errors while a view reads the body."""
    return type(error).__module__ == "gunicorn.http.errors"


def _no_json(text: bytes, error: Exception) -> ApiError:
    """The error for a body that is no JSON, with the place."""
    if not text.strip():
        return api_error("request_invalid", cause="empty")
    match error:
        case json.JSONDecodeError():
            reason = f"Line {error.lineno}, column {error.colno}: {error.msg}."
        case UnicodeDecodeError():
            before = text[: error.start].decode(errors="replace").splitlines() or [""]
            reason = f"Line {len(before)}, column {len(before[-1]) + 1}: this is no UTF-8."
        case RecursionError():
            reason = "Its lists and objects are nested too deep."
        case _:
            reason = f"{error}."
    if request.mimetype in ("", "application/json") or request.mimetype.endswith("+json"):
        return api_error("request_invalid", reason, cause="json")
    reason = f"Content-Type is {request.mimetype}, and every body takes JSON. {reason}"
    return api_error("request_invalid", reason, cause="json_type")


def _kind(document: Any) -> str:
    names: Iterable[tuple[type, str]] = (
        *((list, "a list"), (str, "a text"), (bool, "true or false")),
        *((int, "a number"), (float, "a number")),
    )
    return next((name for kind, name in names if isinstance(document, kind)), "null")
