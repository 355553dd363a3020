"""What an event of the switch tells of a leg of ours."""

from app.calls.transitions import LegReport
from freeswitch.events import Event

# The last events of a leg: only these carry its final cause.
_LAST = frozenset({"CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"})


def leg_report(event: Event) -> LegReport | None:
    """Read a channel event; None for one that is of no channel.

    Every event carries the times of all that has happened to its channel so far, so that
    those before it are not missed where they were lost.
    """
    headers = event.headers
    uuid = headers.get("Unique-ID")
    if uuid is None:
        return None
    last = event.name in _LAST
    bridged_to = headers.get("variable_last_bridge_to") or headers.get("Bridge-B-Unique-ID")
    return LegReport(
        uuid=uuid,
        created=_time(event, "Created"),
        early_media=_time(event, "Progress-Media"),
        ringing=_time(event, "Progress"),
        answered=_time(event, "Answered"),
        bridged=_time(event, "Bridged"),
        ended=_time(event, "Hangup") if last else None,
        cause=headers.get("Hangup-Cause") if last else None,
        sip_disposition=headers.get("variable_sip_hangup_disposition") if last else None,
        originate_disposition=headers.get("variable_originate_disposition") if last else None,
        peers=_peers(event),
        bridged_to=bridged_to,
    )


def _time(event: Event, name: str) -> float | None:
    """A Caller-Channel-…-Time header: microseconds since the epoch, 0 for what never was."""
    text = event.headers.get(f"Caller-Channel-{name}-Time", "0")
    return int(text) / 1e6 if text.isdecimal() and int(text) else None


def _peers(event: Event) -> tuple[str, ...]:
    """The channels an event names beside its own."""
    # One entry is a string, several are a list: "<uuid>;<cause>".
    causes = event.headers.get("variable_originate_causes", ())
    dialled = [causes] if isinstance(causes, str) else causes
    named = [entry.partition(";")[0] for entry in dialled]
    named += [
        event.headers.get(name, "") for name in ("Other-Leg-Unique-ID", "variable_last_bridge_to")
    ]
    return tuple(dict.fromkeys(filter(None, named)))
