"""The reader of the records that app.store.calls writes as calls end."""

from collections.abc import Iterator
from typing import Any

import orjson
from redis import Redis

from app.store import index
from app.store.index import Span
from app.store.keys import Keys

# A record as app.calls.cdr.record makes it, with ``saved``, the time of its last write.
Record = dict[str, Any]


class CdrStore:
    """The records by the acceptance of their calls, in the indexes that Keys names."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self.keys = keys

    def page(
        self, key: str, span: Span, start: int, count: int, *, newest_first: bool
    ) -> tuple[list[Record], int]:
        """Some records from number ``start`` on, and the number of all records."""
        ids, total = index.page(self._redis, key, span, start, count, newest_first=newest_first)
        return self._read(key, ids), total

    def walk(self, key: str, span: Span, *, newest_first: bool) -> Iterator[list[Record]]:
        """All records, some hundreds at a time."""
        for some in index.walk(self._redis, key, span, newest_first=newest_first):
            yield self._read(key, [call_id for call_id, _ in some])

    def count(self, key: str, span: Span) -> int:
        return self.page(key, span, 0, 0, newest_first=True)[1]

    def _read(self, key: str, ids: list[str]) -> list[Record]:
        texts: Any = self._redis.mget(map(self.keys.record, ids)) if ids else []
        # A record written under a shorter retention expires before its entry leaves the index.
        if gone := [call_id for call_id, text in zip(ids, texts, strict=True) if text is None]:
            self._redis.zrem(key, *gone)
        return [orjson.loads(text) for text in texts if text is not None]
