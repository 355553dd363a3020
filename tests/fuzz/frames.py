"""Whatever bytes come from a switch: what a listener may do with them."""

import json
from pathlib import Path

from app.calls.model import Call, Leg, NumberKind, Role, from_hash, to_hash
from freeswitch.events import Event
from freeswitch.framing import MAX_EVENT, Frame, FrameParser, FramingError
from workers.listener import heard as hearing

RECORDED = Path(__file__).parents[1] / "freeswitch" / "data" / "raw-json.bin"
_ID = "0123456789abcdef0123"


def call_to_apply_to() -> Call:
    """A call whose legs are named `a` and `b`."""
    legs = tuple(
        Leg(name, role, "1", NumberKind.PUBLIC, uuid)
        for name, role, uuid in (("a1", Role.SOURCE, "a"), ("b1", Role.DESTINATION, "b"))
    )
    return Call(
        *(_ID, "simple", "app", "12", "3", "Demo", "210", 1.7e9, 25, 7200, 60, f"{_ID}-job"),
        legs=legs,
    )


CALL = call_to_apply_to()


def check_bytes(data: bytes) -> None:
    """Cut bytes into frames in two ways, which must agree, and read every event."""
    whole = _frames([data])
    middle = len(data) // 2
    assert _frames([data[:middle], data[middle:]]) == whole
    for frame in whole[0]:
        assert len(frame.body) <= MAX_EVENT or frame.content_type != "text/event-json"
        check_event(frame.body)


def _frames(parts: list[bytes]) -> tuple[list[Frame], bool]:
    """The frames of some bytes, and whether they end in what is none."""
    parser, frames = FrameParser(), []
    try:
        for part in parts:
            for at in range(0, len(part), 512):
                frames += parser.feed(part[at : at + 512])
    except FramingError as error:
        return [*frames, *error.frames], True
    return frames, False


def check_event(data: bytes) -> None:
    """Read an event, and apply it to a call. What comes of it can be written and read."""
    try:
        event = Event.from_json(data)
    except ValueError:
        return
    heard = hearing.hear(event)
    if heard is None:
        return
    call = hearing.applied(CALL, heard, 1.7e9)
    flat = to_hash(call)
    for name, value in flat.items():
        name.encode(), str(value).encode()
    assert from_hash(flat) == call
    hearing.note_of(CALL, call, heard)
    hearing.may_wait(CALL, heard)
    hearing.concerns_new_leg(CALL, heard)
    hearing.legs_to_check(call, [heard])
    hash((heard.call_id, heard.uuid))


def event_of_call(**headers: object) -> bytes:
    """The body of an event of the call."""
    named = {"Event-Name": "CHANNEL_ANSWER", "variable_ringback_call": _ID, "Unique-ID": "a"}
    return json.dumps({**named, **headers}).encode()
