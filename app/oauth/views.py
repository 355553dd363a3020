"""The HTTP routes of the token endpoint: client, grant, and answers in the form of RFC 6749."""

import hmac
from urllib.parse import unquote_plus

from flask import Blueprint, Response, g, jsonify, request

from app.accounts.caller import Caller
from app.accounts.model import App, token_sha256
from app.accounts.store import AccountStore
from app.errors import OAUTH_CODES
from app.oauth.services import Issued, Tokens
from app.web.auth import client_address
from app.web.services import service

# The stand-in for the secret of an unknown client, so that the answer takes as long.
_NO_SECRET = "0" * 64


def blueprint() -> Blueprint:
    blue = Blueprint("oauth", __name__, url_prefix="/oauth")
    # The name that clients of VoipNow have built in, and a plain one.
    blue.post("/token.php")(token)
    blue.post("/token")(token)
    return blue


def token() -> Response:
    tokens, form = service(Tokens), request.form
    grant = form.get("grant_type")
    if not grant:
        return _error("invalid_request")
    pairs = _credentials()
    client_id, address = pairs[0][0], client_address()
    accounts = service(AccountStore).current()
    clients = accounts.clients
    if (named := clients.get(client_id)) is not None:
        # For the audit.
        g.caller = Caller(named, accounts, address)
    known = named is not None
    if known and tokens.is_barred(client_id, address):
        return _error("slow_down")
    client = next(filter(None, [_client(clients, *pair) for pair in pairs]), None)
    if client is None:
        if known:
            tokens.note_failure(client_id, address)
        return _error("invalid_client")
    if accounts.is_disabled(client.id):
        return _error("unauthorized_client")
    if grant == "client_credentials":
        # A client with the secret needs no refresh token (RFC 6749 section 4.4.3). It can ask for
        # one in the words of OpenID Connect (Core 1.0 section 11).
        refreshable = "offline_access" in form.get("scope", "").split()
        return _tokens(tokens.issue(client, refreshable=refreshable))
    if grant != "refresh_token":
        return _error("unsupported_grant_type")
    if not form.get("refresh_token"):
        return _error("invalid_request")
    issued = tokens.refresh(client, form["refresh_token"])
    return _tokens(issued) if issued else _error("invalid_grant")


def _credentials() -> list[tuple[str, str]]:
    """The client id and secret, from HTTP Basic or else from the form."""
    basic = request.authorization
    if basic is None or basic.type != "basic":
        return [(request.form.get("client_id", ""), request.form.get("client_secret", ""))]
    pair = basic.username or "", basic.password or ""
    # RFC 6749 2.3.1 URL-encodes both first, but many clients do not.
    return [pair, (unquote_plus(pair[0]), unquote_plus(pair[1]))]


def _client(clients: dict[str, App], client_id: str, secret: str) -> App | None:
    client = clients.get(client_id)
    kept = client.client_secret_sha256 if client is not None else None
    same = hmac.compare_digest(token_sha256(secret), kept or _NO_SECRET)
    return client if same else None


def _tokens(issued: Issued) -> Response:
    found = {
        "access_token": issued.access,
        "token_type": "Bearer",
        "expires_in": issued.lifetime,
    }
    if issued.refresh is not None:
        found["refresh_token"] = issued.refresh
    return _uncached(jsonify(found))


def _error(code: str) -> Response:
    g.refusal = code
    status, description = OAUTH_CODES[code]
    response = _uncached(jsonify({"error": code, "error_description": description}))
    response.status_code = status
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="ringback"'
    if status == 429:
        response.headers["Retry-After"] = "60"
    return response


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    return response
