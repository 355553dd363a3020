"""The call detail record: what is kept of a call that has ended."""

import math
from typing import Any

from app.calls.model import Call, Leg, NumberKind

# flow says which side is a public number (docs/internals/uapi.md#phonecallview).
LOCAL, OUTGOING, INCOMING = 2, 4, 8


def record(call: Call) -> dict[str, Any]:
    """The record of a call that has ended, without fields that have no value.

    Times are epoch seconds. ``duration`` counts from the source's answer, ``billed`` from the
    bridge of source and destination. Both round up to whole seconds. ``extension`` pays for the
    call, with its ``user`` and ``organization``.
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
        "caller_id": call.caller_id,
        "caller_id_destination": call.caller_id_destination,
    }
    return {name: value for name, value in found.items() if value is not None}


def _seconds(begun: float | None, ended: float | None) -> int:
    return 0 if begun is None or ended is None else max(0, math.ceil(ended - begun))


def numbers(legs: tuple[Leg, ...]) -> list[str]:
    """The number of the leg that answered, or the numbers of all legs."""
    won = tuple(leg for leg in legs if leg.won)
    shown = ("Sandbox" if leg.kind is NumberKind.SANDBOX else leg.number for leg in won or legs)
    return list(dict.fromkeys(shown))


def flow(call: Call) -> int:
    if any(leg.kind is NumberKind.PUBLIC for leg in call.far_end):
        return OUTGOING
    return INCOMING if any(leg.kind is NumberKind.PUBLIC for leg in call.sources) else LOCAL
