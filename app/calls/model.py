"""Call and Leg: plain values, and their form in Redis.

Times are seconds since the epoch as floats with microseconds, as the switch
stamps its events. A field without a value is left out of the Redis hash.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

# The names a leg's own hash fields begin with: leg:a1:uuid, leg:a1:ringing, ...
LEG_PREFIX = "leg:"


class State(StrEnum):
    """A call's states in their order; a call never moves back."""

    QUEUED = "queued"
    DIALING = "dialing"
    RINGING = "ringing"
    ANSWERED = "answered"
    BRIDGED = "bridged"
    ENDED = "ended"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {state: rank for rank, state in enumerate(State)}


class Role(StrEnum):
    SOURCE = "source"
    DESTINATION = "destination"


class NumberKind(StrEnum):
    EXTENSION = "extension"
    PUBLIC = "public"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Leg:
    """One channel on the switch that the call may use.

    A party with several gateways has one leg for each, tried in their order:
    ``a1``, then ``a1.2``. ``gateway`` or ``dial_string`` says how it is reached.
    """

    id: str
    role: Role
    number: str
    kind: NumberKind
    uuid: str
    gateway: str | None = None
    dial_string: str | None = None
    created: float | None = None
    early_media: float | None = None
    ringing: float | None = None
    answered: float | None = None
    bridged: float | None = None
    ended: float | None = None
    cause: str | None = None
    # A client wants this party out.
    hangup_requested: float | None = None
    # How SIP ended it: recv_bye, send_bye, recv_refuse, send_cancel, recv_cancel.
    sip_disposition: str | None = None
    # On an answered source: what became of dialling the destination.
    originate_disposition: str | None = None

    @property
    def party(self) -> str:
        """The party this leg is an attempt at: ``a1`` of ``a1.2``."""
        return self.id.partition(".")[0]

    @property
    def live(self) -> bool:
        return self.created is not None and self.ended is None


@dataclass(frozen=True, slots=True)
class Call:
    """One phone call, from its acceptance to its end."""

    id: str
    kind: str
    app: str
    user: str
    organization: str
    organization_name: str
    extension: str
    accepted: float
    wait_for_pickup: int
    call_duration: int
    queue_timeout: int
    job_uuid: str
    legs: tuple[Leg, ...] = ()
    state: State = State.QUEUED
    version: int = 0
    # Random, another with each version: after a fail-over of Redis the same number may be that
    # of another change.
    stamp: str | None = None
    nonce: str | None = None
    request_digest: str | None = None
    caller_id: str | None = None
    caller_id_destination: str | None = None
    allow_public_transfer: bool = False
    video: bool = False
    retention: int = 86_400
    # The claim: who dials, and on which run of which switch.
    worker: str | None = None
    switch: str | None = None
    core_uuid: str | None = None
    claimed: float | None = None
    sent: float | None = None
    hangup_requested: float | None = None
    # What the switch answered to the originate, when it refused it: USER_BUSY, INVALID_GATEWAY, ...
    originate_error: str | None = None
    answered: float | None = None
    bridged: float | None = None
    ended: float | None = None
    hangup_cause: str | None = None
    ended_by: str | None = None
    disposition: int | None = None

    @property
    def sources(self) -> tuple[Leg, ...]:
        return tuple(leg for leg in self.legs if leg.role is Role.SOURCE)

    @property
    def destinations(self) -> tuple[Leg, ...]:
        return tuple(leg for leg in self.legs if leg.role is Role.DESTINATION)

    @property
    def extensions(self) -> tuple[str, ...]:
        """The extensions in the call, the charged one first."""
        parties = (leg.number for leg in self.legs if leg.kind is NumberKind.EXTENSION)
        return tuple(dict.fromkeys((self.extension, *parties)))

    @property
    def winner(self) -> Leg | None:
        """The source that answered and was kept."""
        answered = [leg for leg in self.sources if leg.answered and leg.cause != "LOSE_RACE"]
        return min(answered, key=lambda leg: leg.answered or 0.0, default=None)

    def leg(self, uuid: str) -> Leg | None:
        return next((leg for leg in self.legs if leg.uuid == uuid), None)

    def with_leg(self, leg: Leg) -> "Call":
        legs = tuple(leg if old.id == leg.id else old for old in self.legs)
        return replace(self, legs=legs)


def leg_uuid(call_id: str, role: Role, party: int, attempt: int) -> str:
    """The uuid of a leg's channel: the call's 20 hex digits, then which leg it is.

    Anyone who sees the uuid on the switch can tell the call, and a listener can
    without asking. ``party`` and ``attempt`` count from 1.
    """
    digit = "a" if role is Role.SOURCE else "b"
    return _uuid(call_id, f"{digit}{party:02d}{attempt:02d}")


def job_uuid(call_id: str) -> str:
    """The Job-UUID of the call's one originate."""
    return _uuid(call_id, "0")


def _uuid(call_id: str, tail: str) -> str:
    digits = call_id + tail.rjust(12, "0")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def call_id_of(uuid: str) -> str:
    """The call that a uuid made here belongs to (of another's uuid: of no call)."""
    return uuid.replace("-", "")[:20]


_LEG_FIELDS = tuple(f.name for f in fields(Leg) if f.name != "id")
_CALL_FIELDS = tuple(f.name for f in fields(Call) if f.name != "legs")
_FLOATS = frozenset(
    """
        accepted claimed sent hangup_requested answered bridged ended created early_media ringing
    """.split()
)
_INTS = frozenset(
    ["wait_for_pickup", "call_duration", "queue_timeout", "version", "retention", "disposition"]
)
_BOOLS = frozenset({"allow_public_transfer", "video"})


def _dump(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(value)


def _load(name: str, text: str) -> Any:
    if name in _FLOATS:
        return float(text)
    if name in _INTS:
        return int(text)
    if name in _BOOLS:
        return text == "1"
    return text


def to_hash(call: Call) -> dict[str, str]:
    """The call as the flat Redis hash that back ends may poll."""
    flat = {
        name: _dump(value) for name in _CALL_FIELDS if (value := getattr(call, name)) is not None
    }
    flat["legs"] = ",".join(leg.id for leg in call.legs)
    for leg in call.legs:
        flat.update(_leg_items(leg))
    return flat


def _leg_items(leg: Leg) -> Iterator[tuple[str, str]]:
    for name in _LEG_FIELDS:
        if (value := getattr(leg, name)) is not None:
            yield f"{LEG_PREFIX}{leg.id}:{name}", _dump(value)


def from_hash(flat: Mapping[str, str]) -> Call:
    """Read back what :func:`to_hash` wrote."""
    values = {name: _load(name, flat[name]) for name in _CALL_FIELDS if name in flat}
    values["state"] = State(values["state"])
    legs = []
    for leg_id in filter(None, flat["legs"].split(",")):
        prefix = f"{LEG_PREFIX}{leg_id}:"
        leg = {
            name: _load(name, flat[prefix + name]) for name in _LEG_FIELDS if prefix + name in flat
        }
        leg["role"], leg["kind"] = Role(leg["role"]), NumberKind(leg["kind"])
        legs.append(Leg(id=leg_id, **leg))
    return Call(**values, legs=tuple(legs))


def changed_fields(old: Call | None, new: Call) -> dict[str, str]:
    """The hash fields in which ``new`` differs; values are never taken away."""
    before = to_hash(old) if old else {}
    return {name: text for name, text in to_hash(new).items() if before.get(name) != text}
