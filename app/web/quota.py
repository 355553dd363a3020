"""The answer to a request that a cap refused."""

import math
from typing import Any

from app.calls import cost
from app.calls.quota import Count, Refusal, Wait
from app.errors import ApiError, api_error
from app.telemetry import counting
from app.web.resource import date

_WHAT = {
    "legs_per_second": "legs per second",
    "max_legs": "legs at a time",
    "max_waiting": "waiting calls",
    "max_kept": "calls that are kept",
    "calls_per_minute": "calls in 60 seconds",
    "calls_per_day": "calls a day",
    "minutes_per_day": "minutes a day",
    "cost_per_day": "a day",
    "calls_to_number_per_hour": "calls to this number in an hour",
    "new_countries_per_day": "new countries a day",
}


def quota_error(refusal: Refusal, now: float) -> ApiError:
    """The error of a refusal, and count it. ``now`` is epoch seconds by Redis' clock."""
    check = refusal.check
    counting.cap_refused(check.holder, check.name)
    limit, used = (shown(check.name, amount) for amount in (check.limit, refusal.used))
    what = _WHAT.get(check.name, check.name)
    if refusal.free is not None:
        again = f"There is room again at {date(math.ceil(refusal.free))}."
    elif check.count in (Count.SET, Count.LINE):
        again = "There is room again once calls end."
    else:
        again = "The request alone takes more."
    return api_error(
        "quota_exceeded",
        f"{check.holder} allows {limit} {what}, and {used} are used. {again}",
        retry_after=1 if refusal.free is None else max(1, math.ceil(refusal.free - now)),
        cap=check.cap,
        limit=limit,
        used=used,
        freeAt=date(math.ceil(refusal.free)) if refusal.free is not None else None,
    )


def no_room_error(wait: Wait) -> ApiError:
    """The error of an action whose time was over before a limit of pace had room."""
    holder = wait.limit.partition(":")[0]
    counting.cap_refused(holder, wait.kind)
    most, taken = (int(n) if n == int(n) else n for n in (wait.most, wait.taken))
    return api_error(
        "quota_exceeded",
        f"{wait.limit} allows {most} {_WHAT[wait.kind]}, and had no room in time. Nothing was "
        "done.",
        retry_after=max(1, math.ceil(wait.seconds)),
        cap=f"{wait.limit} {wait.kind}",
        limit=most,
        used=taken,
    )


def shown(name: str, amount: int) -> Any:
    """A cap's amount as users see it: minutes and money as they stand in the accounts."""
    if name == "minutes_per_day":
        return round(amount / 60, 2)
    if name == "cost_per_day":
        return float(cost.decimal(amount))
    return amount
