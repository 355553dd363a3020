"""`ringback calls`: list, show, hang up, watch."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.calls.model import Call, State
from app.store import index
from app.store.index import ALL, Span
from workers.commands import complete, words
from workers.commands.call import caller, phone_calls
from workers.commands.session import (
    Session,
    as_json,
    as_json_lines,
    console,
    progress,
    put_json,
    put_json_line,
    tell,
)
from workers.commands.timeline import lanes

# Seconds between two looks of `watch`, and that `hangup` waits for the switch.
_LOOK = 1.0
_HANG_UP_LIMIT = 10.0
# Seconds from its acceptance to its end that a call can last: its waiting and its talk, a day each.
_LONGEST = 2 * 86_400.0


def _not_empty(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value == "":
        # A shell variable that is not set: it must not mean all.
        raise click.BadParameter("It is empty.")
    return value


def _option(name: str, text: str, shell_complete: Any = None) -> Callable[..., Any]:
    return click.option(name, callback=_not_empty, help=text, shell_complete=shell_complete)


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which calls."""
    for option in (
        _option("--number", "With that number on any side."),
        _option("--switch", "On that switch.", complete.switches),
        _option("--user", "Of that user's extensions.", complete.users),
        _option("--extension", "That it is in.", complete.extensions),
    ):
        command = option(command)
    return command


@click.group("calls")
def command() -> None:
    """Calls: list, show, hang up, watch."""


@command.command("list")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Live without.")
@filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json
def list_(state: str | None, limit: int, as_json: bool, **which: str | None) -> None:
    """Live calls, newest first; with --state ended those that are kept."""
    session = Session.open()
    found = _some(matching(session, which, State(state) if state else None), limit + 1)
    shown, more = found[:limit], len(found) > limit
    if as_json:
        put_json([words.document(call) for call in shown])
        return
    console().print(_table(shown, session.store.now()))
    if more:
        tell(f"There are more than these {limit}: see --limit.")
    elif not shown:
        tell("No call matches.")


@command.command()
@click.argument("call_id", metavar="ID", shell_complete=complete.calls)
@as_json
def show(call_id: str, as_json: bool) -> None:
    """All that is known of a call: its fields, its legs, and what happened when."""
    session = Session.open()
    call = session.store.get(call_id)
    if call is None:
        raise click.ClickException(_unknown([call_id]))
    notes = session.store.timeline(call_id)
    if as_json:
        put_json({**words.document(call), "timeline": notes})
        return
    out = console()
    out.print(
        Text.assemble(
            (f"call {call.id}", "bold"), "  ", words.ending(call) or words.state_text(call)
        )
    )
    out.print(_fields(call), "", words.legs_table(call), "", sep="\n")
    width = out.width if out.is_terminal else min(out.width, 100)
    for line in lanes(call, notes, session.store.now(), width):
        out.print(line, no_wrap=True, overflow="crop")
    out.print("", _happened(call, notes), sep="\n")


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]…", shell_complete=complete.live_calls)
@filters
@click.option("--all", "every", is_flag=True, help="All live calls.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def hangup(
    ids: tuple[str, ...], every: bool, yes: bool, as_json: bool, **which: str | None
) -> None:
    """Hang up calls by id, those that match, or --all."""
    if bool(ids) + any(which.values()) + every != 1:
        raise click.UsageError("Give ids, or options that say which, or --all.")
    session = Session.open()
    chosen = _named(session, ids) if ids else list(matching(session, which))
    if not ids and chosen and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"These are {len(chosen)} calls: add --yes.")
        click.confirm(f"Hang up {len(chosen)} calls?", abort=True, err=True)
    left = _hang_up(session, chosen)
    if as_json:
        ended = [call.id for call in chosen if call.id not in left]
        put_json({"ended": ended, "pending": left})
    else:
        click.echo(f"{len(chosen) - len(left)} ended")
    if left:
        raise click.ClickException(
            f"{len(left)} have not ended within {_HANG_UP_LIMIT:.0f} seconds. They will as soon as "
            "their switch is told: `ringback switch list`, `ringback queue`."
        )


@command.command()
@filters
@as_json_lines
def watch(as_json: bool, **which: str | None) -> None:
    """Live calls as they come, change and go, until Ctrl-C."""
    session = Session.open()
    out = console()
    try:
        if out.is_terminal and not as_json:
            with Live(console=out, auto_refresh=False, screen=True) as live:
                while True:
                    # What is above the table, its heading and its lines.
                    shown = _some(matching(session, which), max(1, out.height - 5))
                    live.update(_watched(session, shown), refresh=True)
                    time.sleep(_LOOK)
        before: dict[str, int] = {}
        while True:
            now = {call.id: call for call in matching(session, which)}
            changed = [call for call in now.values() if before.get(call.id) != call.version]
            gone = session.store.get_many(before.keys() - now.keys())
            for call in (*reversed(changed), *filter(None, gone)):
                put_json_line(words.document(call)) if as_json else click.echo(_line(call))
            before = {call.id: call.version for call in now.values()}
            time.sleep(_LOOK)
    except KeyboardInterrupt:
        return


def matching(
    session: Session, which: dict[str, str | None], state: State | None = None
) -> Iterator[Call]:
    """The calls that match, newest first: live ones, or of a state."""
    keys, ended = session.keys, state is State.ENDED
    extension, user, switch = which["extension"], which["user"], which["switch"]
    extension = session.extended(extension) if extension else None
    if user is not None and user not in session.accounts.users:
        raise click.ClickException(f"There is no user {user}: see `ringback accounts show`.")
    key = keys.records if ended else keys.calls
    if ended and user:
        key = keys.user_records(user)
    elif not ended and (extension or user or switch):
        # The shortest list that has them all; what else is asked for is looked at in each.
        by_user = keys.user_calls(user) if user else keys.switch_calls(switch or "")
        key = keys.extension_calls(extension) if extension else by_user
    # Records outlive their calls.
    kept = Span(session.store.now() - session.settings.retention - _LONGEST) if ended else ALL
    for some in index.walk(session.redis, key, kept):
        for call in session.store.get_many([call_id for call_id, _ in some]):
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
    return asked in (number, number.partition("*")[2]) or number.lstrip("+") == asked.lstrip("+")


def _some(calls: Iterable[Call], most: int) -> list[Call]:
    return [call for _, call in zip(range(most), calls, strict=False)]


def _named(session: Session, ids: Sequence[str]) -> list[Call]:
    found = dict(zip(ids, session.store.get_many(ids), strict=True))
    if missing := [call_id for call_id, call in found.items() if call is None]:
        raise click.ClickException(_unknown(missing))
    return [call for call in found.values() if call is not None]


def _unknown(ids: Sequence[str]) -> str:
    return (
        f"There is no call {', '.join(ids)}, or it is kept no more (RINGBACK_RETENTION). "
        "`ringback calls list` has those that are live, `ringback cdr export` the records."
    )


def _hang_up(session: Session, chosen: Sequence[Call]) -> list[str]:
    """Ask for all, then wait for each; the ids of those that have not ended in time."""
    service, asking = phone_calls(session), caller(session.accounts)
    left = []
    with progress() as bar:
        asked = bar.add_task("asked", total=len(chosen))
        for call in chosen:
            service.hang_up(asking, [call], None)
            bar.advance(asked)
        ended = bar.add_task("ended", total=len(chosen))
        limit = time.monotonic() + _HANG_UP_LIMIT
        for call in chosen:
            within = max(0.0, limit - time.monotonic())
            now = session.store.wait(call.id, lambda c: c.state is State.ENDED, within)
            if now is not None and now.state is not State.ENDED:
                left.append(call.id)
            else:
                bar.advance(ended)
    return left


def _table(calls: Sequence[Call], now: float) -> Table:
    ended = any(call.state is State.ENDED for call in calls)
    made = words.table(
        *("id", "state", "age", "extension", "source", "destination", "switch"),
        *(("cause",) if ended else ()),
    )
    for call in calls:
        until = call.ended if call.ended is not None else now
        made.add_row(
            call.id,
            words.state_text(call),
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


def _watched(session: Session, calls: Sequence[Call]) -> Table:
    made = _table(calls, session.store.now())
    total = session.redis.zcard(session.keys.calls)
    made.title = f"{len(calls)} of {total} live calls  ·  Ctrl-C ends"
    made.title_justify = "left"
    return made


def _line(call: Call) -> str:
    state = words.ending(call) or call.state.value
    parties = f"{_numbers(call.sources)} → {_numbers(call.destinations) or call.conference or ''}"
    return f"{call.id}  {call.extension}  {parties}  {state}"


def _fields(call: Call) -> Table:
    """What the call is, apart from its legs; its times by the clock."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    row = words.document(call)
    del row["id"], row["legs"]
    for name, value in row.items():
        made.add_row(name, words.clock(value) if isinstance(value, float) else str(value))
    return made


def _happened(call: Call, notes: Sequence[dict[str, str]]) -> Table:
    made = words.table("seconds", "what", "name", "leg", "", right=("seconds",))
    styles = {"change": "bold green", "command": "cyan", "request": "magenta", "reply": ""}
    for note in notes:
        made.add_row(
            words.offset(float(note["at"]), call.accepted),
            note["kind"],
            note["name"],
            note.get("leg", ""),
            note.get("data", ""),
            style=styles.get(note["kind"], "dim"),
        )
    return made
