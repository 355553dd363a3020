"""The store of calls in Redis: it reads them, and changes them by change.lua. pace.lua writes the
claims."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from app.calls.model import Call, State, evolve
from app.store import once, scripts, writes
from app.store.client import BLOCK_LIMIT, is_unavailable
from app.store.clock import RedisClock
from app.store.errors import NotReplicated
from app.store.keys import Keys
from app.store.replies import from_reply, pairs, readable
from app.store.writes import Note
from app.telemetry import counting, logs, tracing

log = logging.getLogger(__name__)

# Seconds that Redis waits for its replicas to confirm a change.
REPLICAS_LIMIT = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """A pure transition, the call to apply it to (which may be old), and notes for the timeline."""

    call: Call
    transition: Callable[[Call], Call]
    notes: tuple[Note, ...]


class CallStore:
    """The store that reads and changes calls."""

    def __init__(self, redis: Redis, keys: Keys, replicas: int = 0) -> None:
        """``replicas`` is how many replicas must hold a call before it counts as accepted, and
        its claim before it counts as claimed."""
        self.redis = redis
        self.keys = keys
        self.replicas = replicas
        self.clock = RedisClock(redis)

    def now(self) -> float:
        """Epoch seconds to the microsecond by Redis' clock. May raise an error of Redis."""
        return self.clock.now()

    def tell_claimed(self, call: Call) -> None:
        """Count and trace a claim that pace.lua has made."""
        before = evolve(call, state=State.QUEUED, worker=None, switch=None, claimed=None)
        _tell(before, call)

    def get(self, call_id: str) -> Call | None:
        """The call, or None if Redis does not have it or no longer keeps it."""
        flat: Any = self.redis.hgetall(self.keys.call(call_id))
        return from_reply(flat)

    def get_many(self, call_ids: Iterable[str]) -> list[Call | None]:
        """The calls, in the order of the ids. A call that is missing or cannot be read is None, so
        that it does not hide the others."""
        names = list(call_ids)
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in names:
                pipe.hgetall(self.keys.call(call_id))
            found = zip(names, pipe.execute(raise_on_error=False), strict=True)
        return [readable(call_id, reply) for call_id, reply in found]

    def change(
        self,
        call: Call,
        transition: Callable[[Call], Call],
        note: Note,
        *,
        replicated: bool = False,
    ) -> Call:
        """Apply a pure transition to the call in Redis, and return the call after it.

        ``call`` may be old: if another change came first, the transition is applied again to the
        call that Redis has. A transition that changes nothing writes nothing.
        Raises KeyError if Redis no longer keeps the call; with ``replicated`` NotReplicated.
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
        """Apply changes to many calls, each to another call, and return the calls after them.

        This takes one round trip, and one more for calls that another change came before. A call
        that Redis no longer keeps is None. So is a call whose change Redis refuses: its error goes
        into ``errors`` by the call's id, or is raised once all other changes are done.
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
                    changed = evolve(changed, version=call.version + 1, stamp=writes.stamp())
                    arguments = writes.arguments(self.keys, call, changed, change.notes, self.now())
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
                        # The client sent the change twice, because the first answer was lost.
                        _tell(old, current)
                    left.append((index, change))
        if errors is None and refused:
            raise next(iter(refused.values()))
        return done

    def _run(self, steps: list[tuple[list[str], list[str]]], replicated: bool) -> list[Any]:
        """Run change.lua for each step, all in one round trip."""
        replicas = self.replicas if replicated else 0
        with self.redis.pipeline(transaction=False) as pipe:
            for keys, arguments in steps:
                pipe.evalsha(scripts.CHANGE.sha, len(keys), *keys, *arguments)
            if replicas:
                # WAIT covers only the writes of its own connection.
                pipe.wait(replicas, int(REPLICAS_LIMIT * 1000))
            replies = pipe.execute(raise_on_error=False)
        had = replies.pop() if replicas else 0
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            self.redis.script_load(scripts.CHANGE.text)
            again = self._run([steps[n] for n in unknown], replicated)
            for n, reply in zip(unknown, again, strict=True):
                replies[n] = reply
        if isinstance(had, Exception):
            raise had
        if had < replicas and len(unknown) < len(steps):
            raise NotReplicated(f"{had} of {replicas} replicas have it")
        return replies

    def replicated(self, calls: Sequence[Call]) -> list[Call]:
        """The calls that Redis and enough of its replicas have in just this version. Raises
        NotReplicated."""
        # Write the calls again, unchanged: WAIT covers only the writes of its own connection.
        replies = self._run([([self.keys.call(call.id)], ["", "[]"]) for call in calls], True)
        return [
            call
            for call, reply in zip(calls, replies, strict=True)
            if isinstance(reply, list) and pairs(reply)[b"stamp"].decode() == call.stamp
        ]

    def by_nonce(self, app: str, nonce: str) -> tuple[Call, ...]:
        return self.of_nonce(self.redis.get(self.keys.nonce(app, nonce))) or ()

    def of_nonce(self, value: Any) -> tuple[Call, ...] | None:
        """The calls that a nonce stands for; None if the nonce is new or Redis no longer keeps its
        calls."""
        if value is None:
            return None
        ids = value.decode().split(",")
        calls = tuple(filter(None, self.get_many(ids)))
        # A call that Redis keeps and that cannot be read raises: its nonce is not new.
        return calls or tuple(filter(None, map(self.get, ids))) or None

    def nonces(self, call_ids: Sequence[str]) -> list[str | None]:
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in call_ids:
                pipe.hget(self.keys.call(call_id), "nonce")
            return [nonce and nonce.decode() for nonce in pipe.execute()]

    def live_of_switch(self, switch: str) -> list[str]:
        """The ids of the live calls that were claimed for the switch."""
        ids: Any = self.redis.zrange(self.keys.switch_calls(switch), 0, -1)
        return [call_id.decode() for call_id in ids]

    def unreachable(self, switches: Iterable[str]) -> dict[str, float]:
        """The unreachable ones of the switches, each with the time since when in epoch seconds."""
        names = list(dict.fromkeys(switches))
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hget(self.keys.switch(name), "unreachable_since")
            found = zip(names, pipe.execute(), strict=True)
        return {name: float(since) for name, since in found if since is not None}

    def due(self, now: float) -> list[str]:
        """The ids of calls whose deadline has passed."""
        ids: Any = self.redis.zrange(self.keys.deadlines, "-inf", now, byscore=True)
        return [call_id.decode() for call_id in ids]

    def postpone(self, until: dict[str, float]) -> None:
        """Set the times at which the watchdog looks at the calls again."""
        if until:
            self.redis.zadd(self.keys.deadlines, until, xx=True)

    def forget_deadline(self, call_id: str) -> None:
        """Remove the deadline of a call that is over. A call that this process cannot read keeps
        its deadline for others."""
        try:
            flat: Any = self.redis.hgetall(self.keys.call(call_id))
        except ResponseError:
            return
        if not flat or flat.get(b"state") == State.ENDED.encode():
            self.redis.zrem(self.keys.deadlines, call_id)

    def note(self, call_id: str, note: Note, mark: str = "") -> None:
        """Add a note to the timeline, once. The call itself does not change.

        A caller that retries after an error of Redis gives each attempt the same ``mark``
        (once.new_mark).
        """
        command = writes.note_command(self.keys, call_id, note, f"{self.now():.6f}")
        once.run(self.redis, self.keys, mark or once.new_mark(), [command])

    def note_sent(self, notes: Sequence[tuple[str, Note, float]]) -> list[bool]:
        """Add a note of what was sent, and when, to the timeline of each call, in one round trip,
        once.

        Returns for each call whether nothing else is left to do: the call is marked as sent, and no
        client wants it hung up. May raise an error of Redis.
        """
        noted_at = ((call_id, note, f"{at:.6f}") for call_id, note, at in notes)
        commands = [writes.note_command(self.keys, *each) for each in noted_at]
        # One mark for all of them: a mark costs Redis as much as a few notes.
        words = once.arguments(self.keys, once.new_mark(), commands)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(scripts.ONCE.sha, *words)
            for call_id, *_ in notes:
                pipe.hmget(self.keys.call(call_id), "sent", "hangup_requested")
            noted, *replies = pipe.execute(raise_on_error=False)
        if isinstance(noted, NoScriptError):
            try:
                self.redis.eval(scripts.ONCE.text, *words)
            except ResponseError as error:
                noted = error
        for reply in (noted, *replies):
            if isinstance(reply, Exception) and is_unavailable(reply):
                raise reply
        # A bad call does not affect the others.
        return [isinstance(of, list) and of[0] is not None and of[1] is None for of in replies]

    def timeline(self, call_id: str) -> list[dict[str, str]]:
        """The timeline of the call: every command, reply, event and change, oldest first."""
        entries: Any = self.redis.xrange(self.keys.timeline(call_id))
        found = [
            {"id": entry_id.decode(), **{k.decode(): v.decode() for k, v in fields.items()}}
            for entry_id, fields in entries
        ]
        # Workers write commands some time after they sent them.
        return sorted(found, key=lambda entry: entry["at"])

    def wait(self, call_id: str, until: Callable[[Call], bool], timeout: float) -> Call | None:
        """The call once ``until`` is true of it, or after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        last = "$"
        while True:
            # Find the end of the timeline before you read the call, so that no change is missed.
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


def _tell(old: Call, new: Call) -> None:
    """Count, log and trace a change that Redis has."""
    counting.changed(old, new)
    logs.changed(old, new)
    tracing.changed(old, new)
