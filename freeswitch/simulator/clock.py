"""The switch's time: the wall clock for time stamps, a faster clock for durations."""

import asyncio
import math
import time
from collections.abc import Callable

TICK = 0.02
"""Seconds between two looks of the switch at a channel: one frame of media."""


class Clock:
    """Timers of a loop, each `speed` times shorter than its seconds say."""

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.speed = speed
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._epoch = time.time()

    def now(self) -> float:
        """Seconds since 1970, as the switch's timers see it (faster than the wall clock)."""
        return self._epoch + (self._loop.time() - self._start) * self.speed

    def uptime(self) -> float:
        """Seconds of simulated time since the start."""
        return (self._loop.time() - self._start) * self.speed

    def second(self) -> int:
        """The present whole second.

        The switch's time limits count these: a limit of 2 s ends 1 to 2 s after its start.
        """
        return math.floor(self.now())

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds / self.speed, callback)

    def call_at_second(self, second: int, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call when the switch's clock reaches a whole second."""
        return self.call_later(max(0.0, second - self.now()), callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


def microseconds() -> int:
    """The wall clock in microseconds since 1970, as in the time stamps of events."""
    return time.time_ns() // 1000
