"""Which app a request is from, and what it is served with."""

import re
from typing import cast

from flask import Request, current_app, request

from app.accounts.model import Accounts, App
from app.errors import api_error
from app.phone_calls.services import Caller
from app.services import Services

_BEARER = re.compile(r"\s*(?:Bearer\s+)?(\S+)\s*", re.IGNORECASE)


def current_services() -> Services:
    """What the present request is served with."""
    return cast(Services, current_app.extensions["ringback"])


def current_caller() -> Caller:
    """Who asks: the app whose token the present request carries. Raises ApiError 401."""
    accounts = current_services().accounts.current()
    return Caller(authenticate(request, accounts), accounts)


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
    app = None
    if match:
        # Those of the accounts file first: they are in memory.
        app = accounts.app_of_token(match[1]) or _app_of_issued(match[1], accounts)
    if app is None:
        raise api_error("access_denied")
    return app


def _app_of_issued(token: str, accounts: Accounts) -> App | None:
    return current_services().tokens.app_of(token, accounts)
