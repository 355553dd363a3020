"""The window of a switch: how many calls may be set up at a time where nobody has set a limit.

A switch that sets up more calls at once than it can bear spends more CPU on each, and bridges
fewer. A FreeSWITCH 1.10.12 that shared two cores with other work bridged 12.8 calls a second while
it set up 5 at a time, 9.9 with 10, 5.3 with 40 and none with 100. The time until a call's first
progress grew from 74 ms (2 at a time) to 155, 494, 2,626 and 5,259 ms.

That time is the far end's too: a call to a slow network is set up slowly by an idle switch. The
time from the claim to the first channel is not, but it is the worker's too. So a switch is slow
only if both times have grown. This is the gradient of Netflix' concurrency-limits, with the
additive increase and the multiplicative decrease of TCP.
"""

from collections.abc import Sequence

# The first window, the least and the most.
FIRST, LEAST, MOST = 4, 2, 2000
# How much longer than on an idle switch a call may take: from its claim to its first channel, and
# from there to its first progress. A factor, and seconds.
TO_CHANNEL, TO_PROGRESS = (1.5, 0.015), (2.0, 0.02)
# The fewest samples by which a window changes.
SAMPLES = 3
# Until the switch was slow for the first time the window grows by a factor, then by so many or by a
# part of it.
DOUBLING, STEP, PART = 2.0, 1.0, 0.05
# What is left of a window on a slow switch, at least and at most.
LEFT_LEAST, LEFT_MOST = 0.5, 0.9
# Below this idle CPU (percent) a window grows by steps alone, and so far above the switch's own
# min-idle-cpu, below which it refuses calls, the window closes.
BUSY, ABOVE_LEAST = 3.0, 3.0
# A call whose first channel is not there after so many seconds is held up.
HELD_UP = 1.0


class Usual:
    """The usual time of a step on a switch that is not busy, from samples."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def learn(self, sample: float, *, busy: bool) -> None:
        """Come nearer to a sample. On a ``busy`` switch only a shorter one says something."""
        if self.seconds is None:
            self.seconds = sample
        elif sample < self.seconds:
            self.seconds += 0.5 * (sample - self.seconds)
        elif not busy:
            self.seconds += 0.1 * (sample - self.seconds)

    def excess(self, sample: float, allowed: tuple[float, float]) -> float:
        """The sample over what is allowed: more than 1 for a slow switch."""
        if self.seconds is None:
            return 0.0
        factor, more = allowed
        return sample / (factor * self.seconds + more)


class Window:
    """The window of one switch. All times are in seconds, by one clock."""

    def __init__(self, size: int = FIRST) -> None:
        """``size`` is where it begins."""
        self.size = float(min(MOST, max(LEAST, size)))
        self._to_channel, self._to_progress = Usual(), Usual()
        self._channels: list[float] = []
        self._progresses: list[float] = []
        # Calls that were claimed before tell of another window.
        self._changed = 0.0
        self._was_slow = False

    def came_up(self, claimed: float, took: float) -> None:
        """The first channel of a call came up ``took`` seconds after the claim."""
        if claimed >= self._changed:
            self._channels.append(max(0.0, took))

    def progressed(self, claimed: float, took: float) -> None:
        """A call had its first progress ``took`` seconds after its first channel."""
        if claimed >= self._changed:
            self._progresses.append(max(0.0, took))

    def look(
        self,
        at: float,
        *,
        setups: int,
        waiting: Sequence[float] = (),
        idle: float | None = None,
        least_idle: float | None = None,
    ) -> int:
        """The window from now on.

        ``setups`` calls are being set up, and those without a channel have waited for so many
        seconds. ``idle`` is the idle CPU in percent, ``least_idle`` the switch's min-idle-cpu.
        """
        is_full = setups >= 0.7 * self.size
        held_up = sum(age > HELD_UP for age in waiting)
        no_cpu = bool(idle is not None and least_idle and idle < least_idle + ABOVE_LEAST)
        if no_cpu or (held_up >= SAMPLES and held_up > setups / 2):
            if at - self._changed >= HELD_UP:
                self._close(at, LEFT_LEAST)
        elif min(len(self._channels), len(self._progresses)) >= SAMPLES:
            to_channel, to_progress = _quarter(self._channels), _quarter(self._progresses)
            self._channels, self._progresses = [], []
            excess = min(
                self._to_channel.excess(to_channel, TO_CHANNEL),
                self._to_progress.excess(to_progress, TO_PROGRESS),
            )
            # So few calls say what is usual, whatever else the switch does.
            busy = is_full and self.size > LEAST
            self._to_channel.learn(to_channel, busy=busy)
            self._to_progress.learn(to_progress, busy=busy)
            if excess > 1.0:
                self._close(at, 1.0 / excess)
            elif is_full:
                self._open(idle)
        return int(self.size)

    def _close(self, at: float, part: float) -> None:
        self.size = max(float(LEAST), self.size * min(LEFT_MOST, max(LEFT_LEAST, part)))
        self._was_slow, self._changed = True, at
        self._channels, self._progresses = [], []

    def _open(self, idle: float | None) -> None:
        if self._was_slow or (idle is not None and idle < BUSY):
            self.size += max(STEP, PART * self.size)
        else:
            self.size *= DOUBLING
        self.size = min(float(MOST), self.size)


def _quarter(samples: list[float]) -> float:
    """The time within which a quarter of the calls took the step: a slow far end takes longer."""
    return sorted(samples)[len(samples) // 4]
