"""The HTTP routes of the console: its pages, and the small API that they use.

A cookie that scripts cannot read names the session. A request that changes something must also
bring a header that another site's page cannot send, and must come from this site by the browser's
own headers.
"""

import gzip
import mimetypes
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from flask import (
    Blueprint,
    Response,
    g,
    jsonify,
    request,
)
from werkzeug.exceptions import NotFound

from app.accounts.caller import OWNER, SELF, Caller
from app.accounts.model import Accounts, App, Compatibility, Level
from app.accounts.scopes import AppScope
from app.accounts.store import AccountStore
from app.console.charts import SPANS
from app.console.services import Console
from app.console.sessions import LIFETIME, app_of_secret, app_of_token
from app.errors import OAUTH_CODES, ApiError, api_error, http_error
from app.oauth.services import Tokens
from app.phone_calls.actions import ActionSchema, PhoneCallActions
from app.phone_calls.schemas import HangUpQuery
from app.phone_calls.services import PhoneCalls
from app.phone_calls.views import create_body, create_query
from app.store.switches import Pause
from app.stream.model import CallChange, Place, place_text
from app.stream.services import CallStream, Topic
from app.stream.views import serve
from app.web.answers import error_response
from app.web.auth import check_scope, client_address
from app.web.base import base_url
from app.web.body import json_body
from app.web.compressing import ready
from app.web.fields import load
from app.web.listing import MAX_VALUES
from app.web.needs import needs
from app.web.rates import SESSION, RateLimits, check_calls, count_request, network, place_calls
from app.web.services import service
from app.web.shown import clean

_STATIC = Path(__file__).parent / "static"
_COOKIE = "ringback_console"
# The header that a request must bring to change something.
_HEADER = "X-Ringback-Console"
# The browser loads files from this server only, and runs no script or style inside a page.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The most extensions that a page offers.
_MOST_EXTENSIONS = 500

_action_body = ActionSchema()
_hang_up_query = HangUpQuery()


def blueprint() -> Blueprint:
    blue = Blueprint("console", __name__, url_prefix="/console")
    blue.before_request(_guard)
    blue.after_request(_headers)
    blue.get("")(needs(None)(page))
    blue.get("/<any(login, place, switches, queues, charts, access, audit):_>")(needs(None)(page))
    blue.get("/calls/<_>")(needs(None)(page))
    blue.get("/static/<path:name>")(needs(None)(static))
    blue.app_errorhandler(NotFound)(_no_page)
    blue.post("/api/session")(needs(None)(log_in))
    blue.delete("/api/session")(needs(None)(log_out))
    blue.get("/api/session")(needs(None)(who))
    blue.get("/api/calls")(needs(AppScope.CALLS_READ)(calls))
    blue.post("/api/calls/<any(simple, callback, conferenceInvite):kind>")(
        needs(AppScope.CALLS_PLACE)(create)
    )
    blue.get("/api/events")(needs(AppScope.CALLS_READ)(events))
    blue.get("/api/calls/<call_id>")(needs(AppScope.CALLS_READ)(call))
    blue.put("/api/calls/<call_id>")(needs(AppScope.CALLS_ACT)(act))
    blue.delete("/api/calls/<call_id>")(needs(AppScope.CALLS_ACT)(hang_up))
    blue.get("/api/charts/<any({}):span>".format(", ".join(f'"{s}"' for s in SPANS)))(
        needs(AppScope.CDR_READ)(charts)
    )
    blue.get("/api/queues")(needs(AppScope.ADMIN)(queues))
    blue.get("/api/switches")(needs(AppScope.ADMIN)(switches))
    blue.post("/api/switches/<name>/<any(pause, drain, resume):verb>")(needs(AppScope.ADMIN)(steer))
    blue.get("/api/access")(needs(AppScope.ADMIN)(access))
    blue.post("/api/organizations/<name>/<any(suspend, resume):verb>")(
        needs(AppScope.ADMIN)(change_access)
    )
    blue.post("/api/apps/<name>/<any(disable, enable):verb>")(needs(AppScope.ADMIN)(change_access))
    blue.get("/api/audit")(needs(AppScope.ADMIN)(audit))
    return blue


def _guard() -> None:
    """Refuse a request that another site's page made the browser send."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    # app.web.sites has looked at what the browser says of the page.
    if _HEADER not in request.headers:
        raise api_error("request_forbidden", "It is not from a page of the console.")


def _headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    # The browser asks for pages and files each time, and gets them if they have changed.
    kept = "no-store" if "/api/" in request.path else "no-cache"
    response.headers["Cache-Control"] = kept
    return response


def page(_: str = "") -> Response:
    return static("index.html")


def _no_page(error: NotFound) -> Response:
    """The answer to an address that the app does not have: a page with links for a browser that
    looks for one of the console's pages, and JSON for all others."""
    path = request.path
    is_file = path.startswith(("/console/api/", "/console/static/"))
    if not path.startswith("/console/") or is_file or request.method not in ("GET", "HEAD"):
        return error_response(http_error(error.code))
    return _headers(Response(_files()["missing.html"][0], error.code, mimetype="text/html"))


def static(name: str) -> Response:
    """A file of a page, compressed if the browser takes that; 304 if the browser has it."""
    found = _files().get(name)
    if found is None:
        raise api_error("request_not_found")
    return ready(*found, mimetypes.guess_type(name)[0])


@cache
def _files() -> dict[str, tuple[bytes, bytes]]:
    """The files by name, each plain and compressed."""
    files = (path for path in _STATIC.rglob("*") if path.is_file())
    contents = {path.relative_to(_STATIC).as_posix(): path.read_bytes() for path in files}
    return {name: (content, gzip.compress(content)) for name, content in contents.items()}


# Sessions


def log_in() -> tuple[Response, int]:
    """Begin a session with an app's permanent token, or with its client id and secret."""
    accounts, tokens, body = service(AccountStore).current(), service(Tokens), json_body()
    token, client_id, secret = (
        clean(str(body.get(name) or "")).strip() for name in ("token", "client_id", "client_secret")
    )
    address, console = client_address(), service(Console)
    counted = network(address)
    if token:
        found = app_of_token(accounts, token, console.store.now)
    else:
        # Failures count together with those of the token endpoint.
        found = app_of_secret(accounts, client_id, secret, console.store.now)
        if found is not None and tokens.is_barred(client_id, counted):
            raise _slow_down()
    if found is None:
        service(RateLimits).refuse_token(address)
        if client_id in accounts.clients and not token:
            if tokens.has_failed(client_id, counted):
                raise _slow_down()
            tokens.note_failure(client_id, counted)
        raise api_error("access_denied", cause="login")
    app, credential = found
    g.caller = Caller(app, accounts, address, session=True)
    count_request(app.id, SESSION)
    if accounts.is_disabled(app.id):
        raise api_error("app_disabled")
    if not token:
        tokens.remember(app, counted)
    response = jsonify(_who(app, accounts))
    response.set_cookie(
        value=console.sessions.begin(app, credential), max_age=LIFETIME, **_cookie()
    )
    return response, 201


def _slow_down() -> ApiError:
    return ApiError(429, "slow_down", OAUTH_CODES["slow_down"].message, 60)


def log_out() -> tuple[Response, int]:
    if (name := request.cookies.get(_cookie()["key"])) is not None:
        app, accounts = _app()
        if app is not None:
            g.caller = Caller(app, accounts, client_address(), session=True)
        service(Console).sessions.end(name)
    response = jsonify({})
    response.delete_cookie(**_cookie())
    return response, 200


def _cookie() -> dict[str, Any]:
    """The name of the session's cookie, and where a browser may send it: over TLS alone if the
    browser uses TLS. No other site, and no page without TLS, can set a cookie whose name begins
    with __Host-."""
    secure = base_url().startswith("https://")
    return {
        "key": f"__Host-{_COOKIE}" if secure else _COOKIE,
        "path": "/" if secure else "/console",
        "secure": secure,
        "httponly": True,
        "samesite": "Strict",
    }


def who() -> Response:
    """The app of the session, or null: a page asks before anybody has logged in."""
    app, accounts = _app()
    if app is not None:
        count_request(app.id)
    known = app is not None and not accounts.is_disabled(app.id)
    return jsonify(_who(app, accounts) if app is not None and known else {"app": None})


def _who(app: App, accounts: Accounts) -> dict[str, Any]:
    caller = Caller(app, accounts)
    extensions = [
        {"number": e.number, "type": e.type.value, "callerId": e.caller_id}
        for e in caller.extensions()
    ]
    organization = caller.organization
    return {
        "app": app.id,
        "level": app.level.value,
        "scopes": list(app.granted),
        "organization": organization and organization.name,
        "extensions": extensions[:_MOST_EXTENSIONS],
    }


# Calls


def calls() -> Response:
    """The newest live calls, the calls that ``q`` finds, or the calls that ``ids`` names."""
    caller, console = _caller()
    if ids := request.args.get("ids"):
        return jsonify(console.named(caller, ids.split(",")[:MAX_VALUES]))
    text = request.args.get("q", "").strip()[:255]
    return jsonify(console.search(caller, text) if text else console.live(caller))


def call(call_id: str) -> Response:
    caller, console = _caller()
    return jsonify(console.detail(caller, call_id))


def create(kind: str) -> tuple[Response, int]:
    caller, _ = _caller()
    check_calls(caller.app.id)
    query, body = create_query(kind, caller), create_body(kind, caller)
    made = place_calls(
        caller.app.id,
        len(body["phoneCallView"]),
        lambda: service(PhoneCalls).create(caller, OWNER, kind, query, body),
    )
    return jsonify({"ids": [each.id for each in made.calls]}), 202


def act(call_id: str) -> tuple[Response, int]:
    caller, console = _caller()
    body = load(_action_body, json_body())
    changed, done = service(PhoneCallActions).act(caller, OWNER, SELF, call_id, body)
    return jsonify(console.rows(caller, [changed])[0]), 200 if done else 202


def hang_up(call_id: str) -> tuple[Response, int]:
    caller, console = _caller()
    query = load(_hang_up_query, request.args)
    phone_calls = service(PhoneCalls)
    found = phone_calls.find(caller, OWNER, SELF, call_id)
    if not found:
        raise api_error("pc_phonecall_invalid", cause="unknown")
    concerned, done = phone_calls.hang_up(caller, found, query.get("phoneNumber"))
    if not concerned:
        raise api_error(
            "pc_destination_invalid", "That number is not in the call.", field="phoneNumber"
        )
    return jsonify(console.rows(caller, concerned)[0]), 200 if done else 202


# Events, charts, queues and switches


def events() -> Response:
    """The ids of calls as they change (server-sent events), from after ``Last-Event-ID`` on."""
    stream = service(CallStream)

    def topic() -> ChangedCalls:
        caller, _ = _caller()
        seen = stream.topic(caller, OWNER, None, None)
        return ChangedCalls(seen.name, seen.scope)

    def caller() -> Caller:
        return _caller()[0]

    return serve(stream, topic, caller, request.headers.get("Last-Event-ID"))


@dataclass(frozen=True)
class ChangedCalls(Topic):
    """A topic whose events only name the calls: a page reads the calls that it shows."""

    def texts(self, changes: Iterable[CallChange], after: Place) -> bytes:
        known = {}
        for change in changes:
            if change.place > after and self.text(change):
                known[change.call.id] = change.place
        return b"".join(
            b'id: %b\nevent: call\ndata: {"id":"%b"}\n\n' % (place_text(at).encode(), one.encode())
            for one, at in sorted(known.items(), key=lambda item: item[1])
        )


def charts(span: str) -> Response:
    caller, console = _caller()
    return jsonify(console.chart(caller, span))


def queues() -> Response:
    caller, console = _administrator()
    return jsonify(console.queues(caller))


def switches() -> Response:
    _, console = _administrator()
    return jsonify(console.all_switches())


def steer(name: str, verb: str) -> Response:
    """Pause, drain or resume a switch. The body's ``why`` is shown to operators later."""
    caller, console = _administrator()
    if name not in console.switches.names():
        raise api_error("request_not_found", "There is no such switch.")
    if verb == "resume":
        console.switches.resume(name)
    else:
        why = clean(str(json_body().get("why") or ""))[:255]
        by = f"{caller.app.id} (console)"
        console.switches.pause(name, Pause(by, console.store.now(), why, drain=verb == "drain"))
    return jsonify(console.all_switches())


def access() -> Response:
    caller, console = _administrator()
    return jsonify(console.access(caller))


def change_access(name: str, verb: str) -> Response:
    """Suspend or resume an organization, or disable or enable an app. The body has ``why``, and
    ``hangUp`` to end the live calls."""
    caller, console = _administrator()
    body = json_body()
    why = clean(str(body.get("why") or ""))[:255]
    ended = console.change_access(caller, verb, name, why, hang_up=body.get("hangUp") is True)
    # This process may not have read the change yet.
    fresh = replace(caller, accounts=service(AccountStore).current(fresh=True))
    return jsonify(console.access(fresh) | {"ended": ended})


def audit() -> Response:
    """A page of the audit. The query filters by the fields of an entry, and ``before`` is the id of
    the last entry of the page before."""
    _, console = _administrator()
    before = request.args.get("before", "")
    if not re.fullmatch(r"([0-9]{1,15}-[0-9]{1,19})?", before, re.ASCII):
        raise api_error("request_invalid", "before takes the id of an entry.", field="before")
    return jsonify(console.audit(request.args, before))


def _administrator() -> tuple[Caller, Console]:
    caller = _session()
    if caller.app.level is not Level.ADMINISTRATOR:
        raise api_error("request_forbidden", "This needs an app of the administrator.")
    check_scope(caller)
    return caller, service(Console)


def _caller() -> tuple[Caller, Console]:
    caller = _session()
    check_scope(caller)
    return caller, service(Console)


def _session() -> Caller:
    app, accounts = _app()
    if app is None:
        raise api_error("access_denied")
    # The console ignores the app's compatibility: it is for old programs, not for people.
    plain = replace(app, compatibility=Compatibility.DEFAULT)
    count_request(app.id)
    caller = g.caller = Caller(plain, accounts, client_address(), session=True)
    if accounts.is_disabled(app.id):
        raise api_error("app_disabled")
    return caller


def _app() -> tuple[App | None, Accounts]:
    accounts = service(AccountStore).current()
    name = request.cookies.get(_cookie()["key"], "")
    console = service(Console)
    return console.sessions.app_of(name, accounts, console.store.now), accounts
