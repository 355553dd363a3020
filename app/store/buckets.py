"""Token buckets: how many requests and calls an app may send.

All processes share a bucket in Redis. Each serves from what it knows of the bucket, without asking,
and settles later: it tells Redis what it took and learns the level, after a second or once it took
a twentieth of the bucket. So a request waits for no answer of Redis, and several processes together
give at most that twentieth each too much, which the bucket then owes.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Timer
from time import monotonic
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.store import scripts

# The part of a bucket that a process gives before it settles, and the seconds after which it
# settles at the latest.
_PART = 0.05
_SETTLED = 1.0
# Less of a token is none: times add up to whole tokens only nearly.
_DUST = 1e-6


@dataclass(frozen=True, slots=True)
class Policy:
    """How fast a bucket fills (tokens a second) and how many tokens it holds when it is full."""

    rate: float
    size: int


class Bucket:
    """A token bucket as one process knows it. It is full at first."""

    __slots__ = ("_at", "_level", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._level = float(policy.size)
        # Seconds of the monotonic clock.
        self._at = monotonic()

    def level(self) -> float:
        """The tokens that are in the bucket now, below 0 if it owes."""
        now = monotonic()
        filled = self._level + (now - self._at) * self.policy.rate
        self._level, self._at = min(filled, self.policy.size), now
        return self._level

    def take(self, tokens: float, *, below: int = 0) -> float:
        """Take so many tokens and return 0, or take none and return the seconds until there are
        so many. The bucket may owe ``below`` tokens. It serves more than it ever holds once it is
        full."""
        lacks = min(tokens, self.policy.size) - below - self.level()
        if lacks > _DUST:
            return lacks / self.policy.rate
        self._level -= tokens
        return 0.0

    def put(self, tokens: float) -> None:
        """Put tokens back that were taken for nothing."""
        self._level += tokens

    def set(self, level: float) -> None:
        self._level, self._at = level, monotonic()


class Kept:
    """A limited number of buckets by the names of their holders: those used last."""

    def __init__(self, policy: Policy, most: int) -> None:
        self._policy = policy
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, holder: str) -> Bucket:
        found = self._buckets.get(holder)
        if found is None:
            found = self._buckets[holder] = Bucket(self._policy)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(holder)
        return found


class Shared:
    """The buckets of one kind that all processes share. Where Redis does not answer, this process
    goes on by its own count."""

    def __init__(self, redis: Redis, name: Callable[[str], str], policy: Policy, most: int) -> None:
        """``name`` makes the key of a holder's bucket; ``most`` is for how many holders this
        process keeps one."""
        self.policy = policy
        self._redis = redis
        self._name = name
        self._kept = Kept(policy, most)
        # What was taken since the last settlement, by holder.
        self._taken: dict[str, float] = {}
        self._lock = Lock()
        # Of two answers the later one must be written last.
        self._settling = Lock()
        self._later: Timer | None = None

    def take(self, holder: str, tokens: int, *, below: int = 0) -> float:
        """Take tokens as :meth:`Bucket.take` does."""
        wait = self._kept.of(holder).take(tokens, below=below)
        if not wait:
            self._took(holder, tokens)
        return wait

    def put(self, holder: str, tokens: int) -> None:
        self._kept.of(holder).put(tokens)
        self._took(holder, -tokens)

    def level(self, holder: str) -> float:
        return self._kept.of(holder).level()

    def settle(self) -> None:
        """Tell Redis what was taken, and learn how full the buckets are."""
        with self._settling:
            self._settle()

    def _settle(self) -> None:
        with self._lock:
            taken, self._taken = self._taken, {}
            self._later = None
        if not taken:
            return
        words: list[Any] = [len(taken), *map(self._name, taken)]
        for tokens in taken.values():
            words += [self.policy.rate, self.policy.size, tokens]
        try:
            levels = scripts.run(self._redis, scripts.BUCKETS, words)
        except RedisError:
            # What was taken is forgotten: a debt of minutes would close the bucket for long.
            return
        for holder, level in zip(taken, levels, strict=True):
            # Requests were served while the script ran.
            since = self._taken.get(holder, 0.0)
            self._kept.of(holder).set(min(float(level) - since, self.policy.size))

    def _took(self, holder: str, tokens: float) -> None:
        with self._lock:
            taken = self._taken[holder] = self._taken.get(holder, 0.0) + tokens
            soon = taken >= self.policy.size * _PART
            if self._later is not None:
                if not soon or self._later.interval == 0:
                    return
                self._later.cancel()
            # Not within this request, which would wait for Redis.
            self._later = Timer(0 if soon else _SETTLED, self.settle)
            self._later.daemon = True
            self._later.start()


def whole_seconds(wait: float) -> int:
    """The seconds of a header Retry-After: whole, rounded up, at least 1."""
    return max(1, math.ceil(wait))
