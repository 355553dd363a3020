"""Turns for what takes long, so that one app does not keep the process from the requests of others.

A process answers all requests in one thread. What reads or makes more than a page of rows waits for
a turn of its app (:class:`Turns`), in the order in which it came. It then works in slices of some
milliseconds (:func:`piece`, :func:`in_pieces`). One slice at a time runs in the whole process, a
pause as long as the slice comes after it, and those that wait for a slice get it in their order.

Threads and events are gevent's if the server has patched them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from app.errors import api_error

_T = TypeVar("_T")
_R = TypeVar("_R")

# A request for more rows than this needs a turn. So many are read or made in one slice: some
# milliseconds.
ROWS = 25
_SLICE = 10
# The most requests of an app that wait for its turn, and the seconds that one waits at most.
MOST_WAITING = 50
LONGEST_WAIT = 60.0
_RETRY_AFTER = 5
# Seconds of the pause after a slice.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02


class Line:
    """A lock for ``width`` at a time, that those who wait get in the order in which they came."""

    def __init__(self, width: int = 1) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._free = width

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock; False after ``timeout`` seconds."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            event = threading.Event()
            self._waiting.append(event)
        try:
            return event.wait(timeout) or self._was_given(event)
        except BaseException:
            # A greenlet may be killed while it waits.
            if self._was_given(event):
                self.release()
            raise

    def _was_given(self, event: threading.Event) -> bool:
        """Wait no more; whether the lock was given in the same moment."""
        with self._lock:
            if not event.is_set():
                self._waiting.remove(event)
            return event.is_set()

    def release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


class Turns:
    """The turns of apps: of each app ``width`` requests at a time."""

    def __init__(self, width: int = 1) -> None:
        self._width = width
        self._lines: dict[str, Line] = {}

    @contextmanager
    def of(self, app: str) -> Iterator[None]:
        """Wait for the app's turn. Raises ApiError if too many of the app's requests wait."""
        line = self._lines.setdefault(app, Line(self._width))
        if len(line) >= MOST_WAITING * self._width or not line.acquire(LONGEST_WAIT):
            raise api_error("service_unavailable", cause="busy", retry_after=_RETRY_AFTER)
        try:
            yield
        finally:
            line.release()


# The turns of lists and searches, of streams that catch up, and of hang-ups of all calls.
LISTS, STREAMS, ENDINGS = Turns(), Turns(), Turns()
# Those of short lists: so many at a time keep the process busy while they wait for Redis.
SHORT = Turns(width=4)
_slices = Line()
# The thread or greenlet that has the slice.
_working: list[int] = []


@contextmanager
def piece() -> Iterator[None]:
    """A slice of work. The next one in the process begins after a pause as long as this one. A
    slice within a slice is a part of it."""
    own = threading.get_ident()
    if own in _working:
        yield
        return
    _slices.acquire()
    _working.append(own)
    try:
        begun = time.perf_counter()
        yield
        took = time.perf_counter() - begun
        time.sleep(min(max(took, _SHORTEST_PAUSE), _LONGEST_PAUSE))
    finally:
        _working.remove(own)
        _slices.release()


def in_pieces(
    rows: Sequence[_T], do: Callable[[Sequence[_T]], Iterable[_R]], size: int = _SLICE
) -> list[_R]:
    """What ``do`` makes of all rows: in slices of ``size`` rows, if there are more than ROWS."""
    if len(rows) <= max(size, ROWS):
        return list(do(rows))
    found: list[_R] = []
    for first in range(0, len(rows), size):
        with piece():
            found += do(rows[first : first + size])
    return found
