"""What the schemas of the accounts and of requests have in common."""

from collections.abc import Iterator

import pytest
from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import Regexp

import app.accounts.schemas
import app.openapi.operations  # noqa: F401  It imports the schemas of all requests.
from app.accounts.prompt_schemas import _TEXT

# Digits for Python, in Arabic and in full width.
DIGITS = ("\u0665", "\uff15")


def _schemas(of: type[Schema] = Schema) -> Iterator[type[Schema]]:
    for each in of.__subclasses__():
        # Those of app.openapi only describe answers.
        if each.__module__.startswith("app.") and not each.__module__.startswith("app.openapi."):
            yield each
        yield from _schemas(each)


def _fields() -> Iterator[tuple[str, fields.Field]]:  # type: ignore[type-arg]
    for schema in dict.fromkeys(_schemas()):
        for name, field in schema._declared_fields.items():
            yield f"{schema.__module__}.{schema.__name__}.{name}", field
            if isinstance(field, fields.List):
                yield f"{schema.__module__}.{schema.__name__}.{name}[]", field.inner


def test_digits_are_those_of_ascii() -> None:
    found = dict(_fields())
    known = {name.rstrip("[]").split(".")[-2] for name in found}
    assert {"OrganizationSchema", "RouteSchema", "ActionSchema", "InviteQuery", "CdrQuery"} <= known
    texts = [digit * number for digit in DIGITS for number in range(1, 33)]
    for name, field in found.items():
        for validate in field.validators:
            if isinstance(validate, Regexp) and validate is not _TEXT:
                assert not any(map(validate.regex.match, texts)), (name, validate.regex.pattern)
        if isinstance(field, fields.Number):
            for digit in DIGITS:
                with pytest.raises(ValidationError):
                    field.deserialize(digit)
