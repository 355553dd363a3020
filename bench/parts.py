"""The parts of a bench: the modules of its package that have a `TITLE`."""

import argparse
import importlib
import pkgutil
import sys
from types import ModuleType
from typing import NoReturn


def names(package: ModuleType) -> list[str]:
    """The names of all parts."""
    found = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [n for n in found if n != "__main__" and hasattr(module(package, n), "TITLE")]


def module(package: ModuleType, name: str) -> ModuleType:
    """The part of that name."""
    return importlib.import_module(f"{package.__name__}.{name}")


def parser(package: ModuleType, description: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m`, with the options that choose parts."""

    def chosen(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := set(wanted) - set(names(package)):
            raise argparse.ArgumentTypeError(f"no part is named {', '.join(sorted(unknown))}")
        return wanted

    found = argparse.ArgumentParser(
        f"python -m {package.__name__}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--part", type=chosen, metavar="NAME,NAME", help="only these")
    found.add_argument("--list", action="store_true", help="name the parts")
    return found


def arguments(package: ModuleType, of: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments of this process, with all parts where none is chosen. `--list` ends it."""
    given = of.parse_args()
    if given.list:
        print("\n".join(names(package)))
        sys.exit(0)
    given.part = given.part or names(package)
    return given


def stopped(*_: object) -> NoReturn:
    """Handle a signal as Ctrl-C, so that every process is ended."""
    raise KeyboardInterrupt
