"""The requests that Ringback sends to the URLs of clients: call events and status callbacks."""

from typing import Any

from marshmallow import fields
from marshmallow.validate import OneOf

from app.calls.status_callback import EVENTS
from app.openapi.schemas import Answer, PhoneCallSchema


def _text(description: str, *examples: str, required: bool = True) -> fields.String:
    metadata: dict[str, Any] = {"description": description}
    if examples:
        metadata["examples"] = list(examples)
    return fields.String(required=required, metadata=metadata)


class CallEvent(Answer):
    """The form of a call event: app.calls.call_events makes it."""

    CallID = _text("The id of the call.", "b817d2618fe6f1804333")
    CallAPIID = _text("The same.", "b817d2618fe6f1804333")
    CallerIDNum = _text("The number of the caller id that the destination sees.", "4242425")
    CallerIDName = _text("Its name.", "John Doe")
    CallerExtension = _text("The extension that calls, or the charged one.", "0003*210")
    CalledExtension = _text("The extension that is called, or nothing.", "0003*211")
    CalledNumber = _text("The number that answered, else the first that was dialled.", "3235742879")
    CalledDID = _text("Empty.")
    CallFlow = _text("`OUT` for the one that calls, `IN` for the one that is called.", "OUT")
    CallStatus = _text(
        "`CALLING` or `ANSWER`; of a hang-up `ANSWER`, `BUSY`, `NOANSWER`, `CANCEL`, "
        "`CHANUNAVAIL`, `CONGESTION` or `UNKNOWN`.",
        "ANSWER",
    )
    EventType = _text("The type of the event, 0 to 4.", "4")
    EventTime = _text("When it happened, in UTC with milliseconds.", "2026-11-23T08:08:19.482Z")
    HangupCause = _text("Of a hang-up FreeSWITCH's name of the cause.", "USER_BUSY")
    Nonce = _text("The nonce of the create request, or nothing.", "order-4711")
    Metadata = _text("The metadata of the call as JSON.", required=False)
    Test = _text("`1` in a test.", required=False)


class StatusCallback(Answer):
    """The body of a status callback: workers.webhooks.status makes it."""

    type = fields.String(
        required=True,
        validate=OneOf(EVENTS),
        metadata={"description": "The status that the call has reached."},
    )
    id = _text("The id of the call and the status.", "b817d2618fe6f1804333-ended")
    time = _text("When it happened, in UTC with milliseconds.", "2026-11-23T08:08:19.482Z")
    call = fields.Nested(PhoneCallSchema, required=True)


# The headers of Standard Webhooks. apispec knows no webhooks, so these parts are in its form.
_HEADERS = [
    {
        "in": "header",
        "name": name,
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }
    for name, required, description in (
        ("webhook-id", True, "The id of the message. A message that comes again has the same."),
        ("webhook-timestamp", True, "The time of this attempt in epoch seconds."),
        (
            "webhook-signature",
            False,
            "`v1,` and the base64 of the HMAC-SHA256 over id, timestamp and body, if the app has a "
            "`webhook_secret`.",
        ),
    )
]
_RESPONSES = {
    "2XX": {"description": "The message has arrived. Ringback reads no more of the answer."},
    "410": {"description": "The message is a dead letter at once."},
    "default": {"description": "Ringback tries again, for hours."},
}
# The schemas by their names.
SCHEMAS = {"CallEvent": CallEvent, "StatusCallback": StatusCallback}


def webhooks() -> dict[str, Any]:
    """The part ``webhooks`` of the description."""
    return {
        "callEvent": {
            "get": _webhook(
                "callEventByGet",
                "Something happened to a call of an extension, with `method` 0 of the event",
                "CallEvent",
            ),
            "post": _webhook(
                "callEvent",
                "Something happened to a call of an extension, with `method` 1 of the event",
                "CallEvent",
                "application/x-www-form-urlencoded",
            ),
        },
        "statusCallback": {
            "post": _webhook(
                "statusCallback",
                "A call has reached a status that its create request asked for",
                "StatusCallback",
                "application/json",
            )
        },
    }


def _webhook(name: str, summary: str, schema: str, media: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": ["Webhooks"],
        # The signature is what the receiver checks.
        "security": [],
        "parameters": list(_HEADERS),
        "responses": _RESPONSES,
    }
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if media is not None:
        found["requestBody"] = {"required": True, "content": {media: content}}
    else:
        # Each field is a parameter of its own.
        query = {"in": "query", "name": "event", "required": True, "explode": True}
        found["parameters"].append(query | {"style": "form"} | content)
    return found
