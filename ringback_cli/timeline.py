"""Draws a call: its legs as lanes over time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.text import Text

from app.calls.model import Call, Leg

# The sign and the style of each phase, in the order of the legend.
SIGNS = {
    "queued": ("·", "dim"),
    "dialled": ("─", "cyan"),
    "early media": ("░", "yellow"),
    "ringing": ("▒", "yellow"),
    "prompt": ("▥", "yellow"),
    "answered": ("▓", "blue"),
    "bridged": ("█", "green"),
    "on hold": ("▚", "magenta"),
    "parked": ("▞", "magenta"),
}
_NOTES = {"CHANNEL_HOLD": "on hold", "CHANNEL_UNHOLD": "bridged"}
# The begin of a phase, in epoch seconds, and its name.
Phase = tuple[float, str]
# The fields of a timeline entry (app.store.reading).
Entry = Mapping[str, str]


def call_phases(call: Call) -> list[Phase]:
    """The phases of the call, from its acceptance to its end."""
    rang = [leg.ringing or leg.early_media for leg in call.sources]
    return _ordered(
        (call.accepted, "queued"),
        (call.claimed, "dialled"),
        (min(filter(None, rang), default=None), "ringing"),
        (call.answered, "answered"),
        (call.bridged, "bridged"),
        (call.ended, ""),
    )


def leg_phases(leg: Leg, notes: Iterable[Entry] = ()) -> list[Phase]:
    """The phases of a leg. The ``notes`` of the timeline tell each hold, the leg only its last."""
    holds = [
        (float(note["at"]), _NOTES[note["name"]])
        for note in notes
        if note.get("leg") == leg.id and note["name"] in _NOTES
    ]
    return _ordered(
        (leg.created, "dialled"),
        (leg.early_media, "early media"),
        (leg.ringing, "ringing"),
        (None if leg.accept is None else leg.answered, "prompt"),
        (leg.taken, "answered"),
        (leg.bridged, "bridged"),
        *(holds or ((leg.held, "on hold"), (leg.unheld, "bridged"))),
        (leg.parked, "parked"),
        (leg.unparked, "bridged"),
        (leg.ended, ""),
    )


def _ordered(*phases: tuple[float | None, str]) -> list[Phase]:
    known = [(at, name) for at, name in phases if at is not None]
    # Phases of the same time stay in the order of the arguments.
    known.sort(key=lambda phase: phase[0])
    # No phase comes after the end, though the switch's clock may say so.
    ends = [place for place, (_, name) in enumerate(known) if not name]
    return known[: ends[0] + 1] if ends else known


def columns(moments: Sequence[float], width: int) -> list[int]:
    """The column of each moment in ``width`` columns, the first 0 and the last ``width``.

    Ascending moments keep their distances, but each has a column of its own, so that a short
    ringing before an hour of talk is seen. More moments than columns share columns.
    """
    if len(moments) < 2:
        return [0] * len(moments)
    first, length = moments[0], moments[-1] - moments[0]
    gaps = len(moments) - 1
    own = gaps <= width
    spare = width - gaps if own else width
    shares = [(at - first) / length if length else place / gaps for place, at in enumerate(moments)]
    return [(place if own else 0) + int(spare * share) for place, share in enumerate(shares)]


def lanes(call: Call, notes: Sequence[Entry], now: float, width: int) -> Iterator[Text]:
    """The lines of the drawing: the call, its legs, the seconds, the legend."""
    rows = [("call", call_phases(call))]
    for leg in call.legs:
        rows.append((f"{leg.id} {leg.number}", leg_phases(leg, notes)))
    end = call.ended if call.ended is not None else now
    known = {round(at, 2) for _, phases in rows for at, _ in phases}
    moments = sorted({*known, max([round(end, 2), *known])})
    label = min(max(len(name) for name, _ in rows), max(12, width // 3))
    room = max(10, width - label - 2)
    places = dict(zip(moments, columns(moments, room), strict=True))
    for name, phases in rows:
        yield Text.assemble(f"{name[:label]:{label}}  ", _lane(phases, places, room))
    yield Text(f"{'':{label}}  {_axis(places, room, call.accepted)}", style="dim")
    used = {name for _, phases in rows for _, name in phases}
    shown = [(name, sign) for name, sign in SIGNS.items() if name in used]
    yield Text.assemble(
        *(part for name, (sign, style) in shown for part in ((sign * 2, style), f" {name}  ")),
    )


def _lane(phases: Sequence[Phase], places: Mapping[float, int], room: int) -> Text:
    lane = Text()
    if not phases:
        return lane
    lane.append(" " * places[round(phases[0][0], 2)])
    begins = [places[round(at, 2)] for at, _ in phases]
    for (_, name), begin, end in zip(phases, begins, [*begins[1:], room], strict=True):
        if name:
            sign, style = SIGNS[name]
            lane.append(sign * (end - begin), style=style)
    return lane


def _axis(places: Mapping[float, int], room: int, begin: float) -> str:
    """The seconds since the call was accepted, as many as fit."""
    last, column = list(places.items())[-1]
    ending = f"{last - begin:.1f} s"
    line = ""
    for at, place in places.items():
        word = f"{max(0.0, at - begin):.1f}"
        if (not line or place > len(line)) and place + len(word) < column - len(ending):
            line = line.ljust(place) + word
    return line.ljust(max(0, room - len(ending))) + ending
