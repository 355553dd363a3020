"""The JSON body of a request."""

import json
from typing import Any

from flask import request

from app.errors import api_error

# Bytes read at a time.
_PIECE = 8192


def json_body() -> Any:
    """The request's body, a JSON object, whatever its Content-Type says: clients send JSON under
    other types. Raises ApiError ``request_invalid``."""
    # Werkzeug refuses a body that is too large and has no Content-Length only where the body is
    # read in pieces to its end.
    text = b"".join(iter(lambda: request.stream.read(_PIECE), b""))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise api_error("request_invalid") from error
    if not isinstance(document, dict):
        raise api_error("request_invalid")
    return document
