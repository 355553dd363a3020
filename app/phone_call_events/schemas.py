"""The parts of requests, each with the error code for a bad value."""

import re
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import Length, OneOf

from app.calls.call_events import TYPES
from app.errors import api_error
from app.phone_call_events.model import DISABLED, ENABLED, GET, POST
from app.web.fields import BaseRequest
from app.web.urls import is_callable

_NOTE_LENGTH = 1024
_ID = re.compile(r"[A-Za-z0-9]{1,255}")


class Digit(fields.Integer):
    """A field for one digit, as a number or as a string."""

    def __init__(self, *values: int, code: str, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=OneOf(values), metadata={"code": code}, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool):
            raise ValidationError("Takes a digit.")
        if isinstance(value, str):
            if re.fullmatch("[0-9]", value) is None:
                raise ValidationError("Takes a digit.")
            value = int(value)
        return int(super()._deserialize(value, attr, data, **kwargs))


def _url(text: str) -> None:
    if not is_callable(text):
        raise ValidationError("Takes an http or https URL.")


class UpdateSchema(BaseRequest):
    type = Digit(*TYPES, code="pce_type_invalid")
    url = fields.String(validate=_url, metadata={"code": "pce_url_invalid"})
    method = Digit(GET, POST, code="pce_method_invalid")
    status = Digit(DISABLED, ENABLED, code="pce_status_invalid")
    note = fields.String(validate=Length(max=_NOTE_LENGTH), metadata={"code": "pce_note_invalid"})


class CreateSchema(UpdateSchema):
    # The type stands in the path or the body (docs/internals/uapi.md#contradictions).
    type = Digit(*TYPES, code="pcet_type_invalid")
    url = fields.String(required=True, validate=_url, metadata={"code": "pce_url_invalid"})
    method = Digit(GET, POST, code="pce_method_invalid", load_default=GET)
    status = Digit(DISABLED, ENABLED, code="pce_status_invalid", load_default=ENABLED)
    note = fields.String(
        load_default="",
        validate=Length(max=_NOTE_LENGTH),
        metadata={"code": "pce_note_invalid"},
    )


def event_type(text: str | None, code: str) -> int | None:
    """The type in a path. Raises ApiError 400 with the code."""
    if text is None:
        return None
    if not re.fullmatch("[0-9]", text) or int(text) not in TYPES:
        raise api_error(code, field="eventType", value=text)
    return int(text)


def event_id(text: str | None) -> str | None:
    """The id in a path. Raises ApiError ``pce_id_invalid``."""
    if text is not None and _ID.fullmatch(text) is None:
        raise api_error("pce_id_invalid", field="eventId", value=text)
    return text
