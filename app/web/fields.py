"""The fields and queries that resources share, and a function that loads a part of a request."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load
from marshmallow.validate import Length, OneOf, Range, Regexp

from app.caller_id import NUMBER
from app.errors import CODES, ApiError, api_error
from app.names import unknown
from app.numbers import without_punctuation
from app.web import shown

# The last place in a list that a page may begin at.
MAX_START = 5000


class Reason(str):
    """The reason why a value is refused, with the name of its cause (``others`` of an error code).

    A validator raises ``ValidationError(Reason(text, cause))``.
    """

    cause: str

    def __new__(cls, text: str, cause: str) -> "Reason":
        made = super().__new__(cls, text)
        made.cause = cause
        return made


class Few(Length):
    """A validator for the length of a list. A list that is too long has a cause of its own."""

    def __call__(self, value: Any) -> Any:
        if self.max is not None and len(value) > self.max:
            raise ValidationError(
                Reason(f"Takes at most {self.max}, not {len(value)}.", "too_many")
            )
        return super().__call__(value)


class _Diallable(Regexp):
    def __call__(self, value: Any) -> Any:
        try:
            return super().__call__(value)
        except ValidationError as error:
            raise ValidationError(Reason(str(self.error), "characters")) from error


class Number(fields.String):
    """A phone or extension number, loaded without punctuation. Clients also send a JSON number."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        # The sign of a negative number would pass for a hyphen.
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            value = str(value)
        return without_punctuation(super()._deserialize(value, attr, data, **kwargs))


# What the numbers of phones and extensions hold once punctuation is dropped.
DIALLABLE = _Diallable(
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
    """A whole number in ASCII digits. Python also accepts ``1_0`` and digits of other scripts,
    takes 10.9 for 10 and ``true`` for 1."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, str):
            if re.fullmatch(r"-?[0-9]{1,9}", value) is None:
                raise ValidationError("Takes digits.")
        elif isinstance(value, bool | float):
            raise ValidationError("Takes a whole number.")
        return int(super()._deserialize(value, attr, data, **kwargs))


def coded(code: str, causes: str = "") -> dict[str, str]:
    """Field metadata with the error code for a bad value. ``causes`` is for a code that several
    fields share: the causes of this field begin with it."""
    return {"code": code, **({"causes": causes} if causes else {})}


class BaseRequest(Schema):
    """A schema of a part of a request. It ignores unknown names, as programs written for VoipNow
    need; :func:`load` refuses them for all others."""

    class Meta:
        unknown = EXCLUDE

    # Other spellings that clients use, with the names that they stand for.
    aliases: ClassVar[Mapping[str, str]] = {}
    # Names that are known and that this schema does not read.
    unread: ClassVar[frozenset[str]] = frozenset()
    # Whether the part is the query. Errors name its parameters, and point into a body.
    in_query: ClassVar[bool] = False

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


class Query(BaseRequest):
    """A schema of a query that reads nothing, but for the token."""

    # app.web.auth reads it.
    unread = frozenset({"accessRequestToken"})
    in_query = True


class BaseQuery(Query):
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


def load(schema: Schema, data: Any, *, lenient: bool = False) -> dict[str, Any]:
    """Load a part of a request.

    Raises ApiError 400 for a name that is unknown unless ``lenient``, else for the first bad field
    in the schema's order: with its code, and with ``field``, ``value`` and ``reason``.
    """
    in_query = getattr(schema, "in_query", False)
    _check_names_and_texts(schema, data, in_query, lenient=lenient)
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise _refused(schema, data, error, in_query) from error
    return loaded


def _check_names_and_texts(
    schema: Schema,
    data: Any,
    in_query: bool,
    path: tuple[str | int, ...] = (),
    default: str = "request_invalid",
    *,
    lenient: bool,
) -> None:
    """Check the names of a part, and that its texts can be written in UTF-8. Raises ApiError."""
    if not isinstance(data, Mapping):
        return
    aliases: Mapping[str, str] = getattr(schema, "aliases", {})
    named = {field.data_key or name: field for name, field in schema.fields.items()}
    for name, value in data.items():
        field = named.get(aliases.get(name, name))
        if field is None:
            if not lenient and name not in getattr(schema, "unread", ()):
                why = unknown(name, (*named, *aliases))
                where = name if in_query else shown.pointer((*path, name))
                raise api_error("request_invalid", why, cause="unknown", field=where)
            continue
        code = field.metadata.get("code", default)
        inner = field.inner if isinstance(field, fields.List) else field
        several = isinstance(value, list)
        for at, each in enumerate(value if several else [value]):
            here = (*path, name, at) if several else (*path, name)
            if isinstance(inner, fields.Nested):
                _check_names_and_texts(inner.schema, each, in_query, here, code, lenient=lenient)
            elif isinstance(each, str) and shown.clean(each) != each:
                about = shown.of(name, each) if in_query else shown.at(here, each)
                raise api_error(code, shown.NO_CHARACTER, **about)


def _refused(schema: Schema, data: Any, error: ValidationError, in_query: bool) -> ApiError:
    """The error for what a schema refused."""
    code, path, reason, about = _first(schema, error.messages, "request_invalid", "")
    where, value, missing = _sent(schema, data, path)
    cause = getattr(reason, "cause", "") or ("missing" if missing else "")
    known = CODES[code].others
    causes = (f"{about}_{cause}", about) if about else (cause,)
    named = next((name for name in causes if name in known), "")
    text = "Is required." if missing else str(reason)
    if not where:
        return api_error(code, text or None, cause=named)
    if in_query:
        return api_error(code, text, cause=named, **shown.of(str(where[0]), value))
    return api_error(code, text, cause=named, **shown.at(where, value))


def _first(
    schema: Schema, messages: Any, default: str, about: str
) -> tuple[str, list[str | int], str, str]:
    """The code, the path and the reason of the first bad field, and the causes that it has."""
    for name, field in schema.fields.items():
        key = field.data_key or name
        found = messages.get(key) if isinstance(messages, dict) else None
        if not found:
            continue
        # The fields of an object may leave it to the object.
        code: str = field.metadata.get("code", default)
        causes: str = field.metadata.get("causes", "")
        path: list[str | int] = [key]
        inner = field.inner if isinstance(field, fields.List) else None
        if isinstance(field, fields.Nested) and isinstance(found, dict):
            code, below, reason, causes = _first(field.schema, found, code, causes)
            return code, [*path, *below], reason, causes
        if isinstance(found, dict):
            path.append(first := min(found))
            found = found[first]
            if isinstance(inner, fields.Nested):
                # In a list of views, the code comes from a field of the first bad view.
                code, below, reason, causes = _first(inner.schema, found, code, causes)
                return code, [*path, *below], reason, causes
        return code, path, found[0] if isinstance(found, list) else "", causes
    texts = messages.get("_schema") if isinstance(messages, dict) else messages
    return default, [], texts[0] if isinstance(texts, list) and texts else "", about


def _sent(schema: Any, data: Any, path: list[str | int]) -> tuple[list[Any], Any, bool]:
    """The path as the client wrote it, the value there, and whether it is missing."""
    where: list[Any] = []
    for part in path:
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            where.append(part)
            data = data[part]
        elif isinstance(data, Mapping):
            aliases = getattr(schema, "aliases", {}).items()
            other = (alias for alias, name in aliases if name == part and alias in data)
            where.append(part if data.get(part) is not None else next(other, part))
            data = data.get(where[-1])
            if data is None:
                return where, None, True
            schema = _below(schema, part)
        else:
            # One number may stand in place of a list of them.
            break
    return where, data, False


def _below(schema: Any, key: str | int) -> Schema | None:
    """The schema of the objects in a field."""
    known = schema.fields.items() if isinstance(schema, Schema) else ()
    field = next((each for name, each in known if (each.data_key or name) == key), None)
    field = field.inner if isinstance(field, fields.List) else field
    return field.schema if isinstance(field, fields.Nested) else None
