"""Maintenance: for a while Ringback accepts no requests and claims no calls, so that a planned
change of Redis can lose nothing that a client was told.

The key ``maintenance`` says that it is on. accept.lua and pace.lua look at it in their one step, so
no call is accepted or claimed once it is there.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.store.keys import Keys

# Seconds after which a client may retry.
RETRY_AFTER = 2
# Seconds after which all processes have seen that it is on.
SEEN_BY_ALL = 0.5
# Seconds between two looks of a process.
_AGE = 0.25


@dataclass(frozen=True, slots=True)
class State:
    """That maintenance is on: by whom, since when (epoch seconds), and why."""

    by: str
    at: float
    why: str = ""


class Maintenance:
    """Whether Ringback is in maintenance."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.maintenance
        self._looked = float("-inf")
        self._is_on = False

    def is_on(self) -> bool:
        """Whether it is on, as known for _AGE seconds. An error of Redis leaves what was known."""
        now = time.monotonic()
        if now - self._looked >= _AGE:
            # Set before the answer arrives, so that one of many requests asks.
            self._looked = now
            # The request itself meets the error.
            with suppress(RedisError):
                self._is_on = bool(self._redis.exists(self._key))
        return self._is_on

    def state(self) -> State | None:
        """The state as Redis has it now; None if maintenance is off. Raises an error of Redis."""
        text = self._redis.get(self._key)
        if text is None:
            return None
        try:
            return State(**json.loads(text))
        except (TypeError, ValueError):
            return State("?", 0.0)

    def begin(self, state: State) -> bool:
        """Switch it on; return whether it was off. Raises an error of Redis."""
        return bool(self._redis.set(self._key, json.dumps(asdict(state)), nx=True))

    def end(self) -> bool:
        """Switch it off; return whether it was on. Raises an error of Redis."""
        return bool(self._redis.delete(self._key))


def await_replicas(redis: Redis, keys: Keys, limit: float) -> tuple[int, int]:
    """Wait until all replicas have all that Redis has now. Returns how many have it after ``limit``
    seconds at most, and how many there are. Raises an error of Redis."""
    end = time.monotonic() + limit
    while True:
        there = connected(redis)
        with redis.pipeline(transaction=False) as pipe:
            # WAIT covers the writes of its own connection, and what Redis wrote before them.
            pipe.set(f"{keys.prefix}probe", 1, ex=60)
            pipe.wait(there, 500)
            _, have = pipe.execute()
        if have >= there or time.monotonic() >= end:
            return have, there


def connected(redis: Redis) -> int:
    """How many replicas are connected to the master. Raises an error of Redis."""
    info: Any = redis.info("replication")
    return int(info.get("connected_slaves", 0))
