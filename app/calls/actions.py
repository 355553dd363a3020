"""What a PUT does to a call: pure functions of the call and of what is asked for.

The API finds out what is meant and refuses what cannot be; a worker looks again, as the call then
stands, before it tells the switch.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from app.calls.model import (
    LISTENING,
    Action,
    Call,
    Leg,
    NumberKind,
    Role,
    State,
    evolve,
    leg_id,
    leg_uuid,
)

# Seconds after which nobody expects it to be done any more.
TOO_LATE = 10.0
# What became of a request whose call's switch could not be asked.
UNREACHABLE = "The call's switch is out of reach."
# Third parties of one call: their uuids have two digits for which they are.
MAX_THIRDS = 99
# What moves a party away from the one it talks to.
MOVING = frozenset({Action.PARK, Action.TRANSFER, Action.TRANSFER_TO_VOICEMAIL})
# What rings a phone that then comes in.
RINGING = frozenset({Action.UN_PARK, Action.PICK_UP, *LISTENING})


@dataclass(frozen=True, slots=True)
class Way:
    """One way to reach a number, as a leg has it."""

    gateway: str | None = None
    dial_string: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Whom an action brings in, with the ways to reach the number in order."""

    number: str
    kind: NumberKind
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One action, ready to be carried out; times in seconds."""

    id: str
    action: Action
    # The leg that it is done to: of those in MOVING the one that is moved.
    leg: str
    # Of those in MOVING: the number of the party who does it.
    by: str | None = None
    target: Target | None = None
    caller_id: str | None = None
    wait_for_pickup: int = 25
    # Park: how long until the call goes back.
    max_in_parking: int = 180
    # Whisper: whether the third party hears nothing.
    private: bool = False
    # StartRecording: where to.
    file: str | None = None
    # TransferToVoicemail: ``box@domain``.
    mailbox: str | None = None
    # When it was asked for, in epoch seconds: what comes too late is not done.
    asked: float = 0.0

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Request":
        """Raises ValueError, KeyError or TypeError for what :meth:`dumps` did not write."""
        known = {field.name for field in fields(cls)}
        # A newer API may say more than is known here.
        values = {name: value for name, value in json.loads(text).items() if name in known}
        if (target := values["target"]) is not None:
            ways = tuple(Way(**way) for way in target["ways"])
            values["target"] = Target(target["number"], NumberKind(target["kind"]), ways)
        return cls(**{**values, "action": Action(values["action"])})


def view_id(call: Call, leg: Leg) -> str:
    """``00`` the source's, ``01`` the destination's, ``02`` and on the third parties'. Of a
    conference the source is the room, which has no leg."""
    if leg.role is Role.THIRD:
        return f"{int(leg.party[1:]) + 1:02d}"
    return "00" if leg.role is Role.SOURCE and call.conference is None else "01"


def leg_of_view(call: Call, view: str) -> Leg | None:
    """The leg of a view: the one that is in the call, else the one that was to be."""
    legs = [leg for leg in call.legs if view_id(call, leg) == view]
    return next(iter([*(leg for leg in legs if _is_in(leg)), *legs]), None)


def leg_of_number(call: Call, number: str) -> Leg | None:
    """The leg of a party that is in the call."""
    return next((leg for leg in call.legs if leg.number == number and _is_in(leg)), None)


def other_party(call: Call, leg: Leg) -> Leg | None:
    """Whom a party talks to; None where that is not one."""
    others = [each for each in call.parties if _is_in(each) and each.party != leg.party]
    return others[0] if len(others) == 1 else None


def _is_in(leg: Leg) -> bool:
    return leg.answered is not None and leg.ended is None


def refusal(call: Call, request: Request) -> str | None:
    """Why this cannot be done to the call as it stands; None where it can."""
    leg = call.leg_named(request.leg)
    if call.state is State.ENDED or call.hangup_requested is not None:
        return "The call has ended."
    if leg is None or not _is_in(leg):
        return "That party is not in the call."
    action = request.action
    if action is Action.PICK_UP:
        if call.state is not State.ANSWERED or leg.role is not Role.SOURCE:
            return "Only a call whose source has answered and whose destination rings is picked up."
    elif call.state is not State.BRIDGED:
        return "Nobody talks in this call yet."
    if action is Action.UN_PARK and not leg.in_lot:
        return "That party is not parked."
    # Held, it would never go back.
    if action in MOVING | LISTENING | {Action.ON_HOLD} and leg.in_lot:
        return "That party is parked."
    if call.conference is not None and action in MOVING | {Action.PICK_UP}:
        return "A party of a conference takes no such action."
    if action is Action.OFF_HOLD and not leg.on_hold:
        return "That party has put nobody on hold."
    if action is Action.STOP_RECORDING and not leg.is_recorded:
        return "That party is not recorded."
    if action is Action.START_RECORDING and leg.is_recorded:
        return "That party is recorded already."
    if request.target is not None and _next_party(call) > MAX_THIRDS:
        return f"A call takes {MAX_THIRDS} third parties at most."
    return None


def begin(call: Call, request: Request, *, at: float) -> Call:
    """A worker takes the request, before it tells the switch anything: whom it brings in belongs
    to the call from now on. Of a request that was taken before, or must be refused: unchanged."""
    moved = call.leg_named(request.leg)
    if moved is None or is_begun(call, request) or refusal(call, request) is not None:
        return call
    if request.action is Action.PARK:
        call = call.with_leg(evolve(moved, parked_by=request.by))
    elif request.action is Action.TRANSFER_TO_VOICEMAIL:
        call = call.with_leg(evolve(moved, voicemail=at, action_id=request.id))
    return evolve(call, legs=(*call.legs, *_new_legs(call, request, at)))


def _new_legs(call: Call, request: Request, at: float) -> Sequence[Leg]:
    if request.target is None:
        return ()
    party, target = _next_party(call), request.target
    return [
        Leg(
            id=leg_id(Role.THIRD, party, attempt),
            role=Role.THIRD,
            number=target.number,
            kind=target.kind,
            uuid=leg_uuid(call.id, Role.THIRD, party, attempt),
            gateway=way.gateway,
            dial_string=way.dial_string,
            owner=way.owner,
            action=request.action,
            action_id=request.id,
            of=request.leg,
            brought=at,
        )
        for attempt, way in enumerate(target.ways, start=1)
    ]


def _next_party(call: Call) -> int:
    return max((int(leg.party[1:]) for leg in call.thirds), default=0) + 1


def is_begun(call: Call, request: Request) -> bool:
    return bool(third_legs(call, request)) or (
        request.action is Action.TRANSFER_TO_VOICEMAIL
        and any(leg.id == request.leg and leg.action_id == request.id for leg in call.legs)
    )


def third_legs(call: Call, request: Request) -> tuple[Leg, ...]:
    """The legs that the request brings in."""
    return tuple(leg for leg in call.thirds if leg.action_id == request.id)


def is_done(call: Call, request: Request) -> bool:
    """Whether what was asked for can be seen in the call: of what rings a phone, its ringing."""
    action = request.action
    leg = call.leg_named(request.leg)
    if call.state is State.ENDED or leg is None:
        return True
    if action is Action.ON_HOLD:
        return leg.on_hold
    if action is Action.OFF_HOLD:
        return not leg.on_hold
    if action is Action.PARK:
        return leg.in_lot
    if action is Action.START_RECORDING:
        return leg.is_recorded
    if action is Action.STOP_RECORDING:
        return not leg.is_recorded
    if action is Action.TRANSFER_TO_VOICEMAIL:
        return not any(_is_in(each) and each.number == request.by for each in call.parties)
    return any(each.created or each.ended for each in third_legs(call, request))
