"""HTTP of the stream of events."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from flask import Blueprint, Flask, Response, current_app, request
from marshmallow import fields
from marshmallow.validate import Regexp

from app.auth import current_caller, current_services
from app.errors import ApiError, error_response
from app.phone_calls.schemas import BaseRequest, Number, coded, load
from app.phone_calls.schemas import invalid as usual
from app.stream.feed import TooManyListeners
from app.stream.services import CallStream, Scope

_LIMIT = ("stream_limit_exceeded", "Too many streams are open; ask again later.")
# Seconds after which to ask again.
_RETRY_AFTER = "5"


class StreamQuery(BaseRequest):
    extension = Number(validate=Regexp(r"\A[0-9*]{1,32}\Z"), metadata=coded("extension_invalid"))
    phoneCallId = fields.String(
        validate=Regexp(r"\A[0-9A-Za-z]{1,64}\Z"), metadata=coded("pc_phonecall_invalid")
    )
    # For programs that cannot set the header Last-Event-ID, which comes first. What is no id of
    # an event is told so in the stream.
    lastEventId = fields.String(metadata=coded("request_invalid"))


_query = StreamQuery()


def invalid(code: str) -> ApiError:
    """The error of a code with its usual sentence. Raises KeyError for one that there is not."""
    return ApiError(429, *_LIMIT) if code == _LIMIT[0] else usual(code)


def blueprint(name: str) -> Blueprint:
    """The routes; made once for each prefix they are served under."""
    blue = Blueprint(f"{name}_stream", __name__)
    # An extension is a number, so that this is no other's path.
    blue.get("/phoneCalls/<user>/events")(stream)
    return blue


def stream(user: str) -> Response:
    source = current_services().stream
    query = load(_query, request.args)

    def look() -> Scope:
        wanted = query.get("extension"), query.get("phoneCallId")
        return source.scope(current_caller(), user, *wanted)

    last = request.headers.get("Last-Event-ID") or query.get("lastEventId")
    return serve(source, look, last)


def serve(source: CallStream, look: Callable[[], Scope], last: str | None) -> Response:
    """Answer with events, from after the one with the id ``last`` or from now on. ``look`` says
    whose: at first, and from time to time whether they still may be told. Raises ApiError."""
    scope = look()
    environ = request.environ
    flask = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]

    def again() -> Scope:
        # The request is over for Flask by then.
        with flask.request_context(environ):
            return look()

    # Where a client takes nothing, sending to it waits until its connection is shut.
    connection = environ.get("gunicorn.socket")

    def cut() -> None:
        if connection is not None:
            # By another handle: gevent would raise in who sends an error that gunicorn logs.
            with suppress(OSError), connection.dup() as other:
                other.shutdown(socket.SHUT_RDWR)

    try:
        listener = source.feed.listen(scope.topic, scope.of.caller.app.id, cut)
    except TooManyListeners:
        response = error_response(429, *_LIMIT)
        response.headers["Retry-After"] = _RETRY_AFTER
        return response
    response = Response(source.send(listener, scope, again, last), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(lambda: source.feed.leave(listener))
    return response
