"""Whether memory stays flat at a constant load."""

import time
from statistics import linear_regression
from typing import Any

import gevent

from bench.speed.calls import EndToEnd
from bench.speed.meter import family, resident
from bench.speed.table import heads, row

_SAMPLES = 60
_ROWS = 20
_MIB = 1 << 20


def watch(calls: EndToEnd, rate: float, seconds: float) -> None:
    """Place calls at this rate for so long, and print what each process and Redis hold."""
    pids = {name: family(process.pid) for name, process in calls.stack.processes.items()}
    if calls.switch.pid is not None:
        pids["switch"] = family(calls.switch.pid)
    work = gevent.spawn(calls.generator.open_loop, rate, seconds)
    begun = time.time()
    times: list[float] = []
    seen: dict[str, list[float]] = {name: [] for name in (*pids, "used", "keys")}
    heads(*pids, "used", "keys")
    every = max(1.0, seconds / _SAMPLES)
    while not work.dead:
        gevent.sleep(every)
        times.append(time.time() - begun)
        for name, of in pids.items():
            seen[name].append(resident(of) / _MIB)
        info: Any = calls.redis.info("memory")
        seen["used"].append(info["used_memory"] / _MIB)
        seen["keys"].append(calls.redis.dbsize())
        if len(times) % max(1, int(seconds / every / _ROWS)) == 0:
            row(f"after {times[-1]:.0f} s: MiB, number", *(each[-1] for each in seen.values()))
        calls.drop_settled()
    row("failed", calls.dropped.total())
    for reason, count in calls.dropped.items():
        row(f"  {reason}", count)
    # In the first half what is kept for a while fills up.
    half = len(times) // 2
    slopes = [linear_regression(times[half:], each[half:]).slope * 3600 for each in seen.values()]
    row("slope of the second half, per hour", *slopes)
