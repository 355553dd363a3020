"""The app and the address that a request comes from."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import Request, current_app, g, request

from app.accounts.caller import Caller
from app.accounts.model import Accounts, App
from app.accounts.store import AccountStore
from app.errors import ApiError, api_error
from app.web.needs import scope_of
from app.web.rates import RateLimits, count_request
from app.web.services import service

# The parameter that may carry a token.
TOKEN_IN_QUERY = "accessRequestToken"

_BEARER = re.compile(r"\s*(?:Bearer\s+)?(\S+)\s*", re.IGNORECASE)


# The key in the WSGI environment for the JobRequest of a request that an RQ job asks for. No HTTP
# header can set it.
JOB = "ringback.job"

# The challenge of a 401 (RFC 6750, section 3).
CHALLENGE = 'Bearer realm="ringback"'


def check_scope(caller: Caller) -> None:
    """Check that the app has the scope that the present request's view needs. Raises ApiError."""
    scope = scope_of(current_app.view_functions[request.endpoint or ""])
    if scope is not None and scope not in caller.app.granted:
        raise caller.lacks_scope(scope)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request of an RQ job: the job's id, and the app that asks or why the request is refused."""

    id: str
    app: App | ApiError


@dataclass(frozen=True)
class Authenticator:
    """The authenticator finds the app of a token in the accounts or among the issued tokens."""

    accounts: AccountStore
    app_of_issued: Callable[[str, Accounts], App | None]
    # Whether a token may be an issued one, as far as arithmetic tells.
    is_issued: Callable[[str], bool]
    limits: RateLimits
    # Epoch seconds.
    now: Callable[[], float] = time.time

    def caller(self, request: Request) -> Caller:
        """The app whose token the request carries. Raises ApiError 401."""
        accounts = self.accounts.current()
        if (job := job_request(request)) is not None:
            if isinstance(job.app, ApiError):
                raise job.app
            return Caller(job.app, accounts, client_address())
        return Caller(self._app(request, accounts), accounts, client_address())

    def _app(self, request: Request, accounts: Accounts) -> App:
        header = request.headers.get("Authorization", "")
        in_query = not header.lower().startswith("bearer ")
        # A token in the query comes after the word Bearer, or without it
        # (docs/internals/uapi.md#tokens).
        text = request.args.get(TOKEN_IN_QUERY, "") if in_query else header
        match = _BEARER.fullmatch(text)
        app = None
        if match:
            # The accounts file's tokens come first because they are in memory.
            app = accounts.app_of_token(match[1], self.now) or self._issued(match[1], accounts)
        if app is None:
            self.limits.refuse_token(client_address())
            raise _denied(CHALLENGE if match is None else f'{CHALLENGE}, error="invalid_token"')
        if in_query and not app.takes_token_in_query:
            count_request(app.id)
            raise _denied(f'{CHALLENGE}, error="invalid_request"', "query")
        return app

    def _issued(self, token: str, accounts: Accounts) -> App | None:
        # A guess costs no look-up once its address has made too many. Tokens of an older Ringback
        # look like guesses for as long as they last.
        if not self.is_issued(token):
            self.limits.check_address(client_address())
        return self.app_of_issued(token, accounts)


def job_request(request: Request) -> JobRequest | None:
    """The RQ job that asks for a request; None for a request of HTTP."""
    found: JobRequest | None = request.environ.get(JOB)
    return found


def _denied(challenge: str, cause: str = "") -> ApiError:
    error = api_error("access_denied", cause=cause)
    error.headers["WWW-Authenticate"] = challenge
    return error


def current_caller() -> Caller:
    """The app whose token the present request carries. Raises ApiError: 401, or 403 if the app is
    disabled or lacks the scope that the view needs."""
    caller = g.caller = service(Authenticator).caller(request)
    count_request(caller.app.id)
    if caller.accounts.is_disabled(caller.app.id):
        raise api_error("app_disabled")
    check_scope(caller)
    return caller


def client_address() -> str:
    """The client's address: of the connection, or the one that a proxy of RINGBACK_PROXIES names
    (app.web.proxies)."""
    return request.remote_addr or ""
