"""`ringback events`: follows every change of every call."""

from collections.abc import Iterator
from typing import Any

import click
import orjson
from rich.text import Text

from app.calls.model import State
from app.store.client import BLOCK_LIMIT
from workers.commands import complete, words
from workers.commands.session import Session, as_json_lines, console, put_json_line


@click.command("events")
@click.option("--extension", shell_complete=complete.extensions, help="Of calls charged to it.")
@click.option("--call", "call_id", shell_complete=complete.live_calls, help="Of that call.")
@as_json_lines
def command(extension: str | None, call_id: str | None, as_json: bool) -> None:
    """Changes of calls from now on, until Ctrl-C; of one call until it has ended."""
    session = Session.open()
    # Before the call is looked at: its end must not fall between.
    newest: Any = session.redis.xrevrange(session.keys.events, count=1)
    begin = newest[0][0] if newest else "0"
    if call_id is not None:
        call = session.store.get(call_id)
        if call is None or call.state is State.ENDED:
            why = "has ended" if call else "does not exist"
            raise click.ClickException(f"Call {call_id} {why}: see `ringback calls show`.")
    number = session.extended(extension) if extension else None
    out = console()
    numbers = _Numbers(session)
    try:
        for event in _follow(session, begin):
            if call_id not in (None, event["call"]) or number not in (None, event["extension"]):
                continue
            if as_json:
                put_json_line(event)
            else:
                for line in words.told(event["changed"], numbers.of(event)):
                    at = words.clock(event["at"]).partition(" ")[2]
                    style = "bold" if line.startswith("call") else ""
                    out.print(Text.assemble((f"{at}  {event['call']}  ", "dim"), (line, style)))
            if call_id and event["changed"].get("state") == State.ENDED:
                return
    except KeyboardInterrupt:
        return


def _follow(session: Session, last: Any) -> Iterator[dict[str, Any]]:
    """The entries of the stream after one: texts, the time in epoch seconds, what changed."""
    key = session.keys.events
    while True:
        reply: Any = session.redis.xread({key: last}, block=int(BLOCK_LIMIT * 1000))
        for _, entries in reply or ():
            for last, fields in entries:
                event: dict[str, Any] = {k.decode(): v.decode() for k, v in fields.items()}
                event["id"], event["at"] = last.decode(), float(event["at"])
                event["version"] = int(event["version"])
                event["changed"] = orjson.loads(event["changed"])
                yield event


class _Numbers:
    """The numbers of legs, by call while it is live: an event has them with its first change
    alone."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, dict[str, str]] = {}

    def of(self, event: dict[str, Any]) -> dict[str, str]:
        call_id, changed = event["call"], event["changed"]
        numbers = self._known.get(call_id)
        if numbers is None:
            call = self._session.store.get(call_id)
            numbers = {leg.id: leg.number for leg in call.legs} if call else {}
            self._known[call_id] = numbers
        for name, text in changed.items():
            if name.endswith(":number"):
                numbers[name.split(":")[1]] = text
        if event["state"] == State.ENDED:
            self._known.pop(call_id)
        return numbers
