"""The memory that Redis keeps free for what exists: new calls are refused before Redis is full.

Everything about calls that exist goes on writing: actions, hang-ups, events, logins. The reserve is
for that. An organization whose calls take more than its share is refused at twice the reserve, so
that the others find room.
"""

import logging
import math
import time
from collections.abc import Iterable, Sequence
from enum import IntEnum

from redis import Redis
from redis.exceptions import RedisError

from app.settings import Settings, reserved
from app.store.keys import Keys

log = logging.getLogger(__name__)

# Seconds for which a look at the memory counts, and one at the shares.
_MEMORY_AGE = 1.0
_SHARES_AGE = 5.0
# Seconds between two lines of the log.
_TOLD_EVERY = 60.0
# The calls whose size is taken for that of the others of their organization, and the organizations
# that are looked at so.
_SAMPLES, _MOST_SAMPLED = 5, 200
# The live calls that are looked at for what all of them take.
_LIVE_SAMPLES = 20
# What a live call will take beside what it takes now, as a multiple of its hash: its legs are heard
# of, and its timeline and the stream of changes grow.
_GROWTH = 5
# Bytes of a party of a call until its end, with all that is kept of it.
_PARTY = 5_000
# Bytes of a record with its places in indexes.
_RECORD = 1_000


class Room(IntEnum):
    """What new calls Redis has room for."""

    ALL = 0
    # Of organizations within their share.
    FAIR = 1
    NONE = 2


class Reserve:
    """The reserve of Redis, looked at once a second."""

    def __init__(self, redis: Redis, keys: Keys, settings: Settings) -> None:
        self._redis = redis
        self._keys = keys
        self._reserve = settings.redis_reserve
        self._retention = settings.retention
        self._is_off = not reserved(self._reserve, 100)
        # Bytes: what is free, what live calls will yet take of it, and the reserve.
        self._free = math.inf
        self._growth = self._kept = 0
        self._looked = self._counted = self._told = float("-inf")
        # The share that each organization's calls take of all calls' memory, by number.
        self._shares: dict[str, float] = {}

    def room(self, parties: int = 0) -> Room:
        """The room that Redis has for new calls of so many parties. An error of Redis leaves what
        was known."""
        if self._is_off:
            return Room.ALL
        now = time.monotonic()
        if now - self._looked >= _MEMORY_AGE:
            # Set before the answer arrives, so that one of many requests asks.
            self._looked = now
            try:
                self._look()
            except RedisError as error:
                log.warning("cannot ask Redis for its memory: %s", error)
        room = Room.ALL
        if self._free < self._kept:
            room = Room.NONE
        elif self._free - self._growth < 2 * self._kept:
            room = Room.FAIR
        if room:
            self._tell(room, now)
        # Until the next look counts them.
        self._growth += parties * _PARTY
        return room

    def _tell(self, room: Room, now: float) -> None:
        if now - self._told < _TOLD_EVERY:
            return
        self._told = now
        log.error(
            "Redis is nearly full: %s (RINGBACK_REDIS_RESERVE is %s)",
            "no new call is accepted"
            if room is Room.NONE
            else "organizations beyond their share place no new calls",
            self._reserve,
        )

    def _look(self) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.info("memory")
            pipe.zcard(self._keys.calls)
            pipe.zrandmember(self._keys.calls, _LIVE_SAMPLES)
            info, live, sampled = pipe.execute()
        most = int(info.get("maxmemory", 0))
        if not most:
            self._free = math.inf
            return
        used = int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0))
        sizes: list[int] = []
        if sampled:
            with self._redis.pipeline(transaction=False) as pipe:
                for call_id in sampled:
                    pipe.memory_usage(self._keys.call(call_id.decode()))
                sizes = list(filter(None, pipe.execute()))
        self._growth = _GROWTH * live * sum(sizes) // max(1, len(sizes))
        self._kept = reserved(self._reserve, most)
        self._free = most - used

    def is_beyond_share(self, number: str, numbers: Iterable[str]) -> bool:
        """Whether an organization's calls take more memory than its share: as much as each other
        organization of ``numbers`` that has calls, and never more than half."""
        now = time.monotonic()
        if now - self._counted >= _SHARES_AGE:
            self._counted = now
            try:
                self._shares = self._count(list(numbers))
            except RedisError as error:
                log.warning("cannot ask Redis for the organizations' memory: %s", error)
        most = 1 / max(2, sum(share > 0 for share in self._shares.values()))
        return self._shares.get(number, 0.0) > most

    def _count(self, numbers: Sequence[str]) -> dict[str, float]:
        """The share of the memory of all calls and records that each organization takes."""
        keys, since = self._keys, time.time() - self._retention
        with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.zcard(keys.organization_calls(number))
                pipe.zcount(keys.organization_records(number), since, "+inf")
                pipe.zcard(keys.organization_records(number))
            counts = pipe.execute()
        kept = map(sum, zip(counts[::3], counts[1::3], strict=True))
        calls = dict(zip(numbers, kept, strict=True))
        largest = sorted(filter(calls.get, numbers), key=lambda number: -calls[number])
        sizes = self._sizes(largest[:_MOST_SAMPLED])
        usual = sum(sizes.values()) / max(1, len(sizes))
        taken = {
            number: calls[number] * sizes.get(number, usual) + records * _RECORD
            for number, records in zip(numbers, counts[2::3], strict=True)
        }
        whole = sum(taken.values()) or 1.0
        return {number: of / whole for number, of in taken.items()}

    def _sizes(self, numbers: Sequence[str]) -> dict[str, float]:
        """The mean size in bytes of the newest calls of organizations, by number."""
        keys = self._keys
        with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.zrange(keys.organization_calls(number), 0, _SAMPLES - 1, desc=True)
                pipe.zrange(keys.organization_records(number), 0, _SAMPLES - 1, desc=True)
            ids = [[each.decode() for each in found] for found in pipe.execute()]
        owners = []
        with self._redis.pipeline(transaction=False) as pipe:
            for number, live, ended in zip(numbers, ids[::2], ids[1::2], strict=True):
                for call_id in (*live, *ended):
                    owners.append(number)
                    pipe.memory_usage(keys.call(call_id))
                    pipe.memory_usage(keys.timeline(call_id))
            sizes = pipe.execute()
        of: dict[str, list[int]] = {}
        for number, call, timeline in zip(owners, sizes[::2], sizes[1::2], strict=True):
            # A call that is no longer kept has no size.
            if call:
                of.setdefault(number, []).append(call + (timeline or 0))
        return {number: sum(each) / len(each) for number, each in of.items()}
