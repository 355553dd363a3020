"""What requests may bring, and the code that answers what they may not."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load
from marshmallow.validate import Length, OneOf, Range, Regexp

from app.caller_id import parse_caller_id
from app.errors import ApiError

# Parties on one side of a call, and the gateways to reach them all counted: the switch dials at
# most 128 channels in one originate.
MAX_PARTIES = 32
MAX_LEGS = 64
# The last place in a list that a page may begin at.
MAX_START = 5000

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
    "pc_phonecall_invalid": "phoneCallId takes the id of a call.",
    "pc_timeout_invalid": _TIMEOUT,
    "pc_duration_invalid": _DURATION,
    "pc_transfer_invalid": "allowPublicTransfer takes true or false.",
    "pc_video_invalid": "video takes true or false.",
    "pc_number_invalid": "number takes that of a conference of the extension.",
    "pc_pin_invalid": "pin takes that of the conference.",
    "pc_action_invalid": "action takes the name of an action.",
    "pc_view_invalid": "phoneCallViewId takes the id of a view of the call.",
    "pc_sendcallto_invalid": "sendCallTo takes an extension, or of a transfer a public number.",
    "pc_parking_invalid": "maxInParking takes 10 to 3600 whole seconds.",
    "pc_private_invalid": "private takes 0 or 1.",
    "pc_format_invalid": "format takes wav or wav49.",
    "pc_transfernumber_invalid": "transferFromNumber and transferNumber take those of two "
    "parties who talk.",
    "fields_invalid": "fields takes names of a PhoneCall's fields, with commas between.",
    "count_invalid": "count takes 1 to 5000.",
    "startindex_invalid": "startIndex takes 0 to 5000.",
    "filterby_invalid": "filterBy takes the name of a field.",
    "filterop_invalid": "filterOp takes equals, contains, startsWith, present, greaterThan, "
    "lessThan or inArray.",
    "filtervalue_invalid": "filterValue takes what filterBy is compared with: a text, a date where "
    "filterBy is one, several with inArray.",
    "sortorder_invalid": "sortOrder takes asc, desc, ascending or descending.",
    # Of the CDR service.
    "cdr_source_invalid": "source takes an extension or a public phone number.",
    "cdr_destination_invalid": "destination takes an extension or a public phone number.",
    "cdr_start_date_invalid": "startDate takes a date of the form 2015-01-23T04:56:22Z.",
    "cdr_end_date_invalid": "endDate takes a date of the form 2015-01-23T04:56:22Z.",
    "cdr_save_start_date_invalid": "saveStartDate takes a date of the form 2015-01-23T04:56:22Z.",
    "cdr_save_end_date_invalid": "saveEndDate takes a date of the form 2015-01-23T04:56:22Z.",
    "cdr_invalid_date_parameters": "A start date is not later than its end date.",
    "cdr_disposition_invalid": "disposition takes 0 to 5.",
    "cdr_flow_invalid": "flow takes 2, 4 or 8.",
    "cdr_invalid_filter_by_source": "source is compared with the text of filterValue.",
    "cdr_invalid_filter_by_destination": "destination is compared with the text of filterValue.",
    "cdr_invalid_filter_by_published": "published is compared with a date in filterValue.",
    "cdr_invalid_filter_by_answered": "answered is compared with a date in filterValue.",
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


def coded(code: str) -> dict[str, str]:
    """The error code of a field that cannot be used."""
    return {"code": code}


def _printable(text: str) -> None:
    if not 1 <= len(text) <= 255 or not text.isprintable():
        raise ValidationError("Takes 1 to 255 printable characters.")


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


class ViewSchema(BaseRequest):
    aliases: ClassVar = {"callerDestination": "callerIdDestination"}

    source = Numbers(required=True, metadata=coded("pc_source_invalid"))
    destination = Numbers(required=True, metadata=coded("pc_destination_invalid"))
    callerId = CallerId(metadata=coded("pc_callerid_invalid"))
    callerIdDestination = CallerId(metadata=coded("pc_callerid_invalid"))


class CreateSchema(BaseRequest):
    extension = Number(validate=Regexp(r"\A[0-9*]{1,32}\Z"), metadata=coded("extension_invalid"))
    phoneCallView = fields.List(
        fields.Nested(ViewSchema),
        required=True,
        validate=Length(1, 20),
        metadata=coded("pc_source_invalid"),
    )
    nonce = fields.String(validate=_printable, metadata=coded("pc_nonce_invalid"))


class InviteViewSchema(BaseRequest):
    # The source is the conference: what is sent in its place is not read.
    destination = Numbers(required=True, metadata=coded("pc_destination_invalid"))
    callerId = CallerId(metadata=coded("pc_callerid_invalid"))


class InviteSchema(CreateSchema):
    phoneCallView = fields.List(
        fields.Nested(InviteViewSchema),
        required=True,
        validate=Length(1, 20),
        metadata=coded("pc_destination_invalid"),
    )


class BaseQuery(BaseRequest):
    # Names of fields of the answer; which exist is the resource's to say.
    fields_ = fields.String(data_key="fields", metadata=coded("fields_invalid"))


class CreateQuery(BaseQuery):
    aliases: ClassVar = {"waitForPickUp": "waitForPickup"}

    waitForPickup = WholeNumber(
        load_default=25, validate=Range(1, 600), metadata=coded("pc_timeout_invalid")
    )
    callDuration = WholeNumber(validate=Range(1, 86_400), metadata=coded("pc_duration_invalid"))
    allowPublicTransfer = fields.Boolean(load_default=False, metadata=coded("pc_transfer_invalid"))
    video = fields.Boolean(load_default=False, metadata=coded("pc_video_invalid"))


class InviteQuery(BaseQuery):
    aliases: ClassVar = CreateQuery.aliases

    waitForPickup = WholeNumber(
        load_default=25, validate=Range(1, 600), metadata=coded("pc_timeout_invalid")
    )
    number = Number(validate=Regexp(r"\A\d{1,16}\Z"), metadata=coded("pc_number_invalid"))
    pin = Number(validate=Regexp(r"\A\d{1,16}\Z"), metadata=coded("pc_pin_invalid"))


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


class HangUpQuery(BaseQuery):
    phoneNumber = Number(metadata=coded("pc_destination_invalid"))


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
