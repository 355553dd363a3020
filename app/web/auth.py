"""The app and the address that a request comes from."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

from flask import Request, g, request

from app.accounts.caller import Caller
from app.accounts.model import Accounts, App
from app.accounts.store import AccountStore
from app.errors import api_error
from app.settings import parse_networks
from app.web.services import service

_BEARER = re.compile(r"\s*(?:Bearer\s+)?(\S+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Authenticator:
    """The authenticator finds the app of a token in the accounts or among the issued tokens."""

    accounts: AccountStore
    app_of_issued: Callable[[str, Accounts], App | None]

    def caller(self, request: Request) -> Caller:
        """The app whose token the request carries. Raises ApiError 401."""
        accounts = self.accounts.current()
        return Caller(self._app(request, accounts), accounts, client_address())

    def _app(self, request: Request, accounts: Accounts) -> App:
        header = request.headers.get("Authorization", "")
        # A token in the query comes after the word Bearer, or without it
        # (docs/internals/uapi.md#tokens).
        text = (
            header
            if header.lower().startswith("bearer ")
            else request.args.get("accessRequestToken", "")
        )
        match = _BEARER.fullmatch(text)
        app = None
        if match:
            # The accounts file's tokens come first because they are in memory.
            app = accounts.app_of_token(match[1]) or self.app_of_issued(match[1], accounts)
        if app is None:
            raise api_error("access_denied")
        return app


def current_caller() -> Caller:
    """The app whose token the present request carries. Raises ApiError 401, or 403 for an app
    that is disabled."""
    caller = g.caller = service(Authenticator).caller(request)
    if caller.accounts.is_disabled(caller.app.id):
        raise api_error("app_disabled")
    return caller


_networks = cache(parse_networks)


def client_address() -> str:
    """The client's address. For a request from a proxy this is the last address in the proxy's
    X-Forwarded-For. FORWARDED_ALLOW_IPS lists the proxies, as it does for gunicorn."""
    peer = request.remote_addr or ""
    proxies = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
    try:
        address = ip_address(peer)
        if "*" in proxies or any(address in network for network in _networks(proxies)):
            return str(ip_address([peer, *request.access_route][-1]))
    except ValueError:
        # The proxy names no address.
        pass
    return peer
