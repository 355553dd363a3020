"""The HTTP routes of the token endpoint (RFC 6749) and of revocation (RFC 7009): client, grant, and
answers in the form of RFC 6749."""

from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import unquote_plus

from flask import Blueprint, Response, g, jsonify, request

from app.accounts import scopes
from app.accounts.caller import Caller
from app.accounts.credentials import Credential, matching
from app.accounts.model import App
from app.accounts.scopes import AppScope
from app.accounts.store import AccountStore
from app.errors import CODES, OAUTH_CODES, ApiError
from app.oauth.services import Issued, Tokens
from app.web import shown
from app.web.auth import client_address
from app.web.body import is_broken
from app.web.needs import needs
from app.web.rates import SESSION, TOKEN, RateLimits, count_request, network
from app.web.services import service

# The stand-in for the secret of an unknown client, so that the answer takes as long.
_NO_SECRET = (Credential("0" * 64),)
# The word of OpenID Connect (Core 1.0, section 11) that asks for a refresh token.
_OFFLINE = "offline_access"
# Seconds after which a client that was refused for wrong secrets may come again.
_BARRED = 60


class Refused(Exception):
    """A request is refused with an error code of RFC 6749."""

    def __init__(
        self, code: str, description: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(code)
        self.code = code
        self.description = description
        # In seconds.
        self.retry_after = retry_after


def blueprint() -> Blueprint:
    blue = Blueprint("oauth", __name__, url_prefix="/oauth")
    blue.after_request(_uncached)
    blue.register_error_handler(Refused, _error)
    # The name that clients of VoipNow have built in, and a plain one.
    blue.post("/token.php")(needs(None)(token))
    blue.post("/token")(needs(None)(token))
    blue.post("/revoke")(needs(None)(revoke))
    return blue


def token() -> Response:
    form = _form()
    grant = form.get("grant_type")
    if not grant:
        raise Refused("invalid_request", "grant_type is missing.")
    short = grant == "client_credentials" and _OFFLINE not in form.get("scope", "").split()
    client, secret = _client(form, TOKEN if short else SESSION)
    tokens = service(Tokens)
    if grant == "client_credentials":
        # A client with the secret needs no refresh token (RFC 6749 section 4.4.3).
        words = form.get("scope", "").split()
        wanted = _scopes(words, client.granted)
        issued = tokens.issue(
            client,
            refreshable=_OFFLINE in words,
            secret=secret,
            scopes=wanted,
            address=network(client_address()),
        )
        return _tokens(issued, words)
    if grant != "refresh_token":
        raise Refused("unsupported_grant_type")
    refresh = form.get("refresh_token")
    if not refresh:
        raise Refused("invalid_request", "refresh_token is missing.")
    words = form.get("scope", "").split()
    had = tokens.scopes_of(client, refresh) if words else ()
    # An unknown token is refused as such, whatever scope is asked for.
    given = tokens.refresh(client, refresh, _scopes(words, had) if had else None)
    if given is None:
        raise Refused("invalid_grant")
    tokens.remember(client, network(client_address()))
    return _tokens(given, words)


def revoke() -> Response:
    """End a token of the client. An unknown token is 200 too (RFC 7009, section 2.2)."""
    form = _form()
    client, _ = _client(form)
    if not form.get("token"):
        raise Refused("invalid_request", "token is missing.")
    service(Tokens).revoke(client, form["token"])
    return jsonify({})


def _form() -> dict[str, str]:
    """The parameters of the body. One without a value counts as left out, and none may come twice
    (RFC 6749, section 3.2)."""
    try:
        form = request.form
    except Exception as error:
        if is_broken(error):
            raise Refused("invalid_request", CODES["request_invalid"].others["encoding"]) from error
        raise
    for name, values in form.lists():
        if len(values) + len(request.args.getlist(name)) + len(request.files.getlist(name)) > 1:
            raise Refused("invalid_request", f"{name} comes more than once.")
    return {name: value for name, value in form.items() if value}


def _scopes(words: Iterable[str], most: Iterable[AppScope]) -> tuple[AppScope, ...] | None:
    """The scopes that a request asks for; None if it names none. Raises Refused."""
    named = [word for word in words if word != _OFFLINE]
    if not named:
        return None
    allowed = tuple(most)
    for word in named:
        if word not in allowed:
            raise Refused("invalid_scope", f"The client may not ask for the scope {word[:64]!r}.")
    return scopes.parse(" ".join(named))


def _client(form: dict[str, str], requests: int = 1) -> tuple[App, Credential]:
    """The client of the request, which counts as so many requests, and the secret that it came
    with. Raises Refused."""
    tokens = service(Tokens)
    pairs = _credentials(form)
    client_id, address = pairs[0][0], client_address()
    accounts = service(AccountStore).current()
    clients = accounts.clients
    if (named := clients.get(client_id)) is not None:
        # For the audit.
        g.caller = Caller(named, accounts, address)
    counted = network(address)
    for name, text in pairs:
        client = clients.get(name)
        secret = matching(client.all_client_secrets if client else _NO_SECRET, text)
        if client and secret and client.counts(tokens.now) and secret.counts(tokens.now):
            if tokens.is_barred(client.client_id, counted):
                raise Refused("slow_down", retry_after=_BARRED)
            _within_limits(partial(count_request, client.id, requests))
            if accounts.is_disabled(client.id):
                raise Refused("unauthorized_client")
            return client, secret
    _within_limits(partial(service(RateLimits).refuse_token, address))
    if named is not None:
        if tokens.has_failed(client_id, counted):
            raise Refused("slow_down", retry_after=_BARRED)
        tokens.note_failure(client_id, counted)
    raise Refused("invalid_client")


def _within_limits(count: Callable[[], None]) -> None:
    """Count a request by its app or address. Raises Refused."""
    try:
        count()
    except ApiError as error:
        raise Refused("slow_down", error.message, error.retry_after) from error


def _credentials(form: dict[str, str]) -> list[tuple[str, str]]:
    """The client id and secret, from HTTP Basic or else from the form. Raises Refused if the
    request authenticates its client in two ways (RFC 6749, section 2.3)."""
    # The server joins several headers by commas. Neither Basic nor Bearer has one.
    if "," in request.headers.get("Authorization", ""):
        raise Refused("invalid_request", "Authorization comes more than once.")
    basic = request.authorization
    if basic is None or basic.type != "basic":
        return [(form.get("client_id", ""), form.get("client_secret", ""))]
    if "client_secret" in form:
        raise Refused("invalid_request", "The client authenticates in the header and in the body.")
    pair = basic.username or "", basic.password or ""
    # RFC 6749 2.3.1 URL-encodes both first, but many clients do not.
    pairs = [pair, (unquote_plus(pair[0]), unquote_plus(pair[1]))]
    if form.get("client_id", pair[0]) not in [name for name, _ in pairs]:
        raise Refused("invalid_request", "The header and the body name different clients.")
    return pairs


def _tokens(issued: Issued, asked: list[str]) -> Response:
    found = {
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": issued.lifetime,
    }
    if issued.refresh is not None:
        found["refresh_token"] = issued.refresh
    if asked:
        offline = [_OFFLINE] if issued.refresh is not None else []
        found["scope"] = " ".join([*issued.scopes, *offline])
    return jsonify(found)


def _error(refused: Refused) -> Response:
    g.refusal = refused.code
    known = OAUTH_CODES[refused.code]
    status, description = known.status, refused.description or known.message
    about = {"error": refused.code, "error_description": description}
    response = jsonify(about | {"error_uri": shown.address(refused.code)})
    response.status_code = status
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="ringback"'
    if refused.retry_after is not None:
        response.headers["Retry-After"] = str(refused.retry_after)
    return response


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    return response
