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


# Codes of ours, for what the UAPI's own tables leave out.
_HTTP_CODES = {
    400: "request_invalid",
    404: "request_not_found",
    405: "method_not_allowed",
    413: "request_too_large",
}


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
        code = _HTTP_CODES.get(status, "request_invalid")
        response = error_response(status, code, error.description or error.name)
        # Allow of a 405, and the like.
        for name, value in error.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response

    @app.errorhandler(OutcomeUnknown)
    def _unknown(error: OutcomeUnknown) -> Response:
        log.error("Redis may have it or not: %s", error)
        return _ask_again(
            "outcome_unknown",
            "It may have been done or not. Ask again; with the same nonce a call is placed once.",
        )

    @app.errorhandler(Exception)
    def _fault(error: Exception) -> Response:
        if not is_unavailable(error):
            log.exception("unexpected fault", exc_info=error)
            return error_response(
                500, "internal_server_error", "An unexpected fault; it was logged."
            )
        log.error("Redis is away: %s", error)
        return _ask_again(
            "service_unavailable",
            "The state of calls is out of reach, and no call was accepted. Ask again.",
        )


def _ask_again(code: str, message: str) -> Response:
    response = error_response(503, code, message)
    response.headers["Retry-After"] = "1"
    return response
