"""Suspends organizations, disables apps, takes that back, and lists both with their state."""

import time
from collections.abc import Sequence
from typing import Any

import click

from app.accounts.model import Suspension
from ringback_cli import words
from ringback_cli.session import Session, put_json, who


def suspend(
    session: Session, kind: str, name: str, word: str, *, why: str, hang_up: bool, as_json: bool
) -> None:
    """Suspend an organization, or disable an app: ``kind`` and ``name`` are the halves of a name in
    Accounts.suspended, ``word`` says what has become of it. With ``hang_up`` its live calls end."""
    from app.accounts.suspension import Suspensions

    suspension = Suspension(who(), session.now(), why)
    Suspensions(session.redis, session.keys).add(f"{kind}:{name}", suspension)
    verb = "disable_app" if kind == "app" else "suspend_organization"
    session.audit(verb, name, why or None)
    ended, left = _end_calls(session, kind, name) if hang_up else ([], [])
    if as_json:
        put_json({"name": name, "state": word, "ended": ended, "pending": left})
    else:
        calls = f" {len(ended)} calls ended." if hang_up else " Its live calls go on."
        click.echo(f"{kind} {name} is {word}.{calls}")
    from ringback_cli.commands.calls import check_ended

    check_ended(left)


def resume(session: Session, kind: str, name: str, word: str, *, as_json: bool) -> None:
    """Take a suspension back."""
    from app.accounts.suspension import Suspensions

    was = Suspensions(session.redis, session.keys).remove(f"{kind}:{name}")
    if was:
        session.audit("enable_app" if kind == "app" else "resume_organization", name)
    if as_json:
        put_json({"name": name, "state": word, "changed": was})
    else:
        click.echo(f"{kind} {name} {'is' if was else 'was already'} {word}.")


def _end_calls(session: Session, kind: str, name: str) -> tuple[list[str], list[str]]:
    """Hang up the live calls. Returns the ids of those that ended, and of those that have not."""
    from app.accounts.suspension import SEEN_BY_ALL, calls_of
    from ringback_cli.commands.calls import hang_up

    time.sleep(SEEN_BY_ALL)
    chosen = list(calls_of(session.calls, kind, name))
    left = hang_up(session, chosen)
    return [call.id for call in chosen if call.id not in left], left


def show(
    session: Session, kind: str, rows: Sequence[tuple[str, str]], word: str, as_json: bool
) -> None:
    """List names, each with a text about it, and their state: active or ``word``. Names that the
    accounts no longer have are listed while they are suspended."""
    suspended = session.accounts.suspended
    begin = f"{kind}:"
    known = dict(rows)
    gone = [n for each in suspended if (n := each.removeprefix(begin)) != each and n not in known]
    found: list[dict[str, Any]] = []
    for name, about in [*rows, *((each, "not in the accounts") for each in sorted(gone))]:
        row: dict[str, Any] = {"name": name, "about": about, "state": "active"}
        if (suspension := suspended.get(begin + name)) is not None:
            by = {"by": suspension.by, "at": suspension.at, "why": suspension.why or None}
            row |= words.without_none({"state": word, **by})
        found.append(row)
    if as_json:
        put_json(found)
        return
    from rich.text import Text

    from ringback_cli.screen import console, table

    made = table(kind, "", "state", "since", "by", "why")
    for row in found:
        style = "red" if row["state"] == word else ""
        made.add_row(
            *(row["name"], row["about"], Text(row["state"], style=style)),
            *(words.clock(row.get("at")), row.get("by", ""), row.get("why", "")),
        )
    console().print(made)
