"""The stream of every call's changes, read from Redis once for all who listen in this process.

Threads and locks are those of gevent where a server has patched them.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any

from redis.exceptions import ResponseError

from app.calls.model import Call
from app.store.calls import CallStore
from app.store.client import BLOCK_LIMIT, is_unavailable
from app.stream.model import START, CallChange, Place, parse_place, place_text

log = logging.getLogger(__name__)

# Listeners in one process, and of one app.
MOST = 250
MOST_OF_APP = 50
# Changes that wait for one listener. Who has more is cut off, and comes back for the rest.
_QUEUE = 1000
# Entries read at once, and seconds before the next are: reading many costs little more than one.
_BATCH = 200
_GATHER = 0.02
# Changes handed over at once.
_AT_ONCE = 100
# Seconds between looks whether the stream is still the same, and before Redis is tried again.
_LOOK = 15.0
_AWAY = 1.0
# Calls whose topics are kept in memory.
_CALLS_KNOWN = 20_000

_Entries = Sequence[tuple[bytes, dict[bytes, bytes]]]


class TooManyListeners(Exception):
    """There are MOST of them, or MOST_OF_APP of that app."""


class Listener:
    """Who is told of the changes of a topic: the key of a call or of an index of calls."""

    def __init__(self, topic: str, app: str, cut: Callable[[], None]) -> None:
        """``cut`` is called where the listener does not keep up: it may be held up in sending."""
        self.topic = topic
        self.app = app
        self.over = False
        # What comes before it is open is not kept for it.
        self.open = False
        self._cut = cut
        self._queue: Queue[CallChange | None] = Queue(_QUEUE)

    def put(self, change: CallChange) -> None:
        if self.over or not self.open:
            return
        try:
            self._queue.put_nowait(change)
        except Full:
            self.end()
            self._cut()

    def end(self) -> None:
        """Tell no more; what waits is still handed over."""
        self.over = True
        with suppress(Full):
            self._queue.put_nowait(None)

    def take(self, timeout: float) -> list[CallChange]:
        """What has come, in order; none after ``timeout`` seconds, or at the end."""
        found: list[CallChange | None] = []
        with suppress(Empty):
            if self.over or timeout <= 0:
                found.append(self._queue.get_nowait())
            else:
                found.append(self._queue.get(timeout=timeout))
            while len(found) < _AT_ONCE:
                found.append(self._queue.get_nowait())
        return [change for change in found if change is not None]


class Feed:
    """Reads the stream while anybody listens."""

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._redis = store.redis
        self._key = store.keys.events
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._listeners: dict[str, set[Listener]] = {}
        # Up to where all listeners have been told.
        self.place = START
        # The topics of calls: they change with their legs alone.
        self._topics: dict[str, tuple[str, ...]] = {}
        self._over: Callable[[], bool] = lambda: False

    def ends_when(self, over: Callable[[], bool]) -> None:
        """End all listeners soon after ``over`` holds: a server that stops waits for them."""
        self._over = over

    def listen(self, topic: str, app: str, cut: Callable[[], None] = lambda: None) -> Listener:
        """Be told of what comes, once it is open. Raises TooManyListeners or a RedisError."""
        _, last = self._kept()
        with self._lock:
            known = [each.app for some in self._listeners.values() for each in some]
            if len(known) >= MOST or known.count(app) >= MOST_OF_APP:
                raise TooManyListeners
            if self._reader is None:
                self.place = last
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()
            listener = Listener(topic, app, cut)
            self._listeners.setdefault(topic, set()).add(listener)
            return listener

    def leave(self, listener: Listener) -> None:
        with self._lock:
            some = self._listeners.get(listener.topic, set())
            some.discard(listener)
            if not some:
                self._listeners.pop(listener.topic, None)

    def resume(self, text: str) -> tuple[Place, bool]:
        """The place after which to go on for who was told of the event ``text`` last, and whether
        nothing is missing between. Raises a RedisError."""
        place = parse_place(text)
        first, last = self._kept()
        if place is None or place > last:
            # None of this Redis: go on from now.
            return last, False
        return (place, True) if place >= first else (START, False)

    def since(self, place: Place, topic: str) -> Iterator[tuple[Place, list[CallChange]]]:
        """What is kept of a topic after a place: a part at a time, with the place it reaches to.
        Raises a RedisError."""
        while True:
            entries: Any = self._redis.xrange(self._key, f"({place_text(place)}", count=_BATCH)
            if entries:
                place = _place(entries[-1][0])
                yield place, [change for _, change in self._changes(entries, (topic,))]
            if len(entries) < _BATCH:
                return

    def _kept(self) -> tuple[Place, Place]:
        """From where on nothing is missing, and the newest place."""
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
        away = False
        while True:
            with self._lock:
                if self._over():
                    self._end_all()
                if not self._listeners:
                    self._reader = None
                    return
            try:
                if away:
                    # What was cut off the stream meanwhile would be missed.
                    self._look()
                    away = False
                if not self._read_some() and time.monotonic() - looked > _LOOK:
                    looked = time.monotonic()
                    self._look()
            except Exception as error:
                away = True
                if not is_unavailable(error):
                    # They come back, each to the place where it was.
                    log.exception("the stream of events cannot be read")
                    self._end_all()
                else:
                    log.error("Redis is away: %s", error)
                time.sleep(_AWAY)

    def _read_some(self) -> bool:
        after: Any = {self._key: place_text(self.place)}
        reply: Any = self._redis.xread(after, count=_BATCH, block=int(BLOCK_LIMIT * 1000))
        if not reply:
            return False
        entries = reply[0][1]
        for topics, change in self._changes(entries, self._listeners):
            for topic in topics:
                for listener in tuple(self._listeners.get(topic, ())):
                    listener.put(change)
        # After they were told: who finds nothing more has had all up to here.
        self.place = _place(entries[-1][0])
        if len(entries) < _BATCH:
            time.sleep(_GATHER)
        return True

    def _look(self) -> None:
        """After a fail-over Redis may have fewer entries than it had, and number them anew; while
        it was out of reach those that come next may have been cut off."""
        first, last = self._kept()
        if not first <= self.place <= last:
            self._end_all()
            self.place = last

    def _end_all(self) -> None:
        for some in tuple(self._listeners.values()):
            for listener in tuple(some):
                listener.end()

    def _changes(
        self, entries: _Entries, wanted: Container[str]
    ) -> Iterable[tuple[tuple[str, ...], CallChange]]:
        """The entries of calls with a wanted topic. Of a call that is kept no more nobody is told,
        as nobody may read it."""
        rows = [(entry, fields, fields[b"call"].decode()) for entry, fields in entries]
        if len(self._topics) > _CALLS_KNOWN:
            self._topics.clear()
        for _, fields, call_id in rows:
            if b'"legs":' in fields[b"changed"]:
                self._topics.pop(call_id, None)
        ids = {
            call_id: None
            for _, _, call_id in rows
            if any(topic in wanted for topic in self._topics.get(call_id, ()))
            or call_id not in self._topics
        }
        calls = dict(zip(ids, self._store.get_many(ids), strict=True))
        for call_id, call in calls.items():
            if call is not None:
                self._topics[call_id] = self._topics_of(call)
        for entry, fields, call_id in rows:
            call = calls.get(call_id)
            topics = self._topics.get(call_id, ())
            if call is not None and any(topic in wanted for topic in topics):
                state, version = fields[b"state"].decode(), int(fields[b"version"])
                yield topics, CallChange(_place(entry), state, version, float(fields[b"at"]), call)

    def _topics_of(self, call: Call) -> tuple[str, ...]:
        keys = self._store.keys
        return (
            keys.calls,
            keys.call(call.id),
            *map(keys.organization_calls, call.organizations),
            *map(keys.user_calls, call.users),
            *map(keys.extension_calls, call.extensions),
        )


def _place(entry: bytes) -> Place:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)
