"""The audit of requests: what was refused, and what was accepted unless a service has noted it.

A service notes the placing, the hanging up and the actions of calls together with what it does.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Flask, Response, g, request
from redis.exceptions import RedisError

from app.accounts.caller import OWNER, Caller
from app.calls.model import Action
from app.errors import ApiError
from app.store.audit import ACCEPTED, HANG_UP, PLACE, Entry, Who, command, plain
from app.store.calls import CallStore
from app.web.auth import client_address
from app.web.services import service

log = logging.getLogger(__name__)

# What the views do, by the resource and the name of the view. A request to any other only reads.
_ACT = "act"
_WHAT = {
    ("phone_calls", "create"): PLACE,
    ("phone_calls", "act"): _ACT,
    ("phone_calls", "hang_up"): HANG_UP,
    ("phone_call_events", "create"): "call_event_create",
    ("phone_call_events", "update"): "call_event_update",
    ("phone_call_events", "delete"): "call_event_delete",
    ("phone_call_events", "test"): "call_event_test",
    ("recordings", "fetch"): "recording_fetch",
    ("recordings", "delete"): "recording_delete",
    ("oauth", "token"): "token",
    ("oauth", "revoke"): "token_revoke",
    ("console", "create"): PLACE,
    ("console", "act"): _ACT,
    ("console", "hang_up"): HANG_UP,
    ("console", "log_in"): "login",
    ("console", "log_out"): "logout",
    ("console", "steer"): "steer",
    ("console", "change_access"): "access",
}
# What the verb in the path means.
_VERBS = {
    "steer": {"pause": "pause", "drain": "drain", "resume": "resume"},
    "access": {
        "suspend": "suspend_organization",
        "resume": "resume_organization",
        "disable": "disable_app",
        "enable": "enable_app",
    },
}
_READ = "read"
_NOTED = frozenset({PLACE, _ACT, HANG_UP})
# Entries of what administrators do are never shared.
_SINGLE = frozenset(_VERBS)
_REFUSED = {"login": "login_failed", "token": "token_refused"}
# The statuses that put a refused reader into the audit.
_NO_RIGHT = (401, 403, 429)
# So many requests of the same app and address and with the same result have an entry of their own,
# but those that only read and those without an app. Further ones within so many seconds share one:
# at first, and at most if they go on. And the most of such threes at a time.
_ALONE = 50
_SHARED_FOR = 1.0
_SHARED_LONGEST = 8.0
_MOST_HELD = 256
# The most numbers of a refused request in its entry.
_MOST_NUMBERS = 8
_Key = tuple[str | None, str, str | None]


@dataclass(slots=True)
class _Held:
    """Requests that wait for an entry that they share: the last one, and their number. ``alone``
    counts those that had an entry of their own before."""

    entry: Entry
    seconds: float
    count: int = 0
    alone: int = 1


class Auditor:
    """The service that writes what requests ask for into the audit. It raises no error of Redis:
    the request has been answered by then."""

    def __init__(self, store: CallStore, kept: float) -> None:
        """``kept`` is for how many seconds an entry is kept."""
        self._store = store
        self._kept = kept
        self._lock = threading.Lock()
        self._held: dict[_Key, _Held] = {}

    def write(self, entry: Entry) -> None:
        redis: Any = self._store.redis
        try:
            words = command(self._store.keys, entry, self._store.now(), self._kept)
            redis.execute_command(*words)
        except RedisError as error:
            about = f"{entry.what} {entry.result} by {entry.who.app} from {entry.who.address}"
            log.error("the audit lacks %s: %s", about, error)

    def note(self, entry: Entry) -> None:
        """Write an entry. Further ones of the same app and address that do the same, or are refused
        with the same code, share an entry with a count: no flood of requests fills Redis."""
        alone = 1 if entry.who.app is None or entry.what == _READ else _ALONE
        with self._lock:
            same = entry.what if entry.result == ACCEPTED else entry.result
            key = entry.who.app, same, entry.who.address
            if key not in self._held and len(self._held) >= _MOST_HELD:
                # A flood from many addresses.
                key = None, same, None
                entry = replace(entry, who=Who(entry.who.kind))
            held = self._held.get(key)
            if held is not None and held.alone >= alone:
                held.entry = entry
                held.count += 1
                return
            if held is None:
                self._held[key] = _Held(entry, _SHARED_FOR)
                self._later(key, _SHARED_FOR)
            else:
                held.alone += 1
        self.write(entry)

    def flush(self) -> None:
        """Write the entries that wait for more requests to share them. A process does so at its
        end."""
        with self._lock:
            held = [each for each in self._held.values() if each.count]
            self._held.clear()
        for each in held:
            self.write(replace(each.entry, count=each.count))

    def _later(self, key: _Key, seconds: float) -> None:
        timer = threading.Timer(seconds, self._share, [key])
        timer.daemon = True
        timer.start()

    def _share(self, key: _Key) -> None:
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return
            if not held.count:
                del self._held[key]
                return
            entry = replace(held.entry, count=held.count)
            held.count = 0
            held.seconds = min(2 * held.seconds, _SHARED_LONGEST)
        self.write(entry)
        self._later(key, held.seconds)


def audit_requests(app: Flask) -> None:
    """Put the requests of ``app`` into the audit once they are answered."""

    @app.after_request
    def _answered(response: Response) -> Response:
        what = _WHAT.get((_resource(), (request.endpoint or "").rpartition(".")[2]))
        refusal: str | None = g.get("refusal")
        if refusal is None:
            known = "caller" in g and response.status_code < 400
            if known and what is not None and what not in _NOTED:
                auditor = service(Auditor)
                add = auditor.write if what in _SINGLE else auditor.note
                add(_entry(what))
        elif what is not None and response.status_code < 500:
            refused = replace(_entry(what), result=refusal)
            service(Auditor).note(replace(refused, what=_REFUSED.get(refused.what, refused.what)))
        elif request.endpoint is not None and response.status_code in _NO_RIGHT:
            service(Auditor).note(replace(_entry(_READ), result=refusal))
        return response


def _resource() -> str:
    """The resource of the present view. The UAPI has two prefixes."""
    name = request.blueprint or ""
    return name.removeprefix("unifiedapi").removeprefix("uapi").lstrip("_") or "phone_calls"


def _entry(what: str) -> Entry:
    """The entry of the present request, but for its result."""
    caller: Caller | None = g.get("caller")
    path: Mapping[str, str] = request.view_args or {}
    body = g.get("body", {})
    if what == _ACT and body.get("action") in list(Action):
        what = body["action"]
    data = plain(_data(what, body) or path.get("recording_id", ""))
    if what in _VERBS:
        what = _VERBS[what][path["verb"]]
    named = (path.get(name) for name in ("call_id", "name", "extension"))
    on = next(filter(None, named), None) or _text(body, "extension")
    organization = caller.organization if caller is not None else None
    return Entry(
        _who(caller, path),
        what,
        plain(on) if on else None,
        organization.number if organization is not None else None,
        data=data or None,
    )


def _who(caller: Caller | None, path: Mapping[str, str]) -> Who:
    if caller is None:
        kind = "session" if _resource() == "console" else "app"
        return Who(kind, address=client_address(), request_id=g.request_id)
    try:
        return caller.who(caller.asking_user(path.get("user", OWNER)))
    except ApiError:
        # The request was refused because of the user.
        return caller.who(caller.app.user)


def _data(what: str, body: Mapping[str, Any]) -> str:
    """What the request dials or hangs up, of fields that hold no secret."""
    if what == HANG_UP:
        return request.args.get("phoneNumber", "")
    if what == PLACE:
        views = body.get("phoneCallView")
        view = views[0] if isinstance(views, list) and views else views
        if isinstance(view, dict):
            return " > ".join(_numbers(view.get(side)) for side in ("source", "destination"))
    if what in list(Action):
        return _text(body, "sendCallTo")
    return _text(body, "why") if what in _VERBS else ""


def _numbers(value: Any) -> str:
    given = value if isinstance(value, list) else [value]
    return ",".join(str(one) for one in given[:_MOST_NUMBERS] if isinstance(one, str | int))


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return str(value) if isinstance(value, str | int) else ""
