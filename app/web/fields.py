"""The fields and queries that resources share, and a function that loads a part of a request."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load
from marshmallow.validate import OneOf, Range, Regexp

from app.caller_id import NUMBER
from app.errors import api_error
from app.numbers import without_punctuation

# The last place in a list that a page may begin at.
MAX_START = 5000


class Number(fields.String):
    """A phone or extension number, loaded without punctuation. Clients also send a JSON number."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return without_punctuation(super()._deserialize(value, attr, data, **kwargs))


# What the numbers of phones and extensions hold once punctuation is dropped.
DIALLABLE = Regexp(
    rf"\A{NUMBER}\Z", error="A number takes at most 32 of the characters 0 to 9 and *, after a +."
)


def phone_number(code: str) -> Number:
    """A field for an extension number or a public phone number. ``code`` is the error code for
    any other value."""
    return Number(validate=DIALLABLE, metadata=coded(code))


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
    """Load a part of a request.

    Raises ApiError 400 for the first bad field, in the schema's order: with its code, and with
    ``field``, ``value`` and ``reason``.
    """
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        code, path, reason = _first(schema, error.messages, "request_invalid")
        raise api_error(code, **_about(path, data, reason)) from error
    return loaded


def _first(schema: Schema, messages: Any, default: str) -> tuple[str, list[str | int], str]:
    """The code, the path and the reason of the first bad field."""
    for name, field in schema.fields.items():
        key = field.data_key or name
        found = messages.get(key) if isinstance(messages, dict) else None
        if not found:
            continue
        # The fields of an object may leave it to the object.
        code: str = field.metadata.get("code", default)
        path: list[str | int] = [key]
        inner = field.inner if isinstance(field, fields.List) else None
        if isinstance(field, fields.Nested) and isinstance(found, dict):
            code, below, reason = _first(field.schema, found, code)
            return code, [*path, *below], reason
        if isinstance(found, dict):
            path.append(first := min(found))
            found = found[first]
            if isinstance(inner, fields.Nested):
                # In a list of views, the code comes from a field of the first bad view.
                code, below, reason = _first(inner.schema, found, code)
                return code, [*path, *below], reason
        return code, path, str(found[0]) if isinstance(found, list) else ""
    texts = messages.get("_schema") if isinstance(messages, dict) else messages
    return default, [], str(texts[0]) if isinstance(texts, list) and texts else ""


def _about(path: list[str | int], data: Any, reason: str) -> dict[str, Any]:
    """The members of the error object that say what is wrong with which value."""
    if not path:
        return {}
    names = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    about: dict[str, Any] = {"field": "".join(names)[1:]}
    value = data
    for part in path:
        # One number may stand in place of a list of them.
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part] if part < len(value) else None
    if isinstance(value, (str, int, float)) and path[-1] not in _SECRET:
        if isinstance(value, str) or abs(value) > _MOST:
            # Half a surrogate pair and an integer of more than 64 bits have no place in an answer.
            value = str(value).encode(errors="replace").decode()[:_SHOWN]
        about["value"] = value
    return {**about, "reason": reason} if reason else about


# Fields whose values no error repeats, and the most characters of any other.
_SECRET = frozenset({"pin"})
_SHOWN = 128
_MOST = 2**63 - 1
