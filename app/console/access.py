"""Organizations and apps with their state, and the changes of it that administrators make."""

import time
from typing import Any

from app.accounts.caller import Caller
from app.accounts.model import Accounts, Suspension
from app.accounts.suspension import SEEN_BY_ALL, Suspensions, calls_of
from app.errors import api_error
from app.phone_calls.services import PhoneCalls
from app.store.calls import CallStore
from app.web.resource import without_none

# What each verb changes: the kind of a name in Accounts.suspended, and whether it bars it.
VERBS = {
    "suspend": ("organization", True),
    "resume": ("organization", False),
    "disable": ("app", True),
    "enable": ("app", False),
}


def shown(accounts: Accounts) -> dict[str, Any]:
    """The organizations and the apps, each with its suspension."""
    organizations = [{"name": o.number, "about": o.name} for o in accounts.organizations.values()]
    apps = [{"name": a.id, "about": a.account} for a in accounts.apps.values()]
    return {
        f"{kind}s": [row | _state(accounts, f"{kind}:{row['name']}") for row in rows]
        for kind, rows in (("organization", organizations), ("app", apps))
    }


def change(
    store: CallStore,
    phone_calls: PhoneCalls,
    caller: Caller,
    verb: str,
    name: str,
    *,
    why: str,
    hang_up: bool,
) -> int:
    """Suspend, resume, disable or enable. Returns how many live calls were hung up. Raises
    ApiError."""
    kind, bars = VERBS[verb]
    accounts, whole = caller.accounts, f"{kind}:{name}"
    known = accounts.organizations if kind == "organization" else accounts.apps
    if name not in known and whole not in accounts.suspended:
        raise api_error("request_not_found", f"There is no {kind} {name}.")
    if bars and whole == f"app:{caller.app.id}":
        raise api_error("request_invalid", cause="itself")
    suspensions = Suspensions(store.redis, store.keys)
    if not bars:
        suspensions.remove(whole)
        return 0
    suspensions.add(whole, Suspension(f"{caller.app.id} (console)", store.now(), why))
    if not hang_up:
        return 0
    time.sleep(SEEN_BY_ALL)
    calls = list(calls_of(store, kind, name))
    phone_calls.hang_up(caller, calls, None)
    return len(calls)


def _state(accounts: Accounts, whole: str) -> dict[str, Any]:
    found = accounts.suspended.get(whole)
    if found is None:
        return {"barred": False}
    return {"barred": True} | without_none(
        {"by": found.by, "at": found.at, "why": found.why or None}
    )
