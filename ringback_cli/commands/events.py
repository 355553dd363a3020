"""`ringback events`: follows every change of every call."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from app.calls.model import State
from ringback_cli import complete, words
from ringback_cli.session import Session, as_json_lines, put_json_line


@click.command("events")
@click.option(
    "--extension", shell_complete=complete.extensions, help="Only calls that this extension pays."
)
@click.option("--call", "call_id", shell_complete=complete.live_calls, help="Only this call.")
@as_json_lines
def command(extension: str | None, call_id: str | None, as_json: bool) -> None:
    """Follow the changes of calls.

    The command ends with Ctrl-C. With --call it ends with the call.
    """
    session = Session.open()
    # This comes before the look at the call, so that its end does not fall between.
    newest: Any = session.redis.xrevrange(session.keys.events, count=1)
    begin = newest[0][0] if newest else "0"
    if call_id is not None:
        call = session.calls.get(call_id)
        if call is None or call.state is State.ENDED:
            why = "has ended" if call else "does not exist"
            raise click.ClickException(
                f"Call {call_id} {why}. `ringback calls list` lists live calls."
            )
    number = session.extended(extension) if extension else None
    show = put_json_line if as_json else _shower(session)
    try:
        for event in _follow(session, begin):
            if call_id not in (None, event["call"]) or number not in (None, event["extension"]):
                continue
            show(event)
            if call_id and event["changed"].get("state") == State.ENDED:
                return
    except KeyboardInterrupt:
        return


def _shower(session: Session) -> Callable[[dict[str, Any]], None]:
    """A function that prints the lines of an event."""
    from rich.text import Text

    from ringback_cli.screen import console

    out = console()
    numbers = _Numbers(session)

    def show(event: dict[str, Any]) -> None:
        for line in words.told(event["changed"], numbers.of(event)):
            at = words.clock(event["at"]).partition(" ")[2]
            style = "bold" if line.startswith("call") else ""
            out.print(Text.assemble((f"{at}  {event['call']}  ", "dim"), (line, style)))

    return show


def _follow(session: Session, last: Any) -> Iterator[dict[str, Any]]:
    """The entries of the stream after ``last``, with the time in epoch seconds."""
    from app.store.client import BLOCK_LIMIT

    key = session.keys.events
    while True:
        reply: Any = session.redis.xread({key: last}, block=int(BLOCK_LIMIT * 1000))
        for _, entries in reply or ():
            for last, fields in entries:
                event: dict[str, Any] = {k.decode(): v.decode() for k, v in fields.items()}
                event["id"], event["at"] = last.decode(), float(event["at"])
                event["version"] = int(event["version"])
                event["changed"] = json.loads(event["changed"])
                yield event


class _Numbers:
    """The numbers of legs by call. Only the first event of a leg has its number."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, dict[str, str]] = {}

    def of(self, event: dict[str, Any]) -> dict[str, str]:
        call_id, changed = event["call"], event["changed"]
        numbers = self._known.get(call_id)
        if numbers is None:
            call = self._session.calls.get(call_id)
            numbers = {leg.id: leg.number for leg in call.legs} if call else {}
            self._known[call_id] = numbers
        for name, text in changed.items():
            if name.endswith(":number"):
                numbers[name.split(":")[1]] = text
        if event["state"] == State.ENDED:
            self._known.pop(call_id)
        return numbers
