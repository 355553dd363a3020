"""The Presence of an extension as the UAPI shows it."""

from typing import Any

from app.presence.services import Presence
from app.web.resource import date, links, without_none

FIELDS = frozenset("extension status registration since calls link links".split())
# What a telephone registers with is the switch: nothing is known of it here.
_UNKNOWN = 0


def extension_presence(found: Presence, link: str) -> dict[str, Any]:
    """The resource. ``since``, ``calls`` and the links are ours."""
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
