"""The reader of the records that app.store.calls writes as calls end."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from redis import Redis

from app.store import index
from app.store.index import Place, Span
from app.store.keys import Keys
from app.web.cursor import Page
from app.web.turns import in_pieces, piece

# Records that are read in one slice.
_AT_ONCE = 100

# A record as app.calls.cdr.record makes it, with ``saved``, the time of its last write.
Record = dict[str, Any]


class CdrStore:
    """The records by the acceptance of their calls, in the indexes that Keys names."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self.keys = keys

    def page(
        self,
        key: str,
        span: Span,
        start: int,
        count: int,
        *,
        newest_first: bool,
        after: Place | None = None,
    ) -> Page[Record]:
        """Some records from number ``start`` on or after a place, and the number of all records."""
        most = count if after is None else count + 1
        places, total = index.page(
            *(self._redis, key, span, start, most), newest_first=newest_first, after=after
        )
        # Records that were listed before may be gone, so after a place their number tells nothing.
        more = start + count < total if after is None else len(places) > count
        places = places[:count]
        last = places[-1] if places and more else None
        rows = in_pieces(places, lambda some: self._read(key, some), _AT_ONCE)
        return Page(rows, total, last)

    def walk(
        self, key: str, span: Span, *, newest_first: bool, after: Place | None = None
    ) -> Iterator[list[Record]]:
        """All records, or those after a place, some at a time. What is done with them belongs to
        the slice in which they were read."""
        for some in index.walk(self._redis, key, span, newest_first=newest_first, after=after):
            for first in range(0, len(some), _AT_ONCE):
                with piece():
                    yield self._read(key, some[first : first + _AT_ONCE])

    def count(self, key: str, span: Span) -> int:
        return self.page(key, span, 0, 0, newest_first=True).total

    def _read(self, key: str, places: Sequence[Place]) -> list[Record]:
        ids = [call_id for call_id, _ in places]
        texts: Any = self._redis.mget(map(self.keys.record, ids)) if ids else []
        # A record written under a shorter retention expires before its entry leaves the index.
        if gone := [call_id for call_id, text in zip(ids, texts, strict=True) if text is None]:
            self._redis.zrem(key, *gone)
        return [orjson.loads(text) for text in texts if text is not None]
