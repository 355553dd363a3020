"""What the API answers with, as values. A field without a value is None; ``raw`` is all of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# The states of a call in their order; a call never moves back.
STATES = ("queued", "dialing", "ringing", "answered", "bridged", "ended")


@dataclass(frozen=True, slots=True)
class View:
    """A call as one party sees it: ``00`` the source, ``01`` the destination, then who came in."""

    id: str
    extension: str | None = None
    source: tuple[str, ...] = ()
    destination: tuple[str, ...] = ()
    # 0 unknown, 2 trying, 3 ringing, 4 the other side rings, 5 on call; None once it has ended.
    status: int | None = None
    ringing: datetime | None = None
    answered: datetime | None = None
    on_hold: datetime | None = None
    parked: datetime | None = None
    parked_position: int | None = None
    recording: datetime | None = None
    # Of who came in by an action, its name.
    action: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "View":
        return cls(
            id=raw["id"],
            extension=raw.get("extension"),
            source=tuple(raw.get("source", ())),
            destination=tuple(raw.get("destination", ())),
            status=raw.get("status"),
            ringing=_date(raw.get("ringing")),
            answered=_date(raw.get("answered")),
            on_hold=_date(raw.get("onHold")),
            parked=_date(raw.get("parked")),
            parked_position=raw.get("parkedPos"),
            recording=_date(raw.get("recording")),
            action=raw.get("action"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class PhoneCall:
    """A call. One that was just created has its id, extension and nonce alone."""

    id: str
    extension: str
    state: str | None = None
    nonce: str | None = None
    metadata: Mapping[str, str] | None = None
    owner: str | None = None
    published: datetime | None = None
    answered: datetime | None = None
    ended: datetime | None = None
    ended_by: str | None = None
    hangup_cause: str | None = None
    # 0 answered, 1 busy, 2 failed, 3 no answer, 4 unknown, 5 not allowed; None before the end.
    disposition: int | None = None
    switch_unreachable: datetime | None = None
    queue_position: int | None = None
    # Seconds.
    expected_wait: float | None = None
    views: tuple[View, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "PhoneCall":
        views = raw.get("phoneCallView", ())
        return cls(
            id=raw["id"],
            extension=raw["extension"],
            state=raw.get("state"),
            nonce=raw.get("nonce"),
            metadata=raw.get("metadata"),
            owner=raw.get("ownerId"),
            published=_date(raw.get("published")),
            answered=_date(raw.get("answered")),
            ended=_date(raw.get("ended")),
            ended_by=raw.get("endedBy"),
            hangup_cause=raw.get("hangupCause"),
            disposition=views[0].get("disposition") if views else None,
            switch_unreachable=_date(raw.get("switchUnreachable")),
            queue_position=raw.get("queuePosition"),
            expected_wait=raw.get("expectedWait"),
            views=tuple(map(View.of, views)),
            raw=raw,
        )

    def has_reached(self, state: str) -> bool:
        """Whether the call is that far, or further. Raises ValueError for a state there is not."""
        return has_reached(self.state, state)


def has_reached(state: str | None, wanted: str) -> bool:
    """Whether a call in this state is that far. Raises ValueError for an unknown state."""
    if wanted not in STATES:
        raise ValueError(f"state takes one of {', '.join(STATES)}, not {wanted!r}.")
    return state is not None and STATES.index(state) >= STATES.index(wanted)


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a call. ``state`` is the call's by that change; ``call`` is as it stood when the
    event was sent, which for what is told late may be further on."""

    # To go on after this event another time.
    id: str
    call_id: str
    state: str
    # 1 when the call was accepted, one more with each change.
    version: int
    # Epoch seconds.
    at: float
    call: PhoneCall
    # The user's phone has left a call of somebody else. The call may go on without it.
    left: bool = False

    @classmethod
    def of(cls, event_id: str, data: Mapping[str, Any]) -> "Event":
        return cls(
            id=event_id,
            call_id=data["id"],
            state=data["state"],
            version=data["version"],
            at=data["at"],
            call=PhoneCall.of(data["phoneCall"]),
            left=data.get("left", False),
        )


@dataclass(frozen=True, slots=True)
class Status:
    """What a status callback tells: ``ringing``, ``answered``, ``bridged`` or ``ended``."""

    type: str
    # The same where a status is told again.
    id: str
    time: datetime
    # As it was after the change, which may have brought several statuses.
    call: PhoneCall

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Status":
        at = datetime.fromisoformat(raw["time"])
        return cls(raw["type"], raw["id"], at, PhoneCall.of(raw["call"]))


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an action: the call, and whether the switch has done it by now."""

    call: PhoneCall
    done: bool


@dataclass(frozen=True, slots=True)
class Record:
    """The record of an ended call."""

    id: str
    extension: str
    user: str
    app: str
    kind: str
    # Who answered; all who were called, with commas between, where nobody did.
    source: str
    destination: str
    published: datetime
    ended: datetime
    answered: datetime | None
    # Seconds from the source's answer, and from when both were connected.
    duration: float
    billed: float
    disposition: int
    nonce: str | None = None
    hangup_cause: str | None = None
    ended_by: str | None = None
    # Each leg of the call, and what apps asked of it, as the API has them. A record that an older
    # server wrote has none.
    legs: Sequence[Mapping[str, Any]] = ()
    actions: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, str] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Record":
        (view,) = raw["phoneCallView"]
        return cls(
            id=raw["id"],
            extension=raw["extension"],
            user=raw["userId"],
            app=raw["app"],
            kind=raw["kind"],
            source=view["source"],
            destination=view["destination"],
            published=datetime.fromisoformat(raw["published"]),
            ended=datetime.fromisoformat(raw["ended"]),
            answered=_date(raw.get("answered")),
            duration=raw["duration"],
            billed=raw["billed"],
            disposition=view["disposition"],
            nonce=raw.get("nonce"),
            hangup_cause=raw.get("hangupCause"),
            ended_by=raw.get("endedBy"),
            legs=raw.get("legs", ()),
            actions=raw.get("actions", ()),
            metadata=raw.get("metadata"),
            raw=raw,
        )


def _date(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def date_text(at: datetime) -> str:
    """As the API takes dates: UTC, to the second. Raises ValueError for one without a zone."""
    if at.tzinfo is None:
        raise ValueError("A date needs a time zone.")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
