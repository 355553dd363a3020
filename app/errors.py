"""Errors as the API answers them: ``{"error": {"code": …, "message": …}}``."""

import logging

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from app.calls.store import OutcomeUnknown
from app.redis_client import is_unavailable

log = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer other than success: an HTTP status, a stable code, a sentence for a developer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


# The codes that any request may be answered with: HTTP status and usual sentence. The others stand
# with the resources they belong to.
CODES = {
    "user_invalid": (400, "userId takes @me, @viewer or @owner of a user's app, or an id."),
    "access_denied": (401, "You are not authorized to use this request."),
    "internal_server_error": (500, "An unexpected fault; it was logged."),
    "request_not_implemented": (501, "This request is not implemented."),
    # These are ours, for what the UAPI's own tables leave out.
    "request_invalid": (400, "The request's body takes a JSON object."),
    "request_not_found": (404, "There is nothing at this path."),
    "method_not_allowed": (405, "This path does not take this method."),
    "request_too_large": (413, "The request is too large."),
    "outcome_unknown": (
        503,
        "It may have been done or not. Ask again; with the same nonce a call is placed once.",
    ),
    "switch_unreachable": (503, "The call's switch is out of reach. Ask again."),
    "service_unavailable": (
        503,
        "The state of calls is out of reach, and no call was accepted. Ask again.",
    ),
}
_HTTP_CODES = {
    404: "request_not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    # From the HTTP server itself.
    414: "request_too_large",
    431: "request_too_large",
    500: "internal_server_error",
    501: "request_not_implemented",
}


def api_error(code: str) -> ApiError:
    """The answer of one of CODES with its usual sentence."""
    status, message = CODES[code]
    return ApiError(status, code, message)


def http_code(status: int) -> str:
    """The code of an error that names none."""
    return _HTTP_CODES.get(status, "request_invalid")


def error_response(status: int, code: str, message: str) -> Response:
    response = jsonify({"error": {"code": code, "message": message}})
    response.status_code = status
    return response


def register_errors(app: Flask) -> None:
    """Answer every error in the documented form, whoever raises it."""

    @app.errorhandler(ApiError)
    def _api_error(error: ApiError) -> Response:
        return error_response(error.status, error.code, error.message)

    @app.errorhandler(HTTPException)
    def _http_error(error: HTTPException) -> Response:
        status = error.code or 500
        response = error_response(status, http_code(status), error.description or error.name)
        # Allow of a 405, and the like.
        for name, value in error.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response

    @app.errorhandler(OutcomeUnknown)
    def _unknown(error: OutcomeUnknown) -> Response:
        log.error("Redis may have it or not: %s", error)
        return _ask_again("outcome_unknown")

    @app.errorhandler(Exception)
    def _fault(error: Exception) -> Response:
        if not is_unavailable(error):
            log.exception("unexpected fault", exc_info=error)
            return _usual("internal_server_error")
        log.error("the state of calls is out of reach: %s", error)
        return _ask_again("service_unavailable")


def _usual(code: str) -> Response:
    status, message = CODES[code]
    return error_response(status, code, message)


def _ask_again(code: str) -> Response:
    response = _usual(code)
    response.headers["Retry-After"] = "1"
    return response
