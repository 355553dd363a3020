"""The values that are read in Redis, and how its replies become them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ringback.resources import has_reached


@dataclass(frozen=True, slots=True)
class Leg:
    """One attempt to reach one phone: ``a1`` … of the sources, ``b1`` … of the destinations,
    ``c1`` … of parties that came in by an action. ``fields`` are all of its fields, as text."""

    id: str
    role: str
    number: str
    gateway: str | None = None
    created: datetime | None = None
    ringing: datetime | None = None
    answered: datetime | None = None
    bridged: datetime | None = None
    ended: datetime | None = None
    cause: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A call. ``version`` grows by one with each change. ``fields`` are all fields of its hash, as
    text (docs/redis.md#fields-of-a-call); those of its legs too."""

    id: str
    state: str
    version: int
    kind: str
    app: str
    user: str
    organization: str
    extension: str
    accepted: datetime
    nonce: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    claimed: datetime | None = None
    answered: datetime | None = None
    bridged: datetime | None = None
    ended: datetime | None = None
    switch: str | None = None
    hangup_cause: str | None = None
    ended_by: str | None = None
    # 0 answered, 1 busy, 2 failed, 3 no answer, 4 unknown, 5 not allowed; None before the end.
    disposition: int | None = None
    legs: tuple[Leg, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def has_reached(self, state: str) -> bool:
        """Whether the call is that far, or further. Raises ValueError for an unknown state."""
        return has_reached(self.state, state)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a call. ``changed`` are the fields of the hash that it changed, with their new
    values as text. Ringback may tell a change twice, with the same ``call_id`` and ``version``."""

    id: str
    call_id: str
    version: int
    # The state of the call after the change.
    state: str
    at: datetime
    app: str
    user: str
    organization: str
    extension: str
    changed: Mapping[str, str] = field(default_factory=dict)


def call_of(reply: Any) -> Call | None:
    """The call of a hash; None for no hash."""
    found = texts(reply)
    if not found:
        return None
    disposition = found.get("disposition")
    return Call(
        id=found["id"],
        state=found["state"],
        version=int(found["version"]),
        kind=found["kind"],
        app=found["app"],
        user=found["user"],
        organization=found["organization"],
        extension=found["extension"],
        accepted=_time(found["accepted"]),
        nonce=found.get("nonce"),
        metadata=json.loads(found.get("metadata", "{}")),
        claimed=_optional(found.get("claimed")),
        answered=_optional(found.get("answered")),
        bridged=_optional(found.get("bridged")),
        ended=_optional(found.get("ended")),
        switch=found.get("switch"),
        hangup_cause=found.get("hangup_cause"),
        ended_by=found.get("ended_by"),
        disposition=None if disposition is None else int(disposition),
        legs=tuple(_leg(leg_id, found) for leg_id in found.get("legs", "").split(",") if leg_id),
        fields=found,
    )


def _leg(leg_id: str, call: Mapping[str, str]) -> Leg:
    prefix = f"leg:{leg_id}:"
    found = {
        name.removeprefix(prefix): value for name, value in call.items() if name.startswith(prefix)
    }
    return Leg(
        id=leg_id,
        role=found["role"],
        number=found["number"],
        gateway=found.get("gateway"),
        created=_optional(found.get("created")),
        ringing=_optional(found.get("ringing")),
        answered=_optional(found.get("answered")),
        bridged=_optional(found.get("bridged")),
        ended=_optional(found.get("ended")),
        cause=found.get("cause"),
        fields=found,
    )


def change_of(entry_id: Any, reply: Any) -> Change:
    found = texts(reply)
    return Change(
        id=text(entry_id),
        call_id=found["call"],
        version=int(found["version"]),
        state=found["state"],
        at=_time(found["at"]),
        app=found["app"],
        user=found["user"],
        organization=found["organization"],
        extension=found["extension"],
        changed=json.loads(found["changed"]),
    )


def entries_of(reply: Any) -> list[tuple[Any, Any]]:
    """The entries of one stream in the reply to XREAD or XREADGROUP, which is a list in RESP2 and a
    mapping in RESP3."""
    if not reply:
        return []
    if isinstance(reply, Mapping):
        (entries,) = reply.values()
        # RESP3 has one more list around them.
        return list(entries[0]) if entries and isinstance(entries[0], list) else list(entries)
    ((_, entries),) = reply
    return list(entries)


def text(value: Any) -> str:
    """The text of a reply, whatever ``decode_responses`` is."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def texts(reply: Any) -> dict[str, str]:
    return {text(name): text(value) for name, value in (reply or {}).items()}


def _time(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def _optional(seconds: str | None) -> datetime | None:
    return None if seconds is None else _time(seconds)
