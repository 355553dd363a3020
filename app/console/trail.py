"""Pages of the audit, newest first."""

from collections.abc import Mapping
from typing import Any

from redis import Redis

from app.store import audit
from app.store.keys import Keys

# The names that a page may filter by, as the fields of an entry.
FILTERS = ("app", "user", "organization", "on", "what", "result")
# The most entries of a page, and the most that it looks at.
_PAGE = 200
_LOOKED_AT = 20_000


def page(redis: Redis, keys: Keys, wanted: Mapping[str, str | None], before: str) -> dict[str, Any]:
    """The newest entries that have each wanted value, before the entry with the id ``before`` (""
    for all). ``next`` is the id to ask with for more; it is missing on the last page."""
    end = audit.place(before.encode()) if before else None
    until = (end[0] + 1) / 1000 if end is not None else None
    found: list[dict[str, str]] = []
    looked_at, last = 0, None
    for _, entry in audit.read(redis, keys, until=until, newest=True):
        place = audit.place(entry["id"].encode())
        if end is not None and place >= end:
            continue
        # Both streams may have an entry with the same id, so a page ends between two ids.
        is_full = len(found) >= _PAGE or looked_at >= _LOOKED_AT
        if is_full and last is not None and place != last:
            return {"entries": found, "next": "{}-{}".format(*last)}
        looked_at, last = looked_at + 1, place
        if audit.matches(entry, wanted):
            found.append(entry)
    return {"entries": found}
