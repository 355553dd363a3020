"""What caps on minutes and cost leave to the legs of one call, by itself."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.calls import cost
from app.calls.cost import Rate, Running
from app.calls.model import Call, Leg
from app.store import counted, quotas
from app.store.calls import CallStore
from app.store.quotas import Usage


@dataclass(frozen=True, slots=True)
class Left:
    """The whole seconds that caps leave to a leg of either side from its answer on; None for as
    long as the call may last."""

    source: int | None = None
    destination: int | None = None


NO_CAP = Left()


def what_is_left(store: CallStore, call: Call) -> Left | None:
    """What is left for a call that is about to be dialled; None for nothing. Asks Redis only about
    a call that minutes or cost are counted of. May raise an error of Redis."""
    holders = counted.holders(call, "time")
    if not holders or not any(map(cost.is_charged, call.legs)):
        return NO_CAP
    now = store.now()
    usages = list(quotas.usages(store.redis, store.keys, holders, now).values())
    of_source, of_destination = _dearest(call.sources), _dearest(call.destinations)
    # A destination talks beside its source.
    both = [rate for rate in (of_source, of_destination) if rate is not None]
    left = Left(
        None if of_source is None else _seconds(usages, [of_source], now, call.call_duration),
        None if of_destination is None else _seconds(usages, both, now, call.call_duration),
    )
    return None if 0 in (left.source, left.destination) else left


def left_for(store: CallStore, call: Call, legs: Iterable[Leg]) -> int | None:
    """The whole seconds that caps leave to a leg that comes in now, one of ``legs``; None for as
    long as the call may last."""
    brought = list(legs)
    holders = {name for leg in brought for name in counted.holders(call, "time", leg)}
    rate = _dearest(brought)
    if not holders or rate is None:
        return None
    now = store.now()
    usages = list(quotas.usages(store.redis, store.keys, holders, now).values())
    return _seconds(usages, [rate], now, call.call_duration)


def _dearest(legs: Iterable[Leg]) -> Rate | None:
    """The rate of the leg that costs most; None if no leg is charged."""
    rates = [Rate.loads(leg.rate) for leg in legs if cost.is_charged(leg)]
    return max(rates, key=lambda rate: (rate.per_minute, rate.per_call), default=None)


def _seconds(usages: Iterable[Usage], rates: list[Rate], now: float, duration: int) -> int | None:
    """The whole seconds until legs that begin to talk now reach a cap, beside what talking legs
    have used so far."""
    soonest = None
    for usage in usages:
        seconds, money = usage.spent(now)
        alone = Usage(seconds, money, {}, usage.most_seconds, usage.most_money)
        moment = alone.end_of([Running(now, rate) for rate in rates], now, now + duration)
        if moment is not None and (soonest is None or moment < soonest):
            soonest = moment
    return None if soonest is None else int(soonest - now)
