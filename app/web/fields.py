"""What all requests may bring: the fields and queries that resources share, and how a request's
part is loaded."""

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
    """A field for an extension number or a public phone number; ``code`` answers any other."""
    return Number(validate=Regexp(rf"\A{NUMBER}\Z"), metadata=coded(code))


def extension_number() -> Number:
    """A field for an extension number, short or extended."""
    return Number(validate=Regexp(r"\A[0-9*]{1,32}\Z"), metadata=coded("extension_invalid"))


class WholeNumber(fields.Integer):
    """Digits alone: Python would take ``1_0`` and the digits of other scripts too."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value) is None:
            raise ValidationError("Takes digits.")
        return int(super()._deserialize(value, attr, data, **kwargs))


def coded(code: str) -> dict[str, str]:
    """The error code of a field that cannot be used."""
    return {"code": code}


class BaseRequest(Schema):
    """Unknown names are ignored, as programs written for VoipNow need."""

    class Meta:
        unknown = EXCLUDE

    # Other spellings that clients use, and what they stand for.
    aliases: ClassVar[Mapping[str, str]] = {}

    @pre_load
    def _rename(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        # A null is the same as a field left out.
        named = {name: value for name, value in data.items() if value is not None}
        for alias, name in self.aliases.items():
            if alias in named:
                named.setdefault(name, named.pop(alias))
        return named


class BaseQuery(BaseRequest):
    # Names of fields of the answer; which exist is the resource's to say.
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
    # inArray takes several.
    filterValue = fields.List(fields.String(), metadata=coded("filtervalue_invalid"))
    sortOrder = fields.String(
        validate=OneOf(["asc", "desc", "ascending", "descending"]),
        metadata=coded("sortorder_invalid"),
    )


def load(schema: Schema, data: Any) -> dict[str, Any]:
    """Load a request's part. Raises ApiError 400 with the code of the first field at fault,
    in the schema's order."""
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
            # A list of views: the first that is at fault, by its own fields.
            return _code_of(inner.schema, found[min(found)], code)
        return code
    return default
