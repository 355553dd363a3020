"""Fields that accounts and requests share."""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import Range

# Unicode's categories of control characters, surrogates, and separators of lines and paragraphs.
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
# The characters that change the direction of a text reorder a line of a log or a terminal.
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# The slowest rate: a call in a thousand seconds. A smaller one is a slip.
_SLOWEST = 0.001


def one_line(text: str) -> None:
    """Check that a name has no control characters. Raises ValidationError."""
    if any(c in _DIRECTIONS or unicodedata.category(c) in _CONTROLS for c in text):
        raise ValidationError("Takes no line breaks and no control characters.")


class Whole(fields.Integer):
    """A whole number. Python takes ``true`` for one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strict=True, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool):
            raise ValidationError("Takes a whole number.")
        return super()._deserialize(value, attr, data, **kwargs)


class Rate(fields.Float):
    """A number of legs per second."""

    def __init__(self) -> None:
        error = f"Takes {_SLOWEST} to 1000000 legs per second."
        super().__init__(validate=Range(_SLOWEST, 1_000_000, error=error))

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) is None:
            raise ValidationError("Takes a number of digits.")
        return super()._deserialize(value, attr, data, **kwargs)


class Parsed(fields.String):
    """A text in the form that ``parse`` gives it. The sentence of its ValueError says what the
    field takes."""

    def __init__(self, parse: Callable[[str], str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._parse = parse

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        try:
            return self._parse(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from error
