"""The CDR service without its HTTP."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from app.accounts.caller import OWNER, Caller
from app.accounts.model import Level
from app.calls.sight import organization_of
from app.cdr.store import CdrStore
from app.errors import api_error
from app.number_plans import canonical
from app.numbers import same
from app.records.model import Holder, Narrow, Record, metadata_term, number_term
from app.settings import Settings
from app.store.index import Span
from app.web import dates
from app.web.cursor import Page
from app.web.listing import Filter, Kind, Listing
from app.web.metadata import METADATA, has_pairs

# The fields that a filter may name.
FILTERS = {
    "source": Kind.TEXT,
    "destination": Kind.TEXT,
    "published": Kind.DATE,
    "answered": Kind.DATE,
}
# The most seconds from a call's acceptance to its end, with all its waiting.
_LONGEST = 259_200
# The parts of a query that only the records themselves tell.
_TESTED = ("source", "destination", "disposition", "flow", "saveStartDate", "saveEndDate")
_Test = Callable[[Record], bool]


class CallReports:
    """The service that finds records."""

    def __init__(self, settings: Settings, store: CdrStore, now: Callable[[], float]) -> None:
        """``now`` returns epoch seconds by the clock that stamps the acceptance of calls."""
        self._retention = settings.cdr_retention
        # A late event rewrites the record while Redis keeps the call.
        self._longest = _LONGEST + settings.retention
        self._store = store
        self._now = now

    def page(
        self, caller: Caller, user_name: str | None, query: Mapping[str, Any], asked: Listing
    ) -> Page[Record]:
        """A page of records of the calls charged to the user, and the number of such records.

        With None it covers all users that the app may act for. ``query`` is a loaded CdrQuery.
        Raises ApiError.
        """
        holder = _holder(caller, user_name)
        # An older record may or may not have expired.
        span = Span(low=self._now() - self._retention).cut(_span(query, self._longest))
        tests = _tests(caller, query)
        if (by := asked.filter) is not None:
            if by.by == "published" and by.span is not None:
                span = span.cut(by.span)
            else:
                tests.append(lambda record: _matches(by, record))
        own = _own(caller, user_name)
        if not tests:
            found = self._store.page(
                *(holder, span, asked.start, asked.count),
                newest_first=asked.newest_first,
                after=asked.after,
            )
            # Records of a former organization are the oldest ones, unless the user has come back.
            if own is None or all(map(own, [*found.rows, *self._oldest(holder, span)])):
                return found
        narrow = _narrow(caller, query)
        return self._search(holder, span, [own, *tests] if own else tests, asked, narrow)

    def _oldest(self, holder: Holder, span: Span) -> list[Record]:
        return self._store.page(holder, span, 0, 1, newest_first=False).rows

    def _search(
        self, holder: Holder, span: Span, tests: list[_Test], asked: Listing, narrow: Narrow
    ) -> Page[Record]:
        cursor = asked.cursor
        found: list[Record] = []
        total = cursor.start if cursor is not None else 0
        end = asked.start + asked.count
        for some in self._store.walk(
            *(holder, span), newest_first=asked.newest_first, after=asked.after, narrow=narrow
        ):
            for record in some:
                if all(test(record) for test in tests):
                    if asked.start <= total < end:
                        found.append(record)
                    total += 1
            # The request that made the cursor has counted them all.
            if cursor is not None and total > end:
                break
        last = (found[-1]["id"], found[-1]["published"]) if found and total > end else None
        return Page(found, max(total, cursor.total) if cursor is not None else total, last)


def _holder(caller: Caller, user_name: str | None) -> Holder:
    user = None if user_name is None else caller.user(user_name)
    if user is not None:
        return Holder(user=user.id)
    if caller.app.level is Level.USER:
        return Holder(user=caller.app.user or "")
    organization = caller.organization
    return Holder(organization.number) if organization else Holder()


def is_search(query: Mapping[str, Any]) -> bool:
    """Whether a loaded CdrQuery asks for what takes a search through the records."""
    return bool(query[METADATA]) or any(name in query for name in _TESTED)


def _own(caller: Caller, user_name: str | None) -> _Test | None:
    """The test that tells records of the organization from those that one of its users brought
    along from another one; None where there can be no other."""
    organization = caller.organization
    if organization is None or caller.app.level is Level.USER or user_name in (None, OWNER):
        return None
    return lambda record: organization_of(record["extension"]) == organization.number


def _span(query: Mapping[str, Any], longest: float) -> Span:
    """The span of acceptance of the calls that can match. A record is saved at most ``longest``
    seconds after acceptance. Raises ApiError."""
    for first, last in (("startDate", "endDate"), ("saveStartDate", "saveEndDate")):
        if first in query and last in query and query[first] > query[last]:
            raise api_error("cdr_invalid_date_parameters", field=first)
    # A record is never saved before its call's acceptance, nor long after it.
    first = max(query.get("startDate", -math.inf), query.get("saveStartDate", -math.inf) - longest)
    last = min(query.get("endDate", math.inf), query.get("saveEndDate", math.inf))
    return dates.span(first, last)


def _tests(caller: Caller, query: Mapping[str, Any]) -> list[_Test]:
    """The tests that a record must pass, except for the time of acceptance."""
    tests: list[_Test] = []
    for name in ("source", "destination"):
        if name in query:
            tests.append(_has_number(caller, name, query[name]))
    for name in ("disposition", "flow"):
        if name in query:
            tests.append(_is(name, query[name]))
    if pairs := query[METADATA]:
        tests.append(lambda record: has_pairs(record.get(METADATA), pairs))
    if "saveStartDate" in query or "saveEndDate" in query:
        first = query.get("saveStartDate", -math.inf)
        last = query.get("saveEndDate", math.inf)
        tests.append(lambda record: first <= math.floor(_saved(record)) <= last)
    return tests


def _saved(record: Record) -> float:
    # A record without ``saved`` was last written at the end of its call.
    return float(record["saved"] if "saved" in record else record["ended"])


def _has_number(caller: Caller, name: str, number: str) -> _Test:
    wanted = _forms(caller, number)
    return lambda record: any(same(other) in wanted for other in record[name])


def _forms(caller: Caller, number: str) -> set[str]:
    """The forms that a number may have in a record."""
    organization = caller.organization
    wanted = {same(number), caller.extended(number)}
    # A record may have a number that is none in that country.
    with suppress(ValueError):
        wanted.add(same(canonical(number, organization.country if organization else None)))
    return wanted


def _narrow(caller: Caller, query: Mapping[str, Any]) -> Narrow:
    """What the tests of a query look for, as far as the database of records can tell it."""
    terms = [
        frozenset(number_term(name, form) for form in _forms(caller, query[name]))
        for name in ("source", "destination")
        if name in query
    ]
    terms += [frozenset({metadata_term(name, value)}) for name, value in query[METADATA]]
    saved = None
    if "saveStartDate" in query or "saveEndDate" in query:
        saved = (query.get("saveStartDate", -math.inf), query.get("saveEndDate", math.inf))
    return Narrow(tuple(terms), query.get("disposition"), query.get("flow"), saved)


def _is(name: str, value: int) -> _Test:
    return lambda record: record.get(name) == value


def _matches(by: Filter, record: Record) -> bool:
    value = record.get(by.by)
    values = value if isinstance(value, list) else [value]
    return any(by.matches(each) for each in values)
