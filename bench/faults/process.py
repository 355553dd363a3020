"""A process of Ringback whose clock can be stepped, and which can die at a chosen line.

    FAULT_CLOCK=FILE FAULT_AT=module:function:before|after[:nth] \\
        python -m bench.faults.process api|worker|listener

FAULT_CLOCK names a file with the seconds that this process is ahead of the true time; it is read
again whenever it changes. FAULT_AT kills the whole process group, as a machine that dies would,
before or after the nth call of a function: `app.store.accepting:Acceptor.accept:after`. The product
knows nothing of either.
"""

import contextlib
import datetime
import functools
import importlib
import itertools
import os
import signal
import time
from typing import Any

CLOCK = "FAULT_CLOCK"
AT = "FAULT_AT"
# Seconds between two looks at the file.
_LOOK_INTERVAL = 0.1

_true_time = time.time
_true_time_ns = time.time_ns
_true_datetime = datetime.datetime


class _Clock:
    def __init__(self, path: str) -> None:
        self._path = path
        self._looked = 0.0
        self._changed = 0
        self._ahead = 0.0

    def ahead(self) -> float:
        """Seconds to add to the true time."""
        at = time.monotonic()
        if at - self._looked >= _LOOK_INTERVAL:
            self._looked = at
            with contextlib.suppress(OSError):
                changed = os.stat(self._path).st_mtime_ns
                if changed != self._changed:
                    with open(self._path) as file:
                        self._ahead = float(file.read())
                    self._changed = changed
        return self._ahead


class _AnyDatetime(type):
    """What C code makes is of the true class, and passes for one of the replaced."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _true_datetime)


def shift_clock(path: str) -> None:
    """Put this process' wall clock ahead by what the file says; monotonic clocks stay."""
    clock = _Clock(path)

    class Datetime(datetime.datetime, metaclass=_AnyDatetime):
        # RQ reads the time through this one.
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return _true_datetime.fromtimestamp(time.time(), tz)

    time.time = lambda: _true_time() + clock.ahead()
    time.time_ns = lambda: _true_time_ns() + int(clock.ahead() * 1e9)
    datetime.datetime = Datetime  # type: ignore[misc]


def die_at(point: str) -> None:
    """Wrap the function of FAULT_AT. Raises ValueError, ImportError or AttributeError."""
    from gevent import monkey

    # As ringback_cli/process.py does first: the function's module opens sockets and makes locks.
    monkey.patch_all()
    module, path, moment, *nth = point.split(":")
    if moment not in ("before", "after"):
        raise ValueError(f"{AT} says before or after, not {moment!r}")
    *outer, name = path.split(".")
    owner: Any = functools.reduce(getattr, outer, importlib.import_module(module))
    function = getattr(owner, name)
    calls = itertools.count(1)
    last = int(nth[0]) if nth else 1

    @functools.wraps(function)
    def dying(*args: Any, **kwargs: Any) -> Any:
        dies = next(calls) == last
        if dies and moment == "before":
            os.killpg(0, signal.SIGKILL)
        result = function(*args, **kwargs)
        if dies:
            os.killpg(0, signal.SIGKILL)
        return result

    setattr(owner, name, dying)


if __name__ == "__main__":
    if path := os.environ.get(CLOCK):
        shift_clock(path)
    if point := os.environ.get(AT):
        die_at(point)
    from ringback_cli.main import main

    main(prog_name="ringback")
