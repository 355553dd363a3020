# Made of async_calls.py by client/unasync.py: edit that file.
"""The reader of calls."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from ringback.errors import NotFound
from ringback.redis.values import Call, Change, call_of, change_of, entries_of, text

# The most seconds that one command blocks. redis-py gives up one that takes longer than its own
# socket_timeout, so it is less than that too.
_BLOCK = 2.0


class Calls:
    """Reads calls with a client of redis-py, whatever its ``decode_responses`` and ``protocol``.

    It writes nothing but the consumer groups of :meth:`follow`. Errors of redis-py pass through.
    """

    def __init__(self, redis: Redis, *, prefix: str = "ringback:") -> None:
        """``prefix`` is the server's RINGBACK_KEY_PREFIX."""
        self._redis: Any = redis
        self._prefix = prefix
        limit = redis.connection_pool.connection_kwargs.get("socket_timeout")
        self._block = min(_BLOCK, limit / 2) if limit else _BLOCK

    def get(self, call_id: str) -> Call:
        """The call, live or ended. Raises NotFound if Redis has none of that id (any more)."""
        return _known(call_id, self._redis.hgetall(self._call(call_id)))

    def by_nonce(self, app: str, nonce: str) -> list[Call]:
        """The calls that the app placed with the nonce; none if there are none (any more)."""
        key = f"{self._prefix}nonce:{_given('app', app)}:{_given('nonce', nonce)}"
        ids = self._redis.get(key)
        if ids is None:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            for call_id in text(ids).split(","):
                pipe.hgetall(self._call(call_id))
            found = map(call_of, pipe.execute())
            return [call for call in found if call is not None]

    def wait(
        self, call_id: str, until: str | Callable[[Call], bool], timeout: float = 60.0
    ) -> Call:
        """The call once it has reached the state ``until``, or a later one; or once the function
        ``until`` holds of it. Redis tells of each change: nothing is polled.

        Raises TimeoutError after so many seconds, and NotFound if there is no such call.
        """
        end = time.monotonic() + timeout
        timeline = f"{self._call(call_id)}:timeline"
        # The end of the timeline first, then the call, so that no change is missed.
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.xrevrange(timeline, count=1)
            pipe.hgetall(self._call(call_id))
            newest, reply = pipe.execute()
        last = newest[0][0] if newest else "0"
        while True:
            call = _known(call_id, reply)
            if call.has_reached(until) if isinstance(until, str) else until(call):
                return call
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{call_id} is {call.state} after {timeout:g} seconds.")
            block = max(1, int(min(left, self._block) * 1000))
            entries = entries_of(self._redis.xread({timeline: last}, block=block))
            if entries:
                last = entries[-1][0]
            reply = self._redis.hgetall(self._call(call_id))

    def follow(
        self,
        group: str,
        *,
        consumer: str | None = None,
        take_over: float = 60.0,
        timeout: float | None = None,
    ) -> Iterator[Change]:
        """Every change of every call, each for one of the consumers of a group: from now on, or
        where the group left off.

        The consumer acknowledges a change when it asks for the next one. A change that a consumer
        had in hand when it died goes to another one after ``take_over`` seconds, so take more of
        them than you need for a change. A change may come twice, with the same ``call_id`` and
        ``version``. ``consumer`` is the name of a consumer, which gets at once what it had in hand;
        without it each call of this method is a consumer of its own. It ends after ``timeout``
        seconds without a change; None for never.
        """
        stream = f"{self._prefix}events"
        reader = _Consumer(self._redis, stream, _given("group", group), consumer, take_over)
        reader.create_group("$")
        heard = time.monotonic()
        try:
            while timeout is None or time.monotonic() - heard < timeout:
                entry = reader.next(min(self._block, timeout or self._block))
                if entry is not None:
                    yield change_of(*entry)
                    reader.acknowledge(entry)
                    heard = time.monotonic()
        finally:
            reader.leave()

    def _call(self, call_id: str) -> str:
        # The braces are part of the name.
        return f"{self._prefix}call:{{{_given('call_id', call_id)}}}"


class _Consumer:
    """A consumer of a group. It reads an entry at a time: how long an entry has been in hand says
    then how long its consumer needs for this one."""

    def __init__(
        self, redis: Any, stream: str, group: str, name: str | None, take_over: float
    ) -> None:
        self._redis, self._stream, self._group = redis, stream, group
        self._take_over = take_over
        self._made = name is None
        self._name = name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        # Whether it may have entries in hand from before.
        self._had = not self._made
        # When it looks next for entries of dead consumers.
        self._look = time.monotonic()

    def create_group(self, start: str) -> None:
        try:
            self._redis.xgroup_create(self._stream, self._group, id=start, mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def next(self, block: float) -> tuple[Any, Any] | None:
        """The next entry: one that it had in hand before, else one that a dead consumer left, else
        a new one. None if none comes in so many seconds."""
        try:
            entry = self._next(block)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            # Redis has lost its data. All that the stream has by now is new.
            self.create_group("0")
            return None
        if entry is not None and not entry[1]:
            # The stream does not keep it any more.
            self.acknowledge(entry)
            return None
        return entry

    def _next(self, block: float) -> tuple[Any, Any] | None:
        if self._had:
            if (entry := self._read("0", None)) is not None:
                return entry
            self._had = False
        if time.monotonic() >= self._look:
            if (entry := self._left()) is not None:
                return entry
            self._look = time.monotonic() + self._take_over / 2
        return self._read(">", max(1, int(block * 1000)))

    def _read(self, after: str, block: int | None) -> tuple[Any, Any] | None:
        reply = self._redis.xreadgroup(
            self._group, self._name, {self._stream: after}, count=1, block=block
        )
        entries = entries_of(reply)
        return entries[0] if entries else None

    def _left(self) -> tuple[Any, Any] | None:
        """An entry that was in hand of a consumer for longer than it may be."""
        start: Any = "0-0"
        while True:
            reply = self._redis.xautoclaim(
                self._stream,
                self._group,
                self._name,
                int(self._take_over * 1000),
                start_id=start,
                count=1,
            )
            start, entries = reply[0], [entry for entry in reply[1] if entry and entry[0]]
            if entries or text(start) == "0-0":
                return entries[0] if entries else None

    def acknowledge(self, entry: tuple[Any, Any]) -> None:
        self._redis.xack(self._stream, self._group, entry[0])

    def leave(self) -> None:
        """Delete the consumer if nobody knows its name, and it has nothing in hand: with a consumer
        Redis deletes what it has."""
        if not self._made:
            return
        try:
            pending = self._redis.xpending_range(
                self._stream, self._group, min="-", max="+", count=1, consumername=self._name
            )
            if not pending:
                self._redis.xgroup_delconsumer(self._stream, self._group, self._name)
        except RedisError:
            # It stays, and does no harm.
            pass


def _known(call_id: str, reply: Any) -> Call:
    call = call_of(reply)
    if call is None:
        raise NotFound(0, "pc_phonecall_invalid", f"Redis has no call {call_id}.")
    return call


def _given(name: str, value: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} takes a text that is not blank, not {value!r}.")
    return value
