"""The parts of requests, each with the error code for a bad value."""

import math
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range, Regexp

from app.accounts import ringback
from app.accounts.fields import Parsed
from app.accounts.prompt_schemas import AcceptSchema, AnnounceSchema
from app.caller_id import parse_caller_id
from app.calls.model import State
from app.phone_calls.extras import (
    DestinationHeadersSchema,
    HeadersSchema,
    Metadata,
    StatusCallbackSchema,
)
from app.web.cursor import CursorField
from app.web.dates import Date
from app.web.fields import (
    DIALLABLE,
    BaseQuery,
    BaseRequest,
    Few,
    ListQuery,
    Number,
    Reason,
    WholeNumber,
    coded,
    extension_number,
    phone_number,
)
from app.web.metadata import Pairs

# The most parties on one side of a call, and the most legs with all their gateways: the switch
# dials at most 128 channels in one originate.
MAX_PARTIES = 32
MAX_LEGS = 64
# The seconds that a phone rings unless the request says another number.
DEFAULT_WAIT = 25


class Numbers(fields.List[str]):
    """A list of numbers, or one number by itself."""

    def __init__(self, **kwargs: Any) -> None:
        number = Number(validate=DIALLABLE)
        super().__init__(number, validate=Few(1, MAX_PARTIES), **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, str | int):
            value = [value]
        return super()._deserialize(value, attr, data, **kwargs)


def caller_id() -> Parsed:
    """A field for ``Name <number>``."""
    return Parsed(parse_caller_id, metadata=coded("pc_callerid_invalid"))


class Rule(fields.Nested):
    """A rule about prompts in an object; ``false`` for none, whatever the organization has."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if value is False:
            return False
        if not isinstance(value, dict):
            raise ValidationError("Takes an object, or false.")
        return super()._deserialize(value, *args, **kwargs)


def _rule(name: str, about: str) -> dict[str, str]:
    return {**coded(f"pc_{name}_invalid"), "description": f"{about}; false for nobody."}


def printable(text: str) -> None:
    """Check the form of a nonce. Raises ValidationError."""
    if not 1 <= len(text) <= 255 or not text.isprintable():
        raise ValidationError("Takes 1 to 255 printable characters.")


class ViewSchema(BaseRequest):
    aliases: ClassVar = {"callerDestination": "callerIdDestination"}

    source = Numbers(required=True, metadata=coded("pc_source_invalid"))
    destination = Numbers(required=True, metadata=coded("pc_destination_invalid"))
    callerId = caller_id()
    callerIdDestination = caller_id()
    ringback = Parsed(ringback.canonical, metadata=coded("pc_ringback_invalid"))
    headers = fields.Nested(HeadersSchema, metadata=coded("pc_headers_invalid"))
    accept = Rule(AcceptSchema, metadata=_rule("accept", "Who accepts the call by a key"))
    announce = Rule(AnnounceSchema, metadata=_rule("announce", "Who hears an announcement"))


class CreateSchema(BaseRequest):
    extension = extension_number()
    phoneCallView = fields.List(
        fields.Nested(ViewSchema),
        required=True,
        validate=Few(1, 20),
        metadata=coded("pc_source_invalid", "views"),
    )
    nonce = fields.String(validate=printable, metadata=coded("pc_nonce_invalid"))
    metadata = Metadata(metadata=coded("pc_metadata_invalid"))
    statusCallback = fields.Nested(StatusCallbackSchema, metadata=coded("pc_callback_invalid"))


class InviteViewSchema(BaseRequest):
    # The source is the conference. The page's example names it all the same.
    unread = frozenset({"source"})

    destination = Numbers(required=True, metadata=coded("pc_destination_invalid"))
    callerId = caller_id()
    headers = fields.Nested(DestinationHeadersSchema, metadata=coded("pc_headers_invalid"))


class InviteSchema(CreateSchema):
    phoneCallView = fields.List(
        fields.Nested(InviteViewSchema),
        required=True,
        validate=Few(1, 20),
        metadata=coded("pc_destination_invalid", "views"),
    )


class CreateQuery(BaseQuery):
    aliases: ClassVar = {"waitForPickUp": "waitForPickup"}

    waitForPickup = WholeNumber(
        load_default=DEFAULT_WAIT, validate=Range(1, 600), metadata=coded("pc_timeout_invalid")
    )
    callDuration = WholeNumber(validate=Range(1, 86_400), metadata=coded("pc_duration_invalid"))
    allowPublicTransfer = fields.Boolean(load_default=False, metadata=coded("pc_transfer_invalid"))
    video = fields.Boolean(load_default=False, metadata=coded("pc_video_invalid"))


class InviteQuery(BaseQuery):
    aliases: ClassVar = CreateQuery.aliases

    waitForPickup = WholeNumber(
        load_default=DEFAULT_WAIT, validate=Range(1, 600), metadata=coded("pc_timeout_invalid")
    )
    number = Number(validate=Regexp(r"\A[0-9]{1,16}\Z"), metadata=coded("pc_number_invalid"))
    pin = Number(validate=Regexp(r"\A[0-9]{1,16}\Z"), metadata=coded("pc_pin_invalid"))


class States(fields.String):
    """A field for states with commas between, loaded as a set."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        words = super()._deserialize(value, attr, data, **kwargs).split(",")
        try:
            return frozenset(State(word.strip()) for word in words)
        except ValueError as error:
            raise ValidationError(f"Takes {', '.join(State)}.") from error


class CallsQuery(ListQuery):
    cursor = CursorField()
    metadata = Pairs()
    state = States(metadata=coded("pc_state_invalid"))
    phoneNumber = phone_number("pc_destination_invalid")
    nonce = fields.String(validate=printable, metadata=coded("pc_nonce_invalid"))
    startDate = Date(metadata=coded("pc_date_invalid"))
    endDate = Date(metadata=coded("pc_date_invalid"))
    # ``all`` has the ended calls too.
    status = fields.String(
        load_default="live",
        validate=OneOf(["live", "all"]),
        metadata=coded("pc_status_invalid"),
    )

    @validates_schema(skip_on_field_errors=True)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("startDate", -math.inf) > data.get("endDate", math.inf):
            reason = Reason("Takes a date that is not later than endDate.", "order")
            raise ValidationError(reason, "startDate")


class HangUpQuery(BaseQuery):
    # Nothing but blanks would name no party, and the answer would list calls that go on.
    phoneNumber = Number(validate=Length(1), metadata=coded("pc_destination_invalid"))
    # Whether a request that names no call means all of them.
    all = fields.Boolean(metadata=coded("pc_phonecall_invalid"))
