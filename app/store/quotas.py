"""Caps in Redis: the words of quota.lua, and what it answers."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from app.calls import cost
from app.calls.cost import Running
from app.calls.quota import Check, Count, Crossing, Refusal
from app.store import scripts
from app.store.counted import DAY
from app.store.keys import Keys
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


@dataclass(frozen=True, slots=True)
class Usage:
    """The minutes and money of a holder: what legs that ended today have used, the legs that talk,
    and the caps. Amounts are seconds and millionths."""

    seconds: int
    money: int
    running: dict[str, Running]
    most_seconds: int | None
    most_money: int | None

    def spent(self, at: float) -> tuple[int, int]:
        """The seconds and millionths used at a time, epoch seconds."""
        seconds, money = cost.running_amounts(self.running.values(), at)
        return self.seconds + seconds, self.money + money

    def end_of(self, legs: Iterable[Running], now: float, until: float) -> float | None:
        """The moment at which these legs alone reach a cap, if no other talks; None if that is not
        before ``until``."""
        return cost.moment(
            legs,
            now,
            seconds=None if self.most_seconds is None else self.most_seconds - self.seconds,
            cost=None if self.most_money is None else self.most_money - self.money,
            until=until,
        )


def usages(redis: Redis, keys: Keys, holders: Iterable[str], now: float) -> dict[str, Usage]:
    """The usage of holders on the day of ``now``, in one round trip."""
    names = list(dict.fromkeys(holders))
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hmget(keys.quota(int(now // DAY), name), "seconds", "cost")
            pipe.hgetall(keys.running(name))
            pipe.hget(keys.limits, f"caps:{name}")
        replies = pipe.execute() if names else []
    found = {}
    for name, (seconds, money), running, text in zip(
        names, replies[::3], replies[1::3], replies[2::3], strict=True
    ):
        known = orjson.loads(text) if text else {}
        found[name] = Usage(
            int(seconds or 0),
            int(money or 0),
            {uuid.decode(): Running.loads(of.decode()) for uuid, of in running.items()},
            *cost.amounts(known.get("minutes_per_day"), known.get("cost_per_day")),
        )
    return found


def tell_spent(
    redis: Redis, keys: Keys, usages: Mapping[str, Usage], now: float, told: set[str]
) -> None:
    """Tell of caps on minutes and cost of which 80 or 100 percent are used, once a day each.

    ``told`` keeps what this process knows to be told.
    """
    day = int(now // DAY)
    for holder, usage in usages.items():
        seconds, money = usage.spent(now)
        for name, most, used in (
            ("minutes_per_day", usage.most_seconds, seconds),
            ("cost_per_day", usage.most_money, money),
        ):
            for percent in (80, 100):
                mark = f"{day} {percent} {holder} {name}"
                if most is None or used * 100 < most * percent or mark in told:
                    continue
                check = Check(holder, name, Count.SPENT, most)
                words = (
                    *(keys.prefix, f"{now * 1e6:.0f}", orjson.dumps(check).decode(), percent),
                    *(used, math.ceil((day + 1) * DAY - now)),
                )
                if scripts.run(redis, scripts.ALERT, [0, *words]):
                    tell([Crossing(check, percent, used)])
                told.add(mark)


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
