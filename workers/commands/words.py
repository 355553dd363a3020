"""Calls, legs and times as the commands show them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text

from app.calls.model import LEG_PREFIX, Call, Leg, Phase, State

# By their numbers (app.calls.transitions).
DISPOSITIONS = ("answered", "busy", "failed", "no answer", "unknown", "not allowed")
STYLES = {
    State.QUEUED: "dim",
    State.DIALING: "cyan",
    State.RINGING: "yellow",
    State.ANSWERED: "blue",
    State.BRIDGED: "green",
    State.ENDED: "",
}
_PHASES = {
    Phase.QUEUED: ("", ""),
    Phase.DIALING: ("dialled", "cyan"),
    Phase.RINGING: ("ringing", "yellow"),
    Phase.ANSWERED: ("answered", "blue"),
    Phase.BRIDGED: ("bridged", "green"),
    Phase.ENDED: ("ended", "dim"),
}
# What is told of a leg when its field of that name is set.
_TOLD = {
    "created": "is dialled",
    "early_media": "sends early media",
    "ringing": "rings",
    "answered": "answers",
    "bridged": "is connected",
    "held": "puts the other on hold",
    "unheld": "takes the other off hold",
    "parked": "is parked",
    "unparked": "leaves the parking lot",
    "recording": "is recorded",
    "recorded": "is recorded no more",
    "voicemail": "is sent to a mailbox",
    "ended": "has ended",
}


def document(call: Call) -> dict[str, Any]:
    """The call for JSON: the names of the Redis hash, times in epoch seconds."""
    row = without_none(asdict(call))
    row["legs"] = [without_none(leg) for leg in row["legs"]]
    return row


def without_none(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def age(seconds: float) -> str:
    """``3.2 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 59.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for size, unit, small, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {name}"
    return f"{whole // 60} min {whole % 60} s"


def clock(at: float | None) -> str:
    """A moment in UTC, to the second."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def offset(at: float | None, begin: float) -> str:
    """Seconds since the call was accepted."""
    return "" if at is None else f"{at - begin:.2f}"


def disposition(call: Call) -> str:
    return "ended" if call.disposition is None else DISPOSITIONS[call.disposition]


def ending(call: Call) -> str:
    """How a call has ended: ``busy (USER_BUSY, by source)``; '' of one that has not."""
    if call.state is not State.ENDED:
        return ""
    return f"{disposition(call)} ({call.hangup_cause}, by {call.ended_by})"


def state_text(call: Call) -> Text:
    """Where it stands; of a call that has ended its disposition."""
    if call.state is State.ENDED:
        return Text(disposition(call), style="green" if call.disposition == 0 else "red")
    text = Text(call.state.value, style=f"bold {STYLES[call.state]}")
    if call.hangup_requested is not None:
        text.append(", to be hung up", style="red")
    return text


def leg_state(leg: Leg) -> tuple[str, str]:
    """What a leg does now, and its style."""
    phase = leg.phase
    word, style = _PHASES[phase]
    if phase is Phase.ENDED:
        word = f"{word} {leg.cause or ''}".rstrip()
    elif leg.in_lot:
        word, style = f"parked {leg.parked_pos or ''}".rstrip(), "magenta"
    elif leg.on_hold:
        word, style = "bridged, holds", "magenta"
    elif phase is Phase.RINGING and leg.ringing is None:
        word = "early media"
    return word, style


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
        # Whoever copies an id wants the whole.
        made.add_column(name, justify=side, overflow="fold", no_wrap=name == "id")
    return made


def legs_table(call: Call) -> Table:
    """The legs with their times, in seconds since the call was accepted."""
    times = ("dialled", "ringing", "answered", "bridged", "ended")
    made = table("leg", "number", "now", *times, right=times)
    for leg in call.legs:
        word, style = leg_state(leg)
        word += ", recorded" if leg.is_recorded and leg.ended is None else ""
        moments = (leg.created, leg.ringing, leg.answered, leg.bridged, leg.ended)
        made.add_row(
            leg.id,
            leg.number,
            Text(word, style=style),
            *(offset(at, call.accepted) for at in moments),
        )
    return made


def told(changed: Mapping[str, str], numbers: Mapping[str, str]) -> Iterator[str]:
    """What the changed fields of a call's hash say, a line each; ``numbers`` of its legs by id."""
    for name in changed:
        if not name.startswith(LEG_PREFIX):
            continue
        _, leg, what = name.split(":", 2)
        if what in _TOLD:
            cause = changed.get(f"{LEG_PREFIX}{leg}:cause", "") if what == "ended" else ""
            yield f"leg {leg:4} {numbers.get(leg, ''):12} {_TOLD[what]}  {cause}".rstrip()
    if "hangup_requested" in changed:
        yield "call is to be hung up"
    if "state" in changed:
        line = f"call is {changed['state']}"
        if changed["state"] == State.ENDED and "disposition" in changed:
            word = DISPOSITIONS[int(changed["disposition"])]
            line = f"call has ended: {word}, {changed.get('hangup_cause', '')}"
        yield line
