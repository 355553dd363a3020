"""Reads the calls in Redis. A program that only reads loads neither scripts nor metrics."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis import Redis

from app.calls.model import Call
from app.store.client import BLOCK_LIMIT
from app.store.clock import RedisClock
from app.store.keys import Keys
from app.store.replies import from_reply, readable


class CallReader:
    """Reads calls, their timelines and their indexes, and tells the time by Redis' clock."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys
        self.clock = RedisClock(redis)

    def now(self) -> float:
        """Epoch seconds to the microsecond by Redis' clock. May raise an error of Redis."""
        return self.clock.now()

    def get(self, call_id: str) -> Call | None:
        """The call, or None if Redis does not have it or no longer keeps it."""
        flat: Any = self.redis.hgetall(self.keys.call(call_id))
        return from_reply(flat)

    def has(self, call_id: str) -> bool:
        """Whether Redis keeps the call, also one that this process cannot read."""
        return bool(self.redis.exists(self.keys.call(call_id)))

    def get_many(self, call_ids: Iterable[str]) -> list[Call | None]:
        """The calls, in the order of the ids. A call that is missing or cannot be read is None, so
        that it does not hide the others."""
        names = list(call_ids)
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in names:
                pipe.hgetall(self.keys.call(call_id))
            found = zip(names, pipe.execute(raise_on_error=False), strict=True)
        return [readable(call_id, reply) for call_id, reply in found]

    def by_nonce(self, app: str, nonce: str) -> tuple[Call, ...]:
        return self.of_nonce(self.redis.get(self.keys.nonce(app, nonce))) or ()

    def of_nonce(self, value: Any) -> tuple[Call, ...] | None:
        """The calls that a nonce stands for; None if the nonce is new or Redis no longer keeps its
        calls."""
        if value is None:
            return None
        ids = value.decode().split(",")
        calls = tuple(filter(None, self.get_many(ids)))
        # A call that Redis keeps and that cannot be read raises: its nonce is not new.
        return calls or tuple(filter(None, map(self.get, ids))) or None

    def nonces(self, call_ids: Sequence[str]) -> list[str | None]:
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in call_ids:
                pipe.hget(self.keys.call(call_id), "nonce")
            return [nonce and nonce.decode() for nonce in pipe.execute()]

    def live_of_switch(self, switch: str, first: int = 0, most: int = 0) -> list[str]:
        """The ids of the live calls that were claimed for the switch, the oldest first: all, or at
        most so many from number ``first`` on."""
        last = first + most - 1 if most else -1
        ids: Any = self.redis.zrange(self.keys.switch_calls(switch), first, last)
        return [call_id.decode() for call_id in ids]

    def unreachable(self, switches: Iterable[str]) -> dict[str, float]:
        """The unreachable ones of the switches, each with the time since when in epoch seconds."""
        names = list(dict.fromkeys(switches))
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hget(self.keys.switch(name), "unreachable_since")
            found = zip(names, pipe.execute(), strict=True)
        return {name: float(since) for name, since in found if since is not None}

    def due(self, switch: str, now: float) -> list[str]:
        """The ids of calls that were claimed for the switch and whose deadline has passed."""
        ids: Any = self.redis.zrange(self.keys.deadlines(switch), "-inf", now, byscore=True)
        return [call_id.decode() for call_id in ids]

    def timeline(self, call_id: str) -> list[dict[str, str]]:
        """The timeline of the call: every command, reply, event and change, oldest first."""
        entries: Any = self.redis.xrange(self.keys.timeline(call_id))
        found = [
            {"id": entry_id.decode(), **{k.decode(): v.decode() for k, v in fields.items()}}
            for entry_id, fields in entries
        ]
        # Workers write commands some time after they sent them.
        return sorted(found, key=lambda entry: entry["at"])

    def wait(self, call_id: str, until: Callable[[Call], bool], timeout: float) -> Call | None:
        """The call once ``until`` holds of it, or as it stands after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        last = "$"
        while True:
            # Find the end of the timeline before you read the call, so that no change is missed.
            if last == "$":
                newest: Any = self.redis.xrevrange(self.keys.timeline(call_id), count=1)
                last = newest[0][0] if newest else "0"
            call = self.get(call_id)
            left = end - time.monotonic()
            if call is None or until(call) or left <= 0:
                return call
            reply: Any = self.redis.xread(
                {self.keys.timeline(call_id): last},
                block=max(1, int(min(left, BLOCK_LIMIT) * 1000)),
            )
            if reply:
                last = reply[0][1][-1][0]
