"""Calls, legs and times as text and for JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from app.calls.model import LEG_PREFIX, SECRETS, Call, Leg, Phase, State

# By their numbers (app.calls.transitions).
DISPOSITIONS = ("answered", "busy", "failed", "no answer", "unknown", "not allowed")
_PHASES = {
    Phase.QUEUED: ("", ""),
    Phase.DIALING: ("dialled", "cyan"),
    Phase.RINGING: ("ringing", "yellow"),
    Phase.ANSWERED: ("answered", "blue"),
    Phase.BRIDGED: ("bridged", "green"),
    Phase.ENDED: ("ended", "dim"),
}
# What a leg does when its field of that name is set.
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
    "recording": "starts to be recorded",
    "recorded": "stops to be recorded",
    "voicemail": "is sent to a mailbox",
    "ended": "has ended",
}


def document(call: Call) -> dict[str, Any]:
    """The call for JSON: the names of the Redis hash, times in epoch seconds."""
    row = without_none(asdict(call) | dict.fromkeys(SECRETS))
    row["legs"] = [without_none(leg) for leg in row["legs"]]
    row["actions"] = [without_none(asked) for asked in row["actions"]]
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


def asker(entry: Mapping[str, str]) -> str:
    """Who asked, of an entry of a timeline or of the audit: ``by app boss (user 12) from
    192.0.2.7``; '' where the entry does not say."""
    said = [f"by app {entry['app']}"] if "app" in entry else []
    said += [f"(user {entry['user']})"] if "user" in entry else []
    said += [f"from {entry['address']}"] if "address" in entry else []
    return " ".join(said)


def disposition(call: Call) -> str:
    return "ended" if call.disposition is None else DISPOSITIONS[call.disposition]


def ending(call: Call) -> str:
    """How a call has ended: ``busy (USER_BUSY, by source)``; '' for a live call."""
    if call.state is not State.ENDED:
        return ""
    return f"{disposition(call)} ({call.hangup_cause}, by {call.ended_by})"


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


def told(changed: Mapping[str, str], numbers: Mapping[str, str]) -> Iterator[str]:
    """Lines that tell the changed fields of a call's hash. ``numbers`` are its legs' by leg id."""
    for name in changed:
        if not name.startswith(LEG_PREFIX):
            continue
        _, leg, what = name.split(":", 2)
        if what in _TOLD:
            cause = changed.get(f"{LEG_PREFIX}{leg}:cause", "") if what == "ended" else ""
            yield f"leg {leg:4} {numbers.get(leg, ''):12} {_TOLD[what]}  {cause}".rstrip()
    if "hangup_requested" in changed:
        yield "call will be hung up"
    if "state" in changed:
        line = f"call is {changed['state']}"
        if changed["state"] == State.ENDED and "disposition" in changed:
            word = DISPOSITIONS[int(changed["disposition"])]
            line = f"call has ended: {word}, {changed.get('hangup_cause', '')}"
        yield line
