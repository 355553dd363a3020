"""Places a call and follows it."""

import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from app.accounts.caller import OWNER, Caller
from app.accounts.model import Accounts, App, Level
from app.calls import transitions
from app.calls.model import Call, State, changed_fields
from app.phone_calls.schemas import CreateQuery, CreateSchema
from app.web.fields import load
from ringback_cli import screen, words
from ringback_cli.session import APP, Session, who

# The exit status is 0 for an answered call, else this plus the disposition's number (11 busy, …).
_NOT_ANSWERED = 10
# Seconds between two looks at the clock while nothing changes.
_TICK = 0.25
# Seconds within which a healthy worker takes a new call.
_SOON = 2.0


def exit_status(call: Call) -> int:
    """The exit status for a call that has ended."""
    if call.disposition is None:
        return _NOT_ANSWERED + transitions.UNKNOWN
    return 0 if call.disposition == transitions.ANSWERED else _NOT_ANSWERED + call.disposition


def caller(
    accounts: Accounts, user: str | None = None, numbers: tuple[str | None, ...] = ()
) -> Caller:
    """The caller of the API's services: an organization, whose short numbers then work, or the
    administrator.

    The organization is that of ``user``, else that of the first extended number, else the only one.
    """
    named = accounts.users.get(user or "")
    of_number = (n.partition("*")[0] for n in numbers if n and "*" in n)
    organization = named.organization if named else next(of_number, None)
    if organization is None and len(accounts.organizations) == 1:
        (organization,) = accounts.organizations
    if organization not in accounts.organizations:
        return Caller(App(APP, Level.ADMINISTRATOR), accounts, operator=who())
    app = App(APP, Level.ORGANIZATION, organization=organization)
    return Caller(app, accounts, operator=who())


def place(
    session: Session,
    source: str,
    destination: str,
    extension: str | None,
    user: str | None,
    options: dict[str, str | None],
    metadata: dict[str, str],
) -> Call:
    """Place a call with the checks of the API. Raises ApiError, OutcomeUnknown and errors of
    Redis."""
    accounts = session.accounts
    if not accounts.extensions:
        raise click.ClickException(
            "Redis holds no accounts. Start the API, or run `ringback accounts import FILE`."
        )
    sources = source.split(",")
    view: dict[str, Any] = {"source": sources, "destination": destination.split(",")}
    shown = dict.fromkeys(("callerId", "callerIdDestination"), options["caller_id"])
    prompts = {
        name: {"prompt": prompt} for name in ("accept", "announce") if (prompt := options[name])
    }
    # A null counts as a missing field.
    view = {**view, **shown, **prompts}
    body: dict[str, Any] = {"phoneCallView": [view], "nonce": options["nonce"]}
    body |= {"metadata": metadata or None}
    if options["callback"] is not None:
        body["statusCallback"] = {"url": options["callback"]}
    query = {"waitForPickup": options["wait"], "callDuration": options["duration"]}
    placed = session.phone_calls().create(
        caller(accounts, user, (extension, sources[0])),
        user or OWNER,
        "simple",
        load(CreateQuery(), query),
        load(CreateSchema(), body | {"extension": extension}),
    )
    return placed.calls[0]


def follow(session: Session, call: Call, *, quiet: bool) -> tuple[Call, bool]:
    """Follow the call to its end, or until Ctrl-C. Returns the call, and whether it goes on."""
    out = screen.console()
    while True:
        try:
            if quiet:
                return _to_its_end(session, call, lambda _: None), False
            if out.is_terminal:
                with Live(console=out, auto_refresh=False) as live:

                    def show(current: Call, live: Live = live) -> None:
                        live.update(_view(session, current), refresh=True)

                    return _to_its_end(session, call, show), False
            return _to_its_end(session, call, _teller(session)), False
        except KeyboardInterrupt:
            call = session.calls.get(call.id) or call
            if call.state is State.ENDED:
                return call, False
            if not sys.stdin.isatty() or not _ask(session, call):
                return call, True


def _to_its_end(session: Session, call: Call, show: Callable[[Call], None]) -> Call:
    show(call)
    while call.state is not State.ENDED:
        found = session.calls.wait(call.id, _newer(call), _TICK)
        if found is None:
            raise click.ClickException(f"Redis no longer keeps call {call.id}.")
        call = found
        show(call)
    return call


def _newer(seen: Call) -> Callable[[Call], bool]:
    return lambda call: call.version > seen.version


def _ask(session: Session, call: Call) -> bool:
    """Ask what to do after Ctrl-C, and request a hang-up if that is the answer. Returns whether to
    go on following."""
    try:
        answer = click.prompt(
            "\nHang up (h), leave the call (l), or go on watching (w)?",
            type=click.Choice(["h", "l", "w"]),
            show_choices=False,
            err=True,
        )
    except click.Abort:
        return False
    if answer == "h":
        session.phone_calls().hang_up(caller(session.accounts), [call], None)
    return bool(answer != "l")


def _teller(session: Session) -> Callable[[Call], None]:
    """A function that prints a line for each change, for an output that is no terminal."""
    before: Call | None = None

    def show(call: Call) -> None:
        nonlocal before
        if before is None:
            click.echo(f"call {call.id}")
        numbers = {leg.id: leg.number for leg in call.legs}
        # Each process knows the clock of Redis to within a few milliseconds.
        at = max(0.0, session.now() - call.accepted)
        for line in words.told(changed_fields(before, call), numbers):
            click.echo(f"{at:7.2f} s  {line}")
        before = call

    return show


def _view(session: Session, call: Call) -> Group:
    now = session.now()
    until = call.ended if call.ended is not None else now
    head = Text.assemble(
        (f"call {call.id}", "bold"),
        "  ",
        words.ending(call) or screen.state_text(call),
        f"  {words.age(until - call.accepted)}",
        f"  on {call.switch}" if call.switch else "",
    )
    parts: list[RenderableType] = [head, screen.legs_table(call)]
    if call.state is State.QUEUED and (why := waits_for(session, call)):
        parts.append(Text(why, style="yellow"))
    if call.state is not State.ENDED:
        parts.append(Text("Ctrl-C to hang up or leave the call", style="dim"))
    return Group(*parts)


def waits_for(session: Session, call: Call) -> str | None:
    """The reason why a queued call is not dialled yet; None if no reason is known."""
    switches = session.switches.get_many(session.switches.names())
    if switches and all(each.paused for each in switches):
        return "The call waits: all switches are paused (`ringback switch list`)."
    if not any(each.state == "up" for each in switches):
        return "The call waits: no switch takes calls (`ringback switch list`, `ringback doctor`)."
    place = session.pacer.places([call]).get(call.id)
    if place is None:
        soon = session.now() - call.accepted < _SOON
        return None if soon else "The call waits: no worker has taken it (`ringback queue`)."
    return f"The call waits: {place.ahead} calls are ahead of it, about {words.age(place.seconds)}."
