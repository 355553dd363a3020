"""Exercises of a fleet of switches, each as one table.

    python -m bench.fleet [--part NAME,NAME] [--seconds 30] [--seed 1] [--fault WORDS] [--list]

A part is a module of this package: `TITLE`, and `run(given)`, which prints its rows and returns
whether all is within its bounds. Each part starts a stack of its own and ends all processes. Exit
status 1 if something is beyond its bound.
"""

import argparse
import importlib
import pkgutil
import signal
import sys
from types import ModuleType
from typing import NoReturn

import bench.fleet


def main() -> int:
    given = _arguments()
    # As Ctrl-C does, so that every process is ended.
    signal.signal(signal.SIGTERM, _stopped)
    good = True
    for name in given.part:
        part = _module(name)
        print(f"\n{name}: {part.TITLE}", flush=True)
        good &= part.run(given)
    return 0 if good else 1


def parts() -> list[str]:
    """The names of all parts."""
    names = sorted(module.name for module in pkgutil.iter_modules(bench.fleet.__path__))
    return [name for name in names if name != "__main__" and hasattr(_module(name), "TITLE")]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.fleet.{name}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench.fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", type=_names, metavar="NAME,NAME", help="only these")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each fault (30)")
    parser.add_argument("--seed", type=int, default=1, help="which switch fails (1)")
    parser.add_argument("--fault", default="", help="only faults whose names hold this")
    parser.add_argument("--verbose", action="store_true", help="name each lost call")
    parser.add_argument("--list", action="store_true", help="name the parts")
    given = parser.parse_args()
    if given.list:
        print("\n".join(parts()))
        sys.exit(0)
    given.part = given.part or parts()
    return given


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(parts()):
        raise argparse.ArgumentTypeError(f"no part is named {', '.join(sorted(unknown))}")
    return names


def _stopped(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
