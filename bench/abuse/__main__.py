"""What abuse by one organization costs another, as one table.

    python -m bench.abuse [--part NAME,NAME] [--seconds N] [--list]

For each part it starts a stack of its own, measures a quiet client alone, then beside the abuse,
and ends all processes. Exit status 1 if something is beyond its bound.

A part is a module of this package: `TITLE`; `BOUND`, the most times that the quiet client's p95
beside the abuse may be its p95 alone; and `abuse(stack, stop)`, which goes on until `stop` is set
and returns further figures by name. It may have `prepare(stack)`, `SETTINGS` (fields of
app.settings.Settings) and `LIMITS`: for some of the figures the most that they may be.
"""

import argparse
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import bench.abuse
from bench import parts
from bench.abuse.harness import KINDS, measure, started
from bench.speed.table import figure, quantile

# Seconds of abuse before the quiet client measures beside it.
LEAD = 2.0
# The most seconds that /readyz may take, p95: a probe gives up later.
READY = 0.5
_SHARES = (0.5, 0.95)


def main() -> int:
    given = _arguments()
    signal.signal(signal.SIGTERM, parts.stopped)
    good = [_run(name, given.seconds) for name in given.part]
    return 0 if all(good) else 1


def _run(name: str, seconds: float) -> bool:
    """Run a part and print its rows; whether all is within its bounds."""
    part = parts.module(bench.abuse, name)
    print(f"\n{name}: {part.TITLE}", flush=True)
    stop = threading.Event()
    with started(getattr(part, "SETTINGS", {})) as stack, ThreadPoolExecutor(1) as threads:
        if hasattr(part, "prepare"):
            part.prepare(stack)
        alone = measure(stack, seconds)
        try:
            work = threads.submit(part.abuse, stack, stop)
            time.sleep(LEAD)
            beside = measure(stack, seconds)
        finally:
            stop.set()
        figures = work.result()
    return _show(part, alone, beside, figures)


def _show(
    part: ModuleType,
    alone: dict[str, list[float]],
    beside: dict[str, list[float]],
    figures: dict[str, object],
) -> bool:
    columns = ("", "alone p50", "p95", "beside p50", "p95", "ratio", "bound")
    print("  {:32}{:>11}{:>11}{:>11}{:>11}{:>9}  {}".format(*columns))
    good = True
    for kind in KINDS:
        found = [quantile(each[kind], share) for each in (alone, beside) for share in _SHARES]
        ratio = found[3] / found[1]
        if kind == "readyz":
            holds, bound = found[3] <= READY, f"{READY * 1e3:g} ms"
        else:
            holds, bound = ratio <= part.BOUND, f"{part.BOUND:g} times"
        good &= holds
        cells = "".join(f"{figure(each * 1e3):>11}" for each in found)
        print(f"  {kind + ', ms':32}{cells}{figure(ratio):>9}  {_verdict(holds, bound)}")
    limits = getattr(part, "LIMITS", {})
    for name, value in figures.items():
        shown = figure(float(value)) if isinstance(value, int | float) else str(value)
        verdict = ""
        if name in limits:
            holds = isinstance(value, int | float) and value <= limits[name]
            good &= holds
            verdict = _verdict(holds, f"{limits[name]:g}")
        print(f"  {name:42} {shown:>11}  {verdict}")
    for name in limits.keys() - figures.keys():
        good = False
        print(f"  {name:42} {'':>11}  MISSING")
    sys.stdout.flush()
    return good


def _verdict(holds: bool, bound: str) -> str:
    return f"≤ {bound}" if holds else f"≤ {bound}: BEYOND"


def _arguments() -> argparse.Namespace:
    parser = parts.parser(bench.abuse, __doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measure (15)")
    return parts.arguments(bench.abuse, parser)


if __name__ == "__main__":
    sys.exit(main())
