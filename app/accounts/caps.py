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


def holders(accounts: Accounts, app: App, user: User) -> list[Holder]:
    """The accounts whose caps count what an app does for a user."""
    organization = accounts.organizations[user.organization]
    return [
        (f"organization:{organization.id}", organization),
        (f"user:{user.id}", user),
        (f"app:{app.id}", app),
    ]


def holders_of(accounts: Accounts, organization: str, user: str, app: str) -> list[Holder]:
    """The accounts of these ids whose caps count what an action brings in; those that are gone
    have no caps."""
    found = next((o for o in accounts.organizations.values() if o.id == organization), None)
    rows: tuple[tuple[str, Capped | None], ...] = (
        (f"organization:{organization}", found),
        (f"user:{user}", accounts.users.get(user)),
        (f"app:{app}", accounts.apps.get(app)),
    )
    return [(name, caps) for name, caps in rows if caps is not None]


def all_holders(accounts: Accounts) -> list[Holder]:
    """All accounts that may have caps."""
    return [
        *((f"organization:{o.id}", o) for o in accounts.organizations.values()),
        *((f"user:{u.id}", u) for u in accounts.users.values()),
        *((f"app:{a.id}", a) for a in accounts.apps.values()),
    ]


def capped_organizations(accounts: Accounts) -> list[Holder]:
    """The organizations that have a cap."""
    found: list[Holder] = [(f"organization:{o.id}", o) for o in accounts.organizations.values()]
    return [holder for holder in found if _has_caps(*holder)]


def _has_caps(_: str, of: Capped) -> bool:
    return any(getattr(of, name) is not None for name in NAMES)


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
    if minutes is not None:
        yield Check(holder, "minutes_per_day", Count.SPENT, minutes * 60)
    if money is not None:
        yield Check(holder, "cost_per_day", Count.SPENT, cost.millionths(money))
