"""The UAPI's Presence resource of an extension."""

from typing import Any

from app.presence.services import Presence
from app.web.resource import date, links, without_none

FIELDS = frozenset("extension status registration since calls link links".split())
# Telephones register with the switch, so Ringback does not know their registrations.
_UNKNOWN = 0


def extension_presence(found: Presence, link: str) -> dict[str, Any]:
    """The Presence resource. ``since``, ``calls`` and the links are ours."""
    return without_none(
        {
            "extension": found.extension,
            "status": found.status,
            "registration": [{"registration": _UNKNOWN, "status": found.status}],
            "since": date(found.since),
            "calls": found.calls,
            **links(link),
        }
    )
