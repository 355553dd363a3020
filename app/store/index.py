"""Sorted sets of calls by the time they were accepted: read a page, or a chunk, at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis

# Members read at once where all have to be looked at.
CHUNK = 500


@dataclass(frozen=True, slots=True)
class Span:
    """Times in epoch seconds: from ``low`` on, and before ``high``."""

    low: float = -math.inf
    high: float = math.inf

    def cut(self, other: "Span") -> "Span":
        """What both have in common."""
        return Span(max(self.low, other.low), min(self.high, other.high))

    @property
    def _bounds(self) -> tuple[str, str]:
        return str(self.low), f"({self.high}"


ALL = Span()


def page(
    redis: Redis, key: str, span: Span, start: int, count: int, *, newest_first: bool
) -> tuple[list[str], int]:
    """The ids from the one numbered ``start`` on, at most ``count``, and how many there are."""
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
    """All ids with their times, some CHUNK at a time. Each once; what comes or goes meanwhile may
    be missed, and nothing else."""
    low, high = span._bounds
    # Those read of the time that the next chunk begins with. By name: they may go meanwhile.
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
