"""The text of the stream for one client."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import orjson
from redis.exceptions import RedisError

from app.accounts.caller import SELF, Caller, Scope
from app.errors import ApiError, api_error
from app.store.calls import CallStore
from app.store.client import is_unavailable
from app.stream.feed import Feed, Subscriber
from app.stream.model import CallChange, CapAlert, Place, place_text

log = logging.getLogger(__name__)

# Seconds between heartbeats. Each heartbeat looks again what the request asks for.
_HEARTBEAT = 15.0
# Seconds between two checks that the token still counts, and of what the app may see.
_CHECK = 1.0
# Milliseconds after which a client that was cut off reconnects.
_RETRY = 2000
_RESET = "Some changes after that event are no longer kept. Read the calls again."


@dataclass(frozen=True)
class Topic:
    """A client's topic: the changes of a topic of the feed that the scope includes, and the end of
    the scope's own legs in calls of others."""

    name: str
    scope: Scope
    # Whether the client follows all calls, not those of one extension or one call.
    whole: bool = False

    def texts(self, changes: Iterable[CallChange], after: Place) -> bytes:
        """The events that come after a place."""
        return b"".join(self.text(change) for change in changes if change.place > after)

    def tells(self, alert: CapAlert) -> bool:
        """Whether the client is told of an alert."""
        return self.whole and self.scope.caller.hears_of(alert.holder)

    def text(self, change: CallChange) -> bytes:
        """The event for a change; empty if the scope is told nothing of it."""
        if self.scope.includes(change.call):
            return change.text
        legs = self.scope.left(change.call)
        return change.text_for_left(legs) if change.ends(legs) else b""


class CallStream:
    """The service that sends changes of the calls that a list shows."""

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self.feed = Feed(store)

    def topic(self, caller: Caller, user: str, extension: str | None, call_id: str | None) -> Topic:
        """The topic of one call, of an extension, or (both None) of all calls. Raises ApiError."""
        scope = caller.scope(user, extension or SELF)
        keys = self._store.keys
        if call_id is None:
            return Topic(scope.topic(keys), scope, whole=scope.extension is None)
        call = self._store.get(call_id)
        if call is None or not scope.shows(call):
            raise api_error(
                "pc_phonecall_invalid", cause="unknown", field="phoneCallId", value=call_id
            )
        return Topic(keys.call(call_id), scope)

    def send(
        self,
        subscriber: Subscriber,
        topic: Topic,
        again: Callable[[], Topic],
        caller: Callable[[], Caller],
        last: str | None,
    ) -> Iterator[bytes]:
        """The text of the stream, from after the event ``last`` or from now on.

        A client that has too many changes behind it gets a reset, and goes on from there.

        It ends when the client has to reconnect: its token is no longer valid (``again`` or
        ``caller`` raises ApiError), the client did not keep up, or the process stops.
        """
        try:
            yield from self._send(subscriber, topic, again, caller, last)
        except ApiError:
            # The client gets the error when it reconnects.
            return
        except RedisError as error:
            if not is_unavailable(error):
                raise
            log.error("Redis is unavailable: %s", error)

    def _send(
        self,
        subscriber: Subscriber,
        topic: Topic,
        again: Callable[[], Topic],
        caller: Callable[[], Caller],
        last: str | None,
    ) -> Iterator[bytes]:
        feed = self.feed
        yield f"retry: {_RETRY}\n".encode()
        if last is None:
            place = feed.place
            subscriber.open = True
            yield _id(place)
        else:
            place, known = feed.resume(last)
            yield _id(place) if known else _reset(place)
            # First the kept changes; then the few that came meanwhile. The newest of these may wait
            # in the subscriber's queue too.
            check = time.monotonic() + _CHECK

            def texts(changes: list[CallChange], after: Place) -> bytes:
                return topic.texts(changes, after)

            for opened in (False, True):
                subscriber.open = opened
                for reached, text, too_far in feed.since(place, topic.name, subscriber.app, texts):
                    yield text + _id(reached)
                    place = reached
                    if too_far:
                        place = feed.newest()
                        yield _reset(place)
                    if time.monotonic() >= check:
                        check = time.monotonic() + _CHECK
                        topic = _renewed(topic, partial(_seen_anew, topic, caller))
        due = time.monotonic() + _HEARTBEAT
        check = time.monotonic() + _CHECK
        while True:
            # Read this before the queue: if the queue is empty, all up to this place was sent.
            told = feed.place
            taken = subscriber.take(min(due, check) - time.monotonic())
            changes = [each for each in taken if isinstance(each, CallChange)]
            alerts = (each for each in taken if isinstance(each, CapAlert))
            if text := b"".join(each.text for each in alerts if topic.tells(each)):
                yield text
            if changes:
                if text := topic.texts(changes, place):
                    yield text
                place = max(place, changes[-1].place)
            elif subscriber.over and not taken:
                return
            if time.monotonic() >= check:
                check = time.monotonic() + _CHECK
                # Not whether a named call still shows: its last change may not have been sent yet.
                topic = _renewed(topic, partial(_seen_anew, topic, caller))
            if time.monotonic() < due:
                continue
            due = time.monotonic() + _HEARTBEAT
            topic = _renewed(topic, again)
            if topic.name != subscriber.topic:
                return
            if not changes:
                place = max(place, told)
            yield b":\n" + _id(place)


def _seen_anew(topic: Topic, caller: Callable[[], Caller]) -> Topic:
    """The topic with the rights that the app has now."""
    return replace(topic, scope=replace(topic.scope, caller=caller()))


def _renewed(topic: Topic, again: Callable[[], Topic]) -> Topic:
    try:
        return again()
    except RedisError as error:
        # While Redis is unavailable the feed sends no events.
        if not is_unavailable(error):
            raise
        return topic


def _id(place: Place) -> bytes:
    """A text that sets the client's last event id without an event."""
    return f"id: {place_text(place)}\n\n".encode()


def _reset(place: Place) -> bytes:
    data = orjson.dumps({"message": _RESET}).decode()
    return f"event: reset\nid: {place_text(place)}\ndata: {data}\n\n".encode()
