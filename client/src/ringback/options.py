"""The options of a new call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Required, TypedDict

# One number, or several of which the first to answer counts.
Numbers = str | Sequence[str]
Kind = Literal["simple", "callback", "conferenceInvite"]
Side = Literal["source", "destination", "both"]
StatusEvent = Literal["ringing", "answered", "bridged", "ended"]


class Accept(TypedDict, total=False):
    """The rule by which a party takes the call with a key. ``timeout`` is in seconds."""

    prompt: Required[str]
    key: str
    timeout: int
    attempts: int
    of: Side
    # Whether extensions have to press the key too.
    extensions: bool


class Announce(TypedDict, total=False):
    """An announcement that a party hears before it is connected."""

    prompt: Required[str]
    to: Side


class Headers(TypedDict, total=False):
    """SIP headers that Ringback sends to each side, by name: ``X-Account``."""

    source: Mapping[str, str]
    destination: Mapping[str, str]


class StatusCallback(TypedDict, total=False):
    """A URL that Ringback tells of the call's statuses, and of which."""

    url: Required[str]
    events: Sequence[StatusEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A call to place. The options are those of :meth:`ringback.Client.simple`. An invitation to a
    conference has no source."""

    destination: Numbers
    source: Numbers | None = None
    caller_id: str | None = None
    caller_id_destination: str | None = None
    ringback: str | None = None
    accept: Accept | Literal[False] | None = None
    announce: Announce | Literal[False] | None = None
    headers: Headers | None = None
