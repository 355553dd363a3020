"""Indexes: sorted sets of calls by the time of acceptance, read by pages or chunks."""

import math
from collections.abc import Iterable, Iterator, Sequence
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

    def from_place(self, place: "Place", *, newest_first: bool) -> "Span":
        """The part of the span from the time of a place on, in that order."""
        _, at = place
        if newest_first:
            return self.cut(Span(high=math.nextafter(at, math.inf)))
        return self.cut(Span(low=at))

    @property
    def _bounds(self) -> tuple[str, str]:
        return str(self.low), f"({self.high}"


ALL = Span()
# An id with its time: the place of a call in the order of an index.
Place = tuple[str, float]


def in_order(place: Place) -> tuple[float, str]:
    """The key by which Redis sorts an index."""
    call_id, at = place
    return at, call_id


def beyond(places: Iterable[Place], after: Place, *, newest_first: bool) -> list[Place]:
    """The places that come after one of them."""
    last = in_order(after)
    if newest_first:
        return [place for place in places if in_order(place) < last]
    return [place for place in places if in_order(place) > last]


def page(
    redis: Redis,
    key: str,
    span: Span,
    start: int,
    count: int,
    *,
    newest_first: bool,
    after: Place | None = None,
) -> tuple[list[Place], int]:
    """At most ``count`` ids with their times, from number ``start`` on or after a place, and the
    number of all."""
    low, high = span._bounds
    if after is not None:
        found: list[Place] = []
        for some in walk(redis, key, span, newest_first=newest_first, after=after):
            found += some
            if len(found) >= count:
                break
        return found[:count], int(redis.zcount(key, low, high))
    with redis.pipeline(transaction=False) as pipe:
        pipe.zcount(key, low, high)
        read(pipe, key, span, count, newest_first=newest_first, start=start)
        total, ids = pipe.execute()
    return [(call_id.decode(), at) for call_id, at in ids], total


def read(
    redis: Redis, key: str, span: Span, count: int, *, newest_first: bool, start: int = 0
) -> Any:
    """Ask for at most ``count`` ids with their times, from number ``start`` on."""
    low, high = span._bounds
    first, last = (high, low) if newest_first else (low, high)
    return redis.zrange(
        *(key, first, last),
        desc=newest_first,
        byscore=True,
        offset=start,
        num=count,
        withscores=True,
    )


def walk(
    redis: Redis,
    key: str,
    span: Span = ALL,
    *,
    newest_first: bool = True,
    after: Place | None = None,
) -> Iterator[list[Place]]:
    """All ids with their times, or those after a place, CHUNK at a time, each once. It may miss ids
    that are added or removed meanwhile, and no others."""
    if after is not None:
        span = span.from_place(after, newest_first=newest_first)
        for some in walk(redis, key, span, newest_first=newest_first):
            if rest := beyond(some, after, newest_first=newest_first):
                yield rest
        return
    # The ids already read with the time that the next chunk begins with. Members may go meanwhile,
    # so their number would not do.
    seen: set[bytes] = set()
    while True:
        most = CHUNK + len(seen)
        found: Any = read(redis, key, span, most, newest_first=newest_first)
        if new := [(call_id.decode(), at) for call_id, at in found if call_id not in seen]:
            yield new
        if len(found) < most:
            return
        last = found[-1]
        seen = {call_id for call_id, other in found if other == last[1]}
        span = span.from_place(last, newest_first=newest_first)


def page_of(
    redis: Redis,
    keys: Sequence[str],
    span: Span,
    start: int,
    count: int,
    *,
    newest_first: bool,
    after: Place | None = None,
) -> tuple[list[Place], int]:
    """As :func:`page`, of all ids that are in any of the indexes."""
    if len(keys) == 1:
        return page(redis, keys[0], span, start, count, newest_first=newest_first, after=after)
    union = _union(redis, keys, newest_first)
    found = [place for place in union if span.low <= place[1] < span.high]
    if after is not None:
        return beyond(found, after, newest_first=newest_first)[:count], len(found)
    return found[start : start + count], len(found)


def walk_of(
    redis: Redis,
    keys: Sequence[str],
    *,
    newest_first: bool = True,
    after: Place | None = None,
) -> Iterator[list[Place]]:
    """As :func:`walk`, of all ids that are in any of the indexes."""
    if len(keys) == 1:
        yield from walk(redis, keys[0], newest_first=newest_first, after=after)
        return
    found = _union(redis, keys, newest_first)
    if after is not None:
        found = beyond(found, after, newest_first=newest_first)
    for first in range(0, len(found), CHUNK):
        yield found[first : first + CHUNK]


def _union(redis: Redis, keys: Sequence[str], newest_first: bool) -> list[Place]:
    found: Any = redis.zunion(keys, aggregate="MAX", withscores=True)
    return [(i.decode(), at) for i, at in (reversed(found) if newest_first else found)]
