"""The UAPI's PhoneCallRecord resource: a PhoneCall with strings for lists in its view."""

from typing import Any

from app.calls import endings
from app.calls.model import Role
from app.web.resource import date, without_none

FIELDS = frozenset(
    """
        id extension ownerId ownerName published answered nonce phoneCallView userId app kind ended
        duration billed hangupCause endedBy callerId callerIdDestination legs actions
        metadata
    """.split()
)


def phone_call_record(record: dict[str, Any]) -> dict[str, Any]:
    """The PhoneCallRecord resource without the fields that have no value.

    ``userId``, ``app``, ``kind``, ``ended``, ``duration`` and ``billed`` (seconds),
    ``hangupCause``, ``endedBy``, the caller ids, ``legs`` and ``actions`` are ours. A record that
    an older version wrote has no legs.
    """
    answered = date(record.get("answered"))
    view = {
        "id": "00",
        "extension": record["extension"],
        # The numbers with commas between, if none of several answered.
        "source": ",".join(record["source"]),
        "destination": ",".join(record["destination"]),
        "flow": record["flow"],
        "answered": answered,
        "duration": record["duration"],
        "disposition": record["disposition"],
    }
    return without_none(
        {
            "id": record["id"],
            "extension": record["extension"],
            "ownerId": record["organization"],
            "ownerName": record["organization_name"],
            "published": date(record["published"]),
            "answered": answered,
            "nonce": record.get("nonce"),
            "metadata": record.get("metadata"),
            "phoneCallView": [without_none(view)],
            "userId": record["user"],
            "app": record["app"],
            "kind": record["kind"],
            "ended": date(record["ended"]),
            "duration": record["duration"],
            "billed": record["billed"],
            "hangupCause": record.get("hangup_cause"),
            "endedBy": record.get("ended_by"),
            "callerId": record.get("caller_id"),
            "callerIdDestination": record.get("caller_id_destination"),
            "legs": [_leg(record, leg) for leg in record["legs"]] if "legs" in record else None,
            "actions": list(map(_action, record["actions"])) if "actions" in record else None,
        }
    )


def asked_by(record: dict[str, Any], leg: dict[str, Any]) -> dict[str, str]:
    """The app and the user that asked for a leg of the record: of a third party its own, else
    those of the call."""
    found: dict[str, str] | None = leg.get("asked_by")
    if found is None and leg["role"] == Role.THIRD:
        # The API that asked is older than this record.
        return {}
    return found or {"user": record["user"], "app": record["app"]}


def _leg(record: dict[str, Any], leg: dict[str, Any]) -> dict[str, Any]:
    dates = {name: date(leg.get(name)) for name in ("created", "answered", "ended")}
    shown = endings.as_api(leg)
    return without_none({**shown, **dates, "asked_by": None, "askedBy": asked_by(record, leg)})


def _action(asked: dict[str, Any]) -> dict[str, Any]:
    row = {**asked, "at": date(asked["at"]), "askedBy": asked.get("asked_by", {})}
    return without_none({**row, "asked_by": None})
