"""Changes the calls in Redis through change.lua. pace.lua writes their claims."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from app.calls.model import Call, State, evolve
from app.store import once, scripts, writes
from app.store.client import is_unavailable
from app.store.errors import NotReplicated
from app.store.keys import Keys
from app.store.reading import CallReader
from app.store.replies import from_reply, pairs
from app.store.writes import Note
from app.telemetry import counting, logs, tracing

log = logging.getLogger(__name__)

# Seconds that Redis waits for its replicas to confirm a change.
REPLICAS_LIMIT = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """A pure transition of a call, as old as it may be, and what its timeline says of it."""

    call: Call
    transition: Callable[[Call], Call]
    notes: tuple[Note, ...]


class CallStore(CallReader):
    """Reads calls, and changes them through the script."""

    def __init__(self, redis: Redis, keys: Keys, replicas: int = 0) -> None:
        """``replicas`` is how many replicas must hold a call before it counts as accepted, and
        its claim before it counts as claimed."""
        super().__init__(redis, keys)
        self.replicas = replicas

    def tell_claimed(self, call: Call) -> None:
        """Count and trace a claim that pace.lua has made."""
        before = evolve(call, state=State.QUEUED, worker=None, switch=None, claimed=None)
        _tell(before, call)

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
                        # It was sent twice, and the answer to the first lost.
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
                # On one connection: WAIT is for what that one has written.
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
        """Those of the calls that this server has as they are, and enough replicas of it too.
        Raises NotReplicated."""
        # Written again, unchanged: WAIT is for what its own connection has written.
        replies = self._run([([self.keys.call(call.id)], ["", "[]"]) for call in calls], True)
        return [
            call
            for call, reply in zip(calls, replies, strict=True)
            if isinstance(reply, list) and pairs(reply)[b"stamp"].decode() == call.stamp
        ]

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

    def note(self, call_id: str, note: Note, mark: str = "") -> None:
        """Add to the timeline what changes nothing in the call, once.

        A caller that tries again after an error of Redis gives each attempt the same ``mark``
        (once.new_mark).
        """
        command = writes.note_command(self.keys, call_id, note, f"{self.now():.6f}")
        once.run(self.redis, self.keys, mark or once.new_mark(), [command])

    def note_sent(self, notes: Sequence[tuple[str, Note, float]]) -> list[bool]:
        """Add to the timelines of calls what was sent for them, and when, in one round trip, once.

        Returns for each whether nothing is left to write: the call is marked as sent, and nobody
        wants it hung up. May raise an error of Redis.
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
        # What is wrong with one call costs no other anything.
        return [isinstance(of, list) and of[0] is not None and of[1] is None for of in replies]


def _tell(old: Call, new: Call) -> None:
    """Count, log and trace a change, once it is written."""
    counting.changed(old, new)
    logs.changed(old, new)
    tracing.changed(old, new)
