"""What a channel of the switch says of itself, for channels that Redis does not know."""

import re

from app.calls.model import call_id_of, is_leg_uuid
from app.store.unknown import Unknown
from freeswitch.events import Event
from workers.leg_reports import seconds
from workers.runtime import CALL_VARIABLE

_CALL_ID = re.compile(r"[0-9a-f]{20}", re.ASCII)
# The headers that name the channels which a channel came of or is connected to.
_OTHERS = (
    "Other-Leg-Unique-ID",
    "Channel-Call-UUID",
    "variable_signal_bond",
    "variable_bridge_uuid",
    "variable_originator",
)
# The most characters of a text that a phone may have written.
_MOST = 80


def text(event: Event, name: str) -> str:
    """The value of a header; "" for none, and for a list."""
    value: object = event.headers.get(name)
    return value if isinstance(value, str) else ""


def others(event: Event) -> list[str]:
    """The uuids of the channels that a channel came of or is connected to."""
    named = dict.fromkeys(text(event, name) for name in _OTHERS)
    return [uuid for uuid in named if uuid and uuid != text(event, "Unique-ID")]


def call_of(event: Event) -> str | None:
    """The id of the call that a channel is of, by its variable, its own uuid, or the uuid of a
    channel that it came of; None for a channel of another program."""
    named = text(event, f"variable_{CALL_VARIABLE}")
    if _CALL_ID.fullmatch(named):
        return named
    uuids = [text(event, "Unique-ID"), *others(event)]
    return next((call_id_of(uuid) for uuid in uuids if is_leg_uuid(uuid)), None)


def channel_of(event: Event, uuid: str, switch: str, call_id: str, since: float) -> Unknown:
    """The unknown channel that an event of CHANNEL_DATA describes."""
    return Unknown(
        uuid=uuid,
        switch=switch,
        call=call_id,
        since=since,
        number=number_of(event),
        caller=caller_of(event),
        state=_plain(text(event, "Channel-Call-State")),
        created=seconds(text(event, "Caller-Channel-Created-Time")),
        answered=seconds(text(event, "Caller-Channel-Answered-Time")),
    )


def number_of(event: Event) -> str:
    """The number that the channel dialled."""
    user = text(event, "variable_dialed_user")
    return _plain(user or text(event, "Caller-Destination-Number"))


def caller_of(event: Event) -> str:
    """The number that the channel was shown as its caller. The switch turns the caller of a source
    round once it dials the destination."""
    said = text(event, "variable_origination_caller_id_number")
    return _plain(said or text(event, "Caller-Caller-ID-Number"))


def _plain(value: str) -> str:
    return "".join(each for each in value[:_MOST] if each.isprintable())
