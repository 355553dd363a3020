"""The cost of legs, as pure functions: whole millionths of the currency, never floats.

A leg to a public number costs ``per_call`` once it is answered, and ``per_minute`` for its answered
seconds, rounded up to a multiple of ``increment``. The rate of a leg is fixed when its call is
accepted, or when an action brings the leg in.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from app.calls.model import Call, Leg, NumberKind

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A price: ``per_minute`` and ``per_call`` in millionths, ``increment`` in seconds."""

    per_minute: int = 0
    per_call: int = 0
    increment: int = 1
    currency: str = ""

    @classmethod
    def loads(cls, text: str | None) -> "Rate":
        """The rate in the text of a leg; a price of 0 if the leg has none."""
        if not text:
            return cls()
        per_minute, per_call, increment, currency = text.split(" ")
        return cls(millionths(per_minute), millionths(per_call), int(increment), currency)


def millionths(text: str) -> int:
    """A decimal number of at most six decimals, in whole millionths."""
    return int(Decimal(text) * MILLION)


def amounts(minutes: int | None, money: str | None) -> tuple[int | None, int | None]:
    """Caps on minutes and money of a day, in whole seconds and millionths."""
    return (
        None if minutes is None else minutes * 60,
        None if money is None else millionths(money),
    )


def decimal(amount: int) -> str:
    """Millionths as a decimal number: ``0.012``."""
    whole, rest = divmod(amount, MILLION)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".")


def seconds(begun: float | None, ended: float | None) -> int:
    """The seconds as FreeSWITCH counts ``billsec`` (switch_channel_set_timestamps): the second of
    the end minus the second of the answer, each without its fraction."""
    if begun is None or ended is None:
        return 0
    return max(0, math.floor(ended) - math.floor(begun))


def price(rate: Rate, talked: int) -> int:
    """What a leg costs that was answered for so many whole seconds, in millionths."""
    billed = -(-talked // rate.increment) * rate.increment
    return rate.per_call + -(-billed * rate.per_minute // 60)


def is_charged(leg: Leg) -> bool:
    """Whether the leg uses minutes and may cost: a public number, through a gateway."""
    return leg.kind is NumberKind.PUBLIC


def used(call: Call, leg: Leg) -> tuple[int, int]:
    """The seconds and millionths that a leg has used once it has ended; before, and for a leg that
    was never answered, nothing."""
    over = call.ended if leg.ended is None else leg.ended
    if over is None or leg.answered is None or not is_charged(leg):
        return 0, 0
    talked = seconds(leg.answered, over)
    return talked, price(Rate.loads(leg.rate), talked)


def cost(call: Call, leg: Leg) -> str | None:
    """The cost of a leg that has ended, as a decimal number; None if it has no rate."""
    return decimal(used(call, leg)[1]) if leg.rate is not None and is_charged(leg) else None


def currency(leg: Leg) -> str | None:
    """The currency of a leg's cost."""
    return Rate.loads(leg.rate).currency or None


@dataclass(frozen=True, slots=True)
class Running:
    """A leg that talks: since when (epoch seconds), and at which rate."""

    answered: float
    rate: Rate

    def dumps(self) -> str:
        """The text that quota.lua reads."""
        rate = self.rate
        return f"{self.answered:.6f} {rate.per_minute} {rate.per_call} {rate.increment}"

    @classmethod
    def loads(cls, text: str) -> "Running":
        answered, per_minute, per_call, increment = text.split(" ")
        return cls(float(answered), Rate(int(per_minute), int(per_call), int(increment)))


def running_amounts(legs: Iterable[Running], at: float) -> tuple[int, int]:
    """The seconds and millionths that running legs have used at a time."""
    talked = [(leg, seconds(leg.answered, at)) for leg in legs]
    return sum(of for _, of in talked), sum(price(leg.rate, of) for leg, of in talked)


def moment(
    legs: Iterable[Running], now: float, *, seconds: int | None, cost: int | None, until: float
) -> float | None:
    """The moment (epoch seconds) from which on running legs would have used more than so many
    seconds or millionths; None if that is not before ``until``.

    Both amounts grow with time, in steps of one second at least, so a search finds the step.
    """
    known = list(legs)

    def over(at: float) -> bool:
        talked, spent = running_amounts(known, at)
        return (seconds is not None and talked > seconds) or (cost is not None and spent > cost)

    if not known or not over(until):
        return None
    low, high = min(now, until), until
    if over(low):
        return low
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if over(middle) else (middle, high)
    return low
