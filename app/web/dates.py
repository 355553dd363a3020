"""Dates in queries, and the span of times between two of them."""

import math
from typing import Any

from marshmallow import ValidationError, fields

from app.store.index import Span
from app.web.listing import parse_date


class Date(fields.String):
    """A field for an XML Schema dateTime, loaded as epoch seconds."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        try:
            return parse_date(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from error


def span(first: float, last: float) -> Span:
    """The span from one date to another, both of which count, to the second."""
    return Span(
        first if math.isinf(first) else math.ceil(first),
        last if math.isinf(last) else math.floor(last) + 1,
    )
