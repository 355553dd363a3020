"""The cursor of a list: where its next page begins, beyond the last startIndex.

A cursor is the place of an entry in the order of the list. So a page costs the same wherever it is,
and calls that come or go meanwhile move no entry from one page to another.
"""

import re
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from marshmallow import ValidationError, fields

from app.store.index import Place
from app.web.fields import coded

_TEXT = re.compile(r"([0-9]{1,9})-([0-9]{1,9})-([0-9]{1,12}(?:\.[0-9]{1,9})?)-([0-9a-f]{20})")

# The cursor of a list that is to be read by cursors from its first entry on.
FIRST = "*"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The page begins after the entry at ``place``; None for the first page. ``start`` is the
    number of entries before it, ``total`` the number of all that were known of when the cursor was
    made."""

    start: int
    total: int
    place: Place | None

    def __str__(self) -> str:
        if self.place is None:
            return FIRST
        call_id, at = self.place
        return f"{self.start}-{self.total}-{at}-{call_id}"


class Page(NamedTuple, Generic[_T]):
    """A page of a list: its rows, and the number of all rows that are known of. ``last`` is the
    place after which the next page begins, if a cursor is to lead to it."""

    rows: list[_T]
    total: int
    last: Place | None = None


class CursorField(fields.String):
    """A field for a cursor, as ``paging.next`` has it."""

    def __init__(self) -> None:
        super().__init__(metadata=coded("cursor_invalid"))

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        if text == FIRST:
            return Cursor(0, 0, None)
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValidationError("Takes what paging.next has, or * for the first page.")
        return Cursor(int(match[1]), int(match[2]), (match[4], float(match[3])))
