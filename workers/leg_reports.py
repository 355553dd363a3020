"""Leg reports: the facts about a leg in an event of the switch."""

import re
from functools import partial
from typing import Any

from app.calls.transitions import LegReport, Marks
from freeswitch.events import Event
from workers.leg_endings import leg_ending

# The last events of a leg: only these carry its final cause.
_LAST = frozenset({"CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"})
_MICROS = re.compile(r"[0-9]{1,16}", re.ASCII)


def leg_report(event: Event) -> LegReport | None:
    """The report in a channel's event; None for an event of no channel.

    Every event carries the times of all that has happened to its channel so far, and so makes up
    for lost events.
    """
    get = partial(_text, event)
    uuid = get("Unique-ID")
    if uuid is None:
        return None
    last = event.name in _LAST
    last_bridge_to = get("variable_last_bridge_to")
    # One entry is a string, several are a list: "<uuid>;<cause>".
    causes = event.headers.get("variable_originate_causes", ())
    dialled = [causes] if isinstance(causes, str) else causes
    named = [entry.partition(";")[0] for entry in dialled]
    named += [get("Other-Leg-Unique-ID") or "", last_bridge_to or ""]
    answered = seconds(get("Caller-Channel-Answered-Time"))
    return LegReport(
        uuid=uuid,
        created=seconds(get("Caller-Channel-Created-Time")),
        early_media=_before(answered, seconds(get("Caller-Channel-Progress-Media-Time"))),
        ringing=_before(answered, seconds(get("Caller-Channel-Progress-Time"))),
        answered=answered,
        # The switch sets it on a channel that dials: a source whose turn it was to accept is past
        # that. Nothing else says so later where the originate's result was lost.
        accepted=_at(event) if get("variable_originate_disposition") else None,
        bridged=seconds(get("Caller-Channel-Bridged-Time")),
        ended=seconds(get("Caller-Channel-Hangup-Time")) if last else None,
        cause=get("Hangup-Cause") if last else None,
        sip_disposition=get("variable_sip_hangup_disposition") if last else None,
        originate_disposition=get("variable_originate_disposition") if last else None,
        # The other channels that the event names.
        peers=tuple(dict.fromkeys(filter(None, named))),
        # The variable may still name the previous partner.
        bridged_to=get("Bridge-B-Unique-ID") or last_bridge_to,
        marks=_marks(event),
        ending=leg_ending(event) if last else None,
    )


def _before(answered: float | None, at: float | None) -> float | None:
    """When a leg rang or sent early media. After its answer, that was the leg that it dials: the
    switch notes the times of both on a source that has heard neither before."""
    return at if answered is None or at is None or at <= answered else None


def accepted_report(event: Event) -> LegReport | None:
    """The report in the result of an originate: the leg that it names was answered, and has
    accepted if it had to. None if the originate failed."""
    result, _, uuid = (event.body or "").strip().partition(" ")
    if result != "+OK" or not uuid:
        return None
    # Its own events may have been lost; what they say of the first two is earlier, and wins.
    at = _at(event)
    return LegReport(uuid, created=at, answered=at, accepted=at)


def _marks(event: Event) -> Marks | None:
    get = partial(_text, event)
    marks: dict[str, Any] = {}
    if (held := seconds(get("Caller-Channel-Last-Hold"))) is not None:
        # Every event says when the channel was last put on hold, and whether it still is.
        marks["held"] = held
        if get("Channel-Call-State") != "HELD":
            marks["unheld"] = _at(event)
    if event.name == "RECORD_START":
        marks["recording"] = _at(event)
        marks["recording_file"] = get("Record-File-Path")
    elif event.name == "RECORD_STOP":
        marks["recorded"] = _at(event)
    elif event.name == "CHANNEL_DATA":
        # A look at the channel, for events that were lost.
        if get("variable_current_application") == "valet_park":
            marks["stands_parked"] = _at(event)
            marks["parked_pos"] = get("variable_valet_lot_extension")
        else:
            marks["unparked"] = _at(event)
    elif event.name == "CUSTOM" and get("Event-Subclass") == "valet_parking::info":
        if get("Action") == "hold":
            marks["parked"] = _at(event)
            marks["parked_pos"] = get("Valet-Extension")
        else:
            marks["unparked"] = _at(event)
    return Marks(**marks) if marks else None


def _at(event: Event) -> float | None:
    """The time of an event by the switch's clock, in epoch seconds."""
    return seconds(_text(event, "Event-Date-Timestamp"))


def _text(event: Event, name: str) -> str | None:
    """The value of a header that has one, and not a list."""
    value: object = event.headers.get(name)
    return value if isinstance(value, str) else None


def seconds(text: object) -> float | None:
    """The epoch seconds of a header in microseconds; None for 0, and for what is no time before the
    year 2286."""
    micros = int(text) if isinstance(text, str) and _MICROS.fullmatch(text) else 0
    return micros / 1e6 if micros else None
