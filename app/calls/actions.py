"""Actions: pure functions of a call and of the request that a PUT makes.

The API makes the request and refuses what the call does not allow. A worker checks this again with
the call as it is by then, before it tells the switch.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

from app.calls import transitions
from app.calls.model import (
    LISTENING,
    Action,
    Asked,
    Call,
    Leg,
    NumberKind,
    Role,
    State,
    evolve,
    leg_id,
    leg_uuid,
)
from app.calls.sight import legs_in

# Seconds after which a worker no longer begins an action: the client has given up.
TOO_LATE = 10.0
# The outcome of a request while the call's switch does not answer.
UNREACHABLE = "The call's switch is unreachable."
# The most third parties of one call: their uuids have two digits for the number of the party.
MAX_THIRDS = 99
# The most actions of one call. The call and its record hold each of them.
MAX_ACTIONS = 500
# The actions that move a party away from the party that it talks to.
MOVING = frozenset({Action.PARK, Action.TRANSFER, Action.TRANSFER_TO_VOICEMAIL})
# The actions that ring a phone and bring it in.
RINGING = frozenset({Action.UN_PARK, Action.PICK_UP, *LISTENING})
# The actions that bring in a party that a recording of the call hears.
_HEARD = (RINGING | {Action.TRANSFER}) - {Action.MONITOR}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to reach a number, as a leg has it."""

    gateway: str | None = None
    dial_string: str | None = None
    owner: str | None = None
    dialled: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The number that an action brings in, with the ways to reach it in order."""

    number: str
    kind: NumberKind
    ways: tuple[Way, ...]
    # Whether a call that is being recorded may bring the number in.
    may_record: bool = True
    # What it costs, as a leg has it.
    rate: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One action, ready for a worker. Times are in seconds."""

    id: str
    action: Action
    # The leg that the action acts on. An action of MOVING moves it.
    leg: str
    # For an action of MOVING, the number of the party that asks for it.
    by: str | None = None
    target: Target | None = None
    caller_id: str | None = None
    wait_for_pickup: int = 25
    # Park: how long until the call goes back.
    max_in_parking: int = 180
    # Whisper: whether the third party hears nothing.
    private: bool = False
    # StartRecording: the path of the file.
    file: str | None = None
    # TransferToVoicemail: ``box@domain``.
    mailbox: str | None = None
    # The time of the PUT, in epoch seconds. TOO_LATE counts from here.
    asked: float = 0.0
    # The app and the user that ask.
    app: str | None = None
    user: str | None = None
    # The leg on which the right to the action rests: that of the party that asks for it. None if
    # the app supervises the call.
    own: str | None = None
    # The user that pays for a public target, if it is not the call's own.
    charged: str | None = None
    # StartRecording: the numbers of the parties in the call, all of which allow it.
    recorded: tuple[str, ...] = ()

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Request":
        """The request in a text that :meth:`dumps` made. Raises ValueError, KeyError or TypeError
        for any other text."""
        known = {field.name for field in fields(cls)}
        # A newer API may send fields that this worker does not know.
        values = {name: value for name, value in json.loads(text).items() if name in known}
        if (target := values["target"]) is not None:
            ways = tuple(Way(**way) for way in target["ways"])
            values["target"] = Target(
                target["number"],
                NumberKind(target["kind"]),
                ways,
                target.get("may_record", True),
                target.get("rate"),
            )
        values["recorded"] = tuple(values.get("recorded", ()))
        return cls(**{**values, "action": Action(values["action"])})


def view_id(call: Call, leg: Leg) -> str:
    """The id of a leg's view: ``00`` for the source, ``01`` for the destination, from ``02`` on for
    third parties. In a conference the room is the source and has no leg."""
    if leg.role is Role.THIRD:
        return f"{int(leg.party[1:]) + 1:02d}"
    return "00" if leg.role is Role.SOURCE and call.conference is None else "01"


def leg_of_view(call: Call, view: str) -> Leg | None:
    """The leg of a view: a leg that is in the call, else the first one of the view."""
    legs = [leg for leg in call.legs if view_id(call, leg) == view]
    return next(iter([*(leg for leg in legs if _is_in(leg)), *legs]), None)


def leg_of_number(call: Call, number: str) -> Leg | None:
    """The leg with a number, if its party is in the call."""
    return next((leg for leg in call.legs if leg.number == number and _is_in(leg)), None)


def other_party(call: Call, leg: Leg) -> Leg | None:
    """The leg that a party talks to; None unless there is exactly one."""
    others = [each for each in call.parties if _is_in(each) and each.party != leg.party]
    return others[0] if len(others) == 1 else None


def heard(call: Call) -> list[Leg]:
    """The legs in the call that a recording hears: all but those that only listen."""
    return [leg for leg in call.legs if _is_in(leg) and leg.action is not Action.MONITOR]


def _is_in(leg: Leg) -> bool:
    return leg.taken is not None and leg.ended is None


def refusal(call: Call, request: Request, *, most_thirds: int = MAX_THIRDS) -> str | None:
    """The reason to refuse the request for the call as it is; None if the call allows it."""
    leg = call.leg_named(request.leg)
    if call.state is State.ENDED or call.hangup_requested is not None:
        return "The call has ended."
    if leg is None or not _is_in(leg):
        return "That party is not in the call."
    if request.own is not None:
        own = next((each for each in legs_in(call) if each.id == request.own), None)
        if own is None or (own.answered is None and request.action is not Action.PICK_UP):
            return "Your own party has left the call."
    action = request.action
    if action is Action.PICK_UP:
        if call.state is not State.ANSWERED or leg.role is not Role.SOURCE:
            return "PickUp needs a call with an answered source and a ringing destination."
    elif call.state is not State.BRIDGED:
        return "The parties of this call do not talk yet."
    if action is Action.UN_PARK and not leg.in_lot:
        return "That party is not parked."
    # A parked call on hold would never go back.
    if action in MOVING | LISTENING | {Action.ON_HOLD} and leg.in_lot:
        return "That party is parked."
    if call.conference is not None and action in MOVING | {Action.PICK_UP}:
        return f"A party of a conference does not take {action}."
    if action is Action.OFF_HOLD and not leg.on_hold:
        return "That party has not put the other one on hold."
    if action is Action.STOP_RECORDING and not leg.is_recorded:
        return "That party is not being recorded."
    if action is Action.START_RECORDING and leg.is_recorded:
        return "That party is already being recorded."
    if request.recorded and not {each.number for each in heard(call)} <= set(request.recorded):
        return "The parties of the call have changed."
    silent = request.target is not None and not request.target.may_record and action in _HEARD
    if silent and any(each.is_recorded and each.ended is None for each in call.legs):
        return "sendCallTo must not be recorded, and the call is being recorded."
    if request.target is not None and _next_party(call) > MAX_THIRDS:
        return f"A call takes at most {MAX_THIRDS} third parties."
    if request.target is not None and _third_parties(call) >= most_thirds:
        return f"A call has at most {most_thirds} third parties at a time."
    if len(call.actions) >= MAX_ACTIONS and not _was_asked(call, request):
        return f"A call takes at most {MAX_ACTIONS} actions."
    return None


def begin(
    call: Call,
    request: Request,
    *,
    at: float,
    counted: str | None = None,
    most_thirds: int = MAX_THIRDS,
) -> Call:
    """A worker begins the request before it tells the switch: the call says from now on who asked
    for what, and has the legs that the request brings in. The call stays unchanged if the request
    was begun before, or must be refused."""
    moved = call.leg_named(request.leg)
    why = refusal(call, request, most_thirds=most_thirds)
    if moved is None or is_begun(call, request) or why is not None:
        return call
    if _was_asked(call, request):
        # A second run of a job that brings in nobody.
        return call
    if request.action is Action.PARK:
        call = call.with_leg(evolve(moved, parked_by=request.by))
    elif request.action is Action.TRANSFER_TO_VOICEMAIL:
        call = call.with_leg(evolve(moved, voicemail=at, action_id=request.id))
    target = request.target
    asked = Asked(
        id=request.id,
        action=request.action,
        at=at,
        app=request.app,
        user=request.user,
        leg=request.leg,
        number=target.number if target else request.mailbox,
        file=request.file,
    )
    return evolve(
        call,
        legs=(*call.legs, *_new_legs(call, request, at, counted)),
        actions=(*call.actions, asked),
    )


def hang_up(call: Call, number: str | None, asked: Asked) -> Call:
    """The call after a client asked to hang up the party with ``number``, or with None the call.
    What was asked before, and what concerns no party, changes nothing."""
    found = transitions.hang_up_number(call, number, at=asked.at)
    return call if found is call else evolve(found, actions=(*found.actions, asked))


def settle(call: Call, request: Request, result: str) -> Call:
    """The call after the switch answered the request, or was not heard. ``result`` is ``done``,
    ``refused`` or ``unknown``. A request that was not begun, or has a result, changes nothing."""
    actions = tuple(
        replace(asked, result=result) if asked.id == request.id and not asked.result else asked
        for asked in call.actions
    )
    return call if actions == call.actions else evolve(call, actions=actions)


def _new_legs(call: Call, request: Request, at: float, counted: str | None) -> Sequence[Leg]:
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
            dialled=way.dialled,
            owner=way.owner,
            charged=request.charged,
            rate=target.rate,
            counted=counted,
            action=request.action,
            action_id=request.id,
            of=request.leg,
            brought=at,
            asked_app=request.app,
            asked_user=request.user,
        )
        for attempt, way in enumerate(target.ways, start=1)
    ]


def _third_parties(call: Call) -> int:
    """The third parties that are or may yet be in the call, but for the ways back of parked
    ones."""
    legs = (leg for leg in call.thirds if leg.action is not Action.PARK or leg.created is not None)
    return len({leg.party for leg in legs if leg.ended is None})


def _next_party(call: Call) -> int:
    return max((int(leg.party[1:]) for leg in call.thirds), default=0) + 1


def _was_asked(call: Call, request: Request) -> bool:
    return any(asked.id == request.id for asked in call.actions)


def is_begun(call: Call, request: Request) -> bool:
    return bool(third_legs(call, request)) or (
        request.action is Action.TRANSFER_TO_VOICEMAIL
        and any(leg.id == request.leg and leg.action_id == request.id for leg in call.legs)
    )


def third_legs(call: Call, request: Request) -> tuple[Leg, ...]:
    """The legs that the request brings in."""
    return tuple(leg for leg in call.thirds if leg.action_id == request.id)


def is_done(call: Call, request: Request) -> bool:
    """Whether the call shows the effect of the request. For an action that rings a phone, this is
    the leg's channel."""
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
