"""The JSON body of a request."""

import json
from typing import Any

from flask import g, request

from app.errors import api_error

# The bytes that one read takes.
_PIECE = 8192


def json_body() -> Any:
    """The request's body, a JSON object. The Content-Type does not matter: clients send JSON
    under other types. Raises ApiError ``request_invalid``."""
    # A body without Content-Length may be too large. Werkzeug notices this only while the body is
    # read in pieces to its end.
    text = b"".join(iter(lambda: request.stream.read(_PIECE), b""))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise api_error("request_invalid") from error
    if not isinstance(document, dict):
        raise api_error("request_invalid")
    # For the audit, should the request be refused.
    g.body = document
    return document
