"""The UAPI's PhoneCall resource of a call (docs/internals/uapi.md#phonecall)."""

import json
from collections.abc import Iterator
from typing import Any

from app.calls import endings
from app.calls.actions import view_id
from app.calls.cdr import flow, numbers
from app.calls.model import Call, Leg, NumberKind, Phase, Role, State
from app.store.pace import QueuePosition
from app.web.resource import date, links, without_none

# The values of status of a view.
UNKNOWN, TRYING, RINGING, OTHER_RINGING, ON_CALL = 0, 2, 3, 4, 5

FIELDS = frozenset(
    """
        id extension ownerId ownerName published answered nonce phoneCallView link links state ended
        metadata endedBy hangupCause switchUnreachable queuePosition expectedWait
    """.split()
)


def phone_call(
    call: Call, link: str, unreachable: float | None = None, place: QueuePosition | None = None
) -> dict[str, Any]:
    """The PhoneCall resource without the fields that have no value.

    ``metadata``, ``state``, ``ended``, ``endedBy``, ``hangupCause``, ``switchUnreachable`` (since
    when the call's switch is unreachable), ``queuePosition`` and ``expectedWait`` (the calls before
    a queued call, and seconds until it is dialled) are ours. So are the views of third parties,
    from ``02`` on.
    """
    source, destination = _kept(call.sources), _kept(call.destinations)
    shared = {
        "source": numbers(source),
        "destination": numbers(destination),
        "flow": flow(call),
    }
    if call.conference is not None:
        # A conference has one side of invited parties; the other side is the room.
        source, destination = (), source
        shared |= {"source": [call.extension], "destination": numbers(destination)}
    return without_none(
        {
            "id": call.id,
            "extension": call.extension,
            "ownerId": call.organization,
            "ownerName": call.organization_name,
            "published": date(call.accepted),
            "answered": date(call.answered),
            "nonce": call.nonce,
            "metadata": call.metadata and json.loads(call.metadata),
            "phoneCallView": [
                _view(call, Role.SOURCE, source, shared),
                _view(call, Role.DESTINATION, destination, shared),
                *_third_views(call, shared),
            ],
            "state": call.state.value,
            "ended": date(call.ended),
            "endedBy": call.ended_by,
            "hangupCause": call.hangup_cause,
            "switchUnreachable": date(unreachable),
            "queuePosition": place and place.ahead,
            "expectedWait": place and round(place.seconds, 1),
            **links(link),
        }
    )


def _view(call: Call, role: Role, legs: tuple[Leg, ...], shared: dict[str, Any]) -> dict[str, Any]:
    source = role is Role.SOURCE
    own = next((leg.number for leg in legs if leg.kind is NumberKind.EXTENSION), call.extension)
    return without_none(
        {
            "id": "00" if source else "01",
            "extension": own,
            **shared,
            "status": status(call, role),
            "ringing": date(_first(legs, "ringing")),
            "answered": date(_first(legs, "taken")),
            "callerId": (
                call.caller_id if source or call.conference else call.caller_id_destination
            ),
            **_marks(call, legs),
            "disposition": call.disposition,
            "ending": _ending(legs),
        }
    )


def _third_views(call: Call, shared: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The views of the third parties that were dialled, each with its action."""
    parties: dict[str, list[Leg]] = {}
    for leg in call.thirds:
        parties.setdefault(leg.party, []).append(leg)
    for legs in parties.values():
        dialled = [leg for leg in legs if leg.created is not None]
        if not dialled:
            continue
        leg = dialled[-1]
        of = call.leg_named(leg.of) or leg
        is_extension = leg.kind is NumberKind.EXTENSION
        yield without_none(
            {
                "id": view_id(call, leg),
                "extension": leg.number if is_extension else call.extension,
                "source": numbers((of,)),
                "destination": numbers((leg,)),
                "flow": shared["flow"],
                "status": None if call.state is State.ENDED else _PHASE_STATUS[leg.phase],
                "ringing": date(leg.ringing),
                "answered": date(leg.answered),
                **_marks(call, (leg,)),
                "action": leg.action,
                "ending": _ending((leg,)),
            }
        )


_PHASE_STATUS = {
    Phase.QUEUED: TRYING,
    Phase.DIALING: TRYING,
    Phase.RINGING: RINGING,
    Phase.ANSWERED: ON_CALL,
    Phase.BRIDGED: ON_CALL,
    Phase.ENDED: UNKNOWN,
}


def _marks(call: Call, legs: tuple[Leg, ...]) -> dict[str, Any]:
    """The fields for recording, parking and hold of the party that is in the call."""
    leg = next((leg for leg in legs if leg.answered and not leg.ended), None)
    if leg is None:
        return {}
    holder = next((each for each in (leg, *call.parties) if each.on_hold and not each.ended), None)
    parked = leg.in_lot
    return {
        "recording": date(leg.recording) if leg.is_recorded else None,
        "parked": date(leg.parked) if parked else None,
        "parkedPos": int(leg.parked_pos or 0) if parked else None,
        "parkedBy": leg.parked_by if parked else None,
        "onHold": date(holder.held) if holder else None,
        "holder": 1 if holder is leg else None,
    }


def _ending(legs: tuple[Leg, ...]) -> dict[str, Any] | None:
    """How the last leg of a side ended; None while another one is up."""
    dialled = [leg for leg in legs if leg.created is not None]
    if not dialled or any(leg.ended is None for leg in dialled):
        return None
    last = max(dialled, key=lambda leg: leg.ended or 0.0)
    return endings.as_api(without_none({"cause": last.cause, **endings.of_leg(last)}))


def _kept(legs: tuple[Leg, ...]) -> tuple[Leg, ...]:
    """The legs of a side: all of them, or once one has answered only that one."""
    won = tuple(leg for leg in legs if leg.won)
    return won or legs


def _first(legs: tuple[Leg, ...], name: str) -> float | None:
    times = [at for leg in legs if (at := getattr(leg, name)) is not None]
    return min(times, default=None)


def status(call: Call, role: Role) -> int | None:
    """The status of a side's view; None once the call has ended (docs/states.md)."""
    source = role is Role.SOURCE
    if call.state is State.ENDED:
        return None
    if call.state is State.BRIDGED:
        side = call.sources if source else call.far_end
        # A party that transferred or parked the other one has left the call.
        return ON_CALL if any(leg.answered and not leg.ended for leg in side) else UNKNOWN
    if call.state is State.RINGING:
        return RINGING if source else OTHER_RINGING
    if call.state is State.ANSWERED:
        if any(leg.live and leg.rang for leg in call.destinations):
            return OTHER_RINGING if source else RINGING
        return ON_CALL if source else TRYING
    return TRYING
