"""`ringback call`: places a call and follows it."""

import sys
from collections.abc import Callable
from dataclasses import replace
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
from app.phone_calls.services import PhoneCalls
from app.web.fields import load
from workers.commands import complete, words
from workers.commands.session import Session, console, put_json, tell

# What the call's record names as its app: no app of the accounts can have it.
APP = "@command-line"
# Exit statuses: 0 of an answered call, else this and the disposition's number (11 busy, …).
_NOT_ANSWERED = 10
_DETACHED = 130
# Seconds between two looks at the clock while nothing changes.
_TICK = 0.25
# Seconds within which a worker that is well has taken a new call.
_SOON = 2.0


@click.command("call")
@click.argument("source")
@click.argument("destination")
@click.option(
    "--extension", shell_complete=complete.extensions, help="Whom it is charged to; the source."
)
@click.option("--user", shell_complete=complete.users, help="The id of the extension's owner.")
@click.option("--caller-id", help="What both sides are shown: 'John Doe <4242425>'.")
@click.option("--wait", help="Seconds that a side rings at most (25).")
@click.option("--duration", help="Seconds that the call lasts at most.")
@click.option("--nonce", help="With the same one again no second call is placed.")
@click.option(
    "--no-follow", is_flag=True, help="Say its id, and do not wait for what becomes of it."
)
@click.option("--json", "as_json", is_flag=True, help="The call as one JSON document, at its end.")
def command(
    source: str,
    destination: str,
    extension: str | None,
    user: str | None,
    no_follow: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Place a call and follow it. SOURCE and DESTINATION are numbers, with commas between several.

    The exit status is 0 of an answered call, 11 busy, 12 failed, 13 not answered, 14 unknown,
    15 not allowed, and 130 where it was left to itself with Ctrl-C.
    """
    session = Session.open()
    call = _place(session, source, destination, extension, user, options)
    if no_follow:
        put_json(words.document(call)) if as_json else click.echo(call.id)
        return
    call, left = _follow(session, call, quiet=as_json)
    if as_json:
        put_json(words.document(call))
    if left:
        tell(f"The call goes on. `ringback calls hangup {call.id}` ends it.")
        sys.exit(_DETACHED)
    sys.exit(exit_status(call))


def exit_status(call: Call) -> int:
    """Of a call that has ended."""
    if call.disposition is None:
        return _NOT_ANSWERED + transitions.UNKNOWN
    return 0 if call.disposition == transitions.ANSWERED else _NOT_ANSWERED + call.disposition


def caller(
    accounts: Accounts, user: str | None = None, numbers: tuple[str | None, ...] = ()
) -> Caller:
    """Who asks: the administrator, or the organization that ``user`` or the first extended number
    is of, or that is the only one, so that its short numbers are understood."""
    named = accounts.users.get(user or "")
    of_number = (n.partition("*")[0] for n in numbers if n and "*" in n)
    organization = named.organization if named else next(of_number, None)
    if organization is None and len(accounts.organizations) == 1:
        (organization,) = accounts.organizations
    if organization not in accounts.organizations:
        return Caller(App(APP, Level.ADMINISTRATOR), accounts)
    return Caller(App(APP, Level.ORGANIZATION, organization=organization), accounts)


def phone_calls(session: Session) -> PhoneCalls:
    """The service of the API, which waits for nothing here."""
    settings = replace(session.settings, action_timeout=0.0)
    return PhoneCalls(settings, session.store, session.queue, session.pacer)


def _place(
    session: Session,
    source: str,
    destination: str,
    extension: str | None,
    user: str | None,
    options: dict[str, str | None],
) -> Call:
    """Through the checks of the API. Raises ApiError, OutcomeUnknown and what Redis raises."""
    accounts = session.accounts
    if not accounts.extensions:
        raise click.ClickException(
            "Redis holds no accounts. Start the API, or `ringback accounts import FILE`."
        )
    sources = source.split(",")
    view = {"source": sources, "destination": destination.split(",")}
    shown = dict.fromkeys(("callerId", "callerIdDestination"), options["caller_id"])
    # What is not given is null, the same as a field left out.
    body: dict[str, Any] = {"phoneCallView": [{**view, **shown}], "nonce": options["nonce"]}
    query = {"waitForPickup": options["wait"], "callDuration": options["duration"]}
    (call,) = phone_calls(session).create(
        caller(accounts, user, (extension, sources[0])),
        user or OWNER,
        "simple",
        load(CreateQuery(), query),
        load(CreateSchema(), body | {"extension": extension}),
    )
    return call


def _follow(session: Session, call: Call, *, quiet: bool) -> tuple[Call, bool]:
    """The call at its end, or as it stands when it was left to itself, and whether it was."""
    out = console()
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
            call = session.store.get(call.id) or call
            if call.state is State.ENDED:
                return call, False
            if not sys.stdin.isatty() or not _ask(session, call):
                return call, True


def _to_its_end(session: Session, call: Call, show: Callable[[Call], None]) -> Call:
    show(call)
    while call.state is not State.ENDED:
        found = session.store.wait(call.id, _newer(call), _TICK)
        if found is None:
            raise click.ClickException(f"Call {call.id} is kept no more.")
        call = found
        show(call)
    return call


def _newer(seen: Call) -> Callable[[Call], bool]:
    return lambda call: call.version > seen.version


def _ask(session: Session, call: Call) -> bool:
    """After Ctrl-C: whether to go on following; it may have been asked to hang up."""
    try:
        answer = click.prompt(
            "\nHang up (h), leave it to itself (l), or go on watching (w)?",
            type=click.Choice(["h", "l", "w"]),
            show_choices=False,
            err=True,
        )
    except click.Abort:
        return False
    if answer == "h":
        phone_calls(session).hang_up(caller(session.accounts), [call], None)
    return bool(answer != "l")


def _teller(session: Session) -> Callable[[Call], None]:
    """Where nobody sees a screen: a line for each change."""
    before: Call | None = None

    def show(call: Call) -> None:
        nonlocal before
        if before is None:
            click.echo(f"call {call.id}")
        numbers = {leg.id: leg.number for leg in call.legs}
        # Each process knows the clock of Redis to within a few milliseconds.
        at = max(0.0, session.store.now() - call.accepted)
        for line in words.told(changed_fields(before, call), numbers):
            click.echo(f"{at:7.2f} s  {line}")
        before = call

    return show


def _view(session: Session, call: Call) -> Group:
    now = session.store.now()
    until = call.ended if call.ended is not None else now
    head = Text.assemble(
        (f"call {call.id}", "bold"),
        "  ",
        words.ending(call) or words.state_text(call),
        f"  {words.age(until - call.accepted)}",
        f"  on {call.switch}" if call.switch else "",
    )
    parts: list[RenderableType] = [head, words.legs_table(call)]
    if call.state is State.QUEUED and (why := waits_for(session, call)):
        parts.append(Text(why, style="yellow"))
    if call.state is not State.ENDED:
        parts.append(Text("Ctrl-C to hang up or leave", style="dim"))
    return Group(*parts)


def waits_for(session: Session, call: Call) -> str | None:
    """Why a queued call is not dialled; None where nothing is known to hold it back."""
    switches = session.switches.get_many(session.switches.names())
    if switches and all(each.paused for each in switches):
        return "It waits: every switch is paused (`ringback switch list`)."
    if not any(each.state == "up" for each in switches):
        return "It waits: no switch is up and given calls (`ringback switch list`, `doctor`)."
    place = session.pacer.places([call]).get(call.id)
    if place is None:
        soon = session.store.now() - call.accepted < _SOON
        return None if soon else "No worker has taken it yet (`ringback queue`)."
    return f"It waits in line: {place.ahead} calls before it, some {words.age(place.seconds)}."
