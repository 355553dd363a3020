"""How much of each cap is used now."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from app.accounts.caps import Holder
from app.accounts.model import Organization
from app.calls import cost
from app.store import quotas
from app.store.counted import DAY
from app.store.keys import Keys

_MINUTE = 60


@dataclass(frozen=True, slots=True)
class CapUse:
    """A cap of a holder: what it allows and what is used, in seconds for minutes and in millionths
    for money; and for a cap that is full, when there is room again (epoch seconds), None if only
    the end of a call makes room."""

    holder: str
    cap: str
    limit: int
    used: int
    free: float | None = None


def read(
    redis: Redis, keys: Keys, holders: Sequence[Holder], now: float, retention: int
) -> list[CapUse]:
    """The use of the caps of these holders, in two round trips. Calls are kept for ``retention``
    seconds. A default cap of an organization is left out while little of it is used."""
    day = int(now // DAY)
    timed = [name for name, of in holders if of.minutes_per_day or of.cost_per_day is not None]
    usages = quotas.usages(redis, keys, timed, now)
    with redis.pipeline(transaction=False) as pipe:
        for name, of in holders:
            if isinstance(of, Organization):
                pipe.zcard(keys.line(of.id))
            else:
                pipe.scard(keys.taken(f"waiting:{name}"))
            pipe.scard(keys.taken(f"legs:{name}"))
            since = f"({(now - _MINUTE) * 1e6:.0f}"
            key = keys.quota_window(name, "calls_per_minute")
            pipe.zrangebyscore(key, since, "+inf", withscores=True)
            pipe.hget(keys.quota(day, name), "calls_per_day")
        organizations = [(name, of) for name, of in holders if isinstance(of, Organization)]
        for _, of in organizations:
            pipe.zcount(keys.organization_records(of.number), now - retention, "+inf")
            pipe.zcard(keys.organization_calls(of.number))
        replies = pipe.execute()
    found: list[CapUse] = []
    first = 4 * len(holders)
    for (name, of), waiting, legs, minute, today in zip(
        holders, *(replies[n:first:4] for n in range(4)), strict=True
    ):
        usage = usages.get(name)
        seconds, money = usage.spent(now) if usage is not None else (0, 0)
        most_seconds, most_money = cost.amounts(of.minutes_per_day, of.cost_per_day)
        oldest = minute[0][1] / 1e6 + _MINUTE if minute else None
        midnight = float((day + 1) * DAY)
        rows: Iterable[tuple[str, int | None, int, float | None]] = (
            ("max_legs", of.max_legs, legs, None),
            ("calls_per_minute", of.calls_per_minute, len(minute), oldest),
            ("calls_per_day", of.calls_per_day, int(today or 0), midnight),
            ("minutes_per_day", most_seconds, seconds, midnight),
            ("cost_per_day", most_money, money, midnight),
            ("max_waiting", of.max_waiting, waiting, None),
        )
        found += _uses(name, rows)
    for (name, of), ended, live in zip(
        organizations, replies[first::2], replies[first + 1 :: 2], strict=True
    ):
        found += _uses(name, [("max_kept", of.max_kept, ended + live, None)])
    return [use for use in found if not _is_idle(use)]


def _uses(holder: str, rows: Iterable[tuple[str, int | None, int, Any]]) -> Iterator[CapUse]:
    for cap, limit, used, free in rows:
        if limit is not None:
            yield CapUse(holder, cap, limit, used, free if used >= limit else None)


# The shares of an organization's default caps that are not worth a line.
_IDLE = {"max_waiting": 0.0, "max_kept": 0.8}


def _is_idle(use: CapUse) -> bool:
    share = _IDLE.get(use.cap)
    if share is None or not use.holder.startswith("organization:"):
        return False
    is_default = use.limit == Organization.__dataclass_fields__[use.cap].default
    return is_default and use.used <= share * use.limit
