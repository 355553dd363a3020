"""What requests may bring, and the code that answers what they may not."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load
from marshmallow.validate import Length, Range, Regexp

from app.caller_id import parse_caller_id
from app.errors import ApiError

# Parties on one side of a call, and the gateways to reach them all counted: the switch dials at
# most 128 channels in one originate.
MAX_PARTIES = 32
MAX_LEGS = 64

_DURATION = "callDuration takes the whole length of the call, 1 to 86400 seconds."
_TIMEOUT = "waitForPickup takes 1 to 600 whole seconds."
_MESSAGES = {
    "request_invalid": "The request's body takes a JSON object.",
    "extension_invalid": "extension takes the number of an extension owned by the user.",
    "pc_source_invalid": "source takes a list of extended or short extension numbers or public "
    "phone numbers.",
    "pc_destination_invalid": "destination takes a list of extended or short extension numbers "
    "or public phone numbers.",
    "pc_callerid_invalid": "A caller id takes the form John Doe <+3334444>.",
    "pc_nonce_invalid": "nonce takes 1 to 255 printable characters.",
    "pc_timeout_invalid": _TIMEOUT,
    "pc_duration_invalid": _DURATION,
    "pc_transfer_invalid": "allowPublicTransfer takes true or false.",
    "pc_video_invalid": "video takes true or false.",
    "fields_invalid": "fields takes names of a PhoneCall's fields, with commas between.",
    "count_invalid": "count takes 1 to 5000.",
    "startindex_invalid": "startIndex takes 0 to 5000.",
    "filterby_invalid": "filterBy takes nonce, together with filterValue.",
}


class Number(fields.String):
    """A phone or extension number, which clients also send as a JSON number."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return super()._deserialize(value, attr, data, **kwargs).strip()


class Numbers(fields.List[str]):
    """A list of numbers, or one number by itself."""

    def __init__(self, **kwargs: Any) -> None:
        number = Number(validate=Regexp(r"\A\+?[0-9*]{1,32}\Z"))
        super().__init__(number, validate=Length(1, MAX_PARTIES), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, str | int):
            value = [value]
        return super()._deserialize(value, attr, data, **kwargs)


class WholeNumber(fields.Integer):
    """Digits alone: Python would take ``1_0`` and the digits of other scripts too."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value) is None:
            raise ValidationError("Takes digits.")
        return int(super()._deserialize(value, attr, data, **kwargs))


class CallerId(fields.String):
    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        try:
            return parse_caller_id(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(str(error)) from error


def _code(code: str) -> dict[str, str]:
    return {"code": code}


def _printable(text: str) -> None:
    if not 1 <= len(text) <= 255 or not text.isprintable():
        raise ValidationError("Takes 1 to 255 printable characters.")


class _Request(Schema):
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


class ViewSchema(_Request):
    aliases: ClassVar = {"callerDestination": "callerIdDestination"}

    source = Numbers(required=True, metadata=_code("pc_source_invalid"))
    destination = Numbers(required=True, metadata=_code("pc_destination_invalid"))
    callerId = CallerId(metadata=_code("pc_callerid_invalid"))
    callerIdDestination = CallerId(metadata=_code("pc_callerid_invalid"))


class CreateSchema(_Request):
    extension = Number(validate=Regexp(r"\A[0-9*]{1,32}\Z"), metadata=_code("extension_invalid"))
    phoneCallView = fields.List(
        fields.Nested(ViewSchema),
        required=True,
        validate=Length(1, 20),
        metadata=_code("pc_source_invalid"),
    )
    nonce = fields.String(validate=_printable, metadata=_code("pc_nonce_invalid"))


class _Query(_Request):
    # Names of fields of the answer; which exist is the resource's to say.
    fields_ = fields.String(data_key="fields", metadata=_code("fields_invalid"))


class CreateQuery(_Query):
    aliases: ClassVar = {"waitForPickUp": "waitForPickup"}

    waitForPickup = WholeNumber(
        load_default=25, validate=Range(1, 600), metadata=_code("pc_timeout_invalid")
    )
    callDuration = WholeNumber(validate=Range(1, 86_400), metadata=_code("pc_duration_invalid"))
    allowPublicTransfer = fields.Boolean(load_default=False, metadata=_code("pc_transfer_invalid"))
    video = fields.Boolean(load_default=False, metadata=_code("pc_video_invalid"))


class ListQuery(_Query):
    count = WholeNumber(load_default=20, validate=Range(1, 5000), metadata=_code("count_invalid"))
    startIndex = WholeNumber(
        load_default=0, validate=Range(0, 5000), metadata=_code("startindex_invalid")
    )
    filterBy = fields.String(metadata=_code("filterby_invalid"))
    filterValue = fields.String(metadata=_code("filterby_invalid"))


class HangUpQuery(_Query):
    phoneNumber = Number(metadata=_code("pc_destination_invalid"))


def load(schema: Schema, data: Any) -> dict[str, Any]:
    """Load a request's part. Raises ApiError 400 with the code of the first field at fault,
    in the schema's order."""
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise invalid(_code_of(schema, error.messages, "request_invalid")) from error
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


def invalid(code: str, message: str | None = None) -> ApiError:
    """The 400 answer of a documented code, with its usual sentence unless another is given."""
    return ApiError(400, code, message or _MESSAGES[code])
