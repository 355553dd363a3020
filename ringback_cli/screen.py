"""What the commands draw: the console, tables and bars. Only commands that draw import rich."""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.calls.model import Call, State
from ringback_cli import words

if TYPE_CHECKING:
    from rich.progress import Progress

# Columns of an output that is no terminal: no table is cut there.
_WIDE = 240
STYLES = {
    State.QUEUED: "dim",
    State.DIALING: "cyan",
    State.RINGING: "yellow",
    State.ANSWERED: "blue",
    State.BRIDGED: "green",
    State.ENDED: "",
}


def console(*, err: bool = False) -> Console:
    """Standard output or error. rich leaves colours out if NO_COLOR is set or it is no terminal."""
    file = sys.stderr if err else sys.stdout
    width = None if file.isatty() or "COLUMNS" in os.environ else _WIDE
    return _Console(file=file, width=width, highlight=False, emoji=False, markup=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let ringback_cli/output.py end the process; rich would end it with status 1."""
        raise


def progress() -> "Progress":
    """A bar on standard error, if that is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    out = console(err=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    )


def state_text(call: Call) -> Text:
    """The state of a live call, or the disposition of a call that has ended."""
    if call.state is State.ENDED:
        return Text(words.disposition(call), style="green" if call.disposition == 0 else "red")
    word, style = call.state.value, STYLES[call.state]
    if call.is_parked:
        word, style = "parked", "magenta"
    text = Text(word, style=f"bold {style}")
    if call.hangup_requested is not None:
        text.append(", hanging up", style="red")
    return text


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """A plain table with these headings."""
    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for name in columns:
        side: Literal["left", "right"] = "right" if name in right else "left"
        # An id stays whole, so that it can be copied.
        made.add_column(name, justify=side, overflow="fold", no_wrap=name == "id")
    return made


def legs_table(call: Call) -> Table:
    """The legs with their times, in seconds since the call was accepted."""
    times = ("dialled", "ringing", "answered", "bridged", "ended")
    made = table("leg", "number", "now", *times, right=times)
    for leg in call.legs:
        word, style = words.leg_state(leg)
        word += ", recorded" if leg.is_recorded and leg.ended is None else ""
        moments = (leg.created, leg.ringing, leg.answered, leg.bridged, leg.ended)
        made.add_row(
            leg.id,
            leg.number,
            Text(word, style=style),
            *(words.offset(at, call.accepted) for at in moments),
        )
    return made
