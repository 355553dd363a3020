"""The UAPI's PhoneCallRecord resource: a PhoneCall with strings for lists in its view."""

from typing import Any

from app.web.resource import date, without_none

FIELDS = frozenset(
    """
        id extension ownerId ownerName published answered nonce phoneCallView userId app kind ended
        duration billed hangupCause endedBy callerId callerIdDestination
    """.split()
)


def phone_call_record(record: dict[str, Any]) -> dict[str, Any]:
    """The PhoneCallRecord resource without the fields that have no value.

    ``userId``, ``app``, ``kind``, ``ended``, ``duration`` and ``billed`` (seconds),
    ``hangupCause``, ``endedBy`` and the caller ids are ours.
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
        }
    )
