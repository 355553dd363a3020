"""Which app a request is from: a bearer token in the header or the query."""

import re

from flask import Request

from app.accounts.model import Accounts, App
from app.errors import ApiError

_BEARER = re.compile(r"\s*(?:Bearer\s+)?(\S+)\s*", re.IGNORECASE)


def authenticate(request: Request, accounts: Accounts) -> App:
    """The app whose token the request carries (uapi/spec 6). Raises ApiError 401."""
    header = request.headers.get("Authorization", "")
    # The query's form has the word Bearer before the token, or not.
    text = (
        header
        if header.lower().startswith("bearer ")
        else request.args.get("accessRequestToken", "")
    )
    match = _BEARER.fullmatch(text)
    app = accounts.app_of_token(match[1]) if match else None
    if app is None:
        raise ApiError(401, "access_denied", "You are not authorized to use this request.")
    return app
