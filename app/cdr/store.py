"""The reader of the records that app.store.calls writes as calls end: those in Redis, and those in
the database of records, if there is one.

Redis has every record accepted since the boundary that `ringback records export` moves on, and of
the older ones those that the database does not have, or not as they are now. Only for older ones
the database is asked. A record that both have counts as Redis has it. What is older than a boundary
stays in Redis for a minute after that boundary was set, so a reader looks at the boundary once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from redis import Redis

from app.records.model import Holder, Narrow, Record
from app.store import index
from app.store.index import Place, Span, beyond, in_order
from app.store.keys import Keys
from app.web.cursor import Page
from app.web.turns import in_pieces, piece

if TYPE_CHECKING:
    from app.records.archive import Archive, View

# Records that are read in one slice.
_AT_ONCE = 100
# The most records before the boundary that Redis is asked for. If there are more, as after a long
# outage of the database, the number of all records may count some of them twice.
_MOST = 20_000


class CdrStore:
    """The records by the acceptance of their calls. Its methods raise RecordsUnavailable."""

    def __init__(self, redis: Redis, keys: Keys, archive: "Archive | None" = None) -> None:
        self._redis = redis
        self._archive = archive
        self.keys = keys

    def page(
        self,
        holder: Holder,
        span: Span,
        start: int,
        count: int,
        *,
        newest_first: bool,
        after: Place | None = None,
    ) -> Page[Record]:
        """Some records from number ``start`` on or after a place, and the number of all records."""
        most = count if after is None else count + 1
        boundary = self._boundary()
        theirs: Mapping[str, str] = {}
        if self._archive is None or span.low >= boundary:
            places, total = index.page(
                *(self._redis, holder.index(self.keys), span, start, most),
                newest_first=newest_first,
                after=after,
            )
        else:
            found = _Both(self._redis, holder, self.keys, span, boundary, newest_first, after)
            with self._archive.reading() as view:
                places, theirs, total = found.page(view, start, most)
        # Records that were listed before may be gone, so after a place their number tells nothing.
        more = start + count < total if after is None else len(places) > count
        places = places[:count]
        last = places[-1] if places and more else None

        def read(some: Sequence[Place]) -> list[Record]:
            return self._read(holder, some, theirs)

        return Page(in_pieces(places, read, _AT_ONCE), total, last)

    def walk(
        self,
        holder: Holder,
        span: Span,
        *,
        newest_first: bool,
        after: Place | None = None,
        narrow: Narrow | None = None,
    ) -> Iterator[list[Record]]:
        """All records, or those after a place, some at a time. What is done with them belongs to
        the slice in which they were read. It may leave out what ``narrow`` does not let through."""
        is_last = False
        while not is_last:
            places, theirs, is_last = self._step(holder, span, newest_first, after, narrow)
            for first in range(0, len(places), _AT_ONCE):
                with piece():
                    yield self._read(holder, places[first : first + _AT_ONCE], theirs)
            after = places[-1] if places else after

    def count(self, holder: Holder, span: Span) -> int:
        return self.page(holder, span, 0, 0, newest_first=True).total

    def _boundary(self) -> float:
        if self._archive is None:
            return -math.inf
        text: Any = self._redis.get(self.keys.exported_before)
        return -math.inf if text is None else float(text)

    def _step(
        self,
        holder: Holder,
        span: Span,
        newest_first: bool,
        after: Place | None,
        narrow: Narrow | None,
    ) -> tuple[list[Place], dict[str, str], bool]:
        """The next places of a walk, the records of the database among them as JSON, and whether
        these are the last ones."""
        boundary = self._boundary()
        chunk = index.CHUNK
        ours, _ = index.page(
            *(self._redis, holder.index(self.keys), span, 0, chunk),
            newest_first=newest_first,
            after=after,
        )
        old = span.cut(Span(high=boundary))
        is_full = len(ours) == chunk
        if newest_first:
            asks = old.low < old.high and not (is_full and ours[-1][1] >= boundary)
        else:
            asks = old.low < old.high and (after is None or after[1] < boundary)
        if self._archive is None or not asks:
            return ours, {}, not is_full
        # The database last: what leaves Redis meanwhile is there already.
        with self._archive.reading() as view:
            rows = view.rows(
                *(holder, old, chunk), newest_first=newest_first, after=after, narrow=narrow
            )
        known = {call_id for call_id, _ in ours}
        theirs = {place[0]: text for place, text in rows if place[0] not in known}
        ends = [some[-1] for some in (ours, [place for place, _ in rows]) if len(some) == chunk]
        # Beyond the end of a full chunk there may be more of it.
        places = _merged(ours, [place for place, _ in rows if place[0] in theirs], newest_first)
        if ends:
            end = max(ends, key=in_order) if newest_first else min(ends, key=in_order)
            gone = set(beyond(places, end, newest_first=newest_first))
            places = [place for place in places if place not in gone]
        return places, theirs, not ends

    def _read(
        self, holder: Holder, places: Sequence[Place], theirs: Mapping[str, str]
    ) -> list[Record]:
        ours = [call_id for call_id, _ in places if call_id not in theirs]
        found: Any = self._redis.mget(map(self.keys.record, ours)) if ours else []
        texts = dict(zip(ours, found, strict=True))
        # A record written under a shorter retention expires before its entry leaves the index.
        if gone := [call_id for call_id, text in texts.items() if text is None]:
            self._redis.zrem(holder.index(self.keys), *gone)
        every = (theirs.get(call_id) or texts[call_id] for call_id, _ in places)
        return [orjson.loads(text) for text in every if text is not None]


class _Both:
    """A list of records of which the older ones are in Redis or in the database."""

    def __init__(
        self,
        redis: Redis,
        holder: Holder,
        keys: Keys,
        span: Span,
        boundary: float,
        newest_first: bool,
        after: Place | None,
    ) -> None:
        self._redis = redis
        self._holder = holder
        self._key = holder.index(keys)
        self._recent, self._old = span.cut(Span(low=boundary)), span.cut(Span(high=boundary))
        self._newest_first = newest_first
        self._after = after
        # Redis first: what leaves it meanwhile is in the database already.
        self._ours, self._in_redis = self._page(self._old, 0, _MOST)
        _, self._recent_total = self._page(self._recent, 0, 0)

    def page(self, view: "View", start: int, count: int) -> tuple[list[Place], dict[str, str], int]:
        """Places, the records of the database among them as JSON, and the number of all records."""
        known = set(view.saved(self._ours))
        old_total = self._in_redis + view.count(self._holder, self._old) - len(known)

        def recent(start: int, count: int) -> list[Place]:
            return self._page(self._recent, start, count)[0] if count > 0 else []

        def old(start: int, count: int) -> list[Place]:
            return self._old_places(view, known, start, count) if count > 0 else []

        ways = [(recent, self._recent_total), (old, old_total)]
        (first, before), (second, _) = ways if self._newest_first else ways[::-1]
        places = first(start, count)
        places += second(max(0, start - before), count - len(places))
        in_redis = {call_id for call_id, _ in self._ours}
        theirs = [p for p in places if p[1] < self._old.high and p[0] not in in_redis]
        return places, view.documents(theirs), self._recent_total + old_total

    def _page(self, span: Span, start: int, count: int) -> tuple[list[Place], int]:
        after = self._after
        return index.page(
            *(self._redis, self._key, span, start if after is None else 0, count),
            newest_first=self._newest_first,
            after=after,
        )

    def _old_places(self, view: "View", known: set[str], start: int, count: int) -> list[Place]:
        """Places before the boundary, from number ``start`` on or after the place."""
        if self._after is not None:
            start = 0
        # At most all of Redis' stand before them.
        skipped = max(0, start - len(self._ours))
        theirs = view.places(
            *(self._holder, self._old, start + count - skipped),
            newest_first=self._newest_first,
            start=skipped,
            after=self._after,
            without=known,
        )
        merged = _merged(self._ours, theirs, self._newest_first)
        return merged[start - skipped : start - skipped + count]


def _merged(ours: list[Place], theirs: list[Place], newest_first: bool) -> list[Place]:
    return sorted([*ours, *theirs], key=in_order, reverse=newest_first)
