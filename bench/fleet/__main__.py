"""Exercises of a fleet of switches, each as one table.

    python -m bench.fleet [--part NAME,NAME] [--seconds 30] [--seed 1] [--fault WORDS] [--list]

A part is a module of this package: `TITLE`, and `run(given)`, which prints its rows and returns
whether all is within its bounds. Each part starts a stack of its own and ends all processes. Exit
status 1 if something is beyond its bound.
"""

import argparse
import signal
import sys

import bench.fleet
from bench import parts


def main() -> int:
    given = _arguments()
    signal.signal(signal.SIGTERM, parts.stopped)
    good = True
    for name in given.part:
        part = parts.module(bench.fleet, name)
        print(f"\n{name}: {part.TITLE}", flush=True)
        good &= part.run(given)
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = parts.parser(bench.fleet, __doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each fault (30)")
    parser.add_argument("--seed", type=int, default=1, help="which switch fails (1)")
    parser.add_argument("--fault", default="", help="only faults whose names hold this")
    parser.add_argument("--verbose", action="store_true", help="name each lost call")
    return parts.arguments(bench.fleet, parser)


if __name__ == "__main__":
    sys.exit(main())
