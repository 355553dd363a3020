"""The parts that all lists share: pages, filters, sorting and the collection in an answer.

See docs/internals/uapi.md#lists.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import orjson
from flask import request

from app.accounts.caller import Caller
from app.errors import api_error
from app.store.index import ALL, Place, Span
from app.web.auth import TOKEN_IN_QUERY
from app.web.base import base_url as base_url
from app.web.cursor import Cursor
from app.web.fields import MAX_START
from app.web.resource import date
from app.web.shown import NO_CHARACTER, clean
from app.web.turns import LISTS, ROWS, SHORT, in_pieces

_T = TypeVar("_T")
# The most values that one filter compares with.
MAX_VALUES = 500

# XML Schema's dateTime. The zone (default UTC) and the time (default midnight) may be missing.
# A zone's plus sign arrives as a space if a client does not encode it.
_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?))?(Z|[+ -][0-9]{2}:?[0-9]{2})?"
)


class Kind(Enum):
    """The kind of values in a field that a filter may name."""

    TEXT = "text"
    DATE = "date"


@dataclass(frozen=True)
class Filter:
    """A filter compares the field ``by`` with each of ``values`` by ``op``."""

    by: str
    op: str
    values: tuple[str, ...]
    kind: Kind
    # The values as epoch seconds, if the filter compares dates as times.
    times: tuple[float, ...] = ()

    @property
    def names(self) -> bool:
        """Whether the filter names whole values, so that an index can look them up."""
        return self.op in ("equals", "inArray")

    def matches(self, value: str | float | None) -> bool:
        """Whether a value matches: a text, or a time in epoch seconds. A time counts to the
        second, as answers show it."""
        if value is None or self.op == "present":
            return value is not None
        if self.times:
            at = math.floor(float(value))
            return any(_compare(self.op, at, time) for time in self.times)
        text = date(float(value)) or "" if self.kind is Kind.DATE else str(value)
        if self.op == "contains":
            return self.values[0] in text
        return text.startswith(self.values[0]) if self.op == "startsWith" else text in self.values

    @property
    def span(self) -> Span | None:
        """The span of the times that match; None if they form no single span."""
        if self.op == "present":
            return ALL
        if len(self.times) != 1:
            return None
        (time,) = self.times
        if self.op == "greaterThan":
            return Span(low=math.floor(time) + 1)
        if self.op == "lessThan":
            return Span(high=math.ceil(time))
        return Span(time, time + 1 if time.is_integer() else time)


def _compare(op: str, at: float, time: float) -> bool:
    if op == "greaterThan":
        return at > time
    return at < time if op == "lessThan" else at == time


@dataclass(frozen=True)
class Listing:
    """The part of a list that a request asks for."""

    start: int = 0
    count: int = 20
    newest_first: bool = True
    filter: Filter | None = None
    # Names of the fields to answer with; None for all.
    fields: frozenset[str] | None = field(default=None)
    # Where the page begins in place of ``start``.
    cursor: Cursor | None = None

    @property
    def after(self) -> Place | None:
        return self.cursor.place if self.cursor is not None else None

    def cut(self, rows: list[Any]) -> list[Any]:
        return rows[self.start : self.start + self.count]


def arguments(names: Iterable[str] = ("filterValue",)) -> dict[str, Any]:
    """The request's query. A name in ``names`` may repeat, and has a list of its values."""
    query: dict[str, Any] = request.args.to_dict()
    return query | {name: values for name in names if (values := request.args.getlist(name))}


def listing(
    query: Mapping[str, Any],
    filters: Mapping[str, Kind],
    fields: frozenset[str],
    value_code: str = "filtervalue_invalid",
) -> Listing:
    """The listing for a loaded ListQuery. ``filters`` are the fields that a filter may name.

    ``value_code`` is the error code for a bad filter value; ``{}`` in it stands for the field.
    Raises ApiError.
    """
    order = query.get("sortOrder", "desc")
    cursor: Cursor | None = query.get("cursor")
    return Listing(
        start=query["startIndex"] if cursor is None else cursor.start,
        count=query["count"],
        newest_first=order.startswith("desc"),
        filter=_filter(query, filters, value_code),
        fields=field_names(query, fields),
        cursor=cursor,
    )


def field_names(query: Mapping[str, Any], known: frozenset[str]) -> frozenset[str] | None:
    """The field names that ``fields`` asks for; None for all. Raises ApiError."""
    if "fields_" not in query:
        return None
    names = frozenset(name.strip() for name in query["fields_"].split(",") if name.strip())
    if not names or not names <= known:
        reason = f"Takes some of {', '.join(sorted(known))}."
        raise api_error("fields_invalid", reason, field="fields", value=query["fields_"])
    return names


def as_json(
    rows: Sequence[_T],
    resource: Callable[[_T], dict[str, Any]],
    names: frozenset[str] | None,
) -> list[orjson.Fragment]:
    """The resources of the rows, each reduced to the named fields, as parts of an answer. They are
    made in slices, with other requests of the process in between: a page may have thousands."""

    def make(some: Sequence[_T]) -> Iterator[orjson.Fragment]:
        return (orjson.Fragment(orjson.dumps(each)) for each in picked(map(resource, some), names))

    return in_pieces(rows, make)


def turn(caller: Caller, asked: Listing, *, searches: bool = False) -> AbstractContextManager[None]:
    """Wait for the app's turn: that of long lists, if the list is long or takes a search. Raises
    ApiError if too many of the app's requests wait."""
    is_long = searches or asked.count > ROWS or asked.filter is not None
    return (LISTS if is_long else SHORT).of(caller.app.id)


def picked(rows: Iterable[dict[str, Any]], names: frozenset[str] | None) -> list[dict[str, Any]]:
    """The rows, each reduced to the named fields."""
    if names is None:
        return list(rows)
    return [{name: value for name, value in row.items() if name in names} for row in rows]


def _filter(
    query: Mapping[str, Any], filters: Mapping[str, Kind], value_code: str
) -> Filter | None:
    by = query.get("filterBy")
    if by is None:
        return None
    if by not in filters:
        reason = f"Takes {', '.join(filters)}."
        raise api_error("filterby_invalid", reason, field="filterBy", value=by)
    kind, op = filters[by], query["filterOp"]
    if op in ("greaterThan", "lessThan") and kind is not Kind.DATE:
        reason = f"{op} compares only dates."
        raise api_error("filterop_invalid", reason, field="filterOp", value=op)
    if op == "present":
        return Filter(by, op, (), kind)
    code = value_code.format(by)
    given = query.get("filterValue", [])
    try:
        values = _values(op, given)
    except ValueError as error:
        about: dict[str, Any] = {"field": "filterValue", "value": ",".join(given)}
        raise api_error(code, str(error), **about) from error
    times: tuple[float, ...] = ()
    if kind is Kind.DATE and op not in ("contains", "startsWith"):
        try:
            times = tuple(parse_date(value) for value in values)
        except ValueError as error:
            about = {"field": "filterValue", "value": ",".join(values)}
            raise api_error(code, str(error), **about) from error
    return Filter(by, op, values, kind, times)


def _values(op: str, given: list[str]) -> tuple[str, ...]:
    """The values to compare with. ``inArray`` takes repeated parameters, a JSON array or a list
    with commas. Raises ValueError if the query gives none that are usable."""
    if op != "inArray":
        if len(given) != 1 or not given[0]:
            raise ValueError(f"{op} compares with one value.")
        return (given[0],)
    if len(given) == 1:
        (text,) = given
        given = _of_json(text) if text.lstrip().startswith("[") else text.split(",")
    values = tuple(text for value in given if (text := str(value).strip()))
    if not 0 < len(values) <= MAX_VALUES:
        raise ValueError(f"inArray takes 1 to {MAX_VALUES} values, not {len(values)}.")
    return values


def _of_json(text: str) -> list[str]:
    """The values of a JSON array. Raises ValueError."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("The JSON array of filterValue cannot be read.") from error
    for value in given:
        if not isinstance(value, str | int):
            raise ValueError("The JSON array of filterValue takes texts and whole numbers.")
        if clean(str(value)) != str(value):
            raise ValueError(NO_CHARACTER)
    return list(given)


def parse_date(text: str) -> float:
    """Epoch seconds of an XML Schema dateTime; without a zone it is UTC. Raises ValueError."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:64]!r} is not a date of the form 2015-01-23T04:56:22Z.")
    day, time, zone = match[1], match[2] or "00:00", match[3] or "Z"
    at = datetime.fromisoformat(f"{day}T{time}{zone.replace(' ', '+')}")
    if not 1 < at.year < 9999:
        raise ValueError(f"{text!r} is too far in the past or future.")
    return at.astimezone(UTC).timestamp()


def collection(entry: Any, total: int, asked: Listing, last: Place | None = None) -> dict[str, Any]:
    """The answer to a list request, with the URLs of the next and previous pages. Beyond the last
    startIndex a cursor leads on, after the place ``last``."""
    answer: dict[str, Any] = {
        "totalResults": total,
        "startIndex": asked.start,
        "itemsPerPage": asked.count,
        "entry": entry,
    }
    paging = {}
    after = asked.start + asked.count
    if after < total and after <= MAX_START and asked.cursor is None:
        paging["next"] = _page_url("startIndex", after)
    elif last is not None:
        paging["next"] = _page_url("cursor", Cursor(min(after, total), total, last))
    if asked.start > 0 and asked.cursor is None:
        start = max(0, min(asked.start, total) - asked.count)
        paging["prev"] = _page_url("startIndex", start)
    return answer | {"paging": paging} if paging else answer


def _page_url(name: str, begin: int | Cursor) -> str:
    # A link holds no token: it is stored, logged and passed on.
    left_out = ("startIndex", "cursor", TOKEN_IN_QUERY)
    query = [item for item in request.args.items(multi=True) if item[0] not in left_out]
    words = urlencode([*query, (name, begin)], safe="@*")
    return f"{base_url()}{quote(request.path, safe='/@*')}?{words}"
