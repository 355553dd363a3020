"""What the CDR service does, apart from HTTP."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.accounts.caller import Caller
from app.accounts.model import Level
from app.cdr.store import CdrStore, Record
from app.errors import api_error
from app.settings import Settings
from app.store.index import Span
from app.web.listing import Filter, Kind, Listing

# What a list may be filtered by.
FILTERS = {
    "source": Kind.TEXT,
    "destination": Kind.TEXT,
    "published": Kind.DATE,
    "answered": Kind.DATE,
}
# Seconds that no call takes from its acceptance to its end, with all its waiting.
_LONGEST = 259_200
# Seconds to wait for those whose records are read through before.
_TURN = 5.0
_Test = Callable[[Record], bool]


class TooManyReports(Exception):
    """It did not come to its turn in time."""


class CallReports:
    """Find records."""

    def __init__(self, settings: Settings, store: CdrStore, now: Callable[[], float]) -> None:
        """``now`` tells epoch seconds by the clock that calls are accepted by."""
        self._retention = settings.cdr_retention
        # A record is written again for what comes late while its call is kept.
        self._longest = _LONGEST + settings.retention
        self._store = store
        self._now = now
        # Reading through many records takes a process' time from all else it answers.
        self._reading = threading.Lock()

    def page(
        self, caller: Caller, user_name: str | None, query: Mapping[str, Any], asked: Listing
    ) -> tuple[list[Record], int]:
        """Records of the calls that were charged to the user (None: to all that the app may act
        for), and how many there are. ``query`` is a loaded CdrQuery.

        Raises ApiError, and TooManyReports where records have to be read through one by one."""
        key = self._index(caller, user_name)
        # What is older may be gone or not yet.
        span = Span(low=self._now() - self._retention).cut(_span(query, self._longest))
        tests = _tests(caller, query)
        if (by := asked.filter) is not None:
            if by.by == "published" and by.span is not None:
                span = span.cut(by.span)
            else:
                tests.append(lambda record: _matches(by, record))
        if not tests:
            return self._store.page(
                *(key, span, asked.start, asked.count), newest_first=asked.newest_first
            )
        with self._turn():
            return self._search(key, span, tests, asked)

    def _search(
        self, key: str, span: Span, tests: list[_Test], asked: Listing
    ) -> tuple[list[Record], int]:
        found: list[Record] = []
        total = 0
        for some in self._store.walk(key, span, newest_first=asked.newest_first):
            for record in some:
                if all(test(record) for test in tests):
                    if asked.start <= total < asked.start + asked.count:
                        found.append(record)
                    total += 1
            # Others' requests are answered between.
            time.sleep(0)
        return found, total

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._reading.acquire(timeout=_TURN):
            raise TooManyReports
        try:
            yield
        finally:
            self._reading.release()

    def _index(self, caller: Caller, user_name: str | None) -> str:
        keys = self._store.keys
        user = None if user_name is None else caller.user(user_name)
        if user is not None:
            return keys.user_records(user.id)
        if caller.app.level is Level.USER:
            return keys.user_records(caller.app.user or "")
        organization = caller.organization
        return keys.organization_records(organization.number) if organization else keys.records


def _span(query: Mapping[str, Any], longest: float) -> Span:
    """The acceptance of what can match, saved ``longest`` seconds later at most. Raises
    ApiError."""
    for first, last in (("startDate", "endDate"), ("saveStartDate", "saveEndDate")):
        if first in query and last in query and query[first] > query[last]:
            raise api_error("cdr_invalid_date_parameters")
    # Nothing is saved before it was accepted, nor long after.
    first = max(query.get("startDate", -math.inf), query.get("saveStartDate", -math.inf) - longest)
    last = min(query.get("endDate", math.inf), query.get("saveEndDate", math.inf))
    return Span(
        first if math.isinf(first) else math.ceil(first),
        last if math.isinf(last) else math.floor(last) + 1,
    )


def _tests(caller: Caller, query: Mapping[str, Any]) -> list[_Test]:
    """What a record has to pass, apart from the time of its acceptance."""
    tests: list[_Test] = []
    for name in ("source", "destination"):
        if name in query:
            tests.append(_has_number(caller, name, query[name]))
    for name in ("disposition", "flow"):
        if name in query:
            tests.append(_is(name, query[name]))
    if "saveStartDate" in query or "saveEndDate" in query:
        first = query.get("saveStartDate", -math.inf)
        last = query.get("saveEndDate", math.inf)
        tests.append(lambda record: first <= math.floor(_saved(record)) <= last)
    return tests


def _saved(record: Record) -> float:
    # Those of before this was written down say when they ended.
    return float(record["saved"] if "saved" in record else record["ended"])


def _has_number(caller: Caller, name: str, number: str) -> _Test:
    wanted = {number.lstrip("+"), caller.extended(number)}
    return lambda record: any(other.lstrip("+") in wanted for other in record[name])


def _is(name: str, value: int) -> _Test:
    return lambda record: record.get(name) == value


def _matches(by: Filter, record: Record) -> bool:
    value = record.get(by.by)
    values = value if isinstance(value, list) else [value]
    return any(by.matches(each) for each in values)
