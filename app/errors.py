"""The errors of the API: every code with its HTTP status and its usual sentence."""

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


# The codes that any request may get.
COMMON = {
    "user_invalid": (400, "userId takes @me, @viewer or @owner of a user's app, or an id."),
    "rights_insufficient": (403, "You may see this call, but not do this with it."),
    "app_disabled": (403, "The app is disabled."),
    "organization_suspended": (
        403,
        "The organization is suspended. It may read and hang up, and nothing else.",
    ),
    "scope_insufficient": (403, "The app or its token lacks the scope that this needs."),
    "access_denied": (401, "You are not authorized to use this request."),
    "internal_server_error": (500, "Ringback met an unexpected fault and logged it."),
    "request_not_implemented": (501, "This request is not implemented."),
    "request_invalid": (400, "The request's body takes a JSON object."),
    "request_not_found": (404, "There is nothing at this path."),
    "method_not_allowed": (405, "This path does not take this method."),
    "request_too_large": (413, "The request is too large."),
    "outcome_unknown": (
        503,
        "Ringback may have carried out the request or not. Retry it: with the same nonce a call "
        "is placed once.",
    ),
    "switch_unreachable": (503, "The call's switch is unreachable. Retry later."),
    "service_unavailable": (
        503,
        "Redis is unavailable, and Ringback accepted no call. Retry later.",
    ),
}
# The codes of the resources: a field, a parameter or a part of the path has a bad value.
CODES = COMMON | {
    "extension_invalid": (400, "extension takes the number of an extension owned by the user."),
    "pc_source_invalid": (
        400,
        "source takes a list of extended or short extension numbers or public phone numbers.",
    ),
    "pc_destination_invalid": (
        400,
        "destination takes a list of extended or short extension numbers or public phone numbers.",
    ),
    "pc_source_barred": (403, "The dial policy bars this source."),
    "pc_destination_barred": (403, "The dial policy bars this destination."),
    "pc_accept_invalid": (400, "accept takes an object with the name of a prompt, or false."),
    "pc_announce_invalid": (400, "announce takes an object with the name of a prompt, or false."),
    "pc_callerid_invalid": (400, "A caller id takes the form John Doe <+3334444>."),
    "pc_nonce_invalid": (400, "nonce takes 1 to 255 printable characters."),
    "pc_metadata_invalid": (
        400,
        "metadata takes an object of strings, at most 2048 bytes as JSON; in a list KEY:VALUE.",
    ),
    "pc_callback_invalid": (
        400,
        "statusCallback takes an object with url, events and method.",
    ),
    "pc_headers_invalid": (
        400,
        "headers takes an object with source and destination, each an object of SIP headers.",
    ),
    "pc_status_invalid": (400, "status takes live or all."),
    "pc_state_invalid": (
        400,
        "state takes some of queued, dialing, ringing, answered, bridged and ended, with commas "
        "between.",
    ),
    "pc_date_invalid": (
        400,
        "startDate and endDate take a date of the form 2015-01-23T04:56:22Z, and startDate none "
        "later than endDate.",
    ),
    "pc_phonecall_invalid": (400, "phoneCallId takes the id of a call."),
    "pc_timeout_invalid": (400, "waitForPickup takes 1 to 600 whole seconds."),
    "pc_duration_invalid": (
        400,
        "callDuration takes the whole length of the call, 1 to 86400 seconds.",
    ),
    "pc_transfer_invalid": (400, "allowPublicTransfer takes true or false."),
    "pc_ringback_invalid": (
        400,
        "ringback takes auto, network, music, none, a country whose tone is known or a prompt.",
    ),
    "pc_video_invalid": (400, "video takes true or false."),
    "pc_number_invalid": (400, "number takes the number of a conference of the extension."),
    "pc_pin_invalid": (400, "pin takes the PIN of the conference."),
    "pc_action_invalid": (400, "action takes the name of an action."),
    "pc_view_invalid": (400, "phoneCallViewId takes the id of a view of the call."),
    "pc_sendcallto_invalid": (
        400,
        "sendCallTo takes an extension, or for a transfer a public number.",
    ),
    "pc_parking_invalid": (400, "maxInParking takes 10 to 3600 whole seconds."),
    "pc_private_invalid": (400, "private takes 0 or 1."),
    "pc_format_invalid": (400, "format takes wav or wav49."),
    "pc_transfernumber_invalid": (
        400,
        "transferFromNumber and transferNumber take the numbers of two parties that talk.",
    ),
    "fields_invalid": (400, "fields takes names of a PhoneCall's fields, separated by commas."),
    "count_invalid": (400, "count takes 1 to 5000."),
    "startindex_invalid": (400, "startIndex takes 0 to 5000."),
    "cursor_invalid": (400, "cursor takes what paging.next of the page before has."),
    "filterby_invalid": (400, "filterBy takes the name of a field."),
    "filterop_invalid": (
        400,
        "filterOp takes equals, contains, startsWith, present, greaterThan, lessThan or inArray.",
    ),
    "filtervalue_invalid": (
        400,
        "filterValue takes the value to compare filterBy with: a date if filterBy is a date, "
        "otherwise a text. inArray takes several values.",
    ),
    "sortorder_invalid": (400, "sortOrder takes asc, desc, ascending or descending."),
    # The CDR service.
    "cdr_source_invalid": (400, "source takes an extension or a public phone number."),
    "cdr_destination_invalid": (400, "destination takes an extension or a public phone number."),
    "cdr_start_date_invalid": (400, "startDate takes a date of the form 2015-01-23T04:56:22Z."),
    "cdr_end_date_invalid": (400, "endDate takes a date of the form 2015-01-23T04:56:22Z."),
    "cdr_save_start_date_invalid": (
        400,
        "saveStartDate takes a date of the form 2015-01-23T04:56:22Z.",
    ),
    "cdr_save_end_date_invalid": (
        400,
        "saveEndDate takes a date of the form 2015-01-23T04:56:22Z.",
    ),
    "cdr_invalid_date_parameters": (400, "A start date must not be later than its end date."),
    "cdr_disposition_invalid": (400, "disposition takes 0 to 5."),
    "cdr_flow_invalid": (400, "flow takes 2, 4 or 8."),
    "cdr_invalid_filter_by_source": (400, "filterValue takes a text for the field source."),
    "cdr_invalid_filter_by_destination": (
        400,
        "filterValue takes a text for the field destination.",
    ),
    "cdr_invalid_filter_by_published": (400, "filterValue takes a date for the field published."),
    "cdr_invalid_filter_by_answered": (400, "filterValue takes a date for the field answered."),
    # The PhoneCallEvents service. "pcet" is the spelling of its create page.
    "pcet_type_invalid": (
        400,
        "type takes 0 to 4: Dial-In, Dial-Out, Hangup, answer of an incoming call, answer of "
        "an outgoing call.",
    ),
    "pce_type_invalid": (400, "eventType takes 0 to 4, and an update cannot change it."),
    "pce_id_invalid": (
        400,
        "eventId takes the id of an event of that extension and type, 1 to 255 letters and digits.",
    ),
    "pce_method_invalid": (400, "method takes 0 (GET) or 1 (POST)."),
    "pce_url_invalid": (
        400,
        "url takes an http or https URL in RFC 3986 form, of at most 2048 characters, without "
        "a user or a fragment.",
    ),
    "pce_status_invalid": (400, "status takes 0 (disabled) or 1 (enabled)."),
    "pce_note_invalid": (400, "note takes at most 1024 characters."),
    "pce_limit_exceeded": (400, "An extension has at most 100 events."),
    # Caps.
    "quota_exceeded": (429, "A cap has no room for the request."),
    # The stream.
    "stream_limit_exceeded": (429, "Too many streams are open. Retry later."),
}
# Codes of the token endpoint (RFC 6749 section 5.2; slow_down: RFC 8628).
OAUTH_CODES = {
    "invalid_request": (400, "A parameter is missing or has a wrong form."),
    "invalid_client": (401, "The client id is unknown, or the secret is wrong."),
    "invalid_scope": (400, "scope takes scopes that the client has."),
    "invalid_grant": (
        400,
        "The refresh token is unknown, used or expired, or belongs to another client.",
    ),
    "unauthorized_client": (400, "The app is disabled."),
    "unsupported_grant_type": (400, "grant_type takes client_credentials or refresh_token."),
    "slow_down": (429, "There were too many wrong secrets. Retry in a minute."),
}
# The codes of errors that name none, by HTTP status.
_HTTP_CODES = {
    404: "request_not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    # These two come from the HTTP server itself.
    414: "request_too_large",
    431: "request_too_large",
    500: "internal_server_error",
    501: "request_not_implemented",
}


def api_error(
    code: str, message: str | None = None, retry_after: int | None = None, **details: Any
) -> ApiError:
    """The error of a code, with its usual sentence unless another is given. Raises KeyError for
    an unknown code."""
    status, usual = CODES[code]
    return ApiError(status, code, message or usual, retry_after, **details)


def http_code(status: int) -> str:
    """The code of an error that names none."""
    return _HTTP_CODES.get(status, "request_invalid")
