"""Caps of accounts: which of them a request takes from, and which of them count a call.

Only what is capped is counted. A call stores what counts it in ``counted``, words with commas
between: ``legs:HOLDER`` for ``max_legs``, ``waiting:HOLDER`` for ``max_waiting`` of a user or an
app, ``time:HOLDER`` for minutes and cost, ``calls:HOLDER`` for ``max_calls`` of an app.
"""

from collections.abc import Iterator, Sequence

from app.accounts.model import Accounts, App, Capped, Organization, User
from app.calls import cost
from app.calls.model import Call
from app.calls.quota import Check, Count

# The caps that refuse.
NAMES = (
    *("max_legs", "calls_per_minute", "calls_per_day", "minutes_per_day", "cost_per_day"),
    "max_waiting",
)
# The caps that workers and listeners look at.
LOOKED_AT = ("minutes_per_day", "cost_per_day")
# An account that may have caps, with its name among all.
Holder = tuple[str, Capped]


def holders(*accounts: Organization | User | App | None) -> list[Holder]:
    """Accounts with their names as holders of caps. One that is gone, None, has no caps."""
    return [(f"{_KINDS[type(each)]}:{each.id}", each) for each in accounts if each is not None]


_KINDS = {Organization: "organization", User: "user", App: "app"}


def all_holders(accounts: Accounts) -> list[Holder]:
    """All accounts that may have caps."""
    return holders(
        *accounts.organizations.values(), *accounts.users.values(), *accounts.apps.values()
    )


def capped_organizations(accounts: Accounts) -> list[Holder]:
    """The organizations that have a cap."""
    found = holders(*accounts.organizations.values())
    return [(name, of) for name, of in found if any(getattr(of, cap) is not None for cap in NAMES)]


def are_counted(accounts: Accounts) -> bool:
    """Whether Redis counts anything for caps, but for the line of an organization's calls."""
    return any(
        getattr(of, name) is not None
        for _, of in all_holders(accounts)
        for name in NAMES
        if not (name == "max_waiting" and isinstance(of, Organization))
    )


def counted(of: Sequence[Holder]) -> str | None:
    """What counts a call of these holders; None for nothing."""
    return ",".join(word for name, caps in of for word in _words(name, caps)) or None


def _words(name: str, caps: Capped) -> Iterator[str]:
    if caps.max_legs is not None:
        yield f"legs:{name}"
    if caps.minutes_per_day is not None or caps.cost_per_day is not None:
        yield f"time:{name}"
    if caps.max_waiting is not None and not isinstance(caps, Organization):
        # The line of an organization is there anyway.
        yield f"waiting:{name}"
    if caps.max_calls is not None and isinstance(caps, App):
        yield f"calls:{name}"


def counted_leg(of: Sequence[Holder]) -> str | None:
    """What counts a party that an action brings in for these holders; None for nothing."""
    words = (word for name, caps in of for word in _words(name, caps))
    return ",".join(word for word in words if word.startswith(("legs:", "time:"))) or None


def checks_of_party(of: Sequence[Holder], *, charged: bool) -> list[Check]:
    """What a party that an action brings in takes from the caps of these holders. ``charged`` says
    whether it uses minutes and money."""
    found = []
    for name, caps in of:
        if caps.max_legs is not None:
            found.append(legs_check(name, caps.max_legs, 1))
        if charged:
            found += spent_checks(name, caps.minutes_per_day, caps.cost_per_day)
    return found


def checks(of: Sequence[Holder], calls: Sequence[Call]) -> list[Check]:
    """What new calls of one request take from the caps of these holders."""
    return [check for name, caps in of for check in _checks(name, caps, calls)]


def _checks(name: str, caps: Capped, calls: Sequence[Call]) -> Iterator[Check]:
    many = len(calls)
    if (most := caps.max_waiting) is not None:
        # An organization's calls wait in a line of their own.
        if isinstance(caps, Organization):
            yield Check(name, "max_waiting", Count.LINE, most, of=caps.id, taken=many)
        else:
            yield Check(name, "max_waiting", Count.SET, most, of=f"waiting:{name}", taken=many)
    if isinstance(caps, Organization) and (most := caps.max_kept) is not None:
        age = calls[0].retention
        yield Check(name, "max_kept", Count.KEPT, most, of=caps.number, seconds=age, taken=many)
    if (most := caps.max_legs) is not None:
        legs = sum(leg.id == leg.party for call in calls for leg in call.legs)
        yield legs_check(name, most, legs)
    if (most := caps.calls_per_minute) is not None:
        ids = tuple(call.id for call in calls)
        yield Check(name, "calls_per_minute", Count.WINDOW, most, seconds=60, members=ids)
    if (most := caps.calls_per_day) is not None:
        yield Check(name, "calls_per_day", Count.DAY, most, taken=many)
    if any(cost.is_charged(leg) for call in calls for leg in call.legs):
        yield from spent_checks(name, caps.minutes_per_day, caps.cost_per_day)


def legs_check(holder: str, most: int, legs: int) -> Check:
    """The check of ``max_legs``."""
    return Check(holder, "max_legs", Count.SET, most, of=f"legs:{holder}", taken=legs)


def spent_checks(holder: str, minutes: int | None, money: str | None) -> Iterator[Check]:
    """The checks that refuse once the day's minutes and money are used up."""
    for name, most in zip(LOOKED_AT, cost.amounts(minutes, money), strict=True):
        if most is not None:
            yield Check(holder, name, Count.SPENT, most)
