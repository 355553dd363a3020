"""A change of a call, and the event that a client gets."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from app.calls.model import Call, Leg, State
from app.calls.sight import as_left
from app.web.phone_call import phone_call

# The place of an entry in Redis' stream: milliseconds, and its number within that one.
Place = tuple[int, int]
START: Place = (0, 0)

_PLACE = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
# Fields that change without the call, or that differ between clients.
_LEFT_OUT = ("link", "links", "switchUnreachable", "queuePosition", "expectedWait")


def parse_place(text: str) -> Place | None:
    """The place that a text such as ``1700000000000-0`` names; None for any other text."""
    match = _PLACE.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def place_text(place: Place) -> str:
    return f"{place[0]}-{place[1]}"


def stream_call(call: Call) -> dict[str, Any]:
    """The PhoneCall as the stream and status callbacks have it."""
    return {n: v for n, v in phone_call(call, "").items() if n not in _LEFT_OUT}


@dataclass(frozen=True)
class CapAlert:
    """A cap of which 80 or 100 percent are used."""

    # Such as ``organization:3``.
    holder: str
    cap: str
    # What the cap counts apart: a number.
    of: str
    percent: int
    # In the units of the accounts.
    used: float
    limit: float
    # Epoch seconds by Redis' clock.
    at: float

    @cached_property
    def text(self) -> bytes:
        """The text of the event. It has no id: an alert is not sent again."""
        found = {"holder": self.holder, "cap": self.cap, "percent": self.percent}
        found |= {"used": self.used, "limit": self.limit, "at": self.at}
        data = orjson.dumps({**found, "number": self.of} if self.of else found)
        return b"event: quota\ndata: %b\n\n" % data


@dataclass(frozen=True)
class ReadCall:
    """A call, and when it was read, in monotonic seconds."""

    call: Call
    at: float = 0.0

    @cached_property
    def resource(self) -> orjson.Fragment:
        """The PhoneCall as JSON, made once for all changes that show it."""
        return orjson.Fragment(orjson.dumps(stream_call(self.call)))


@dataclass(frozen=True)
class CallChange:
    """An entry of the stream, with the call at the time when the entry was read."""

    place: Place
    state: str
    version: int
    # Epoch seconds by Redis' clock.
    at: float
    call: Call
    # The changed fields of the hash, as JSON.
    changed: bytes = b""
    # The call as it was read for this change and others.
    read: ReadCall | None = field(default=None, compare=False)

    @cached_property
    def text(self) -> bytes:
        """The text of the event, made once for all subscribers."""
        read = self.read or ReadCall(self.call)
        return self._text(read.resource, self.state)

    def ends(self, legs: tuple[Leg, ...]) -> bool:
        """Whether this is the change with which the last of these legs ended."""
        return bool(legs) and any(f'"leg:{leg.id}:ended":'.encode() in self.changed for leg in legs)

    def text_for_left(self, legs: tuple[Leg, ...]) -> bytes:
        """The text that tells the owner of these legs of their end. It says nothing of what became
        of the call."""
        return self._text(stream_call(as_left(self.call, legs)), State.ENDED, left=True)

    def _text(self, shown: Any, state: str, **more: bool) -> bytes:
        data = orjson.dumps(
            {
                "id": self.call.id,
                "state": state,
                "version": self.version,
                "at": self.at,
                **more,
                "phoneCall": shown,
            }
        )
        return b"id: %b\nevent: call\ndata: %b\n\n" % (place_text(self.place).encode(), data)
