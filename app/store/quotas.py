"""Caps in Redis: the words of quota.lua, and what it answers."""

import logging
from collections.abc import Sequence
from typing import Any

import orjson

from app.calls.quota import Check, Crossing, Refusal
from app.telemetry import counting

log = logging.getLogger(__name__)


def dumps(checks: Sequence[Check]) -> str:
    """The checks as quota.lua reads them."""
    return orjson.dumps(checks).decode() if checks else ""


def refusal(checks: Sequence[Check], reply: Sequence[Any]) -> Refusal:
    """The refusal in a reply: the place of the check, what is used, and the microsecond at which
    there is room."""
    place, used, free = (int(word) for word in reply)
    return Refusal(checks[place], used, free / 1e6 if free >= 0 else None)


def crossings(checks: Sequence[Check], reply: Sequence[Any]) -> list[Crossing]:
    """The crossings in a reply that accepted."""
    return [Crossing(checks[place], percent, int(used)) for place, percent, used in reply]


def tell(found: Sequence[Crossing]) -> None:
    """Log and count crossings that are news."""
    for crossing in found:
        check = crossing.check
        counting.cap_reached(check.holder, check.name, crossing.percent)
        log.warning(
            "%s%s: %d%% used, %d of %d",
            *(check.cap, f" of {check.of}" if check.of else "", crossing.percent),
            *(crossing.used, check.limit),
            extra={"cap": check.cap},
        )
