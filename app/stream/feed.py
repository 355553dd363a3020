"""The stream of all calls' changes. Each process reads it from Redis once for all its clients.

Threads and locks are gevent's if the server has patched them.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any

import orjson
from redis.exceptions import ResponseError

from app.calls.model import Call
from app.calls.sight import organization_of
from app.store.calls import CallStore
from app.store.client import BLOCK_LIMIT, is_unavailable
from app.stream.model import START, CallChange, CapAlert, Place, ReadCall, parse_place, place_text
from app.web.quota import shown
from app.web.turns import STREAMS, piece

log = logging.getLogger(__name__)

# The most subscribers in one process, and of one app.
MOST = 250
MOST_OF_APP = 50
# The most changes that wait for one subscriber. A subscriber with more is cut off, and its client
# reconnects for the rest.
_QUEUE = 1000
# Entries per read, and seconds between reads: many entries cost little more than one.
_BATCH = 200
_GATHER = 0.02
# Changes handed over at once.
_AT_ONCE = 100
# Seconds between checks that the stream is still the same, and before a retry of Redis.
_LOOK = 15.0
_RETRY = 1.0
# Entries of which the calls are read and told at once: some milliseconds.
_PART = 20
# Seconds for which a call that was read stands for itself, and the most calls that are kept so.
_CALL_AGE = 1.0
_CALLS_KNOWN = 1_000
# The most changes of its topic that a stream is told of the past, and the most changes of all
# topics that are looked through for them.
MOST_BACK = 20_000
MOST_READ = 100_000

_Entry = tuple[bytes, dict[bytes, bytes]]


class TooManySubscribers(Exception):
    """The process has MOST subscribers, or the app has MOST_OF_APP of them."""


class Subscriber:
    """A subscriber gets the changes of a topic: the key of a call or of an index of calls."""

    def __init__(
        self, topic: str, app: str, cut: Callable[[], None], is_gone: Callable[[], bool]
    ) -> None:
        """``cut`` is called if the subscriber does not keep up: its sending may be blocked.
        ``is_gone`` says whether its client has left."""
        self.topic = topic
        self.app = app
        self.over = False
        # A subscriber that is not open yet gets no changes.
        self.open = False
        self.is_gone = is_gone
        self._cut = cut
        self._queue: Queue[CallChange | CapAlert | None] = Queue(_QUEUE)

    def put(self, change: CallChange | CapAlert) -> None:
        if self.over or not self.open:
            return
        try:
            self._queue.put_nowait(change)
        except Full:
            self.cut_off()

    def cut_off(self) -> None:
        """End, though sending may be blocked."""
        self.end()
        self._cut()

    def end(self) -> None:
        """Add no more changes; the subscriber still gets those that wait."""
        self.over = True
        with suppress(Full):
            self._queue.put_nowait(None)

    def take(self, timeout: float) -> list[CallChange | CapAlert]:
        """The waiting changes and alerts, in order; empty after ``timeout`` seconds or at the
        end."""
        found: list[CallChange | CapAlert | None] = []
        with suppress(Empty):
            if self.over or timeout <= 0:
                found.append(self._queue.get_nowait())
            else:
                found.append(self._queue.get(timeout=timeout))
            while len(found) < _AT_ONCE:
                found.append(self._queue.get_nowait())
        return [change for change in found if change is not None]


class Feed:
    """The feed reads the stream while it has subscribers."""

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._redis = store.redis
        self._key = store.keys.events
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._subscribers: dict[str, set[Subscriber]] = {}
        # The newest alert that all subscribers have.
        self._alerted = b"0-0"
        # The place up to which all subscribers have the changes.
        self.place = START
        # The calls that were read last.
        self._known: dict[str, ReadCall] = {}
        self._over: Callable[[], bool] = lambda: False

    def ends_when(self, over: Callable[[], bool]) -> None:
        """End all subscribers soon after ``over()`` is true: a server that stops waits for them."""
        self._over = over

    def subscribe(
        self,
        topic: str,
        app: str,
        cut: Callable[[], None] = lambda: None,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Subscriber:
        """A new subscriber; it gets changes once it is open. It takes the place of one whose client
        is gone. Raises TooManySubscribers or a RedisError."""
        _, last = self._kept()
        with self._lock:
            if self._is_full(app):
                self._drop_gone()
            if self._is_full(app):
                raise TooManySubscribers
            if self._reader is None:
                self.place = last
                newest: Any = self._redis.xrevrange(self._store.keys.alerts, count=1)
                self._alerted = newest[0][0] if newest else b"0-0"
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()
            subscriber = Subscriber(topic, app, cut, is_gone)
            self._subscribers.setdefault(topic, set()).add(subscriber)
            return subscriber

    def _is_full(self, app: str) -> bool:
        known = [each.app for some in self._subscribers.values() for each in some]
        return len(known) >= MOST or known.count(app) >= MOST_OF_APP

    def _drop_gone(self) -> None:
        """Drop the subscribers whose clients are gone: the next sign of life would find them."""
        known = [each for some in self._subscribers.values() for each in some]
        for subscriber in [each for each in known if each.is_gone()]:
            self._forget(subscriber)
            subscriber.cut_off()

    def leave(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._forget(subscriber)

    def _forget(self, subscriber: Subscriber) -> None:
        some = self._subscribers.get(subscriber.topic, set())
        some.discard(subscriber)
        if not some:
            self._subscribers.pop(subscriber.topic, None)

    def resume(self, text: str) -> tuple[Place, bool]:
        """The place from which a client continues after the event ``text``, and whether the stream
        still has all changes since then. Raises a RedisError."""
        place = parse_place(text)
        first, last = self._kept()
        if place is None or place > last:
            # Redis has no such event, for example after a fail-over: continue from now.
            return last, False
        return (place, True) if place >= first else (START, False)

    def newest(self) -> Place:
        """The newest place of the stream. Raises a RedisError."""
        return self._kept()[1]

    def since(
        self, place: Place, topic: str, app: str, text: Callable[[list[CallChange], Place], bytes]
    ) -> Iterator[tuple[Place, bytes, bool]]:
        """The kept changes of a topic after a place, in parts: the place that a part reaches, what
        ``text`` makes of its changes, and whether it is the last one though more changes are kept,
        because the topic had MOST_BACK of them or all topics MOST_READ. Streams of the app that
        catch up take turns. Raises a RedisError, and ApiError if the app's turn does not come."""
        told = seen = 0
        while True:
            with STREAMS.of(app), piece():
                entries: Any = self._redis.xrange(self._key, f"({place_text(place)}", count=_BATCH)
                wanted = [entry for entry in entries if self._may_concern(entry, topic)]
            if not entries:
                return
            for first in range(0, len(wanted), _PART):
                some = wanted[first : first + _PART]
                with STREAMS.of(app), piece():
                    changes = [change for _, change in self._changes(some, (topic,))]
                    made = text(changes, place)
                place = _place(some[-1][0])
                told += len(changes)
                yield place, made, told >= MOST_BACK
                if told >= MOST_BACK:
                    return
            seen += len(entries)
            too_far = seen >= MOST_READ and len(entries) == _BATCH
            if place != (last := _place(entries[-1][0])) or too_far:
                place = last
                yield place, b"", too_far
            if len(entries) < _BATCH or too_far:
                return

    def _kept(self) -> tuple[Place, Place]:
        """The place after which no change is missing, and the newest place."""
        try:
            info: Any = self._redis.xinfo_stream(self._key)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return START, START
        last = _place(info["last-generated-id"])
        if info["length"] == info.get("entries-added"):
            return START, last
        return (_place(info["first-entry"][0]) if info["first-entry"] else last), last

    def _read(self) -> None:
        looked = time.monotonic()
        lost = False
        while True:
            with self._lock:
                if self._over():
                    self._end_all()
                if not self._subscribers:
                    self._reader = None
                    return
            try:
                if lost:
                    # A trim may have removed entries in the meantime.
                    self._look()
                    lost = False
                if not self._read_some() and time.monotonic() - looked > _LOOK:
                    looked = time.monotonic()
                    self._look()
            except Exception as error:
                lost = True
                if not is_unavailable(error):
                    # The clients reconnect, each at its place.
                    log.exception("the stream of events cannot be read")
                    self._end_all()
                else:
                    log.error("Redis is unavailable: %s", error)
                time.sleep(_RETRY)

    def _read_some(self) -> bool:
        alerts = self._store.keys.alerts
        after: Any = {self._key: place_text(self.place), alerts: self._alerted}
        reply: Any = self._redis.xread(after, count=_BATCH, block=int(BLOCK_LIMIT * 1000))
        if not reply:
            return False
        found = {name.decode(): entries for name, entries in reply}
        for entry, fields in found.get(alerts, ()):
            self._alert(_alert_of(fields))
            self._alerted = entry
        entries = found.get(self._key)
        if not entries:
            return True
        for first in range(0, len(entries), _PART):
            for topics, change in self._changes(entries[first : first + _PART], self._subscribers):
                for topic in topics:
                    for subscriber in tuple(self._subscribers.get(topic, ())):
                        subscriber.put(change)
            # Let the process answer other requests in between.
            time.sleep(0)
        # Set this last: a subscriber with an empty queue has all changes up to this place.
        self.place = _place(entries[-1][0])
        if len(entries) < _BATCH:
            time.sleep(_GATHER)
        return True

    def _alert(self, alert: CapAlert) -> None:
        """Give an alert to all subscribers; each is told those that concern it."""
        for some in tuple(self._subscribers.values()):
            for subscriber in tuple(some):
                subscriber.put(alert)

    def _look(self) -> None:
        """Check the stream. A fail-over of Redis may lose entries and number new ones again. A
        trim may remove the next entries while Redis is unavailable."""
        first, last = self._kept()
        if not first <= self.place <= last:
            self._end_all()
            self.place = last

    def _end_all(self) -> None:
        for some in tuple(self._subscribers.values()):
            for subscriber in tuple(some):
                subscriber.end()

    def _may_concern(self, entry: _Entry, topic: str) -> bool:
        topics = self._topics(entry[1])
        return topics is None or topic in topics

    def _changes(
        self, entries: Sequence[_Entry], wanted: Container[str]
    ) -> Iterable[tuple[tuple[str, ...], CallChange]]:
        """The changes of calls with a wanted topic; no other call is read. A call that Redis no
        longer keeps has none, because no client may read it."""
        rows = [(entry, fields, self._topics(fields)) for entry, fields in entries]
        versions = {
            # The last entry of a call has its newest version.
            fields[b"call"].decode(): int(fields.get(b"version", 0))
            for _, fields, topics in rows
            if topics is None or any(topic in wanted for topic in topics)
        }
        calls = self._read_calls(versions)
        for entry, fields, topics in rows:
            if (read := calls.get(fields[b"call"].decode())) is None:
                continue
            call = read.call
            topics = topics or self._topics_of(call)
            if any(topic in wanted for topic in topics):
                state, version = fields[b"state"].decode(), int(fields[b"version"])
                at, changed = float(fields[b"at"]), fields[b"changed"]
                yield topics, CallChange(_place(entry), state, version, at, call, changed, read)

    def _read_calls(self, versions: dict[str, int]) -> dict[str, ReadCall]:
        """The calls, each of this version or a newer one. Streams that catch up together read the
        same calls: what was read within the last second is not read again."""
        now = time.monotonic()
        if len(self._known) > _CALLS_KNOWN:
            self._known.clear()
        found = {
            call_id: read
            for call_id, version in versions.items()
            if (read := self._known.get(call_id)) is not None
            and now - read.at < _CALL_AGE
            and read.call.version >= version
        }
        if ids := [call_id for call_id in versions if call_id not in found]:
            for call_id, call in zip(ids, self._store.get_many(ids), strict=True):
                if call is not None:
                    found[call_id] = self._known[call_id] = ReadCall(call, now)
        return found

    def _topics(self, fields: dict[bytes, bytes]) -> tuple[str, ...] | None:
        """The topics of an entry, by its own fields; None for an entry of an older version, which
        does not name all to whom the call may show."""
        if (others := fields.get(b"others")) is None:
            return None
        keys, extension = self._store.keys, fields[b"extension"].decode()
        return (
            keys.calls,
            keys.call(fields[b"call"].decode()),
            keys.organization_calls(organization_of(extension)),
            keys.user_calls(fields[b"user"].decode()),
            keys.extension_calls(extension),
            *(self._of_word(word) for word in (orjson.loads(others) if others else ())),
        )

    def _of_word(self, word: str) -> str:
        """The topic for a word of app.calls.sight.others."""
        kind, _, name = word.partition(":")
        keys = self._store.keys
        of = {"user": keys.user_calls, "extension": keys.extension_calls}
        return of.get(kind, keys.organization_calls)(name)

    def _topics_of(self, call: Call) -> tuple[str, ...]:
        """The topics of all that the call may ever show to. A subscriber's scope decides what it
        shows now."""
        keys = self._store.keys
        return (
            keys.calls,
            keys.call(call.id),
            *map(keys.organization_calls, call.organizations),
            *map(keys.user_calls, call.users),
            *map(keys.extension_calls, call.extensions),
        )


def _alert_of(fields: dict[bytes, bytes]) -> CapAlert:
    words = {name.decode(): text.decode() for name, text in fields.items()}
    used, limit = (shown(words["cap"], int(words[name])) for name in ("used", "limit"))
    percent, at = int(words["percent"]), float(words["at"])
    return CapAlert(words["holder"], words["cap"], words["of"], percent, used, limit, at)


def _place(entry: bytes) -> Place:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)
