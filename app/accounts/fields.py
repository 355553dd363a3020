"""Fields that accounts and requests share."""

from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, fields


class Whole(fields.Integer):
    """A whole number. Python takes ``true`` for one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strict=True, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool):
            raise ValidationError("Takes a whole number.")
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
