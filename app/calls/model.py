"""Call and Leg: plain values, and their form in Redis.

Times are seconds since the epoch as floats with microseconds, as the switch
stamps its events. A field without a value is left out of the Redis hash.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

# The names of a leg's hash fields begin with this: leg:a1:uuid, leg:a1:ringing.
LEG_PREFIX = "leg:"
# The hash fields of what clients asked begin with this: actions:1, actions:2.
ACTIONS_PREFIX = "actions:"
# The name of a client's request to hang up, beside those of Action.
HANG_UP = "HangUp"


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
    # A party that an action brings in: the target of a transfer, a listener.
    THIRD = "third"

    @property
    def letter(self) -> str:
        """The letter that the ids of the role's legs begin with."""
        return _LETTERS[self]


_LETTERS = {Role.SOURCE: "a", Role.DESTINATION: "b", Role.THIRD: "c"}


class Action(StrEnum):
    """An action that a PUT may request (docs/internals/uapi.md#actions)."""

    ON_HOLD = "OnHold"
    OFF_HOLD = "OffHold"
    PARK = "Park"
    UN_PARK = "UnPark"
    PICK_UP = "PickUp"
    BARGE_IN = "BargeIn"
    WHISPER = "Whisper"
    MONITOR = "Monitor"
    START_RECORDING = "StartRecording"
    STOP_RECORDING = "StopRecording"
    TRANSFER = "Transfer"
    TRANSFER_TO_VOICEMAIL = "TransferToVoicemail"


# These actions bring in a listener, which is no party: the call ends though a listener is left.
LISTENING = frozenset({Action.BARGE_IN, Action.WHISPER, Action.MONITOR})


class Phase(StrEnum):
    """The phases of a leg: what it does now."""

    QUEUED = "queued"
    DIALING = "dialing"
    RINGING = "ringing"
    ANSWERED = "answered"
    BRIDGED = "bridged"
    ENDED = "ended"


# Values of ``originate_disposition`` that do not say how dialling the destination ended.
SAYS_NOTHING = frozenset({"SUCCESS", "success", "failure", "NONE"})
# The causes after which the switch tries the next way to a party, as freeswitch.dialstring says it.
GATEWAY_FAILURES = frozenset(
    {
        "NORMAL_TEMPORARY_FAILURE",
        "INVALID_GATEWAY",
        "GATEWAY_DOWN",
        "NETWORK_OUT_OF_ORDER",
        "NORMAL_CIRCUIT_CONGESTION",
        "SWITCH_CONGESTION",
        "RECOVERY_ON_TIMER_EXPIRE",
        "PROGRESS_TIMEOUT",
    }
)
# The hang-up cause of a leg that rang or answered when the switch kept another leg of the side.
LOST_THE_RACE = "LOSE_RACE"


class NumberKind(StrEnum):
    EXTENSION = "extension"
    PUBLIC = "public"
    SANDBOX = "sandbox"


def gateway_of(dial_string: str) -> str | None:
    """The gateway in a dial string, ``pstn`` in ``sofia/gateway/pstn/15500``; None if none is."""
    words = dial_string.split("/")
    return words[2] if words[:2] == ["sofia", "gateway"] and len(words) > 3 else None


@dataclass(frozen=True, slots=True)
class Accept:
    """What it takes to accept a call: a key, pressed within ``timeout`` seconds of each of the
    ``attempts``. ``prompt`` is the name of what the party hears."""

    key: str
    prompt: str
    timeout: int = 8
    attempts: int = 2

    @property
    def seconds(self) -> int:
        """The seconds from the answer until the leg is given up."""
        return self.timeout * self.attempts

    def dumps(self) -> str:
        """The text in a leg."""
        return f"{self.key} {self.timeout} {self.attempts} {self.prompt}"

    @classmethod
    def loads(cls, text: str) -> "Accept":
        key, timeout, attempts, prompt = text.split(" ", 3)
        return cls(key, prompt, int(timeout), int(attempts))


# Seconds that an announcement may take, counted in with the limits of a call.
MAX_ANNOUNCEMENT = 60


# Without slots: evolve copies an object as one dictionary.
@dataclass(frozen=True)
class Leg:
    """One channel on the switch that the call may use.

    A party with several gateways has one leg for each, tried in their order:
    ``a1``, then ``a1.2``. ``gateway`` or ``dial_string`` says how the switch reaches the party.

    A state that may come several times has its last begin and its last end: a leg is on hold from
    ``held`` until ``unheld``, in a parking lot from ``parked`` until ``unparked``, recorded from
    ``recording`` until ``recorded``.
    """

    id: str
    role: Role
    number: str
    kind: NumberKind
    uuid: str
    gateway: str | None = None
    dial_string: str | None = None
    # What the gateway gets in place of the number, if that differs.
    dialled: str | None = None
    created: float | None = None
    early_media: float | None = None
    ringing: float | None = None
    answered: float | None = None
    bridged: float | None = None
    ended: float | None = None
    cause: str | None = None
    # When a client asked to hang up this party.
    hangup_requested: float | None = None
    # How SIP ended the leg: recv_bye, send_bye, recv_refuse, send_cancel, recv_cancel.
    sip_disposition: str | None = None
    # On an answered source: how dialling the destination ended.
    originate_disposition: str | None = None
    # How the network ended the leg: the final status of its INVITE and the phrase, the cause of
    # Q.850, the Reason header, and the Call-ID.
    sip_status: int | None = None
    sip_phrase: str | None = None
    q850_cause: int | None = None
    reason: str | None = None
    sip_call_id: str | None = None
    # How its audio was (app.calls.endings): a JSON object.
    quality: str | None = None
    # The id of the user that owns the extension.
    owner: str | None = None
    # The id of the user that pays for a public third party, if it is not the call's own.
    charged: str | None = None
    # For a third party: the action that brought it in, the request's id, the leg that the action
    # concerns, and the time.
    action: Action | None = None
    action_id: str | None = None
    of: str | None = None
    brought: float | None = None
    # What it takes to accept the call: the key, seconds an attempt, attempts, the prompt's name.
    accept: str | None = None
    # When it accepted the call.
    accepted: float | None = None
    # The name of the announcement that it hears before it is connected.
    announce: str | None = None
    # What a public number costs: per minute, per call, seconds of an increment, currency.
    rate: str | None = None
    # Seconds without any 18x after which the next gateway is tried, where it is not the default.
    progress_timeout: int | None = None
    # For a third party, what counts it for caps, as ``Call.counted`` does for the others.
    counted: str | None = None
    held: float | None = None
    unheld: float | None = None
    parked: float | None = None
    unparked: float | None = None
    # The position in the lot, and the number of the party that parked this one.
    parked_pos: str | None = None
    parked_by: str | None = None
    recording: float | None = None
    recorded: float | None = None
    recording_file: str | None = None
    # When the party was sent to a mailbox.
    voicemail: float | None = None
    # For a third party: the app and the user that asked for it.
    asked_app: str | None = None
    asked_user: str | None = None

    @property
    def party(self) -> str:
        """The party that the leg is an attempt to reach: ``a1`` of ``a1.2``."""
        return self.id.partition(".")[0]

    @property
    def trunk(self) -> str | None:
        """The gateway of the leg, also where an operator's dial string names it."""
        return self.gateway or gateway_of(self.dial_string or "")

    @property
    def live(self) -> bool:
        return self.created is not None and self.ended is None

    @property
    def taken(self) -> float | None:
        """When the party took the call: at its answer, or if it must accept the call, then."""
        return self.answered if self.accept is None else self.accepted

    @property
    def won(self) -> bool:
        """Whether the party took the call and the switch kept the leg."""
        return self.taken is not None and self.cause != LOST_THE_RACE

    @property
    def unaccepted(self) -> bool:
        """Whether the leg answered and its party did not accept the call, so far or at all."""
        return self.answered is not None and self.taken is None

    @property
    def rang(self) -> bool:
        """Whether the leg rang, sent early media, or answered without accepting."""
        return self.ringing is not None or self.early_media is not None or self.unaccepted

    @property
    def accept_seconds(self) -> int:
        """The most seconds from the answer of the leg until it accepts; 0 if it need not."""
        return 0 if self.accept is None else Accept.loads(self.accept).seconds

    @property
    def phase(self) -> Phase:
        """The phase that the leg is in. Early media counts as ringing, and so does an answer that
        is not accepted."""
        if self.ended is not None:
            return Phase.ENDED
        if self.bridged is not None:
            return Phase.BRIDGED
        if self.taken is not None:
            return Phase.ANSWERED
        if self.rang:
            return Phase.RINGING
        return Phase.QUEUED if self.created is None else Phase.DIALING

    @property
    def listens(self) -> bool:
        return self.action in LISTENING

    @property
    def on_hold(self) -> bool:
        return _lasts(self.held, self.unheld)

    @property
    def in_lot(self) -> bool:
        return _lasts(self.parked, self.unparked)

    @property
    def is_recorded(self) -> bool:
        return _lasts(self.recording, self.recorded)


def _lasts(begun: float | None, over: float | None) -> bool:
    return begun is not None and (over is None or over < begun)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked of a call that it had placed or found: an action, or a hang-up."""

    # The id of the request.
    id: str
    # The name of the action, or HANG_UP.
    action: str
    # When a worker began it, in epoch seconds; for a hang-up, when the client asked.
    at: float
    app: str | None = None
    user: str | None = None
    # The leg that it concerns, and the number that it brings in or hangs up.
    leg: str | None = None
    number: str | None = None
    # The file of a recording.
    file: str | None = None
    # ``done``, ``refused`` by the switch, or ``unknown``. None until a worker has heard.
    result: str | None = None


@dataclass(frozen=True)
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
    # What counts the call for caps, words with commas between (app.accounts.caps).
    counted: str | None = None
    legs: tuple[Leg, ...] = ()
    state: State = State.QUEUED
    version: int = 0
    # Random, another one for each version: after a fail-over of Redis two changes may have the
    # same version.
    stamp: str | None = None
    nonce: str | None = None
    request_digest: str | None = None
    caller_id: str | None = None
    caller_id_destination: str | None = None
    allow_public_transfer: bool = False
    video: bool = False
    # What the source hears while the destination is dialled (app.accounts.ringback).
    ringback: str | None = None
    retention: int = 86_400
    # Seconds for which the record is kept, from the acceptance of the call.
    cdr_retention: int = 7_776_000
    # What the client wants to get back: a JSON object of strings.
    metadata: str | None = None
    # Where the call's statuses are told: a JSON object of url, events, method and target. Only the
    # app that placed the call may know the URL.
    status_callback: str | None = None
    # SIP headers that the legs of a side send: a JSON object with ``source`` and ``destination``.
    sip_headers: str | None = None
    # The span of the request that placed the call, in the form of W3C Trace Context.
    traceparent: str | None = None
    # The conference room that takes the place of a destination.
    conference: str | None = None
    # On which switch it is dialled (app.calls.homes): a JSON object. None for any.
    home: str | None = None
    # The claim: the worker that dials, the switch, and the switch's run.
    worker: str | None = None
    switch: str | None = None
    core_uuid: str | None = None
    claimed: float | None = None
    sent: float | None = None
    hangup_requested: float | None = None
    # The hang-up cause with which the switch rejected the originate: USER_BUSY, INVALID_GATEWAY.
    originate_error: str | None = None
    # A switch refused the originate before it made any channel: when, which, and the hang-up cause.
    # The call is dialled again once, on another switch.
    refused: float | None = None
    refused_by: str | None = None
    refused_cause: str | None = None
    answered: float | None = None
    bridged: float | None = None
    ended: float | None = None
    hangup_cause: str | None = None
    ended_by: str | None = None
    disposition: int | None = None
    actions: tuple[Asked, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether the call waits in line for a claim: its first, or after a refusal its second."""
        if self.state is State.QUEUED:
            return True
        # The second claim is never on the switch that refused.
        refused = self.refused_by is not None and self.refused_by == self.switch
        return refused and self.state is State.DIALING

    @property
    def sources(self) -> tuple[Leg, ...]:
        return tuple(leg for leg in self.legs if leg.role is Role.SOURCE)

    @property
    def destinations(self) -> tuple[Leg, ...]:
        return tuple(leg for leg in self.legs if leg.role is Role.DESTINATION)

    @property
    def far_end(self) -> tuple[Leg, ...]:
        """The legs that the call is made to: the destinations, or the sources that a conference
        invites."""
        return self.sources if self.conference is not None else self.destinations

    @property
    def thirds(self) -> tuple[Leg, ...]:
        return tuple(leg for leg in self.legs if leg.role is Role.THIRD)

    @property
    def parties(self) -> tuple[Leg, ...]:
        """All legs except listeners."""
        return tuple(leg for leg in self.legs if not leg.listens)

    @property
    def extensions(self) -> tuple[str, ...]:
        """The extensions that are, were or will be in the call, the charged one first.
        ``app.calls.sight`` says which are in it now."""
        return tuple(dict.fromkeys((self.extension, *self.called_extensions)))

    @property
    def called_extensions(self) -> tuple[str, ...]:
        """The extensions of the legs."""
        parties = (leg.number for leg in self.legs if leg.kind is NumberKind.EXTENSION)
        return tuple(dict.fromkeys(parties))

    @property
    def users(self) -> tuple[str, ...]:
        """The users of these extensions, the charged one first."""
        owners = (leg.owner for leg in self.legs if leg.owner is not None)
        return tuple(dict.fromkeys((self.user, *owners)))

    @property
    def organizations(self) -> tuple[str, ...]:
        """The numbers of the organizations of these extensions."""
        return tuple(dict.fromkeys(number.partition("*")[0] for number in self.extensions))

    @property
    def winner(self) -> Leg | None:
        """The source that took the call first and was kept; None while there is none."""
        answered = [leg for leg in self.sources if leg.won]
        return min(answered, key=lambda leg: leg.taken or 0.0, default=None)

    @property
    def is_parked(self) -> bool:
        """Whether all that is left of the call waits in a parking lot."""
        there = [leg for leg in self.parties if leg.taken is not None and leg.ended is None]
        return self.state is not State.ENDED and bool(there) and all(leg.in_lot for leg in there)

    @property
    def prompt_seconds(self) -> int:
        """The seconds that accepting and announcements may add to the ringing of each side, and
        to the call."""
        announced = MAX_ANNOUNCEMENT if any(leg.announce for leg in self.legs) else 0
        return announced + max((leg.accept_seconds for leg in self.legs), default=0)

    def leg(self, uuid: str) -> Leg | None:
        return next((leg for leg in self.legs if leg.uuid == uuid), None)

    def leg_named(self, leg_id: str | None) -> Leg | None:
        return next((leg for leg in self.legs if leg.id == leg_id), None)

    def with_leg(self, leg: Leg) -> "Call":
        legs = tuple(leg if old.id == leg.id else old for old in self.legs)
        return evolve(self, legs=legs)


_T = TypeVar("_T", Call, Leg)
_NAMES = {of: frozenset(field.name for field in fields(of)) for of in (Call, Leg)}
_DEFAULTS = {
    of: {f.name: f.default for f in fields(of) if f.default is not MISSING} for of in (Call, Leg)
}


def evolve(value: _T, **changes: Any) -> _T:
    """A copy with changes, as ``dataclasses.replace`` makes it, in a tenth of the time: each event
    of a call needs several. Raises TypeError for an unknown field."""
    of = type(value)
    if not _NAMES[of].issuperset(changes):
        raise TypeError(f"a {of.__name__} has no {changes.keys() - _NAMES[of]}")
    made = object.__new__(of)
    made.__dict__.update(value.__dict__, **changes)
    return made


def _made(of: type[_T], values: dict[str, Any]) -> _T:
    """The object with these values, as its constructor makes it. Raises TypeError for a field that
    is unknown or lacks a value."""
    if values.keys() != _NAMES[of]:
        raise TypeError(f"other fields than a {of.__name__} has: {values.keys() ^ _NAMES[of]}")
    made = object.__new__(of)
    made.__dict__.update(values)
    return made


def leg_uuid(call_id: str, role: Role, party: int, attempt: int) -> str:
    """The uuid of a leg's channel: the call's 20 hex digits, then the leg's letter and numbers.

    So the uuid of a channel on the switch names the call. ``party`` and ``attempt`` count from 1.
    """
    return _uuid(call_id, f"{role.letter}{party:02d}{attempt:02d}")


def leg_id(role: Role, party: int, attempt: int) -> str:
    """The id of a leg: ``a1`` for the first source, ``a1.2`` for the second way to reach it."""
    return f"{role.letter}{party}" if attempt == 1 else f"{role.letter}{party}.{attempt}"


def job_uuid(call_id: str) -> str:
    """The Job-UUID of the call's one originate."""
    return _uuid(call_id, "0")


def _uuid(call_id: str, tail: str) -> str:
    digits = call_id + tail.rjust(12, "0")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def uuid_again(uuid: str) -> str:
    """The uuid of a leg or of the originate for the second time that the call is dialled."""
    return f"{uuid[:24]}1{uuid[25:]}"


def call_id_of(uuid: str) -> str:
    """The id of the call that a uuid names. A uuid that Ringback did not make names no call."""
    return uuid.replace("-", "")[:20]


def is_leg_uuid(uuid: str) -> bool:
    """Whether the uuid looks like one that :func:`leg_uuid` makes."""
    return _LEG_UUID.fullmatch(uuid) is not None


# The fields of a call that may hold secrets of the app that placed it.
SECRETS = ("status_callback", "sip_headers")
_LEG_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[01]0{6}[abc][0-9]{4}")
_LEG_FIELDS = tuple(f.name for f in fields(Leg) if f.name != "id")
_CALL_FIELDS = tuple(f.name for f in fields(Call) if f.name not in ("legs", "actions"))
_ASKED_NAMES = frozenset(f.name for f in fields(Asked))
_LEG_NAMES, _CALL_NAMES = frozenset(_LEG_FIELDS), frozenset(_CALL_FIELDS)
_leg_values, _call_values = attrgetter(*_LEG_FIELDS), attrgetter(*_CALL_FIELDS)
_FLOATS = """
    accepted claimed hangup_requested answered bridged ended created early_media ringing held
    unheld refused parked unparked recording recorded voicemail brought
"""
_INTS = """
    wait_for_pickup call_duration queue_timeout version retention cdr_retention disposition
    progress_timeout
    sip_status q850_cause
"""
_NO_LEG = (None,) * len(_LEG_FIELDS)
_KINDS: dict[str, str] = {kind.value: kind for kind in NumberKind}
# The fields that are not text. A name means the same in a call and in a leg.
_LOADERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(_FLOATS.split(), float),
    **dict.fromkeys(_INTS.split(), int),
    # 0 takes the time of a refused originate back.
    "sent": lambda text: float(text) or None,
    **dict.fromkeys(("allow_public_transfer", "video"), "1".__eq__),
    "state": State,
    "role": Role,
    "action": Action,
    # A leg's kind is an enum, a call's kind stays a word.
    "kind": lambda text: _KINDS.get(text, text),
}


def _dump(value: Any) -> Any:
    """The text of a value. A value that is known only later (app.store.marks) stays as it is."""
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, (str, int)) else value


def to_hash(call: Call) -> dict[str, str]:
    """The call as the flat Redis hash that back ends may poll."""
    flat = {
        name: _dump(value) for name in _CALL_FIELDS if (value := getattr(call, name)) is not None
    }
    flat["legs"] = ",".join(leg.id for leg in call.legs)
    for leg in call.legs:
        for name in _LEG_FIELDS:
            if (value := getattr(leg, name)) is not None:
                flat[f"{LEG_PREFIX}{leg.id}:{name}"] = _dump(value)
    for number, asked in enumerate(call.actions, start=1):
        flat[f"{ACTIONS_PREFIX}{number}"] = _dump_asked(asked)
    return flat


def _dump_asked(asked: Asked) -> str:
    row = {name: value for name, value in asdict(asked).items() if value is not None}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _load_asked(text: str) -> Asked:
    # A newer version may have written fields that this one does not know.
    return Asked(**{name: v for name, v in json.loads(text).items() if name in _ASKED_NAMES})


@lru_cache(maxsize=4096)
def _place(name: str) -> tuple[str | None, str, Callable[[str], Any] | None] | None:
    """The leg's id, the name and the loader of a hash field that Call or Leg has."""
    leg_id = None
    names = _CALL_NAMES
    if name.startswith(LEG_PREFIX):
        _, leg_id, name = name.split(":", 2)
        names = _LEG_NAMES
    return (leg_id, name, _LOADERS.get(name)) if name in names else None


def from_hash(flat: Mapping[str, str]) -> Call:
    """The call in a Redis hash that :func:`to_hash` wrote. Unknown fields are ignored."""
    values: dict[str, Any] = _DEFAULTS[Call].copy()
    asked: dict[int, Asked] = {}
    of_legs: dict[str, dict[str, Any]] = {
        leg_id: {**_DEFAULTS[Leg], "id": leg_id} for leg_id in flat["legs"].split(",") if leg_id
    }
    for field, text in flat.items():
        if (place := _place(field)) is not None:
            leg_id, name, load = place
            into = values if leg_id is None else of_legs[leg_id]
            into[name] = text if load is None else load(text)
        elif field.startswith(ACTIONS_PREFIX):
            asked[int(field.removeprefix(ACTIONS_PREFIX))] = _load_asked(text)
    values["legs"] = tuple(_made(Leg, leg) for leg in of_legs.values())
    values["actions"] = tuple(asked[number] for number in sorted(asked))
    return _made(Call, values)


def changed_fields(old: Call | None, new: Call) -> dict[str, str]:
    """The hash fields in which ``new`` differs from ``old``. A change removes no value but
    ``sent``, which becomes 0."""
    if old is None:
        return to_hash(new)
    changed = {
        name: _dump(value)
        for name, value, before in zip(
            _CALL_FIELDS, _call_values(new), _call_values(old), strict=True
        )
        if value is not before and value != before and value is not None
    }
    if new.sent is None and old.sent is not None:
        changed["sent"] = _dump(0.0)
    known = {leg.id: leg for leg in old.legs}
    for leg in new.legs:
        before = known.get(leg.id)
        if before is not leg:
            befores = _NO_LEG if before is None else _leg_values(before)
            for name, value, was in zip(_LEG_FIELDS, _leg_values(leg), befores, strict=True):
                if value is not was and value != was and value is not None:
                    changed[f"{LEG_PREFIX}{leg.id}:{name}"] = _dump(value)
    if len(new.legs) != len(old.legs):
        changed["legs"] = ",".join(leg.id for leg in new.legs)
    if new.actions is not old.actions:
        for number, asked in enumerate(new.actions, start=1):
            if number > len(old.actions) or asked != old.actions[number - 1]:
                changed[f"{ACTIONS_PREFIX}{number}"] = _dump_asked(asked)
    return changed
