"""Accepts new calls: with their jobs, all or none, within a few seconds or never."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.calls.cdr import numbers
from app.calls.model import Call, evolve
from app.calls.quota import Check, QuotaExceeded
from app.store import once, quotas, scripts, writes
from app.store.audit import PLACE, Who, plain
from app.store.calls import REPLICAS_LIMIT, CallStore
from app.store.errors import InMaintenance, LimitsMissing, OutcomeUnknown
from app.store.writes import Note
from app.telemetry import counting, logs, tracing

# Seconds within which Redis accepts a call, or never.
ACCEPT_LIMIT = 3.0
# Seconds for which Redis is trusted to be there once it has answered.
_FRESH = 0.5
# Seconds between two attempts.
_PAUSE = 0.05
_LOST = (RedisConnectionError, RedisTimeoutError)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The calls of one create request; ``new`` is false where an earlier request with the same
    nonce placed them."""

    calls: tuple[Call, ...]
    new: bool


class Acceptor:
    """Writes new calls to the store."""

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._clock = store.clock

    def accept(
        self,
        calls: Sequence[Call],
        enqueue: Callable[[Call, Pipeline], None],
        *,
        nonce: tuple[str, str] | None = None,
        checks: Sequence[Check] = (),
        who: Who | None = None,
    ) -> Accepted:
        """Write new calls with their jobs, all or none, within ACCEPT_LIMIT seconds.

        ``nonce``, an app and a nonce, makes the request idempotent among that app's requests:
        where the nonce is known, nothing is written, and the calls made with it are returned.
        ``checks`` are what all the calls together take from caps; a known nonce takes nothing.
        ``who`` asks; the timeline and the audit say so.
        Raises an error of Redis (LimitsMissing and InMaintenance are) where nothing was written nor
        will be, QuotaExceeded, and OutcomeUnknown where the process lost Redis in the middle.
        """
        key = self._store.keys.nonce(*nonce) if nonce else self._store.keys.limits
        ids = [call.id for call in calls]
        logs.bind(call=",".join(ids))
        traced = tracing.carried(ids, self._store.now)
        new = tuple(evolve(call, version=1, stamp=writes.stamp(), **traced) for call in calls)
        keys, arguments = self._words(new, key, checks, enqueue, who)
        forgotten = b""
        end = time.monotonic() + ACCEPT_LIMIT
        # Whether an attempt was lost after it was sent.
        unsure = False
        while True:
            try:
                with self._connection() as connection:
                    self._hear_clock(connection, end)
                    try:
                        words = keys, [forgotten, *arguments]
                        reply, *said = self._accept_on(connection, end, *words)
                    except _LOST:
                        counting.redis_error()
                        unsure = True
                        raise
            except RedisError as error:
                if not unsure and not isinstance(error, _LOST):
                    # Redis refuses: it is full, a replica or the like.
                    raise
                if time.monotonic() < end:
                    time.sleep(_PAUSE)
                    continue
                # Redis carries out no attempt any more; what one attempt did can be read.
                if unsure and self._is_kept(new):
                    if self._store.replicas:
                        raise OutcomeUnknown("no replica was asked whether it has it") from error
                    return _accepted(new)
                raise
            if reply == b"accepted":
                quotas.tell(quotas.crossings(checks, said))
                return _accepted(new)
            if reply == b"quota":
                raise QuotaExceeded(quotas.refusal(checks, said))
            if reply == b"unlimited":
                raise LimitsMissing("the limits of calls are missing")
            if reply == b"maintenance":
                raise InMaintenance("Ringback is in maintenance")
            if reply == b"seen":
                if (known := self._store.of_nonce(said[0])) is not None:
                    if known[0].id == new[0].id:
                        return _accepted(known)
                    return Accepted(known, new=False)
                forgotten = said[0]
            elif time.monotonic() >= end:
                raise RedisTimeoutError(f"not accepted within {ACCEPT_LIMIT} s")
            else:
                time.sleep(_PAUSE)

    def _words(
        self,
        calls: Sequence[Call],
        nonce_key: str,
        checks: Sequence[Check],
        enqueue: Callable[[Call, Pipeline], None],
        who: Who | None,
    ) -> tuple[list[str], list[Any]]:
        """KEYS and ARGV of accept.lua, but for the last moment and the forgotten nonce."""
        keys, changes = [nonce_key, self._store.keys.limits], []
        # RQ writes its commands into a pipeline that is never executed.
        jobs = self._store.redis.pipeline()
        for call in calls:
            data = " > ".join(",".join(numbers(side)) for side in (call.sources, call.far_end))
            notes = (Note("request", "accepted", data=plain(data), who=who, audited=PLACE),)
            of_call, arguments = writes.arguments(
                self._store.keys, None, call, notes, self._store.now()
            )
            keys += of_call
            changes.append([len(of_call), arguments])
            enqueue(call, jobs)
        commands = [word for words in once.gathered(jobs) for word in (len(words), *words)]
        return keys, [
            ",".join(call.id for call in calls),
            orjson.dumps(changes).decode(),
            quotas.dumps(checks),
            *commands,
        ]

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection of the pool, closed where a reply may still come on it."""
        pool = self._store.redis.connection_pool
        connection: Any = pool.get_connection()
        try:
            yield connection
        except ResponseError:
            raise
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _hear_clock(self, connection: Any, end: float) -> None:
        """Ask for a sign of life before anything is sent that Redis could carry out unheard."""
        if time.monotonic() - self._clock.heard > _FRESH:
            asked = time.monotonic()
            seconds, micros = map(int, _ask(connection, end, "TIME"))
            self._clock.set(asked, seconds * 1e6 + micros)

    def _accept_on(
        self, connection: Any, end: float, keys: list[str], arguments: list[Any]
    ) -> list[Any]:
        """Make one attempt, answered before the monotonic ``end``. Returns what accept.lua says
        without the clock."""
        asked = time.monotonic()
        last = f"{self._clock.moment(end):.0f}"
        words = (len(keys), *keys, last, *arguments)
        try:
            reply = _ask(connection, end, "EVALSHA", scripts.ACCEPT.sha, *words)
        except NoScriptError:
            reply = _ask(connection, end, "EVAL", scripts.ACCEPT.text, *words)
        # Where the clock was stepped, or another server answers, the next attempt has it right.
        self._clock.set(asked, float(reply[1]))
        wanted = self._store.replicas
        if wanted and reply[0] != b"late":
            limit = int(REPLICAS_LIMIT * 1000)
            if (replicas := _ask(connection, end, "WAIT", wanted, limit)) < wanted:
                raise OutcomeUnknown(f"{replicas} of {wanted} replicas have it")
        return [reply[0], *reply[2:]]

    def _is_kept(self, calls: Sequence[Call]) -> bool:
        try:
            return self._store.get(calls[0].id) is not None
        except RedisError as error:
            raise OutcomeUnknown(str(error)) from error


def _accepted(calls: tuple[Call, ...]) -> Accepted:
    counting.accepted(calls)
    return Accepted(calls, new=True)


def _ask(connection: Any, end: float, *command: Any) -> Any:
    """Send one command on a connection; Redis answers before the monotonic ``end``."""
    connection.send_command(*command)
    return connection.read_response(timeout=max(0.01, end - time.monotonic()))
