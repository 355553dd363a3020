"""Redis' clock, which all processes share: the clocks of their machines differ, and are stepped."""

import math
import time

from redis import Redis
from redis.exceptions import RedisError

# Seconds by which a better estimate of the offset may set this clock back. The clock then waits, so
# that a later call is not accepted before an earlier one. A larger step is one of Redis' clock.
_CORRECTION = 1.0
# Seconds for which this process computes Redis' time from its monotonic clock.
_KEPT = 10.0


class RedisClock:
    """Redis' clock, asked only every few seconds."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        # The offset of Redis' clock from the monotonic clock of this process, in microseconds: the
        # least that it can be, and the one in use.
        self._least = 0.0
        self._offset = 0.0
        # The last time that it told, in epoch seconds.
        self._last = -math.inf
        self.heard = -math.inf
        """When Redis last told its time, on the monotonic clock; -inf before the first time."""

    def now(self) -> float:
        """Epoch seconds to the microsecond by Redis' clock. May raise an error of Redis."""
        if time.monotonic() - self.heard > _KEPT:
            asked = time.monotonic()
            try:
                seconds, micros = self._redis.time()
                self.set(asked, seconds * 1e6 + micros)
            except RedisError:
                if self.heard == -math.inf:
                    raise
        at = round(time.monotonic() + self._offset / 1e6, 6)
        if self._last - _CORRECTION < at <= self._last:
            at = round(self._last + 1e-6, 6)
        self._last = at
        return at

    def moment(self, at: float) -> float:
        """The earliest time that Redis' clock can have, in microseconds, at the time ``at`` of the
        monotonic clock. May raise an error of Redis."""
        self.now()
        return at * 1e6 + self._least

    def set(self, asked: float, clock: float) -> None:
        """Take over ``clock``, Redis' time in microseconds, which Redis read at some moment since
        the monotonic time ``asked``."""
        first, heard = self.heard == -math.inf, time.monotonic()
        self._least, most = clock - heard * 1e6, clock - asked * 1e6
        # The old offset stays while it can be true, with a millisecond of drift.
        if first or not self._least - 1e3 <= self._offset <= most + 1e3:
            self._offset = (self._least + most) / 2
        # At last: another thread may read this clock in the middle.
        self.heard = heard
