"""Indexes: sorted sets of calls by the time of acceptance, read by pages or chunks."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

# The members that a walk reads at once.
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Span:
    """A span of times in epoch seconds: from ``low`` on, and before ``high``."""

    low: float = -math.inf
    high: float = math.inf

    def cut(self, other: "Span") -> "Span":
        """The span that both have in common."""
        return Span(max(self.low, other.low), min(self.high, other.high))

    @property
    def _bounds(self) -> tuple[str, str]:
        return str(self.low), f"({self.high}"


ALL = Span()


def page(
    redis: Redis, key: str, span: Span, start: int, count: int, *, newest_first: bool
) -> tuple[list[str], int]:
    """At most ``count`` ids from number ``start`` on, and the number of all."""
    low, high = span._bounds
    first, last = (high, low) if newest_first else (low, high)
    with redis.pipeline(transaction=False) as pipe:
        pipe.zcount(key, low, high)
        pipe.zrange(key, first, last, desc=newest_first, byscore=True, offset=start, num=count)
        total, ids = pipe.execute()
    return [call_id.decode() for call_id in ids], total


def walk(
    redis: Redis, key: str, span: Span = ALL, *, newest_first: bool = True
) -> Iterator[list[tuple[str, float]]]:
    """All ids with their times, CHUNK at a time, each once. It may miss ids that are added or
    removed meanwhile, and no others."""
    low, high = span._bounds
    # The ids already read with the time that the next chunk begins with. Members may go meanwhile,
    # so their number would not do.
    seen: set[bytes] = set()
    while True:
        first, last = (high, low) if newest_first else (low, high)
        most = CHUNK + len(seen)
        found: Any = redis.zrange(
            *(key, first, last),
            desc=newest_first,
            byscore=True,
            offset=0,
            num=most,
            withscores=True,
        )
        if new := [(call_id.decode(), at) for call_id, at in found if call_id not in seen]:
            yield new
        if len(found) < most:
            return
        at = found[-1][1]
        seen = {call_id for call_id, other in found if other == at}
        if newest_first:
            high = str(at)
        else:
            low = str(at)


def page_of(
    redis: Redis, keys: Sequence[str], span: Span, start: int, count: int, *, newest_first: bool
) -> tuple[list[str], int]:
    """As :func:`page`, of all ids that are in any of the indexes."""
    if len(keys) == 1:
        return page(redis, keys[0], span, start, count, newest_first=newest_first)
    ids = [i for i, at in _union(redis, keys, newest_first) if span.low <= at < span.high]
    return ids[start : start + count], len(ids)


def walk_of(
    redis: Redis, keys: Sequence[str], *, newest_first: bool = True
) -> Iterator[list[tuple[str, float]]]:
    """As :func:`walk`, of all ids that are in any of the indexes."""
    if len(keys) == 1:
        yield from walk(redis, keys[0], newest_first=newest_first)
        return
    found = _union(redis, keys, newest_first)
    for first in range(0, len(found), CHUNK):
        yield found[first : first + CHUNK]


def _union(redis: Redis, keys: Sequence[str], newest_first: bool) -> list[tuple[str, float]]:
    found: Any = redis.zunion(keys, aggregate="MAX", withscores=True)
    return [(i.decode(), at) for i, at in (reversed(found) if newest_first else found)]
