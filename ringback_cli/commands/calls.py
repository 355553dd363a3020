"""`ringback calls`: list, show, hang up, watch; channels that Redis does not know."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from app.calls.model import Call, State
from ringback_cli import complete, words
from ringback_cli.session import (
    Session,
    as_json,
    as_json_lines,
    put_json,
    put_json_line,
    tell,
)

if TYPE_CHECKING:
    from rich.table import Table

    from app.store.unknown import Unknown

# Seconds between two looks of `watch`, and that `hangup` waits for the switch.
_LOOK = 1.0
_HANG_UP_LIMIT = 10.0
# Seconds that a call can last: a day in the queue, and a day of talk.
_LONGEST = 2 * 86_400.0


def _not_empty(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value == "":
        # A shell variable that is not set must not mean all calls.
        raise click.BadParameter("The value is empty.")
    return value


def _option(name: str, text: str, shell_complete: Any = None) -> Callable[..., Any]:
    return click.option(name, callback=_not_empty, help=text, shell_complete=shell_complete)


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose calls."""
    for option in (
        _option("--number", "Only calls with this number as a party."),
        _option("--switch", "Only calls on this switch.", complete.switches),
        _option("--user", "Only calls of this user's extensions.", complete.users),
        _option("--extension", "Only calls of this extension.", complete.extensions),
    ):
        command = option(command)
    return command


@click.group("calls")
def command() -> None:
    """List, show, hang up, watch and adopt calls."""


@command.command("list")
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="Only calls in this state; all live calls by default.",
)
@filters
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="The most calls to list.",
)
@as_json
def list_(state: str | None, limit: int, as_json: bool, **which: str | None) -> None:
    """List live calls, newest first.

    With --state ended it lists the ended calls that Redis still keeps.
    """
    session = Session.open()
    found = _some(matching(session, which, State(state) if state else None), limit + 1)
    shown, more = found[:limit], len(found) > limit
    if as_json:
        put_json([words.document(call) for call in shown])
        return
    from ringback_cli.screen import console

    console().print(_table(shown, session.now()))
    if more:
        tell(f"More than {limit} calls match. Raise --limit to list more.")
    elif not shown:
        tell("No call matches.")


@command.command()
@click.argument("call_id", metavar="ID", shell_complete=complete.calls)
@as_json
def show(call_id: str, as_json: bool) -> None:
    """Show all fields of a call, its legs, and its timeline."""
    session = Session.open()
    call = session.calls.get(call_id)
    if call is None:
        raise click.ClickException(_unknown([call_id]))
    notes = session.calls.timeline(call_id)
    if as_json:
        put_json({**words.document(call), "timeline": notes})
        return
    from rich.text import Text

    from ringback_cli import screen
    from ringback_cli.timeline import lanes

    out = screen.console()
    state = words.ending(call) or screen.state_text(call)
    out.print(Text.assemble((f"call {call.id}", "bold"), "  ", state))
    out.print(_fields(call), "", screen.legs_table(call), "", sep="\n")
    width = out.width if out.is_terminal else min(out.width, 100)
    for line in lanes(call, notes, session.now(), width):
        out.print(line, no_wrap=True, overflow="crop")
    out.print("", _happened(call, notes), sep="\n")


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]…", shell_complete=complete.live_calls)
@filters
@click.option("--all", "every", is_flag=True, help="Hang up all live calls.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
def hangup(
    ids: tuple[str, ...], every: bool, yes: bool, as_json: bool, **which: str | None
) -> None:
    """Hang up calls by id, by the options that choose calls, or --all.

    An id may be the uuid of a channel that `ringback calls unknown` lists.
    """
    if bool(ids) + any(which.values()) + every != 1:
        raise click.UsageError("Give ids, or options that choose calls, or --all.")
    session = Session.open()
    channels = [each for each in ids if "-" in each]
    for channel in _listed(session, channels):
        said = _worker_says(session, session.queue.hang_up_channel(channel.switch, channel.uuid))
        session.audit("hang_up_channel", channel.uuid, channel.switch)
        tell(f"{channel.uuid} on {channel.switch}: {said['said']}")
    ids = tuple(each for each in ids if each not in channels)
    if channels and not ids:
        return
    chosen = _named(session, ids) if ids else list(matching(session, which))
    if not ids and chosen and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"{len(chosen)} calls match. Add --yes to hang them up.")
        click.confirm(f"Hang up {len(chosen)} calls?", abort=True, err=True)
    left = hang_up(session, chosen)
    if as_json:
        ended = [call.id for call in chosen if call.id not in left]
        put_json({"ended": ended, "pending": left})
    else:
        click.echo(f"{len(chosen) - len(left)} ended")
    check_ended(left)


@command.command()
@click.option(
    "--switch",
    callback=_not_empty,
    help="Only channels on this switch.",
    shell_complete=complete.switches,
)
@as_json
def unknown(switch: str | None, as_json: bool) -> None:
    """List the channels of Ringback on the switches that belong to no known call."""
    from dataclasses import asdict

    session = Session.open()
    found = _unknown_channels(session, switch)
    if as_json:
        put_json([asdict(each) for each in found])
        return
    from ringback_cli import screen

    now = session.now()
    made = screen.table("uuid", "switch", "call", "number", "caller", "state", "age")
    for each in found:
        age = "" if each.created is None else words.age(now - each.created)
        row = each.uuid, each.switch, each.call, each.number, each.caller, each.state, age
        made.add_row(*row)
    screen.console().print(made)
    if not found:
        tell("No channel is unknown.")


@command.command()
@click.argument("uuid", metavar="UUID")
@click.option(
    "--extension",
    callback=_not_empty,
    help="The extension that pays for the call; by default the one that its channels name.",
    shell_complete=complete.extensions,
)
@as_json
def adopt(uuid: str, extension: str | None, as_json: bool) -> None:
    """Make a call of a channel that Redis does not know.

    The channels that are connected to it belong to the call. From then on it is a call like any
    other, and ends with a record.
    """
    from app.store.audit import Who
    from ringback_cli.session import APP, who

    session = Session.open()
    (channel,) = _listed(session, [uuid])
    pays = session.extended(extension) if extension else ""
    asks = Who("operator", APP, who())
    said = _worker_says(session, session.queue.adopt(channel.switch, uuid, pays, asks))
    call = session.calls.get(said["call"])
    if call is None:
        raise click.ClickException(_unknown([said["call"]]))
    if as_json:
        put_json(words.document(call))
    else:
        click.echo(_line(call))


def _unknown_channels(session: Session, switch: str | None = None) -> "list[Unknown]":
    from app.store.unknown import UnknownChannels

    names = [switch] if switch else session.switches.names()
    return UnknownChannels(session.redis, session.keys).all(names)


def _listed(session: Session, uuids: Sequence[str]) -> "list[Unknown]":
    """The unknown channels with these uuids. Raises ClickException for any other."""
    found = {each.uuid: each for each in _unknown_channels(session)} if uuids else {}
    if missing := [uuid for uuid in uuids if uuid not in found]:
        raise click.ClickException(
            f"No switch has an unknown channel {', '.join(missing)}. `ringback calls unknown` "
            "lists them, as the listeners saw them last."
        )
    return [found[uuid] for uuid in uuids]


def _worker_says(session: Session, job: Any) -> dict[str, str]:
    """What a worker says of a job. Raises ClickException where it refused, or said nothing."""
    text = session.queue.outcome(job, _HANG_UP_LIMIT)
    said: dict[str, str] = json.loads(text) if text else {}
    if not said:
        raise click.ClickException(
            f"No worker has answered within {_HANG_UP_LIMIT:.0f} seconds. Check `ringback queue`: "
            "a worker of a version before does not know this command."
        )
    if (why := said.get("refused")) is not None:
        raise click.ClickException(why)
    return said


def check_ended(left: Sequence[str]) -> None:
    """Raise ClickException if calls are left that did not end in time."""
    if left:
        raise click.ClickException(
            f"{len(left)} calls have not ended within {_HANG_UP_LIMIT:.0f} seconds. They end when "
            "the switch gets the command: check `ringback switch list` and `ringback queue`."
        )


@command.command()
@filters
@as_json_lines
def watch(as_json: bool, **which: str | None) -> None:
    """Show live calls as they come, change and end, until Ctrl-C."""
    session = Session.open()
    try:
        if sys.stdout.isatty() and not as_json:
            _watch_on_screen(session, which)
        before: dict[str, int] = {}
        while True:
            now = {call.id: call for call in matching(session, which)}
            changed = [call for call in now.values() if before.get(call.id) != call.version]
            gone = session.calls.get_many(before.keys() - now.keys())
            for call in (*reversed(changed), *filter(None, gone)):
                put_json_line(words.document(call)) if as_json else click.echo(_line(call))
            before = {call.id: call.version for call in now.values()}
            time.sleep(_LOOK)
    except KeyboardInterrupt:
        return


def _watch_on_screen(session: Session, which: dict[str, str | None]) -> NoReturn:
    from rich.live import Live

    from ringback_cli.screen import console

    out = console()
    with Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            # The lines that the table's title, heading and frame take.
            shown = _some(matching(session, which), max(1, out.height - 5))
            live.update(_watched(session, shown), refresh=True)
            time.sleep(_LOOK)


def matching(
    session: Session, which: dict[str, str | None], state: State | None = None
) -> Iterator[Call]:
    """The calls that match, newest first: live calls, or calls in ``state``."""
    from app.store import index
    from app.store.index import ALL, Span

    keys, ended = session.keys, state is State.ENDED
    extension, user, switch = which["extension"], which["user"], which["switch"]
    extension = session.extended(extension) if extension else None
    if user is not None and user not in session.accounts.users:
        raise click.ClickException(
            f"There is no user {user}. `ringback accounts show` lists all users."
        )
    key = keys.records if ended else keys.calls
    if ended and user:
        key = keys.user_records(user)
    elif not ended and (extension or user or switch):
        # The shortest index that has all of them. _matches looks at the rest.
        by_user = keys.user_calls(user) if user else keys.switch_calls(switch or "")
        key = keys.extension_calls(extension) if extension else by_user
    # Records outlive their calls.
    kept = Span(session.now() - session.settings.retention - _LONGEST) if ended else ALL
    for some in index.walk(session.redis, key, kept):
        for call in session.calls.get_many([call_id for call_id, _ in some]):
            if call is not None and _matches(call, state, extension, user, switch, which["number"]):
                yield call


def _matches(
    call: Call,
    state: State | None,
    extension: str | None,
    user: str | None,
    switch: str | None,
    number: str | None,
) -> bool:
    if call.state is not state if state else call.state is State.ENDED:
        return False
    return (
        (extension is None or extension in call.extensions)
        and (user is None or user in call.users)
        and (switch is None or switch == call.switch)
        and (number is None or any(_same(leg.number, number) for leg in call.legs))
    )


def _same(number: str, asked: str) -> bool:
    from app.numbers import same, without_punctuation

    asked = without_punctuation(asked)
    return asked in (number, number.partition("*")[2]) or same(number) == same(asked)


def _some(calls: Iterable[Call], most: int) -> list[Call]:
    return [call for _, call in zip(range(most), calls, strict=False)]


def _named(session: Session, ids: Sequence[str]) -> list[Call]:
    found = dict(zip(ids, session.calls.get_many(ids), strict=True))
    if missing := [call_id for call_id, call in found.items() if call is None]:
        raise click.ClickException(_unknown(missing))
    return [call for call in found.values() if call is not None]


def _unknown(ids: Sequence[str]) -> str:
    return (
        f"Redis has no call {', '.join(ids)}. It keeps an ended call for RINGBACK_RETENTION "
        "seconds. `ringback calls list` lists live calls, `ringback cdr export` writes records."
    )


def hang_up(session: Session, chosen: Sequence[Call]) -> list[str]:
    """Request a hang-up of all calls, then wait for each. Returns the ids of the calls that have
    not ended in time."""
    from ringback_cli.placing import caller
    from ringback_cli.screen import progress

    service, asking = session.phone_calls(), caller(session.accounts)
    left = []
    with progress() as bar:
        asked = bar.add_task("requested", total=len(chosen))
        service.hang_up(asking, chosen, None)
        bar.update(asked, completed=len(chosen))
        ended = bar.add_task("ended", total=len(chosen))
        limit = time.monotonic() + _HANG_UP_LIMIT
        for call in chosen:
            within = max(0.0, limit - time.monotonic())
            now = session.calls.wait(call.id, lambda c: c.state is State.ENDED, within)
            if now is not None and now.state is not State.ENDED:
                left.append(call.id)
            else:
                bar.advance(ended)
    return left


def _table(calls: Sequence[Call], now: float) -> "Table":
    from ringback_cli import screen

    ended = any(call.state is State.ENDED for call in calls)
    made = screen.table(
        *("id", "state", "age", "extension", "source", "destination", "switch"),
        *(("cause",) if ended else ()),
    )
    for call in calls:
        until = call.ended if call.ended is not None else now
        made.add_row(
            call.id,
            screen.state_text(call),
            words.age(until - call.accepted),
            call.extension,
            _numbers(call.sources),
            _numbers(call.destinations) or call.conference or "",
            call.switch or "",
            *((call.hangup_cause or "",) if ended else ()),
        )
    return made


def _numbers(legs: Iterable[Any]) -> str:
    return " ".join(dict.fromkeys(leg.number for leg in legs))


def _watched(session: Session, calls: Sequence[Call]) -> "Table":
    made = _table(calls, session.now())
    total = session.redis.zcard(session.keys.calls)
    made.title = f"{len(calls)} of {total} live calls  ·  Ctrl-C ends"
    made.title_justify = "left"
    return made


def _line(call: Call) -> str:
    state = words.ending(call) or call.state.value
    parties = f"{_numbers(call.sources)} → {_numbers(call.destinations) or call.conference or ''}"
    return f"{call.id}  {call.extension}  {parties}  {state}"


def _fields(call: Call) -> "Table":
    """The fields of the call without its legs. Times are shown in UTC."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    row = words.document(call)
    del row["id"], row["legs"]
    for name, value in row.items():
        made.add_row(name, words.clock(value) if isinstance(value, float) else str(value))
    return made


def _happened(call: Call, notes: Sequence[dict[str, str]]) -> "Table":
    from ringback_cli import screen

    made = screen.table("seconds", "what", "name", "leg", "", right=("seconds",))
    styles = {"change": "bold green", "command": "cyan", "request": "magenta", "reply": ""}
    for note in notes:
        made.add_row(
            words.offset(float(note["at"]), call.accepted),
            note["kind"],
            note["name"],
            note.get("leg", ""),
            "  ".join(filter(None, (note.get("data"), words.asker(note)))),
            style=styles.get(note["kind"], "dim"),
        )
    return made
