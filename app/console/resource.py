"""Calls in the form of the console's pages: times in epoch seconds, without secrets."""

import re
from collections.abc import Iterable
from typing import Any

from app.calls import endings
from app.calls.actions import view_id
from app.calls.cdr import numbers
from app.calls.model import Call, Leg, NumberKind
from app.store.pace import QueuePosition
from app.web.resource import without_none

# Secrets in a dial string or a command, which no page shows.
_SECRET = re.compile(r"(\w*(?:password|passwd|secret|token|pin))=('[^']*'|[^,;\]}\s]*)", re.I)
# The fields of a call and of a leg that pages show. Only administrators see those of _INSIDE.
_CALL = """
    kind app user organization organization_name extension accepted nonce metadata caller_id
    caller_id_destination wait_for_pickup call_duration queue_timeout allow_public_transfer video
    conference hangup_requested answered bridged ended hangup_cause ended_by disposition version
""".split()
_CALL_INSIDE = "switch core_uuid worker job_uuid claimed sent originate_error".split()
_LEG = """
    created early_media ringing answered accepted bridged ended cause hangup_requested
    sip_disposition originate_disposition action of brought held unheld parked unparked parked_pos
    parked_by recording recorded voicemail asked_app asked_user
""".split()
_LEG_INSIDE = "uuid gateway dial_string recording_file".split()


def row(
    call: Call, unreachable: float | None, place: QueuePosition | None, *, inside: bool
) -> dict[str, Any]:
    """A row of a list. ``inside`` adds the fields for administrators."""
    shown = [leg for leg in call.legs if leg.created or leg.id == leg.party]
    return without_none(
        {
            "id": call.id,
            "state": call.state.value,
            # The state says that the parties have talked.
            "parked": True if call.is_parked else None,
            "extension": call.extension,
            "organization": call.organization_name,
            "nonce": call.nonce,
            "source": [call.extension] if call.conference else numbers(call.sources),
            "destination": numbers(call.far_end),
            "accepted": call.accepted,
            "answered": call.answered,
            "bridged": call.bridged,
            "ended": call.ended,
            "disposition": call.disposition,
            "cause": call.hangup_cause,
            "endedBy": call.ended_by,
            "unreachable": unreachable,
            "ahead": place and place.ahead,
            "wait": place and round(place.seconds, 1),
            "switch": call.switch if inside else None,
            "legs": [_leg(call, leg) for leg in shown],
        }
    )


def detail(
    call: Call,
    unreachable: float | None,
    place: QueuePosition | None,
    timeline: Iterable[dict[str, str]],
    *,
    inside: bool,
) -> dict[str, Any]:
    """The details of a call: its fields, its legs and its timeline."""
    names = [*_CALL, *(_CALL_INSIDE if inside else ())]
    of_leg = [*_LEG, *(_LEG_INSIDE if inside else ())]
    return row(call, unreachable, place, inside=inside) | {
        "fields": {
            name: _clean(value) for name in names if (value := getattr(call, name)) is not None
        },
        "legs": [
            _leg(call, leg)
            | {name: _clean(value) for name in of_leg if (value := getattr(leg, name)) is not None}
            | _ending(leg)
            for leg in call.legs
        ],
        # Several processes write the timeline, not always in order.
        "timeline": sorted(
            (_entry(entry, inside) for entry in timeline), key=lambda entry: entry["at"]
        ),
    }


def record_row(record: dict[str, Any]) -> dict[str, Any]:
    """A row of a list from a call detail record."""
    return without_none(
        {
            "id": record["id"],
            "state": "ended",
            "extension": record["extension"],
            "organization": record["organization_name"],
            "nonce": record.get("nonce"),
            "source": record["source"],
            "destination": record["destination"],
            "accepted": record["published"],
            "answered": record.get("answered"),
            "ended": record["ended"],
            "disposition": record["disposition"],
            "cause": record.get("hangup_cause"),
            "endedBy": record.get("ended_by"),
            "legs": [],
        }
    )


def _leg(call: Call, leg: Leg) -> dict[str, Any]:
    sandbox = leg.kind is NumberKind.SANDBOX
    return without_none(
        {
            "id": leg.id,
            "view": view_id(call, leg),
            "role": leg.role.value,
            "number": leg.number,
            "kind": "sandbox" if sandbox else leg.kind.value,
            "state": leg.phase.value,
            "hold": True if leg.on_hold and not leg.ended else None,
            "lot": (leg.parked_pos or "") if leg.in_lot and not leg.ended else None,
            "rec": True if leg.is_recorded and not leg.ended else None,
            "action": leg.action,
            "cause": leg.cause,
        }
    )


def _ending(leg: Leg) -> dict[str, Any]:
    found = without_none(endings.flat(endings.of_leg(leg)))
    return found | {"blocked": "by analytics"} if endings.is_blocked(leg) else found


def _entry(entry: dict[str, str], inside: bool) -> dict[str, Any]:
    """An entry of the timeline. Only administrators see the commands to the switch, and from which
    address a request came."""
    shown: dict[str, Any] = {**entry, "at": float(entry["at"])}
    if not inside:
        shown.pop("address", None)
        if entry["kind"] in ("command", "reply"):
            shown.pop("data", None)
    return {name: _clean(value) for name, value in shown.items()}


def _clean(value: Any) -> Any:
    return _SECRET.sub(r"\1=…", value) if isinstance(value, str) else value
