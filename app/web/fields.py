"""The fields and queries that resources share, and a function that loads a part of a request."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load
from marshmallow.validate import OneOf, Range, Regexp

from app.caller_id import NUMBER
from app.errors import api_error

# The last place in a list that a page may begin at.
MAX_START = 5000


class Number(fields.String):
    """A phone or extension number, which clients also send as a JSON number."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return super()._deserialize(value, attr, data, **kwargs).strip()


def phone_number(code: str) -> Number:
    """A field for an extension number or a public phone number. ``code`` is the error code for
    any other value."""
    return Number(validate=Regexp(rf"\A{NUMBER}\Z"), metadata=coded(code))


def extension_number() -> Number:
    """A field for an extension number, short or extended."""
    return Number(validate=Regexp(r"\A[0-9*]{1,32}\Z"), metadata=coded("extension_invalid"))


class WholeNumber(fields.Integer):
    """A whole number in ASCII digits. Python also accepts ``1_0`` and digits of other scripts."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value) is None:
            raise ValidationError("Takes digits.")
        return int(super()._deserialize(value, attr, data, **kwargs))


def coded(code: str) -> dict[str, str]:
    """Field metadata with the error code for a bad value."""
    return {"code": code}


class BaseRequest(Schema):
    """A schema that ignores unknown names, as programs written for VoipNow need."""

    class Meta:
        unknown = EXCLUDE

    # Other spellings that clients use, with the names that they stand for.
    aliases: ClassVar[Mapping[str, str]] = {}

    @pre_load
    def _rename(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        # A null counts as a missing field.
        named = {name: value for name, value in data.items() if value is not None}
        for alias, name in self.aliases.items():
            if alias in named:
                named.setdefault(name, named.pop(alias))
        return named


class BaseQuery(BaseRequest):
    # Names of fields of the answer. The resource says which names exist.
    fields_ = fields.String(data_key="fields", metadata=coded("fields_invalid"))


class ListQuery(BaseQuery):
    count = WholeNumber(load_default=20, validate=Range(1, 5000), metadata=coded("count_invalid"))
    startIndex = WholeNumber(
        load_default=0, validate=Range(0, MAX_START), metadata=coded("startindex_invalid")
    )
    filterBy = fields.String(metadata=coded("filterby_invalid"))
    filterOp = fields.String(
        load_default="equals",
        validate=OneOf(
            ["equals", "contains", "startsWith", "present", "greaterThan", "lessThan", "inArray"]
        ),
        metadata=coded("filterop_invalid"),
    )
    # inArray takes several values.
    filterValue = fields.List(fields.String(), metadata=coded("filtervalue_invalid"))
    sortOrder = fields.String(
        validate=OneOf(["asc", "desc", "ascending", "descending"]),
        metadata=coded("sortorder_invalid"),
    )


def load(schema: Schema, data: Any) -> dict[str, Any]:
    """Load a part of a request. Raises ApiError 400 with the code of the first bad field, in the
    schema's order."""
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise api_error(_code_of(schema, error.messages, "request_invalid")) from error
    return loaded


def _code_of(schema: Schema, messages: Any, default: str) -> str:
    for name, field in schema.fields.items():
        found = messages.get(field.data_key or name) if isinstance(messages, dict) else None
        if not found:
            continue
        code: str = field.metadata["code"]
        inner = field.inner if isinstance(field, fields.List) else None
        if isinstance(inner, fields.Nested) and isinstance(found, dict):
            # In a list of views, the code comes from a field of the first bad view.
            return _code_of(inner.schema, found[min(found)], code)
        return code
    return default
