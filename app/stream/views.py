"""The HTTP routes of the stream of events."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

from flask import Blueprint, Flask, Response, current_app, request
from marshmallow import fields
from marshmallow.validate import Regexp

from app.accounts.caller import Caller
from app.accounts.scopes import AppScope
from app.errors import api_error
from app.stream import connections
from app.stream.feed import TooManySubscribers
from app.stream.services import CallStream, Topic
from app.web.answers import error_response
from app.web.auth import current_caller
from app.web.fields import Query, coded, extension_number, load
from app.web.needs import needs
from app.web.services import service

# Seconds after which a client retries.
_RETRY_AFTER = 5


_T = TypeVar("_T")


class StreamQuery(Query):
    extension = extension_number()
    phoneCallId = fields.String(
        validate=Regexp(r"\A[0-9A-Za-z]{1,64}\Z"), metadata=coded("pc_phonecall_invalid")
    )
    # For programs that cannot set the header Last-Event-ID. The header comes first. The stream
    # answers a text that is no event's id with the event reset.
    lastEventId = fields.String(metadata=coded("request_invalid"))


_query = StreamQuery()


def blueprint(name: str) -> Blueprint:
    """The routes of the service; each prefix needs its own blueprint."""
    blue = Blueprint(f"{name}_stream", __name__)
    # An extension is a number, so no other route has this path.
    blue.get("/phoneCalls/<user>/events")(needs(AppScope.EVENTS)(stream))
    return blue


def stream(user: str) -> Response:
    source, lenient = service(CallStream), current_caller().voipnow
    query = load(_query, request.args, lenient=lenient)

    def look() -> Topic:
        wanted = query.get("extension"), query.get("phoneCallId")
        return source.topic(current_caller(), user, *wanted)

    last = request.headers.get("Last-Event-ID") or query.get("lastEventId")
    return serve(source, look, current_caller, last)


def serve(
    source: CallStream, look: Callable[[], Topic], caller: Callable[[], Caller], last: str | None
) -> Response:
    """An answer with events, from after the event ``last`` or from now on. ``look`` returns the
    topic, at first and again from time to time, and ``caller`` the app each second: its token and
    its rights may have changed. Raises ApiError."""
    topic = look()
    environ = request.environ
    flask = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]

    def inside(do: Callable[[], _T]) -> Callable[[], _T]:
        def _do() -> _T:
            # The request is over for Flask by then.
            with flask.request_context(environ):
                return do()

        return _do

    # If a client reads nothing, sending to it blocks until its connection is shut down.
    connection = environ.get("gunicorn.socket")
    if (endless := getattr(connection, "endless", None)) is not None:
        # The limit for the sending of an answer is for each part of a stream.
        endless()
    app = topic.scope.caller.app.id
    try:
        if connection is None:
            subscriber = source.feed.subscribe(topic.name, app)
        else:
            connections.watch(connection)
            ways = partial(connections.cut, connection), partial(connections.is_gone, connection)
            subscriber = source.feed.subscribe(topic.name, app, *ways)
    except TooManySubscribers:
        return error_response(api_error("stream_limit_exceeded", retry_after=_RETRY_AFTER))
    text = source.send(subscriber, topic, inside(look), inside(caller), last)
    response = Response(text, mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(lambda: source.feed.leave(subscriber))
    return response
