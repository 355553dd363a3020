"""Words of a stored claim that are known only when the claim is made.

Acceptance stores the commands of a call's claim. writes.py makes them of what ``transitions.claim``
returns for marks in place of a worker, a switch and a time. pace.lua puts the words of a request in
place of the marks. A mark refuses to become text, so a rule that cannot be stored fails when the
call is accepted.
"""

from dataclasses import dataclass
from typing import Any, NoReturn

import orjson


class _Later:
    """A word that is not known yet. It joins other words by ``+`` alone."""

    def _parts(self) -> tuple[Any, ...]:
        return (self,)

    def __add__(self, after: Any) -> "Joined":
        return Joined((*self._parts(), *_parts(after)))

    def __radd__(self, before: Any) -> "Joined":
        return Joined((*_parts(before), *self._parts()))

    def __str__(self) -> NoReturn:
        raise TypeError(f"{self!r} is not known before the claim: join it to a text by +")

    def __format__(self, spec: str) -> NoReturn:
        self.__str__()


@dataclass(frozen=True, slots=True)
class Mark(_Later):
    """A word that the claim's request gives: ``worker``, ``switch``, ``run`` or ``stamp``."""

    name: str


@dataclass(frozen=True, slots=True)
class Joined(_Later):
    """Texts and marks that become one word."""

    parts: tuple[Any, ...]

    def _parts(self) -> tuple[Any, ...]:
        return self.parts


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, in seconds after the claim. ``+`` adds seconds; nothing compares it."""

    after: float = 0.0

    def __add__(self, seconds: float) -> "Moment":
        return Moment(self.after + seconds)

    __radd__ = __add__

    __str__, __format__ = _Later.__str__, _Later.__format__


@dataclass(frozen=True, slots=True)
class Json:
    """The JSON object of these fields, made when they are known."""

    fields: dict[str, Any]


# Typed as what they stand for, so that the rules of a call take them.
WORKER: Any = Mark("worker")
SWITCH: Any = Mark("switch")
RUN: Any = Mark("run")
STAMP: Any = Mark("stamp")
NOW: Any = Moment()


def dumps(value: Any) -> str:
    """The JSON that pace.lua reads: each word a text, or an object with the one field ``is``,
    ``after``, ``join`` or ``json``."""
    return orjson.dumps(value, default=_encoded, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()


def _encoded(word: Any) -> Any:
    match word:
        case Mark(name):
            return {"is": name}
        case Moment(after):
            return {"after": after}
        case Joined(parts):
            return {"join": parts}
        case Json(fields):
            return {"json": fields}
    raise TypeError(f"{word!r} is no word of a claim")


def _parts(word: Any) -> tuple[Any, ...]:
    return word._parts() if isinstance(word, _Later) else (word,)
