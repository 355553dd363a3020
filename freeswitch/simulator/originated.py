"""The switch's record of the originate commands that it got."""

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class DialledLeg:
    """A channel of an originate command, as the called telephone sees it."""

    uuid: str
    number: str
    endpoint: str
    gateway: str | None
    caller_id_name: str
    """The name, percent-decoded once, as mod_sofia writes it into SIP."""
    caller_id_number: str
    time: float


@dataclass(slots=True)
class Originated:
    """The record of one originate command. `time` is in seconds since 1970."""

    job_uuid: str | None
    command: str
    time: float = field(default_factory=time.time)
    legs: list[DialledLeg] = field(default_factory=list)
    result: str | None = None
    """The reply to the command, None while it is under way."""
