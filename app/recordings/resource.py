"""A recording as answers show it."""

from typing import Any

from app.recordings.services import Recording
from app.web.resource import date, links, without_none

# The fields that ``fields`` may name.
FIELDS = frozenset("id leg number begun recording available size link links".split())


def recording(found: Recording, link: str) -> dict[str, Any]:
    return without_none(
        {
            "id": found.id,
            "leg": found.leg,
            "number": found.number,
            "begun": date(found.begun),
            "recording": found.is_live,
            "available": found.size is not None,
            "size": found.size,
            **links(link),
        }
    )
