"""The operations of the API: each method of each path with its request and its answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from app.accounts.scopes import AppScope
from app.cdr.resource import FIELDS as RECORD_FIELDS
from app.cdr.schemas import CdrQuery
from app.cdr.services import FILTERS as RECORD_FILTERS
from app.openapi import schemas
from app.phone_call_events import schemas as events
from app.phone_call_events.resource import FIELDS as EVENT_FIELDS
from app.phone_calls.actions import ActionQuery, ActionSchema
from app.phone_calls.schemas import (
    CallsQuery,
    CreateQuery,
    CreateSchema,
    HangUpQuery,
    InviteQuery,
    InviteSchema,
)
from app.presence.resource import FIELDS as PRESENCE_FIELDS
from app.recordings.resource import FIELDS as RECORDING_FIELDS
from app.stream import views as stream
from app.web.fields import ListQuery
from app.web.phone_call import FIELDS as CALL_FIELDS
from app.web.resource import links

# The content of an answer: a schema, a list of a schema, or text of the named media type.
Content = type[Schema] | list[type[Schema]] | str


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    tag: str
    summary: str
    # The description and the content of each answer, by HTTP status.
    answers: Mapping[int, tuple[str, Content]]
    description: str = ""
    query: type[Schema] | None = None
    body: type[Schema] | None = None
    # The codes of its errors, without those of its fields and those common to all operations.
    codes: Sequence[str] = ()
    # The names that the query's ``fields`` and ``filterBy`` take.
    fields: Iterable[str] = ()
    filters: Iterable[str] = ()
    # The causes of codes that it usually answers with, where another sentence is the usual one.
    causes: Mapping[str, str] = field(default_factory=dict)
    # The codes that it answers with 404.
    not_found: Sequence[str] = ()
    # The media types of the body.
    media: Sequence[str] = ("application/json",)
    # An example of the body, and one of the first answer.
    example: Mapping[str, Any] = field(default_factory=dict)
    answer: Any = None
    # The operationId, by which generated clients name their functions.
    name: str = field(kw_only=True)
    # The headers that the request may have, and those of the answer below 400, by their names in
    # app.openapi.headers.
    request_headers: Sequence[str] = ()
    headers: Sequence[str] = ()


# The scopes that the operations of a tag need, by method if the methods differ.
_SCOPES: Mapping[str, AppScope | Mapping[str, AppScope]] = {
    "PhoneCalls": {
        "post": AppScope.CALLS_PLACE,
        "get": AppScope.CALLS_READ,
        "put": AppScope.CALLS_ACT,
        "delete": AppScope.CALLS_ACT,
    },
    "PhoneCallEvents": AppScope.EVENTS,
    "CDR": AppScope.CDR_READ,
    "Presence": AppScope.CALLS_READ,
    "Recordings": AppScope.CALLS_SUPERVISE,
}


def scope_of(operation: Operation) -> AppScope | None:
    """The scope that an operation needs; None if it needs none."""
    if operation.path.endswith("/events"):
        return AppScope.EVENTS
    found = _SCOPES.get(operation.tag)
    return found.get(operation.method) if isinstance(found, Mapping) else found


_OWNED = ("user_invalid", "extension_invalid")
_BODY = ("request_invalid", "request_too_large", "request_timeout")

_CALLS = "/uapi/phoneCalls/{userId}"
_CALLS_OF = f"{_CALLS}/{{extension}}"
_CALL = f"{_CALLS_OF}/{{phoneCallId}}"
_ID = "b817d2618fe6f1804333"
_URL = f"https://ringback.example.com/uapi/phoneCalls/@me/@self/{_ID}"
# A call as an answer shows it, and a list around it.
_EXAMPLE = {
    "id": _ID,
    "extension": "0003*210",
    "published": "2026-11-23T08:08:19Z",
    "state": "ringing",
    **links(_URL),
}
_LIST = {"totalResults": 1, "startIndex": 0, "itemsPerPage": 20}
_CONDITIONS = ("If-None-Match",)
_VIEW = {
    "source": ["5354353", "5302040"],
    "destination": ["3235742879"],
    "callerId": "John Doe <4242425>",
}


def _create(
    kind: str,
    summary: str,
    description: str,
    query: type[Schema],
    body: type[Schema],
    name: str,
    **example: Any,
) -> Operation:
    return Operation(
        "post",
        f"{_CALLS}/{kind}",
        "PhoneCalls",
        summary,
        {
            202: ("Accepted: one PhoneCall for each phoneCallView.", [schemas.CreatedPhoneCall]),
            200: ("Accepted, for apps of VoipNow compatibility.", [schemas.CreatedPhoneCall]),
        },
        description,
        query=query,
        body=body,
        codes=(
            *(*_OWNED, *_BODY, "pc_source_invalid", "quota_exceeded", "outcome_unknown"),
            *("pc_source_barred", "pc_destination_barred", "organization_suspended"),
        ),
        fields=CALL_FIELDS,
        example=example,
        answer=[{"id": _ID, "extension": example["extension"], **links(_URL)}],
        name=name,
        request_headers=("Idempotency-Key",),
        headers=("Location", "Idempotent-Replayed"),
    )


_PHONE_CALLS = (
    _create(
        "simple",
        "Place a call, charged to a phone terminal",
        "All sources ring at once; the first to answer is connected with the destination.",
        CreateQuery,
        CreateSchema,
        "placeCall",
        extension="0003*210",
        phoneCallView=[_VIEW],
    ),
    _create(
        "callback",
        "Place a call, charged to a callback extension",
        "All sources ring at once; the first to answer is connected with the destination.",
        CreateQuery,
        CreateSchema,
        "placeCallbackCall",
        extension="0003*212",
        phoneCallView=[_VIEW],
    ),
    _create(
        "conferenceInvite",
        "Call parties into a conference",
        "",
        InviteQuery,
        InviteSchema,
        "inviteToConference",
        extension="0003*003",
        phoneCallView=[{"source": ["0003*003"], "destination": ["3235742879"]}],
    ),
    Operation(
        "get",
        _CALLS_OF,
        "PhoneCalls",
        "The live calls that an extension pays for, or in which its phone rings or talks",
        {200: ("The calls, newest first.", schemas.PhoneCallCollection)},
        name="listCalls",
        request_headers=_CONDITIONS,
        headers=("ETag",),
        answer=_LIST | {"entry": [_EXAMPLE]},
        query=CallsQuery,
        codes=_OWNED,
        fields=CALL_FIELDS,
        filters=("id", "published", "nonce"),
    ),
    Operation(
        "get",
        _CALL,
        "PhoneCalls",
        "One call, live or ended",
        {200: ("The call.", schemas.PhoneCallCollection)},
        "An app of VoipNow compatibility gets an empty list for a call that there is not.",
        name="getCall",
        request_headers=_CONDITIONS,
        headers=("ETag",),
        answer=_LIST | {"entry": [_EXAMPLE]},
        query=CallsQuery,
        codes=_OWNED,
        not_found=("pc_phonecall_invalid",),
        fields=CALL_FIELDS,
        filters=("id", "published", "nonce"),
    ),
    Operation(
        "put",
        _CALL,
        "PhoneCalls",
        "Do something to a call",
        {
            200: ("The call after the switch has done the action.", [schemas.PhoneCallSchema]),
            202: (
                "The call while the switch has not done the action yet.",
                [schemas.PhoneCallSchema],
            ),
        },
        "`OnHold`, `OffHold`, `Park`, `UnPark`, `Monitor`, `StartRecording` and `StopRecording` "
        "need `phoneCallViewId`; `UnPark`, `PickUp`, `BargeIn`, `Whisper`, `Monitor`, `Transfer` "
        "and `TransferToVoicemail` need `sendCallTo`.",
        name="actOnCall",
        answer=[_EXAMPLE],
        query=ActionQuery,
        body=ActionSchema,
        codes=(
            *_OWNED,
            *_BODY,
            "pc_phonecall_invalid",
            "pc_transfer_invalid",
            "pc_destination_barred",
            "quota_exceeded",
            "rights_insufficient",
            "organization_suspended",
            "outcome_unknown",
            "switch_unreachable",
        ),
        fields=CALL_FIELDS,
        example={"action": "OnHold", "phoneCallViewId": "01"},
    ),
    Operation(
        "delete",
        _CALLS_OF,
        "PhoneCalls",
        "Hang up all calls of an extension",
        {
            200: ("The ended calls.", [schemas.PhoneCallSchema]),
            202: ("The switch has not ended all of them yet.", [schemas.PhoneCallSchema]),
        },
        "A path with a slash at its end needs `all=true`, unless the app has VoipNow "
        "compatibility.",
        name="hangUpCalls",
        answer=[_EXAMPLE | {"state": "ended"}],
        query=HangUpQuery,
        codes=(*_OWNED, "rights_insufficient", "outcome_unknown"),
        fields=CALL_FIELDS,
    ),
    Operation(
        "delete",
        _CALL,
        "PhoneCalls",
        "Hang up one call",
        {
            200: ("The ended call.", [schemas.PhoneCallSchema]),
            202: ("The switch has not ended the call yet.", [schemas.PhoneCallSchema]),
        },
        name="hangUpCall",
        answer=[_EXAMPLE | {"state": "ended"}],
        query=HangUpQuery,
        codes=(*_OWNED, "pc_phonecall_invalid", "rights_insufficient", "outcome_unknown"),
        fields=CALL_FIELDS,
    ),
    Operation(
        "get",
        f"{_CALLS}/events",
        "PhoneCalls",
        "Every change of calls as it happens, as server-sent events",
        {200: ("The stream. It goes on until one side ends it.", "text/event-stream")},
        "The data of an event `call` is a JSON object: the call's `id`, its `state` and `version` "
        "after the change, `at` in epoch seconds, and `phoneCall`, the present PhoneCall without "
        "links. `left` says that the user's phone has left a call of somebody else. With the "
        "header `Last-Event-ID` the stream begins after that event. An event "
        "`reset` says that some changes since then are no longer kept. An event `quota` says that "
        "80 or 100 percent of a cap are used; it has no id.",
        name="streamCalls",
        query=stream.StreamQuery,
        codes=("user_invalid", "stream_limit_exceeded"),
    ),
)

_EVENTS = "/uapi/extensions/{userId}/{extension}/phoneCallEvents"
_EVENTS_OF = f"{_EVENTS}/{{eventType}}"
_EVENT = f"{_EVENTS_OF}/{{eventId}}"


def _event(
    name: str, method: str, path: str, summary: str, content: Content, **more: Any
) -> Operation:
    """The operation on call events. ``more`` adds to the fields that these operations share."""
    codes = (*_OWNED, *more.pop("codes", ()))
    answers = {200: ("As it is now; of a DELETE, as it was.", content)}
    return Operation(
        method,
        path,
        "PhoneCallEvents",
        summary,
        answers,
        name=name,
        codes=codes,
        causes={"extension_invalid": "events"},
        **more,
    )


_PHONE_CALL_EVENTS = (
    *(
        _event(
            name,
            "post",
            path,
            "Notify a URL of an extension's calls",
            schemas.PhoneCallEventSchema,
            description="`type` may stand in the path, in the body or in both. In place of an "
            "extension, `@self` is all extensions of the user, `@organization` all of the "
            "organization, and `@app` all calls that the app places.",
            body=events.CreateSchema,
            codes=(*_BODY, "pce_limit_exceeded"),
            example={"type": "2", "url": "https://crm.example.com/calls", "method": "1"},
        )
        for path, name in (
            (_EVENTS, "createCallEvent"),
            (_EVENTS_OF, "createCallEventOfType"),
        )
    ),
    *(
        _event(
            name,
            "get",
            path,
            "The URLs that are notified of an extension's calls",
            schemas.PhoneCallEventCollection,
            query=ListQuery,
            codes=codes,
            fields=EVENT_FIELDS,
            filters=EVENT_FIELDS - {"links"},
        )
        for path, codes, name in (
            (_EVENTS, (), "listCallEvents"),
            (_EVENTS_OF, ("pce_type_invalid",), "listCallEventsOfType"),
            (_EVENT, ("pce_type_invalid", "pce_id_invalid"), "getCallEvent"),
        )
    ),
    Operation(
        "post",
        f"{_EVENT}/test",
        "PhoneCallEvents",
        "Send a test to a URL",
        {
            200: ("How the test went.", schemas.EventTest),
            202: ("The test waits to be sent.", schemas.EventTest),
        },
        "The receiver gets a signed message of the event's type with the parameter `Test` = `1`. "
        "It is sent once, also if the event is disabled.",
        name="testCallEvent",
        codes=(*_OWNED, "pce_type_invalid", "pce_id_invalid", "pce_url_invalid"),
        causes={"extension_invalid": "events"},
    ),
    _event(
        "updateCallEvent",
        "put",
        _EVENT,
        "Change a URL, its method, its status or its note",
        schemas.PhoneCallEventSchema,
        body=events.UpdateSchema,
        codes=(*_BODY, "pce_type_invalid", "pce_id_invalid"),
        example={"status": "0"},
    ),
    *(
        _event(
            name,
            "delete",
            path,
            "Stop notifying a URL",
            [schemas.PhoneCallEventSchema],
            codes=codes,
        )
        for path, codes, name in (
            (_EVENTS, (), "deleteCallEvents"),
            (_EVENTS_OF, ("pce_type_invalid",), "deleteCallEventsOfType"),
            (_EVENT, ("pce_type_invalid", "pce_id_invalid"), "deleteCallEvent"),
        )
    ),
)

_REPORTS = (
    *(
        Operation(
            "get",
            path,
            "CDR",
            summary,
            {200: ("The records by the ids of their calls.", schemas.PhoneCallRecordCollection)},
            name=name,
            query=CdrQuery,
            codes=(
                "user_invalid",
                "cdr_invalid_date_parameters",
                "cdr_invalid_filter_by_source",
                "cdr_invalid_filter_by_destination",
                "cdr_invalid_filter_by_published",
                "cdr_invalid_filter_by_answered",
            ),
            fields=RECORD_FIELDS,
            filters=RECORD_FILTERS,
        )
        for path, summary, name in (
            (
                "/uapi/cdr/{userId}",
                "Records of ended calls that a user was charged for",
                "listRecordsOfUser",
            ),
            ("/uapi/cdr", "Records of all ended calls that the app may see", "listRecords"),
        )
    ),
    Operation(
        "get",
        "/uapi/extensions/{userId}/{extension}/presence",
        "Presence",
        "Whether extensions are on a call",
        {200: ("The extensions by their numbers.", schemas.PresenceCollection)},
        name="getPresence",
        query=ListQuery,
        codes=_OWNED,
        fields=PRESENCE_FIELDS,
        filters=("extension",),
    ),
)

_RECORDINGS_OF = f"{_CALL}/recordings"
_RECORDING = f"{_RECORDINGS_OF}/{{recordingId}}"

_RECORDINGS = (
    Operation(
        "get",
        _RECORDINGS_OF,
        "Recordings",
        "The recordings of a call",
        {200: ("The recordings, the oldest first.", schemas.RecordingCollection)},
        "Of calls that the app has the right to supervise, also when only their records are kept.",
        name="listRecordings",
        query=ListQuery,
        codes=(*_OWNED, "rights_insufficient"),
        not_found=("pc_phonecall_invalid",),
        fields=RECORDING_FIELDS,
        filters=("id",),
    ),
    Operation(
        "get",
        _RECORDING,
        "Recordings",
        "The file of a recording",
        {
            200: ("The file.", "audio/wav"),
            206: ("The part of the file that `Range` asks for.", "audio/wav"),
        },
        "A recording of the format `wav49` has the media type `audio/x-gsm`.",
        name="getRecording",
        codes=(*_OWNED, "recording_unknown", "rights_insufficient"),
        not_found=("pc_phonecall_invalid",),
        request_headers=("Range", *_CONDITIONS),
        headers=("ETag",),
    ),
    Operation(
        "delete",
        _RECORDING,
        "Recordings",
        "Delete a recording",
        {200: ("The deleted recording.", [schemas.RecordingSchema])},
        name="deleteRecording",
        codes=(
            *(*_OWNED, "recording_unknown", "recording_live", "rights_insufficient"),
            "organization_suspended",
        ),
        not_found=("pc_phonecall_invalid",),
    ),
)

_FORM = ("application/x-www-form-urlencoded",)

_OAUTH = tuple(
    Operation(
        "post",
        path,
        "OAuth",
        "A token for a client id and its secret, or for a refresh token",
        {200: ("A token.", schemas.Token)},
        "Client id and secret come in the body or as HTTP Basic (RFC 6749). The body may also be "
        "multipart/form-data.",
        body=schemas.TokenRequest,
        codes=("request_too_large", "request_timeout"),
        media=_FORM,
        example={
            "grant_type": "client_credentials",
            "client_id": "demo-user",
            "client_secret": "demo-user-secret",
        },
        name=name,
    )
    for path, name in (("/oauth/token.php", "createTokenVoipnow"), ("/oauth/token", "createToken"))
)

_REVOCATION = Operation(
    "post",
    "/oauth/revoke",
    "OAuth",
    "End a token, or with a refresh token all tokens that come from it",
    {200: ("Done, also if there was no such token.", schemas.Nothing)},
    "RFC 7009. No process takes the token after a second.",
    name="revokeToken",
    body=schemas.RevokeRequest,
    codes=("request_too_large", "request_timeout"),
    media=_FORM,
    example={
        "token": "s7n2jIOPnfMuF7tHu8ETse_VpxW7GINuy8vG5_aSwn4",
        "client_id": "demo-user",
        "client_secret": "demo-user-secret",
    },
)

OPERATIONS = (*_PHONE_CALLS, *_PHONE_CALL_EVENTS, *_REPORTS, *_RECORDINGS, *_OAUTH, _REVOCATION)
