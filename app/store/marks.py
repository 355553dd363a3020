"""Words of a stored claim that are known only when the claim is made.

Acceptance stores the commands of a call's claim. writes.py makes them of what ``transitions.claim``
returns for marks in place of a worker, a switch and a time. pace.lua puts the words of a request in
place of the marks. A mark refuses to become text, so a rule that cannot be stored fails when the
call is accepted.

A mark is the JSON object that pace.lua reads: it has the one field ``is``, ``after``, ``join`` or
``json``.
"""

from typing import Any, NoReturn

import orjson


class Mark(dict[str, Any]):
    """A word that is not known yet. It joins texts and marks by ``+`` alone."""

    # One object for each mark: equal marks stand for equal words.
    __hash__ = object.__hash__  # type: ignore[assignment]

    def __add__(self, after: Any) -> "Mark":
        return Mark(join=[*_parts(self), *_parts(after)])

    def __radd__(self, before: Any) -> "Mark":
        return Mark(join=[*_parts(before), *_parts(self)])

    def __str__(self) -> NoReturn:
        raise TypeError(f"{self!r} is not known before the claim: join it to a text by +")

    def __format__(self, spec: str) -> NoReturn:
        self.__str__()


class Moment(Mark):
    """A time, in seconds after the claim. ``+`` adds seconds; nothing compares it."""

    def __add__(self, seconds: Any) -> "Moment":
        return Moment(after=self["after"] + seconds)

    __radd__ = __add__


# Typed as what they stand for, so that the rules of a call take them.
WORKER: Any = Mark({"is": "worker"})
SWITCH: Any = Mark({"is": "switch"})
RUN: Any = Mark({"is": "run"})
STAMP: Any = Mark({"is": "stamp"})
NOW: Any = Moment(after=0.0)


def json_of(fields: dict[str, Any]) -> Any:
    """The JSON object of these fields, made when they are known."""
    return Mark(json=fields)


def dumps(value: Any) -> str:
    """The JSON that pace.lua reads."""
    return orjson.dumps(value).decode()


def _parts(word: Any) -> list[Any]:
    return word["join"] if isinstance(word, Mark) and "join" in word else [word]
