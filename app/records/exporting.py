"""Moves records from Redis to the database of records.

Whoever writes a record adds its id to the stream ``cdr:unexported``, in the same step. The exporter
writes what the stream names to the database, and then deletes the entries. So a record that changed
meanwhile has an entry of its own. If the process dies between the two, the next one writes the same
record again, which changes nothing: the call's id is its key.

Records stay in Redis for some time, where most readers look for them. :meth:`Exporter.trim` takes
out what is older, and only after it has found each record in the database as it is in Redis.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from app.records.archive import Archive
from app.records.errors import RecordsRefused
from app.records.model import Holder, Record, organization_of
from app.store import index, scripts
from app.store.clock import RedisClock
from app.store.index import Place, Span
from app.store.keys import Keys
from app.telemetry import counting

log = logging.getLogger(__name__)

# The most records of one transaction, and of one script that takes them out of Redis: it holds up
# Redis for a millisecond.
BATCH = 500
_OF_SCRIPT = 100
# Seconds between two boundaries, and for which Redis keeps a record that has left its indexes: a
# reader may still want it.
MINUTE = 60.0
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Kept:
    """For how many seconds records are kept: in Redis from the acceptance of the call, there at
    least so long after its end as the call itself, and altogether."""

    in_redis: float
    of_call: float
    altogether: float


class Exporter:
    """Its methods raise errors of Redis, and RecordsUnavailable."""

    def __init__(self, redis: Redis, keys: Keys, archive: Archive, kept: Kept) -> None:
        self._redis: Any = redis
        self._keys = keys
        self._archive = archive
        self._kept = kept
        self._clock = RedisClock(redis)
        # Where the walk through all records that were there before the stream goes on.
        self._walked: Place | None = None
        # The boundary, and when it was found or set, on the monotonic clock.
        self._boundary: tuple[float, float] | None = None

    def prepare(self) -> None:
        """Make what is lacking: tables, the next days' room, the stream. Raises SettingsError if
        the database is newer than this program."""
        if self._archive.migrate() == 0:
            log.info("made the tables of records")
        self._make_room()
        self._begin()

    def _make_room(self) -> None:
        today = int(self._clock.now() // _DAY)
        self._archive.make_room((today, today + 1, today + 2))

    def _begin(self) -> None:
        """Begin the stream where there is none, with the order to export all records."""
        if not self._redis.exists(self._keys.unexported):
            self._redis.xadd(self._keys.unexported, {"all": "1"})

    def step(self) -> bool:
        """Export at most BATCH records. Returns whether there may be more."""
        entries: Any = self._redis.xrange(self._keys.unexported, count=BATCH)
        if not entries:
            # Redis may have come back empty.
            self._begin()
            return False
        ids = list(dict.fromkeys(entry[b"id"].decode() for _, entry in entries if b"id" in entry))
        self._export(ids)
        is_walking = any(b"all" in entry for _, entry in entries) and self._walk()
        if done := [i for i, entry in entries if not (is_walking and b"all" in entry)]:
            self._redis.xdel(self._keys.unexported, *done)
        return is_walking or len(entries) == BATCH

    def _walk(self) -> bool:
        """Export the next records of the index of all. Returns whether there are more."""
        places, _ = index.page(
            *(self._redis, self._keys.records, index.ALL, 0, BATCH),
            newest_first=False,
            after=self._walked,
        )
        self._export([call_id for call_id, _ in places])
        self._walked = places[-1] if len(places) == BATCH else None
        return self._walked is not None

    def _export(self, ids: Sequence[str]) -> None:
        oldest = self._clock.now() - self._kept.altogether
        read = self._read(ids).values()
        self._write([row for row in read if row[0]["published"] >= oldest])

    def _read(self, ids: Sequence[str]) -> dict[str, tuple[Record, str]]:
        """The records that Redis has, with their JSON, by id."""
        texts = self._redis.mget(map(self._keys.record, ids)) if ids else []
        return {
            call_id: (orjson.loads(text), text.decode())
            for call_id, text in zip(ids, texts, strict=True)
            if text is not None
        }

    def _write(self, batch: Sequence[tuple[Record, str]]) -> None:
        if not batch:
            return
        try:
            counting.exported(self._archive.write(batch))
        except RecordsRefused as error:
            if len(batch) > 1:
                # One of them may keep out all others.
                for row in batch:
                    self._write([row])
                return
            # It stays in Redis, and trim tries again.
            log.error("the database refuses the record of call %s: %s", batch[0][0]["id"], error)
            counting.record_refused()

    def trim(self, pause: float = MINUTE) -> int:
        """Take out of Redis what is older than the boundary, and then move the boundary on.
        Returns how many records went.

        A reader that looked at the boundary has ``pause`` seconds for what is newer than that.
        """
        now, kept = self._clock.now(), self._kept
        if self._boundary is None:
            found = self._redis.get(self._keys.exported_before)
            self._boundary = (float(found) if found else 0.0), time.monotonic()
        boundary, since = self._boundary
        if time.monotonic() - since < pause:
            return 0
        gone = 0
        for places in index.walk(
            self._redis, self._keys.records, Span(high=boundary), newest_first=False
        ):
            gone += self._trim(places, now - kept.of_call)
        boundary = max(boundary, now - max(kept.in_redis, kept.of_call))
        self._redis.set(self._keys.exported_before, f"{boundary:.6f}")
        self._boundary = boundary, time.monotonic()
        return gone

    def _trim(self, places: Sequence[Place], ended_before: float) -> int:
        read = self._read([call_id for call_id, _ in places])
        saved = self._archive.saved(places)
        # The stream named them all. A version that knows no stream wrote these.
        lacking = [
            (record, text)
            for call_id, (record, text) in read.items()
            if saved.get(call_id, 0.0) < float(record.get("saved") or record["ended"])
        ]
        if lacking:
            self._write(lacking)
            saved = self._archive.saved(places)
        # What has expired has no more than its place in the index.
        if lost := [call_id for call_id, _ in places if call_id not in read]:
            self._redis.zrem(self._keys.records, *lost)
        rows = [
            (record, text)
            for call_id, (record, text) in read.items()
            if call_id in saved and record["ended"] < ended_before
        ]
        return sum(
            self._take_out(rows[first : first + _OF_SCRIPT])
            for first in range(0, len(rows), _OF_SCRIPT)
        )

    def _take_out(self, rows: Sequence[tuple[Record, str]]) -> int:
        names = [self._keys.records]
        words = [str(int(MINUTE))]
        for record, text in rows:
            organization = Holder(organization=organization_of(record))
            user = Holder(user=record["user"])
            names += [
                self._keys.record(record["id"]),
                organization.index(self._keys),
                user.index(self._keys),
            ]
            digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            words += [record["id"], digest]
        return int(scripts.run(self._redis, scripts.EXPORTED, (len(names), *names, *words)))

    def expire(self) -> int:
        """Delete what is too old in the database, and make room for the next days. Returns how many
        records went."""
        self._make_room()
        return self._archive.expire(self._clock.now() - self._kept.altogether)
