"""`ringback switch`: list, pause, drain, resume, forget."""

import time
from typing import TYPE_CHECKING

import click

from ringback_cli import complete, words
from ringback_cli.session import Session, as_json, put_json, tell, who

if TYPE_CHECKING:
    from app.store.switches import Pause, Switch

_STYLES = {"up": "green", "unreachable": "red", "unknown": "red"}
# Seconds between two counts of the calls that a switch still has, and the seconds for which it must
# have none: a call that a worker claimed before the pause may still come.
_LOOK = 0.5
_SETTLED = 2.0

_name = click.argument("name", shell_complete=complete.switches)
_why = click.option("--why", default="", help="The reason, which `ringback switch list` shows.")


@click.group("switch")
def command() -> None:
    """List, pause, drain, resume and forget switches."""


@command.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List the switches with their state, load and limits."""
    session = Session.open()
    found = session.switches.get_many(_names(session))
    if as_json:
        put_json([document(switch) for switch in found])
        return
    from rich.text import Text

    from ringback_cli.screen import console, table

    now = session.now()
    made = table(
        *(
            "name",
            "state",
            "since",
            "calls",
            "legs",
            "sessions",
            "legs/s",
            "listeners",
            "core",
        ),
        right=("calls", "legs", "sessions", "legs/s", "listeners"),
    )
    for each in found:
        since = each.up_since if each.unreachable_since is None else each.unreachable_since
        made.add_row(
            each.name,
            Text(each.state, style=_STYLES.get(each.state, "yellow")),
            words.age(now - since) if since else "",
            str(each.calls),
            _of(each.legs, each.limit.most),
            _of(each.sessions, each.max_sessions),
            f"{each.limit.legs_per_second:g}" if each.limit.legs_per_second else "any",
            str(each.listeners),
            # Enough of its Core-UUID to tell two apart.
            (each.core_uuid or "")[:8],
        )
    console().print(made)
    for each in found:
        if each.paused is not None:
            click.echo(f"{each.name} gets no new calls: {_said(each.paused)}")
    if not found:
        tell("No switch is known yet. Set RINGBACK_SWITCHES, and start `ringback listener`.")


@command.command()
@_name
@_why
@as_json
def pause(name: str, why: str, as_json: bool) -> None:
    """Give a switch no new calls.

    Its live calls go on, and actions on them work.
    """
    session = Session.open()
    _pause(session, name, why, drain=False)
    _answer(session, name, as_json, "gets no new calls until you run `ringback switch resume`.")


@command.command()
@_name
@_why
@click.option("--wait", is_flag=True, help="Wait until its last call has ended.")
@click.option("--limit", type=click.FloatRange(0), help="The most seconds that --wait waits.")
@as_json
def drain(name: str, why: str, wait: bool, limit: float | None, as_json: bool) -> None:
    """Give a switch no new calls, to take it away once it has none."""
    session = Session.open()
    _pause(session, name, why, drain=True)
    if wait:
        left = _drained(session, name, limit)
        if left:
            raise click.ClickException(
                f"Switch {name} still has {left} calls, and stays draining. "
                f"`ringback calls list --switch {name}` lists them."
            )
    _answer(session, name, as_json, "gets no new calls.")


@command.command()
@_name
@as_json
def resume(name: str, as_json: bool) -> None:
    """Give a paused or draining switch new calls again."""
    session = Session.open()
    _check(session, name)
    was = session.switches.resume(name)
    if was:
        session.audit("resume", name)
    # It may have been given calls by now: their number says nothing.
    said = "gets new calls again." if was else "was not paused."
    _answer(session, name, as_json, said, counted=False)


@command.command()
@_name
@as_json
def forget(name: str, as_json: bool) -> None:
    """Forget a switch that was taken away.

    First remove it from RINGBACK_SWITCHES of all listeners.
    """
    session = Session.open()
    _check(session, name)
    (switch,) = session.switches.get_many([name])
    if switch.listeners or switch.calls:
        raise click.ClickException(
            f"{switch.listeners} listeners hear {name}, and it has {switch.calls} live calls. "
            "First drain it, and remove it from RINGBACK_SWITCHES."
        )
    session.switches.forget(name)
    session.audit("forget", name)
    _answer(session, name, as_json, "is forgotten.")


def document(switch: "Switch") -> dict[str, object]:
    """The switch for JSON, times in epoch seconds."""
    paused = switch.paused
    return {
        "name": switch.name,
        "state": switch.state,
        "core_uuid": switch.core_uuid,
        "up_since": switch.up_since,
        "unreachable_since": switch.unreachable_since,
        "calls": switch.calls,
        "legs": switch.legs,
        "legs_per_second": switch.limit.legs_per_second or None,
        "max_legs": switch.limit.most or None,
        "sessions": switch.sessions,
        "max_sessions": switch.max_sessions,
        "sessions_per_second": switch.sessions_per_second,
        "heartbeat": switch.heartbeat,
        "listener": switch.listener,
        "listeners": switch.listeners,
        "paused": paused
        and {"by": paused.by, "at": paused.at, "why": paused.why, "drain": paused.drain},
    }


def _names(session: Session) -> list[str]:
    """The switches of RINGBACK_SWITCHES, and others that a listener has followed."""
    from workers.runtime import switch_addresses

    named = switch_addresses(session.settings) if session.settings.switches else []
    return list(dict.fromkeys([*(each.name for each in named), *session.switches.names()]))


def _check(session: Session, name: str) -> None:
    known = _names(session)
    if name not in known:
        others = f"Known switches: {', '.join(known)}." if known else "No switch is known yet."
        raise click.ClickException(f"There is no switch {name}. {others}")


def _pause(session: Session, name: str, why: str, *, drain: bool) -> None:
    from app.store.switches import Pause

    _check(session, name)
    session.switches.pause(name, Pause(who(), session.now(), why, drain))
    session.audit("drain" if drain else "pause", name, why or None)


def _drained(session: Session, name: str, limit: float | None) -> int:
    """Wait until the switch has no call. Returns how many it has left after ``limit`` seconds."""
    from ringback_cli.screen import progress

    begun = busy = time.monotonic()
    most = 0
    with progress() as bar:
        task = bar.add_task(f"{name}: calls ended", total=None)
        while True:
            left = session.switches.get_many([name])[0].calls
            most = max(most, left)
            bar.update(task, total=most, completed=most - left)
            at = time.monotonic()
            busy = at if left else busy
            if at - busy >= _SETTLED or (limit is not None and at - begun >= limit):
                return left
            time.sleep(_LOOK)


def _answer(session: Session, name: str, as_json: bool, text: str, *, counted: bool = True) -> None:
    (switch,) = session.switches.get_many([name])
    if as_json:
        put_json(document(switch))
    else:
        calls = f" It has {switch.calls} live calls." if counted else ""
        click.echo(f"{name} {text}{calls}")


def _said(pause: "Pause") -> str:
    said = f"{'draining' if pause.drain else 'paused'} by {pause.by or 'an unknown user'}"
    said += f" on {words.clock(pause.at)}" if pause.at else ""
    return f"{said}: {pause.why}" if pause.why else said


def _of(count: int | None, most: int | None) -> str:
    return "" if count is None else f"{count} of {most}" if most else str(count)
