"""The errors of the API: every code with its HTTP status, the sentences that it is sent with, its
cause and its remedy. docs/errors.md and the page /errors are made from these tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ApiError(Exception):
    """An error answer: an HTTP status, a stable code, a sentence for a developer.

    ``details`` are further members of the error object, such as ``field`` and ``value``.
    ``retry_after`` is the header Retry-After, in whole seconds.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after: int | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.details = details
        # Further headers of the answer.
        self.headers: dict[str, str] = {}


@dataclass(frozen=True)
class Code:
    """An error code. ``message`` is its usual sentence; ``others`` has the sentences of particular
    causes by a name, which :func:`api_error` takes. No other sentence is ever sent."""

    status: int
    message: str
    cause: str
    remedy: str
    others: Mapping[str, str] = field(default_factory=dict)
    # Statuses that some requests answer the code with.
    also: tuple[int, ...] = ()

    def sentence(self, cause: str) -> str:
        return self.others.get(cause, self.message)

    @property
    def sentences(self) -> tuple[str, ...]:
        return (self.message, *self.others.values())


def _value(message: str, cause: str, remedy: str, **others: str) -> Code:
    """The code for a bad value: 400."""
    return Code(400, message, cause, remedy, others)


def _named(name: str, takes: str, cause: str, **others: str) -> Code:
    """The code for a field or parameter that has a bad value."""
    remedy = f"Send a value that `{name}` takes. `reason` says what is wrong with this one."
    return Code(400, f"{name} {takes}", cause, remedy, others)


def _numbers(side: str) -> Code:
    """The code for the numbers of a side of a call."""
    return Code(
        400,
        f"{side} takes a list of extended or short extension numbers or public phone numbers.",
        f"The list `{side}` of a view, or a number in it, is missing or wrong.",
        "Correct the number that `field` points at. An extension has the form `0003*210` or `210`, "
        "a public number the form `+15550123`.",
        {
            "missing": f"{side} is missing. It takes a list of numbers.",
            "characters": f"{side} has a text that is no number.",
            "too_many": f"{side} has too many numbers.",
            "extension": f"{side} has an extension that does not exist.",
            "callback": f"{side} has an extension without a phone.",
            "plan": f"{side} has a number that no phone can have.",
            "route": f"{side} has a number to which no route leads.",
            "parties": "The request has too many numbers.",
            "views": "phoneCallView takes a list of views: objects with the numbers to connect.",
            "views_missing": "phoneCallView is missing. It takes a list with a view for each call.",
            "views_too_many": "phoneCallView has too many views.",
        },
    )


# The codes that any request may get.
COMMON = {
    "user_invalid": _value(
        "userId takes @me, @viewer or @owner of a user's app, or an id.",
        "The path names a user that is unknown or not the app's. An app of an organization or an "
        "administrator has no `@me`.",
        "Put the id of a user of the app into the path. An app of a user may say `@me`.",
    ),
    "rights_insufficient": Code(
        403,
        "You may see this call, but not do this with it.",
        "The app may see the call, but lacks [the right](guide/actions.md#rights) to do this. Or "
        "an app of a user asks for the call events of an organization.",
        "Act on the user's own party, or give the app or its user the right to supervise. For an "
        "organization, use an app of the organization.",
        {"organization": "Only an app of the organization may follow all its calls."},
    ),
    "app_disabled": Code(
        403,
        "The app is disabled.",
        "An operator has [disabled](guide/accounts.md#suspend) the app of the token.",
        "Ask the operator. `ringback apps enable` enables the app.",
    ),
    "organization_suspended": Code(
        403,
        "The organization is suspended. It may read and hang up, and nothing else.",
        "An operator has [suspended](guide/accounts.md#suspend) the organization.",
        "Ask the operator. `ringback organizations resume` resumes the organization.",
    ),
    "scope_insufficient": Code(
        403,
        "The app or its token lacks the scope that this needs.",
        "The app, or the token that it was issued, lacks "
        "[the scope](guide/accounts.md#tokens-and-scopes) that `scope` names.",
        "Add the scope to the app, or ask for a token with this scope.",
    ),
    "request_forbidden": Code(
        403,
        "The console refuses this request.",
        "A page of another site sent the request; or the request is for another host, and Ringback "
        "serves this machine alone; or it needs the console, with an app of the administrator.",
        "Allow the page's origin ([CORS](guide/http.md#cors)); set RINGBACK_PUBLIC_URL to the URL "
        "that clients use; or use the pages of the console as an administrator.",
        {
            "site": "A page of another site sent this request.",
            "host": "The request is for a host that is not this machine.",
        },
    ),
    "access_denied": Code(
        401,
        "You are not authorized to use this request.",
        "The token is missing, unknown, expired or revoked.",
        "Send the header `Authorization: Bearer TOKEN`. An issued token lasts an hour; "
        "ask for another one.",
        {
            "query": "This app takes no token in the query, where logs and browsers keep it. Send "
            "the header Authorization: Bearer, or set token_in_query for the app.",
            "login": "There is no app with these credentials.",
        },
    ),
    "rate_limit_exceeded": Code(
        429,
        "The app sends too many requests. Retry later.",
        "The app, or the address of a request without a good token, has used up "
        "[its rate limit](guide/http.md#rate-limits). Nothing was done.",
        "Retry after the seconds of `Retry-After`, and send fewer at a time.",
        {
            "calls": "The app places too many calls. Retry later.",
            "address": "Too many requests without a good token came from this address.",
        },
    ),
    "internal_server_error": Code(
        500,
        "Ringback met an unexpected fault and logged it.",
        "A fault of Ringback. The log of the API has the details.",
        "Retry later with the same nonce, and tell the operator.",
    ),
    "request_not_implemented": Code(
        501,
        "This request is not implemented.",
        "The UAPI has this path, and Ringback does not.",
        "Leave the request out. [Endpoints](endpoints.md) lists what there is.",
    ),
    "request_invalid": _value(
        "The request is malformed.",
        "The request breaks the rules of HTTP, its body is no JSON object, or it has a name that "
        "nothing reads.",
        "Correct what `field` and `reason` name. For a JSON text that cannot be read, `reason` has "
        "the line and the column.",
        json="The body is no valid JSON.",
        json_type="The body is no valid JSON, and its Content-Type announces something else.",
        empty="The body is empty. It takes a JSON object.",
        object="The body takes a JSON object.",
        unknown="The request has a name that is unknown here.",
        encoding="The body breaks off, or its chunked encoding is wrong.",
        itself="An app cannot disable itself.",
    ),
    "request_not_found": Code(
        404,
        "There is nothing at this path.",
        "The path is misspelt, or the thing that it names does not exist.",
        "Compare the path with [the endpoints](endpoints.md).",
    ),
    "method_not_allowed": Code(
        405,
        "This path does not take this method.",
        "The path exists, and takes other methods.",
        "Use a method that the header `Allow` lists.",
    ),
    "request_too_large": Code(
        413,
        "The request is too large.",
        "The body has more than 64 KiB (413), the first line more than 64 KiB (414), or a header "
        "more than 8 KiB (431).",
        "Send fewer calls, values or characters in one request.",
        also=(414, 431),
    ),
    "request_timeout": Code(
        408,
        "The request did not arrive in time.",
        "The client began a request and did not send the rest within RINGBACK_BODY_TIMEOUT (the "
        "body) or 5 seconds (the headers). Nothing was done.",
        "Retry with the same nonce, and send the whole request at once.",
    ),
    "connections_exceeded": Code(
        429,
        "This address has too many connections.",
        "One address has more connections to the API at a time than "
        "RINGBACK_CONNECTIONS_PER_ADDRESS, streams included.",
        "Use the same connections for several requests, and close what you do not need. Behind a "
        "proxy, set [RINGBACK_PROXIES](guide/http.md#behind-a-proxy).",
    ),
    "outcome_unknown": Code(
        503,
        "Ringback may have carried out the request or not. Retry it: with the same nonce a call "
        "is placed once.",
        "The connection to Redis broke after Redis was sent the change.",
        "Retry after the seconds of `Retry-After`, "
        "[with the same nonce](guide/placing-calls.md#asking-twice). Without a nonce, look whether "
        "the call is there.",
    ),
    "switch_unreachable": Code(
        503,
        "The call's switch is unreachable. Retry later.",
        "No worker reaches the FreeSWITCH of the call. Nothing was done.",
        "Retry later.",
    ),
    "service_unavailable": Code(
        503,
        "Redis is unavailable, and Ringback accepted no call. Retry later.",
        "Redis is unavailable, full or read-only, or an operator has switched "
        "[maintenance](operations/redis-failover.md#maintenance) on. No call was accepted, nor "
        "will be.",
        "Retry after the seconds of `Retry-After`.",
        {
            "busy": "Too many lists and searches of this app wait. Retry later, or ask for less.",
            "full": "Redis is nearly full: no new call is accepted. Calls that exist go on.",
            "maintenance": "Ringback is in maintenance and changes nothing. Retry later.",
            "records": "The database of records is unavailable. Calls go on. Retry later.",
        },
    ),
}
_DATE = "takes a date of the form 2015-01-23T04:56:22Z."
_HEADERS_FORM = "takes an object with source and destination, each an object of SIP headers."
# The codes of the resources: a field, a parameter or a part of the path has a bad value.
CODES = COMMON | {
    "extension_invalid": _value(
        "extension takes the number of an extension owned by the user.",
        "The extension of the body or the path is unknown, belongs to somebody else, or has a type "
        "that does not place such calls.",
        "Send the number of an extension of the user: `0003*210`, or `210` for an app of a user or "
        "an organization.",
        missing="extension is missing. This kind of call has no default for it.",
        unknown="The user has no extension with this number.",
        type="The extension has another type than this request needs.",
        gone="The accounts no longer have the extension.",
        events="extension takes the number of a phone terminal, queue, conference or IVR; or "
        "@self, @organization or @app unless the app has the compatibility voipnow.",
    ),
    "pc_source_invalid": _numbers("source"),
    "pc_destination_invalid": _numbers("destination"),
    "pc_source_barred": Code(
        403,
        "The dial policy bars this source.",
        "[The dial policy](guide/fraud-protection.md) bars the number; `policy` and `rule` name "
        "what bars it.",
        "Dial another number, or change the policy.",
    ),
    "pc_destination_barred": Code(
        403,
        "The dial policy bars this destination.",
        "[The dial policy](guide/fraud-protection.md) bars the number; `policy` and `rule` name "
        "what bars it.",
        "Dial another number, or change the policy.",
    ),
    "pc_accept_invalid": _named(
        "accept",
        "takes an object with the name of a prompt, or false.",
        "[`accept`](guide/accept-and-announce.md) of a view has a wrong form, or names no prompt "
        "of the accounts.",
    ),
    "pc_announce_invalid": _named(
        "announce",
        "takes an object with the name of a prompt, or false.",
        "[`announce`](guide/accept-and-announce.md) of a view has a wrong form, or names no prompt "
        "of the accounts.",
    ),
    "pc_callerid_invalid": _value(
        "A caller id takes the form John Doe <+3334444>.",
        "`callerId` or `callerIdDestination` has another form, or the extension may not show this "
        "number.",
        "Send `Name <number>` with a number that the accounts allow.",
        barred="You are not allowed to set the callerId field.",
    ),
    "pc_nonce_invalid": _value(
        "nonce takes 1 to 255 printable characters.",
        "The nonce is malformed, or was used for another request.",
        "Make a new nonce for each new request, and repeat it only with the same request.",
        used="This nonce was used for another request.",
        differ="nonce and the header Idempotency-Key differ.",
    ),
    "pc_metadata_invalid": _value(
        "metadata takes an object of strings, at most 2048 bytes as JSON; in a list KEY:VALUE.",
        "The [metadata](guide/status-callbacks.md) of a create or of a list have another form.",
        "Send at most 50 keys with strings; in a list `metadata=KEY:VALUE`.",
    ),
    "pc_callback_invalid": _named(
        "statusCallback",
        "takes an object with url, events and method.",
        "The [status callback](guide/status-callbacks.md) of a create has another form, or its URL "
        "leads to no public address.",
    ),
    "pc_headers_invalid": _named(
        "headers",
        _HEADERS_FORM,
        "The [SIP headers](guide/placing-calls.md#headers) of a view have another form.",
    ),
    "pc_status_invalid": _named(
        "status", "takes live or all.", "The parameter `status` of a list has another value."
    ),
    "pc_state_invalid": _named(
        "state",
        "takes some of queued, dialing, ringing, answered, bridged and ended, with commas between.",
        "The parameter `state` of a [list](guide/lists.md) has another value.",
    ),
    "pc_date_invalid": _value(
        "startDate and endDate take a date of the form 2015-01-23T04:56:22Z.",
        "A date of a [list](guide/lists.md) has another form, or `startDate` is later than "
        "`endDate`.",
        "Send dates in UTC, the earlier one as `startDate`.",
        order="startDate takes a date that is not later than endDate.",
    ),
    "recording_unknown": Code(
        404,
        "The call has no such recording.",
        "The call has no recording of that id, or its file is no longer there.",
        "Send an id of the list of the call's recordings. [Recordings](guide/recordings.md) says "
        "how long they are kept.",
        {
            "gone": "The file of the recording was deleted, or is not written yet.",
            "elsewhere": "The recordings are on the switch's host, where the API cannot read them.",
        },
    ),
    "recording_live": Code(
        409,
        "The recording goes on. Stop it before you delete it.",
        "The switch still writes the file.",
        "Send the action `StopRecording`, or wait for the end of the call.",
    ),
    "pc_phonecall_invalid": Code(
        400,
        "phoneCallId takes the id of a call.",
        "There is no call of that id that the app may see, or the path has no id. "
        "A `GET` answers 404.",
        "Send the id that the create answered with. Ringback keeps an ended call for "
        "`RINGBACK_RETENTION` seconds.",
        {
            "unknown": "There is no such call, or Ringback no longer keeps it.",
            "missing": "phoneCallId is missing. An action takes the id of a call in the path.",
            "all": "A path without phoneCallId hangs up all calls. With a slash at its end it "
            "needs all=true.",
            "one": "all takes true only in a path without phoneCallId.",
        },
        also=(404,),
    ),
    "pc_timeout_invalid": _named(
        "waitForPickup",
        "takes 1 to 600 whole seconds.",
        "`waitForPickup` is no whole number, or out of range.",
        maximum="waitForPickup is longer than the operator allows.",
    ),
    "pc_duration_invalid": _named(
        "callDuration",
        "takes the whole length of the call, 1 to 86400 seconds.",
        "`callDuration` is no whole number, or out of range.",
        maximum="callDuration is longer than the operator allows.",
    ),
    "pc_transfer_invalid": _named(
        "allowPublicTransfer",
        "takes true or false.",
        "The parameter has another value, or a call without it was to be transferred from one "
        "public number to another.",
        public="A transfer from one public number to another needs allowPublicTransfer=true.",
    ),
    "pc_ringback_invalid": _named(
        "ringback",
        "takes auto, network, music, none, a country whose tone is known or a prompt.",
        "`ringback` of a view has another value.",
    ),
    "pc_video_invalid": _named(
        "video", "takes true or false.", "The parameter `video` has another value."
    ),
    "pc_number_invalid": _named(
        "number",
        "takes the number of a conference of the extension.",
        "The extension has no conference of this number.",
    ),
    "pc_pin_invalid": _named(
        "pin", "takes the PIN of the conference.", "The PIN is missing or wrong."
    ),
    "pc_action_invalid": _value(
        "action takes the name of an action.",
        "[The action](guide/actions.md) is unknown, or the call does not allow it now.",
        "Send the name of an action. `reason` says why the call does not allow it.",
        missing="action is missing. It takes the name of an action.",
        refused="The call does not allow this action now.",
    ),
    "pc_view_invalid": _named(
        "phoneCallViewId",
        "takes the id of a view of the call.",
        "The call has no such view, or the action needs one.",
        missing="phoneCallViewId is missing. This action takes the id of a view of the call.",
    ),
    "pc_sendcallto_invalid": _named(
        "sendCallTo",
        "takes an extension, or for a transfer a public number.",
        "The number is missing, unknown, or none that this action takes.",
        missing="sendCallTo is missing. This action takes the number to call.",
        terminal="sendCallTo takes a phone terminal of the organization.",
        mailbox="sendCallTo takes a phone terminal with a mailbox.",
        characters="sendCallTo has a text that is no number.",
        extension="sendCallTo has an extension that does not exist.",
        callback="sendCallTo has an extension without a phone.",
        plan="sendCallTo has a number that no phone can have.",
        route="sendCallTo has a number to which no route leads.",
    ),
    "pc_parking_invalid": _named(
        "maxInParking",
        "takes 10 to 3600 whole seconds.",
        "`maxInParking` is no whole number, or out of range.",
    ),
    "pc_private_invalid": _named("private", "takes 0 or 1.", "`private` has another value."),
    "pc_format_invalid": _named("format", "takes wav or wav49.", "`format` has another value."),
    "pc_transfernumber_invalid": _value(
        "transferFromNumber and transferNumber take the numbers of two parties that talk.",
        "One of the numbers is no party of the call, or both are the same one. Or the request does "
        "not say which party leaves.",
        "Send the numbers as the views of the call show them, or `phoneCallViewId`.",
        missing="A transfer takes transferFromNumber, transferNumber or phoneCallViewId.",
    ),
    "fields_invalid": _named(
        "fields",
        "takes names of the answer's fields, separated by commas.",
        "`fields` has a name that the answer does not have.",
    ),
    "count_invalid": _named("count", "takes 1 to 5000.", "`count` is no number, or out of range."),
    "startindex_invalid": _named(
        "startIndex", "takes 0 to 5000.", "`startIndex` is no number, or out of range."
    ),
    "cursor_invalid": _value(
        "cursor takes what paging.next of the page before has.",
        "The cursor of a [list](guide/lists.md#pages) is none that Ringback made.",
        "Follow the URL in `paging.next` as it stands.",
    ),
    "filterby_invalid": _named(
        "filterBy", "takes the name of a field.", "The list has no filter by this field."
    ),
    "filterop_invalid": _named(
        "filterOp",
        "takes equals, contains, startsWith, present, greaterThan, lessThan or inArray.",
        "`filterOp` has another value, or one that does not go with the field.",
    ),
    "filtervalue_invalid": _named(
        "filterValue",
        "takes the value to compare filterBy with: a date if filterBy is a date, otherwise a text. "
        "inArray takes several values.",
        "The value is missing or has a wrong form, or there are more than 500.",
    ),
    "sortorder_invalid": _named(
        "sortOrder", "takes asc, desc, ascending or descending.", "`sortOrder` has another value."
    ),
    # The CDR service.
    "cdr_source_invalid": _named(
        "source", "takes an extension or a public phone number.", "`source` is no number."
    ),
    "cdr_destination_invalid": _named(
        "destination", "takes an extension or a public phone number.", "`destination` is no number."
    ),
    "cdr_start_date_invalid": _named("startDate", _DATE, "`startDate` is no date."),
    "cdr_end_date_invalid": _named("endDate", _DATE, "`endDate` is no date."),
    "cdr_save_start_date_invalid": _named("saveStartDate", _DATE, "`saveStartDate` is no date."),
    "cdr_save_end_date_invalid": _named("saveEndDate", _DATE, "`saveEndDate` is no date."),
    "cdr_invalid_date_parameters": _value(
        "A start date must not be later than its end date.",
        "`startDate` is later than `endDate`, or `saveStartDate` than `saveEndDate`.",
        "Exchange the dates.",
    ),
    "cdr_disposition_invalid": _named(
        "disposition", "takes 0 to 5.", "`disposition` has another value."
    ),
    "cdr_flow_invalid": _named("flow", "takes 2, 4 or 8.", "`flow` has another value."),
    **{
        f"cdr_invalid_filter_by_{name}": _named(
            "filterValue",
            f"takes a {kind} for the field {name}.",
            f"`filterValue` has another form, and `filterBy` is `{name}`.",
        )
        for name, kind in (
            ("source", "text"),
            ("destination", "text"),
            ("published", "date"),
            ("answered", "date"),
        )
    },
    # The PhoneCallEvents service. "pcet" is the spelling of its create page.
    "pcet_type_invalid": _named(
        "type",
        "takes 0 to 4: Dial-In, Dial-Out, Hangup, answer of an incoming call, answer of an "
        "outgoing call.",
        "`type` of a create is missing, or differs between path and body.",
    ),
    "pce_type_invalid": _named(
        "eventType",
        "takes 0 to 4, and an update cannot change it.",
        "The path has another type than the event.",
    ),
    "pce_id_invalid": _named(
        "eventId",
        "takes the id of an event of that extension and type, 1 to 255 letters and digits.",
        "The extension has no event of that type and id.",
    ),
    "pce_method_invalid": _named(
        "method", "takes 0 (GET) or 1 (POST).", "`method` has another value."
    ),
    "pce_url_invalid": _named(
        "url",
        "takes an http or https URL in RFC 3986 form, of at most 2048 characters, without a user "
        "or a fragment.",
        "The URL is missing, has another form, or leads to no public address.",
    ),
    "pce_status_invalid": _named(
        "status", "takes 0 (disabled) or 1 (enabled).", "`status` has another value."
    ),
    "pce_note_invalid": _named(
        "note", "takes at most 1024 characters.", "The note is longer, or no text."
    ),
    "pce_limit_exceeded": _value(
        "An extension has at most 100 events, and so has a user, an organization or an app.",
        "What the path names has 100 [call events](guide/call-events.md).",
        "Delete events that nobody needs.",
    ),
    # Caps.
    "quota_exceeded": Code(
        429,
        "A cap has no room for the request.",
        "[A cap](guide/caps.md) has no room; `cap`, `limit`, `used` and `freeAt` say more.",
        "Retry after the seconds of `Retry-After`, or raise the cap.",
        {"memory": "Redis is nearly full, and this organization's calls take most of it."},
    ),
    # The stream.
    "stream_limit_exceeded": Code(
        429,
        "Too many streams are open. Retry later.",
        "The [stream](guide/stream.md) serves no more clients.",
        "Close streams that nobody reads, and retry after the seconds of `Retry-After`.",
    ),
}
# Codes of the token endpoint (RFC 6749 section 5.2; slow_down: RFC 8628).
OAUTH_CODES = {
    "invalid_request": _value(
        "A parameter is missing or has a wrong form.",
        "`error_description` names the parameter.",
        "Send the parameters as a form, each once.",
    ),
    "invalid_client": Code(
        401,
        "The client id is unknown, or the secret is wrong.",
        "The client id or the secret is misspelt, or the secret was replaced.",
        "Compare both with the accounts.",
    ),
    "invalid_scope": _value(
        "scope takes scopes that the client has.",
        "The client asks for a scope that it does not have.",
        "Ask for fewer scopes, or add the scope to the app.",
    ),
    "invalid_grant": _value(
        "The refresh token is unknown, used or expired, or belongs to another client.",
        "A refresh token is valid once.",
        "Ask for a new token with `grant_type=client_credentials`.",
    ),
    "unauthorized_client": _value(
        "The app is disabled.",
        "An operator has [disabled](guide/accounts.md#suspend) the app.",
        "Ask the operator.",
    ),
    "unsupported_grant_type": _value(
        "grant_type takes client_credentials or refresh_token.",
        "`grant_type` has another value.",
        "Send `grant_type=client_credentials`.",
    ),
    "slow_down": Code(
        429,
        "There were too many wrong secrets. Retry in a minute.",
        "Wrong secrets came from this address, for this client. Or the app or the address has used "
        "up [its rate limit](guide/http.md#rate-limits).",
        "Wait for the seconds of `Retry-After`, and correct the secret.",
        {name: COMMON["rate_limit_exceeded"].sentence(name) for name in ("requests", "address")},
    ),
}
# The codes of errors that name none, by HTTP status.
_HTTP_CODES = {
    404: "request_not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    # These two come from the HTTP server itself.
    414: "request_too_large",
    431: "request_too_large",
    500: "internal_server_error",
    501: "request_not_implemented",
}


def api_error(
    code: str,
    reason: str | None = None,
    retry_after: int | None = None,
    *,
    cause: str = "",
    **details: Any,
) -> ApiError:
    """The error of a code, with its usual sentence or that of ``cause``. ``reason`` says more about
    this one request. Raises KeyError for an unknown code."""
    known = CODES[code]
    about = {"reason": reason} if reason is not None else {}
    return ApiError(known.status, code, known.sentence(cause), retry_after, **about, **details)


def http_error(status: int) -> ApiError:
    """The error of an HTTP status that names no code."""
    code = _HTTP_CODES.get(status, "request_invalid")
    return ApiError(status, code, CODES[code].message)
