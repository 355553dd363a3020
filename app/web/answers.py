"""Answers in JSON; every error gets the documented form, whatever code raises it."""

import logging
from typing import Any

import orjson
from flask import Flask, Response, g, jsonify
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from app.errors import ApiError, api_error, http_error
from app.records.errors import RecordsRefused, RecordsUnavailable
from app.store.client import is_unavailable
from app.store.errors import InMaintenance, OutcomeUnknown
from app.store.maintenance import RETRY_AFTER
from app.web.body import is_broken
from app.web.shown import address, members

log = logging.getLogger(__name__)


class Json(DefaultJSONProvider):
    """A JSON provider that writes answers with orjson."""

    def response(self, *args: Any, **kwargs: Any) -> Response:
        value = self._prepare_response_obj(args, kwargs)
        text = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
        return Response(text, mimetype=self.mimetype)


def error_response(error: ApiError) -> Response:
    """The answer for an error, with all of its members."""
    # For the audit.
    g.refusal = error.code
    details = members(error.details, g.get("body", {}))
    about = {"code": error.code, "message": error.message, **details}
    about |= {"doc": address(error.code), "request_id": g.request_id}
    response = jsonify({"error": about})
    response.status_code = error.status
    response.headers.update(error.headers)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def register_errors(app: Flask) -> None:
    """Have the app answer every error in the documented form."""

    @app.errorhandler(ApiError)
    def _api_error(error: ApiError) -> Response:
        return error_response(error)

    @app.errorhandler(HTTPException)
    def _http_error(error: HTTPException) -> Response:
        response = error_response(http_error(error.code or 500))
        # A 405 brings the header Allow, for example.
        for name, value in error.get_headers():
            if name.lower() not in ("content-type", "content-length"):
                response.headers[name] = value
        return response

    @app.errorhandler(InMaintenance)
    def _maintenance(_: InMaintenance) -> Response:
        return error_response(
            api_error("service_unavailable", retry_after=RETRY_AFTER, cause="maintenance")
        )

    @app.errorhandler(OutcomeUnknown)
    def _unknown(error: OutcomeUnknown) -> Response:
        log.error("lost the answer of Redis, which may have the change or not: %s", error)
        return _retry_later("outcome_unknown")

    @app.errorhandler(RecordsUnavailable)
    @app.errorhandler(RecordsRefused)
    def _no_records(error: Exception) -> Response:
        log.error("the database of records is unavailable: %s", error)
        return error_response(api_error("service_unavailable", cause="records", retry_after=5))

    @app.errorhandler(Exception)
    def _fault(error: Exception) -> Response:
        if is_broken(error):
            return error_response(api_error("request_invalid", cause="encoding"))
        if not is_unavailable(error):
            log.exception("unexpected fault", exc_info=error)
            return error_response(api_error("internal_server_error"))
        log.error("Redis is unavailable: %s", error)
        return _retry_later("service_unavailable")


def _retry_later(code: str) -> Response:
    return error_response(api_error(code, retry_after=1))
