"""Where calls are kept: one hash per call, written by change.lua; pace.lua claims it."""

import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import orjson
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app import logs, tracing
from app.calls import call_events, cdr, watch
from app.calls.model import Call, Leg, State, changed_fields, evolve, from_hash
from app.metrics import counting
from app.redis_client import BLOCK_LIMIT, is_unavailable

log = logging.getLogger(__name__)

_FUNCTION = files("app.calls").joinpath("change.lua").read_text()
_CHANGE = f"{_FUNCTION}return change(KEYS, ARGV)\n"
_ACCEPT = _FUNCTION + files("app.calls").joinpath("accept.lua").read_text()
# Seconds within which a call is accepted, or never.
ACCEPT_LIMIT = 3.0
# Seconds given to the replicas to have a change.
_REPLICAS_LIMIT = 0.5
# Seconds for which Redis is trusted to be there once it has answered, and its clock to go on as
# the monotonic one does.
_FRESH = 0.5
_CLOCK_KEPT = 10.0
# A Redis command, its key and its further words.
_Command = tuple[str, ...]
_LOST = (RedisConnectionError, RedisTimeoutError)
# Entries kept in the stream of every call's changes, and in a call's timeline.
EVENTS_KEPT = 100_000
_EVENTS_KEPT = ("MAXLEN", "~", str(EVENTS_KEPT), "*")
_TIMELINE_KEPT = ("MAXLEN", "~", "1000", "*")


@dataclass(frozen=True, slots=True)
class Note:
    """What a timeline entry says: a ``command``, ``reply``, ``event`` or ``request``."""

    kind: str
    name: str
    leg: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A pure transition of a call, as old as it may be, and what its timeline says of it."""

    call: Call
    transition: Callable[[Call], Call]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The calls of one create request; ``new`` is false where its nonce was seen before."""

    calls: tuple[Call, ...]
    new: bool


class OutcomeUnknown(Exception):
    """Redis was lost after it was sent a new call: it may have taken it, or not."""


class NotReplicated(Exception):
    """Redis has the change, but fewer replicas than it takes do."""


class Keys:
    """The names of Redis keys. Those of one call share a hash tag."""

    def __init__(self, prefix: str = "ringback:") -> None:
        self.prefix = prefix
        self.events = f"{prefix}events"
        self.deadlines = f"{prefix}calls:deadline"
        self.calls = f"{prefix}calls:all"
        self.records = f"{prefix}cdr:all"
        self.accounts = f"{prefix}accounts"
        self.waiting = f"{prefix}waiting"
        self.turns = f"{prefix}turns"
        self.limits = f"{prefix}limits"
        self.pace = f"{prefix}pace"
        # The extensions that have web hooks, and what is to be told to these.
        self.hooked = f"{prefix}hooked"
        self.outbox = f"{prefix}outbox"
        self.webhooks = f"{prefix}webhooks:"
        self.webhook_targets = f"{self.webhooks}targets"
        self.dead_letters = f"{self.webhooks}dead"

    def call(self, call_id: str) -> str:
        return f"{self.prefix}call:{{{call_id}}}"

    def timeline(self, call_id: str) -> str:
        return f"{self.call(call_id)}:timeline"

    def nonce(self, app: str, nonce: str) -> str:
        return f"{self.prefix}nonce:{app}:{nonce}"

    def record(self, call_id: str) -> str:
        return f"{self.prefix}cdr:{{{call_id}}}"

    def user_records(self, user: str) -> str:
        return f"{self.prefix}cdr:user:{user}"

    def organization_records(self, number: str) -> str:
        return f"{self.prefix}cdr:organization:{number}"

    def organization_calls(self, number: str) -> str:
        return f"{self.prefix}calls:organization:{number}"

    def user_calls(self, user: str) -> str:
        return f"{self.prefix}calls:user:{user}"

    def extension_calls(self, extension: str) -> str:
        return f"{self.prefix}calls:extension:{extension}"

    def switch_calls(self, switch: str) -> str:
        return f"{self.prefix}calls:switch:{switch}"

    def line(self, organization: str) -> str:
        return f"{self.prefix}waiting:{organization}"

    def taken(self, of: str) -> str:
        """What is live of a limit: calls or legs."""
        return f"{self.prefix}live:{of}"

    def turn(self, token: str) -> str:
        """What a worker's request for calls was answered."""
        return f"{self.prefix}turn:{token}"

    def refusing(self, switch: str) -> str:
        return f"{self.prefix}refusing:{switch}"

    def switch(self, name: str) -> str:
        return f"{self.prefix}switch:{name}"

    def switch_listeners(self, name: str) -> str:
        return f"{self.prefix}switch:{name}:listeners"

    def switch_lease(self, name: str) -> str:
        return f"{self.prefix}switch:{name}:lease"


class CallStore:
    """Reads calls, and changes them through the script."""

    def __init__(self, redis: Redis, keys: Keys, replicas: int = 0) -> None:
        """``replicas`` is how many must have a call before it counts as accepted, and its claim
        before it counts as claimed."""
        self.redis = redis
        self.keys = keys
        self.replicas = replicas
        # Redis' clock less the monotonic one of this process, in microseconds: at least, and as
        # it is taken to be; and when (seconds of the latter) Redis last told it.
        self._clock_least = 0.0
        self._clock = 0.0
        self._heard = -math.inf

    def now(self) -> float:
        """Epoch seconds to the microsecond by Redis' clock, the one that all processes share:
        those of their machines differ, and are stepped. May raise an error of Redis."""
        if time.monotonic() - self._heard > _CLOCK_KEPT:
            asked = time.monotonic()
            try:
                seconds, micros = self.redis.time()
                self.set_clock(asked, seconds * 1e6 + micros)
            except RedisError:
                if self._heard == -math.inf:
                    raise
        return round(time.monotonic() + self._clock / 1e6, 6)

    def moment(self, at: float) -> float:
        """A time of the monotonic clock by Redis' own, in microseconds, as early as it may be. May
        raise an error of Redis."""
        self.now()
        return at * 1e6 + self._clock_least

    def tell_claimed(self, call: Call) -> None:
        """Count and trace a claim that pace.lua has made."""
        before = evolve(call, state=State.QUEUED, worker=None, switch=None, claimed=None)
        _tell(before, call)

    def get(self, call_id: str) -> Call | None:
        """The call, or None where there is none or it is no longer kept."""
        flat: Any = self.redis.hgetall(self.keys.call(call_id))
        return from_reply(flat)

    def get_many(self, call_ids: Iterable[str]) -> list[Call | None]:
        """The calls; None also for one that cannot be read, so that it hurts no other."""
        names = list(call_ids)
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in names:
                pipe.hgetall(self.keys.call(call_id))
            found = zip(names, pipe.execute(raise_on_error=False), strict=True)
        return [_readable(call_id, reply) for call_id, reply in found]

    def change(
        self,
        call: Call,
        transition: Callable[[Call], Call],
        note: Note,
        *,
        replicated: bool = False,
    ) -> Call:
        """Apply a pure transition to the call as it stands, and return the call after it.

        ``call`` may be old: where another change came first, the transition is applied
        again to what Redis holds. Nothing is written where it changes nothing.
        Raises KeyError where the call is no longer kept; with ``replicated`` NotReplicated.
        """
        (changed,) = self.change_many([Change(call, transition, (note,))], replicated=replicated)
        if changed is None:
            raise KeyError(call.id)
        return changed

    def change_many(
        self,
        changes: Sequence[Change],
        *,
        replicated: bool = False,
        errors: dict[str, Exception] | None = None,
    ) -> list[Call | None]:
        """The same for many calls in one round trip, each a call of its own; those that another
        change came before take one more. None stands for a call that is no longer kept.

        What Redis refuses of one call hurts no other: it is raised when all are done, or put into
        ``errors`` by the call's id, and None stands for its call.
        """
        refused = {} if errors is None else errors
        done: list[Call | None] = [change.call for change in changes]
        left = list(enumerate(changes))
        while left:
            sent = []
            for index, change in left:
                call = done[index]
                assert call is not None
                changed = change.transition(call)
                if changed != call:
                    changed = evolve(changed, version=call.version + 1, stamp=stamp())
                    arguments = self._arguments(call, changed, change)
                    sent.append((index, change, call, changed, arguments))
            if not sent:
                break
            replies = self._run([arguments for *_, arguments in sent], replicated)
            left = []
            for (index, change, old, changed, _), reply in zip(sent, replies, strict=True):
                if reply == 1:
                    _tell(old, changed)
                    done[index] = changed
                    continue
                if isinstance(reply, Exception):
                    done[index] = None
                    refused[change.call.id] = reply
                    continue
                done[index] = current = from_reply(pairs(reply))
                if current is not None:
                    if current.stamp == changed.stamp:
                        # It was sent twice, and the answer to the first lost.
                        _tell(old, current)
                    left.append((index, change))
        if errors is None and refused:
            raise next(iter(refused.values()))
        return done

    def _run(self, scripts: list[tuple[list[str], list[str]]], replicated: bool) -> list[Any]:
        """change.lua for each, in one round trip."""
        replicas = self.replicas if replicated else 0
        with self.redis.pipeline(transaction=False) as pipe:
            for keys, arguments in scripts:
                pipe.evalsha(_CHANGE_SHA, len(keys), *keys, *arguments)
            if replicas:
                # On one connection: WAIT is for what that one has written.
                pipe.wait(replicas, int(_REPLICAS_LIMIT * 1000))
            replies = pipe.execute(raise_on_error=False)
        had = replies.pop() if replicas else 0
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            self.redis.script_load(_CHANGE)
            again = self._run([scripts[n] for n in unknown], replicated)
            for n, reply in zip(unknown, again, strict=True):
                replies[n] = reply
        if isinstance(had, Exception):
            raise had
        if had < replicas and len(unknown) < len(scripts):
            raise NotReplicated(f"{had} of {replicas} replicas have it")
        return replies

    def replicated(self, calls: Sequence[Call]) -> list[Call]:
        """Those of the calls that this server has as they are, and enough replicas of it too.
        Raises NotReplicated."""
        # Written again, unchanged: WAIT is for what its own connection has written.
        replies = self._run([([self.keys.call(call.id)], ["", "[]"]) for call in calls], True)
        return [
            call
            for call, reply in zip(calls, replies, strict=True)
            if isinstance(reply, list) and pairs(reply)[b"stamp"].decode() == call.stamp
        ]

    def accept(
        self,
        calls: Sequence[Call],
        enqueue: Callable[[Call, Pipeline], None],
        *,
        nonce_app: str | None = None,
    ) -> Accepted:
        """Write new calls with their jobs, all or none, within ACCEPT_LIMIT seconds.

        With ``nonce_app`` the calls' nonce makes the request idempotent among that app's:
        where it was seen, nothing is written and the calls made with it are returned.
        Raises an error of Redis where nothing was written nor will be, and OutcomeUnknown
        where Redis was lost in the middle.
        """
        nonce = calls[0].nonce
        key = self.keys.nonce(nonce_app, nonce) if nonce_app and nonce else ""
        ids = [call.id for call in calls]
        logs.bind(call=",".join(ids))
        traced = tracing.carried(ids, self.now)
        new = tuple(evolve(call, version=1, stamp=stamp(), **traced) for call in calls)
        keys, arguments = self._new(new, key, enqueue)
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
                        reply, seen = self._accept_on(connection, end, *words)
                    except _LOST:
                        counting.redis_error()
                        unsure = True
                        raise
            except RedisError as error:
                if not unsure and not isinstance(error, _LOST):
                    # Redis refuses, being full, a replica or the like.
                    raise
                if time.monotonic() < end:
                    time.sleep(0.05)
                    continue
                # No attempt can be carried out any more; what one did may be read.
                if unsure and self._is_kept(new):
                    if self.replicas:
                        raise OutcomeUnknown("its replicas were not asked") from error
                    return _accepted(new)
                raise
            if reply == b"accepted":
                return _accepted(new)
            if reply == b"seen":
                if (known := self._of_nonce(seen)) is not None:
                    if known[0].id == new[0].id:
                        return _accepted(known)
                    return Accepted(known, new=False)
                forgotten = seen
            elif time.monotonic() >= end:
                raise RedisTimeoutError(f"not accepted within {ACCEPT_LIMIT} s")
            else:
                time.sleep(0.05)

    def _new(
        self, calls: Sequence[Call], nonce_key: str, enqueue: Callable[[Call, Pipeline], None]
    ) -> tuple[list[str], list[Any]]:
        """What accept.lua takes, but for the moment and the forgotten nonce."""
        keys, changes = [nonce_key], []
        # RQ writes its commands into a pipeline that is never executed.
        jobs = self.redis.pipeline()
        for call in calls:
            accepted = Change(call, lambda c: c, (Note("request", "accepted"),))
            of_call, arguments = self._arguments(None, call, accepted)
            keys += of_call
            changes.append([len(of_call), arguments])
            enqueue(call, jobs)
        commands: list[Any] = []
        for words, _ in jobs.command_stack:
            commands += [len(words), *words]
        return keys, [
            ",".join(call.id for call in calls),
            orjson.dumps(changes).decode(),
            *commands,
        ]

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection of the pool, closed where a reply may still come on it."""
        connection: Any = self.redis.connection_pool.get_connection()
        try:
            yield connection
        except ResponseError:
            raise
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self.redis.connection_pool.release(connection)

    def _hear_clock(self, connection: Any, end: float) -> None:
        """A sign of life before anything is sent that could be carried out unheard."""
        if time.monotonic() - self._heard > _FRESH:
            asked = time.monotonic()
            seconds, micros = map(int, _ask(connection, end, "TIME"))
            self.set_clock(asked, seconds * 1e6 + micros)

    def set_clock(self, asked: float, clock: float) -> None:
        """Take over what Redis said its clock was, at some time since it was asked."""
        first, self._heard = self._heard == -math.inf, time.monotonic()
        self._clock_least, most = clock - self._heard * 1e6, clock - asked * 1e6
        # The old value while it can be true, with a millisecond of drift.
        if first or not self._clock_least - 1e3 <= self._clock <= most + 1e3:
            self._clock = (self._clock_least + most) / 2

    def _accept_on(
        self, connection: Any, end: float, keys: list[str], arguments: list[Any]
    ) -> tuple[bytes, bytes]:
        """One attempt, answered before the monotonic ``end``: what accept.lua says, and the
        nonce's value."""
        asked = time.monotonic()
        last = f"{self.moment(end):.0f}"
        words = (len(keys), *keys, last, *arguments)
        try:
            reply = _ask(connection, end, "EVALSHA", _ACCEPT_SHA, *words)
        except NoScriptError:
            reply = _ask(connection, end, "EVAL", _ACCEPT, *words)
        # Where the clock was stepped, or is another server's, the next attempt has it right.
        self.set_clock(asked, float(reply[1]))
        if self.replicas and reply[0] != b"late":
            limit = int(_REPLICAS_LIMIT * 1000)
            if (replicas := _ask(connection, end, "WAIT", self.replicas, limit)) < self.replicas:
                raise OutcomeUnknown(f"{replicas} of {self.replicas} replicas have it")
        return reply[0], reply[2] if len(reply) > 2 else b""

    def _is_kept(self, calls: Sequence[Call]) -> bool:
        try:
            return self.get(calls[0].id) is not None
        except RedisError as error:
            raise OutcomeUnknown(str(error)) from error

    def by_nonce(self, app: str, nonce: str) -> tuple[Call, ...]:
        return self._of_nonce(self.redis.get(self.keys.nonce(app, nonce))) or ()

    def _of_nonce(self, value: Any) -> tuple[Call, ...] | None:
        """The calls a nonce stands for; None where it is new or they are no longer kept."""
        if value is None:
            return None
        ids = value.decode().split(",")
        calls = tuple(filter(None, self.get_many(ids)))
        # One that is kept and cannot be read raises: its nonce is not new.
        return calls or tuple(filter(None, map(self.get, ids))) or None

    def nonces(self, call_ids: Sequence[str]) -> list[str | None]:
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in call_ids:
                pipe.hget(self.keys.call(call_id), "nonce")
            return [nonce and nonce.decode() for nonce in pipe.execute()]

    def live_of_switch(self, switch: str) -> list[str]:
        """Ids of the live calls that were claimed for the switch."""
        ids: Any = self.redis.zrange(self.keys.switch_calls(switch), 0, -1)
        return [call_id.decode() for call_id in ids]

    def unreachable(self, switches: Iterable[str]) -> dict[str, float]:
        """Of these switches those that cannot be reached, and since when in epoch seconds."""
        names = list(dict.fromkeys(switches))
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hget(self.keys.switch(name), "unreachable_since")
            found = zip(names, pipe.execute(), strict=True)
        return {name: float(since) for name, since in found if since is not None}

    def due(self, now: float) -> list[str]:
        """Ids of calls whose deadline has passed."""
        ids: Any = self.redis.zrange(self.keys.deadlines, "-inf", now, byscore=True)
        return [call_id.decode() for call_id in ids]

    def postpone(self, until: dict[str, float]) -> None:
        """Have the watchdog look at the calls again at these times."""
        if until:
            self.redis.zadd(self.keys.deadlines, until, xx=True)

    def forget_deadline(self, call_id: str) -> None:
        """Of a call that is over. One that only cannot be read here is left for others."""
        try:
            flat: Any = self.redis.hgetall(self.keys.call(call_id))
        except ResponseError:
            return
        if not flat or flat.get(b"state") == State.ENDED.encode():
            self.redis.zrem(self.keys.deadlines, call_id)

    def note(self, call_id: str, note: Note) -> None:
        """Add to the timeline what changes nothing in the call."""
        entry: Any = _entry(note, f"{self.now():.6f}")
        # Not anew where the call is no longer kept.
        timeline = self.keys.timeline(call_id)
        self.redis.xadd(timeline, entry, maxlen=1000, approximate=True, nomkstream=True)

    def note_sent(self, notes: Sequence[tuple[str, Note, float]]) -> list[bool]:
        """Add to the timelines of calls what was sent for them, and when; of each whether all is
        said: the call is marked as sent, and nobody wants it hung up."""
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id, note, at in notes:
                entry: Any = _entry(note, f"{at:.6f}")
                pipe.xadd(self.keys.timeline(call_id), entry, nomkstream=True)
                pipe.hmget(self.keys.call(call_id), "sent", "hangup_requested")
            replies = pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and is_unavailable(reply):
                raise reply
        # What is wrong with one call costs no other anything.
        return [
            isinstance(of, list) and of[0] is not None and of[1] is None for of in replies[1::2]
        ]

    def timeline(self, call_id: str) -> list[dict[str, str]]:
        """Every command, reply, event and change of the call, oldest first."""
        entries: Any = self.redis.xrange(self.keys.timeline(call_id))
        found = [
            {"id": entry_id.decode(), **{k.decode(): v.decode() for k, v in fields.items()}}
            for entry_id, fields in entries
        ]
        # Commands are written some time after they were sent.
        return sorted(found, key=lambda entry: entry["at"])

    def wait(self, call_id: str, until: Callable[[Call], bool], timeout: float) -> Call | None:
        """The call once ``until`` holds of it, or as it stands after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        last = "$"
        while True:
            # Where to go on reading is found before the call is read: no change falls between.
            if last == "$":
                newest: Any = self.redis.xrevrange(self.keys.timeline(call_id), count=1)
                last = newest[0][0] if newest else "0"
            call = self.get(call_id)
            left = end - time.monotonic()
            if call is None or until(call) or left <= 0:
                return call
            reply: Any = self.redis.xread(
                {self.keys.timeline(call_id): last},
                block=max(1, int(min(left, BLOCK_LIMIT) * 1000)),
            )
            if reply:
                last = reply[0][1][-1][0]

    def _arguments(
        self, old: Call | None, new: Call, change: Change
    ) -> tuple[list[str], list[str]]:
        """What change.lua takes."""
        fields = changed_fields(old, new)
        now = f"{self.now():.6f}"
        keys = self.keys
        event = {
            "call": new.id,
            "version": str(new.version),
            "at": now,
            "state": new.state.value,
            "user": new.user,
            "organization": new.organization,
            "extension": new.extension,
            "app": new.app,
            "changed": orjson.dumps(fields).decode(),
        }
        call, timeline = keys.call(new.id), keys.timeline(new.id)
        commands: list[_Command] = [_command("HSET", call, fields)]
        entries = [_entry(note, now) for note in change.notes]
        if old is None or old.state is not new.state:
            entries.append({"at": now, "kind": "change", "name": new.state.value})
        for entry in entries:
            commands.append(_command("XADD", timeline, entry, _TIMELINE_KEPT))
        commands.append(_command("XADD", keys.events, event, _EVENTS_KEPT))
        commands += self._index(old, new)
        for extension, told in call_events.outbox(old, new):
            commands.append(("HOOK", keys.hooked, extension))
            commands.append(_command("XADD", keys.outbox, told, ("*",)))
        if new.state is State.ENDED:
            commands += self._record(old, new)
            # A nonce may stand for several calls: a day more, the longest that another may last.
            kept = [(call, 0), (timeline, 0)]
            if new.nonce:
                kept.append((keys.nonce(new.app, new.nonce), 90_000))
            commands += [("EXPIRE", key, str(new.retention + more)) for key, more in kept]
        names = list(dict.fromkeys(key for _, key, *_ in commands))
        numbers = {key: number for number, key in enumerate(names, start=1)}
        words = [(name, numbers[key], *rest) for name, key, *rest in commands]
        return names, [
            f"{old.version}:{old.stamp or ''}" if old else "",
            orjson.dumps(words).decode(),
        ]

    def _index(self, old: Call | None, new: Call) -> Iterator[_Command]:
        """What keeps the call where it is looked for."""
        keys = self.keys
        deadline = watch.deadline(new)
        if deadline is None:
            yield "ZREM", keys.deadlines, new.id
        elif old is None or deadline != watch.deadline(old):
            yield "ZADD", keys.deadlines, str(deadline), new.id
        # The indexes change when a call begins, is claimed, gets another leg and ends.
        if deadline is None:
            if old is None or old.state is not State.ENDED:
                for key in self._indexes(new):
                    yield "ZREM", key, new.id
        elif old is None or old.switch != new.switch or len(old.legs) != len(new.legs):
            known = self._indexes(old) if old is not None else ()
            for key in self._indexes(new):
                if key not in known:
                    yield "ZADD", key, str(new.accepted), new.id
        yield from self._take(old, new)

    def _indexes(self, call: Call) -> list[str]:
        """Where the call stands while it is live."""
        keys = self.keys
        return [
            keys.calls,
            *map(keys.organization_calls, call.organizations),
            *map(keys.user_calls, call.users),
            *map(keys.extension_calls, call.extensions),
            *([keys.switch_calls(call.switch)] if call.switch else ()),
        ]

    def _record(self, old: Call | None, new: Call) -> Iterator[_Command]:
        """The record of a call that has ended, written again where what came late changes it."""
        keys, found = self.keys, cdr.record(new)
        was_ended = old is not None and old.state is State.ENDED
        if old is not None and was_ended and cdr.record(old) == found:
            return
        until = f"{new.accepted + new.cdr_retention:.0f}"
        text = orjson.dumps({**found, "saved": self.now()}).decode()
        yield "SET", keys.record(new.id), text, "EXAT", until
        if was_ended:
            return
        organization = keys.organization_records(new.extension.partition("*")[0])
        gone = str(self.now() - new.cdr_retention)
        for key in (keys.records, organization, keys.user_records(new.user)):
            yield "ZADD", key, str(new.accepted), new.id
            # What is gone by itself leaves it with the next that comes, or all with the last.
            yield "ZREMRANGEBYSCORE", key, "-inf", gone
            yield "EXPIRE", key, str(new.cdr_retention)

    def _take(self, old: Call | None, new: Call) -> Iterator[_Command]:
        """What the call takes of the limits, and gives back: of the switch a leg for each party, of
        a gateway each attempt through it."""
        if old is None or old.state is State.ENDED:
            return
        keys, ended = self.keys, new.state is State.ENDED
        begun = old.switch != new.switch and not ended
        if begun or ended:
            take = "SADD" if begun else "SREM"
            yield take, keys.taken(f"organization:{new.organization}"), new.id
            yield take, keys.taken(f"user:{new.user}"), new.id
        if begun or new.claimed is None:
            yield "HDEL", keys.waiting, new.id
            yield "ZREM", keys.line(new.organization), new.id
        if new.switch is None:
            return
        took: dict[str, list[str]] = {}
        gave: dict[str, list[str]] = {}
        was_open = {leg.id for leg in old.legs if leg.ended is None}
        is_open = {leg.party for leg in new.legs if leg.ended is None}
        created = {leg.id for leg in old.legs if leg.created is not None}
        for leg in new.legs:
            first = leg.id == leg.party
            over = ended or (leg.ended is not None and leg.id in was_open)
            if begun and first:
                took.setdefault(f"switch:{new.switch}", []).append(leg.uuid)
            elif (ended and first) or (over and leg.party not in is_open):
                gave.setdefault(f"switch:{new.switch}", []).append(
                    leg.uuid if first else _first_uuid(new, leg)
                )
            if (gateway := leg.trunk) is None:
                continue
            if over:
                gave.setdefault(f"gateway:{gateway}", []).append(leg.uuid)
            elif (begun and first) or (leg.created is not None and leg.id not in created):
                took.setdefault(f"gateway:{gateway}", []).append(leg.uuid)
        for name, uuids in took.items():
            yield "SADD", keys.taken(name), *uuids
        for name, uuids in gave.items():
            yield "SREM", keys.taken(name), *uuids


def _accepted(calls: tuple[Call, ...]) -> Accepted:
    counting.accepted(calls)
    return Accepted(calls, new=True)


def _tell(old: Call, new: Call) -> None:
    """Of a change that was written, once."""
    counting.changed(old, new)
    logs.changed(old, new)
    tracing.changed(old, new)


def _first_uuid(call: Call, leg: Leg) -> str:
    return next(first.uuid for first in call.legs if first.id == leg.party)


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


_CHANGE_SHA, _ACCEPT_SHA = _sha(_CHANGE), _sha(_ACCEPT)


def stamp() -> str:
    """One for a version of a call."""
    return f"{random.getrandbits(32):08x}"


def _ask(connection: Any, end: float, *command: Any) -> Any:
    """One command on a connection, answered before the monotonic ``end``."""
    connection.send_command(*command)
    return connection.read_response(timeout=max(0.01, end - time.monotonic()))


def _entry(note: Note, at: str) -> dict[str, str]:
    entry = {"at": at, "kind": note.kind, "name": note.name, "leg": note.leg, "data": note.data}
    return {name: text for name, text in entry.items() if text}


def _command(
    name: str, key: str, fields: dict[str, str], options: tuple[str, ...] = ()
) -> _Command:
    return name, key, *options, *(text for item in fields.items() for text in item)


def pairs(reply: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def from_reply(flat: dict[bytes, bytes]) -> Call | None:
    """The call of an HGETALL; None of an empty one."""
    if not flat:
        return None
    return from_hash({name.decode(): value.decode() for name, value in flat.items()})


def _readable(call_id: str, reply: Any) -> Call | None:
    """The same for one of many, of which one that cannot be read is passed over."""
    try:
        if isinstance(reply, Exception):
            raise reply
        return from_reply(reply)
    except (LookupError, TypeError, ValueError, ResponseError) as error:
        if isinstance(error, ResponseError) and not str(error).startswith("WRONGTYPE"):
            raise
        log.error("call %s cannot be read: %r", call_id, error, extra={"call": call_id})
        return None
