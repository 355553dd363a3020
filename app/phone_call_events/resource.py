"""The PhoneCallEvent as the UAPI shows it (docs/internals/uapi.md#phonecallevent)."""

from typing import Any

from app.phone_call_events.model import PhoneCallEvent
from app.web.resource import date

FIELDS = frozenset("id type url method status note modified links".split())


def phone_call_event(event: PhoneCallEvent, link: str) -> dict[str, Any]:
    """The PhoneCallEvent resource, with its numbers as strings."""
    return {
        "id": event.id,
        "type": str(event.type),
        "url": event.url,
        "method": str(event.method),
        "status": str(event.status),
        "note": event.note,
        "modified": date(event.modified),
        "links": {"self": link},
    }
