"""The call detail record: what is kept of a call that has ended."""

import json
import math
from collections.abc import Mapping
from typing import Any

from app.calls import cost, endings
from app.calls.model import Asked, Call, Leg, NumberKind

# flow says which side is a public number (docs/internals/uapi.md#phonecallview).
LOCAL, OUTGOING, INCOMING = 2, 4, 8


def record(call: Call) -> dict[str, Any]:
    """The record of a call that has ended, without fields that have no value.

    Times are epoch seconds. ``duration`` counts from the source's answer, ``billed`` from the
    bridge of source and destination. Both round up to whole seconds. ``extension`` pays for the
    call, with its ``user`` and ``organization``. ``legs`` has an object for each leg,
    ``actions`` one for each thing that a client asked of the call, in their order.
    """
    found = {
        "id": call.id,
        "app": call.app,
        "kind": call.kind,
        "extension": call.extension,
        "user": call.user,
        "organization": call.organization,
        "organization_name": call.organization_name,
        "source": [call.extension] if call.conference else numbers(call.sources),
        "destination": numbers(call.far_end),
        "flow": flow(call),
        "published": call.accepted,
        "answered": call.answered,
        "ended": call.ended,
        "duration": _seconds(call.answered, call.ended),
        "billed": _seconds(call.bridged, call.ended),
        "disposition": call.disposition,
        "hangup_cause": call.hangup_cause,
        "ended_by": call.ended_by,
        "nonce": call.nonce,
        "metadata": call.metadata and json.loads(call.metadata),
        "caller_id": call.caller_id,
        "caller_id_destination": call.caller_id_destination,
        "legs": [_leg(call, leg) for leg in call.legs],
        "actions": [_action(call, asked) for asked in call.actions] or None,
    }
    return without_none(found)


def _leg(call: Call, leg: Leg) -> dict[str, Any]:
    """One leg in the record. ``asked_by`` says who asked for a third party; the app and the user of
    the call asked for all others.

    ``seconds`` counts from the leg's own answer to its own end as the switch's ``billsec`` does:
    whole seconds of the clock. A leg that ended without a ``cause`` ended unheard: ``ended`` is
    when Ringback noticed, or when the call ended.
    """
    ended = leg.ended
    if ended is None and leg.live and call.ended is not None:
        # The last event of a leg may come after the end of the call. It changes the record then.
        ended = max(filter(None, (call.ended, leg.created, leg.answered)))
    return without_none(
        {
            "id": leg.id,
            "number": shown_number(leg),
            "role": leg.role.value,
            "gateway": leg.trunk,
            "action": leg.action and leg.action.value,
            "asked_by": _asker(leg.asked_app, leg.asked_user),
            "created": leg.created,
            "answered": leg.answered,
            "accepted": None if leg.accept is None else leg.accepted is not None,
            "ended": ended,
            "seconds": cost.seconds(leg.answered, ended),
            "cost": None if (money := cost.cost(call, leg)) is None else float(money),
            "currency": cost.currency(leg),
            "cause": leg.cause,
            **endings.of_leg(leg),
            "recording": leg.recording_file,
        }
    )


def _action(call: Call, asked: Asked) -> dict[str, Any]:
    leg = call.leg_named(asked.leg)
    return without_none(
        {
            "action": asked.action,
            "at": asked.at,
            "asked_by": _asker(asked.app, asked.user),
            "leg": asked.leg,
            # The party that it concerned, and the number that it brought in or hung up.
            "party": leg and shown_number(leg),
            "number": asked.number,
            "recording": asked.file,
            "result": asked.result,
        }
    )


def _asker(app: str | None, user: str | None) -> dict[str, str] | None:
    return without_none({"user": user, "app": app}) or None


def without_none(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the fields that have no value."""
    return {name: value for name, value in row.items() if value is not None}


def _seconds(begun: float | None, ended: float | None) -> int:
    return 0 if begun is None or ended is None else max(0, math.ceil(ended - begun))


def numbers(legs: tuple[Leg, ...]) -> list[str]:
    """The number of the leg that answered, or the numbers of all legs."""
    won = tuple(leg for leg in legs if leg.won)
    return list(dict.fromkeys(map(shown_number, won or legs)))


def shown_number(leg: Leg) -> str:
    return "Sandbox" if leg.kind is NumberKind.SANDBOX else leg.number


def flow(call: Call) -> int:
    if any(leg.kind is NumberKind.PUBLIC for leg in call.far_end):
        return OUTGOING
    return INCOMING if any(leg.kind is NumberKind.PUBLIC for leg in call.sources) else LOCAL
