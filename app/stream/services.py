"""What is sent to one who listens."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import orjson
from redis.exceptions import RedisError

from app.calls.store import CallStore
from app.errors import ApiError
from app.phone_calls.schemas import invalid
from app.phone_calls.services import SELF, Caller, PhoneCalls, is_in
from app.phone_calls.services import Scope as CallScope
from app.redis_client import is_unavailable
from app.stream.feed import Feed, Listener
from app.stream.model import Change, Place, place_text

log = logging.getLogger(__name__)

# Seconds between signs of life. With each is looked whether the token still counts.
_HEARTBEAT = 15.0
# Milliseconds after which a client that was cut off comes back.
_RETRY = 2000
_RESET = (
    "What came after that event is not kept any more, or never was; the calls tell how they are."
)


@dataclass(frozen=True)
class Scope:
    """Whose changes are sent: those of a topic that the app may see."""

    topic: str
    of: CallScope

    def texts(self, changes: Iterable[Change], after: Place) -> bytes:
        """The events that come after a place."""
        of = self.of
        return b"".join(
            change.text
            for change in changes
            if change.place > after and is_in(of.caller, of.user, of.extension, change.call)
        )


class CallStream:
    """Tells of changes what their calls' lists show."""

    def __init__(self, calls: PhoneCalls, store: CallStore) -> None:
        self._calls = calls
        self._keys = store.keys
        self.feed = Feed(store)

    def scope(self, caller: Caller, user: str, extension: str | None, call_id: str | None) -> Scope:
        """Of an extension, one call or (None) all of them. Raises ApiError."""
        extension = extension or SELF
        of = self._calls.scope(caller, user, extension)
        if call_id is None:
            return Scope(self._calls.index_of(of), of)
        if not self._calls.find(caller, user, extension, call_id):
            raise invalid("pc_phonecall_invalid")
        return Scope(self._keys.call(call_id), of)

    def send(
        self, listener: Listener, scope: Scope, again: Callable[[], Scope], last: str | None
    ) -> Iterator[bytes]:
        """The text of the stream, from after the event ``last`` or from now on.

        Ends where the client has to come back: where its token counts no more, which ``again``
        tells by an ApiError, where it did not keep up, and where the process ends.
        """
        try:
            yield from self._send(listener, scope, again, last)
        except ApiError:
            # It is told so when it comes back.
            return
        except RedisError as error:
            if not is_unavailable(error):
                raise
            log.error("Redis is away: %s", error)

    def _send(
        self, listener: Listener, scope: Scope, again: Callable[[], Scope], last: str | None
    ) -> Iterator[bytes]:
        feed = self.feed
        yield f"retry: {_RETRY}\n".encode()
        if last is None:
            place = feed.place
            listener.open = True
            yield _id(place)
        else:
            place, known = feed.resume(last)
            yield _id(place) if known else _reset(place)
            # First what is kept; then the little that came meanwhile, of which the newest may
            # wait in the listener's queue too.
            for opened in (False, True):
                listener.open = opened
                for reached, changes in feed.since(place, scope.topic):
                    yield scope.texts(changes, place) + _id(reached)
                    place = reached
        due = time.monotonic() + _HEARTBEAT
        while True:
            # Before the queue is looked into: where that is empty all up to there was sent.
            told = feed.place
            changes = listener.take(due - time.monotonic())
            if changes:
                if text := scope.texts(changes, place):
                    yield text
                place = max(place, changes[-1].place)
            elif listener.over:
                return
            if time.monotonic() < due:
                continue
            due = time.monotonic() + _HEARTBEAT
            scope = _renewed(scope, again)
            if scope.topic != listener.topic:
                return
            if not changes:
                place = max(place, told)
            yield b":\n" + _id(place)


def _renewed(scope: Scope, again: Callable[[], Scope]) -> Scope:
    try:
        return again()
    except RedisError as error:
        # While Redis is away nothing is sent anyway.
        if not is_unavailable(error):
            raise
        return scope


def _id(place: Place) -> bytes:
    """Sets what the client comes back with, and is no event to it."""
    return f"id: {place_text(place)}\n\n".encode()


def _reset(place: Place) -> bytes:
    data = orjson.dumps({"message": _RESET}).decode()
    return f"event: reset\nid: {place_text(place)}\ndata: {data}\n\n".encode()
