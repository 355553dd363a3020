"""The store of calls in Redis: it reads them, and changes them by change.lua. pace.lua writes the
claims."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import NoScriptError, ResponseError

from app.calls.model import Call, State, call_id_of, evolve, is_leg_uuid
from app.calls.quota import Check, NoRoom, QuotaExceeded, Wait
from app.store import once, quotas, scripts, unwritten, writes
from app.store.client import is_unavailable
from app.store.errors import NotReplicated
from app.store.keys import Keys
from app.store.reading import CallReader
from app.store.replies import from_reply, pairs
from app.store.writes import Note
from app.telemetry import counting, logs, tracing

log = logging.getLogger(__name__)

# Queued calls that the watchdog is given at a time, and the seconds until another process may be
# given the same.
QUEUED_BATCH = 100
QUEUED_LEFT = 5
# The field ``sent`` of a call that a switch refused, until its second originate is sent.
UNSENT = b"0.000000"
# Seconds that Redis waits for its replicas to confirm a change.
REPLICAS_LIMIT = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """A pure transition, the call to apply it to (which may be old), and notes for the timeline."""

    call: Call
    transition: Callable[[Call], Call]
    notes: tuple[Note, ...]


class CallStore(CallReader):
    """The store that reads and changes calls."""

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
        """Apply a pure transition to the call in Redis, and return the call after it.

        ``call`` may be old: if another change came first, the transition is applied again to the
        call that Redis has. A transition that changes nothing writes nothing.
        Raises KeyError if Redis no longer keeps the call; with ``replicated`` NotReplicated.
        """
        (changed,) = self.change_many([Change(call, transition, (note,))], replicated=replicated)
        if changed is None:
            raise KeyError(call.id)
        return changed

    def begin(
        self,
        call: Call,
        transition: Callable[[Call], Call],
        note: Note,
        checks: Sequence[Check] = (),
    ) -> Call:
        """Apply a transition that may bring third parties in, as :meth:`change` does, and take what
        these need from the limits and from caps in the same step.

        Raises KeyError if Redis no longer keeps the call, and NoRoom and QuotaExceeded, with
        nothing changed.
        """
        while True:
            changed = transition(call)
            if changed == call:
                return call
            changed = evolve(changed, version=call.version + 1, stamp=writes.stamp())
            keys, arguments = writes.arguments(self.keys, call, changed, (note,), self.now())
            takes = orjson.dumps(writes.takes_of(call, changed)).decode()
            words = (len(keys) + 1, self.keys.waiting, *keys)
            words = (*words, takes, quotas.dumps(checks), *arguments)
            reply, *said = scripts.run(self.redis, scripts.BEGIN, words)
            if reply == b"wait":
                limit, kind, most, taken, wait = (word.decode() for word in said)
                raise NoRoom(Wait(limit, kind, float(most), float(taken), float(wait) / 1e6))
            if reply == b"quota":
                raise QuotaExceeded(quotas.refusal(checks, said))
            if reply == b"done":
                quotas.tell(quotas.crossings(checks, said))
                _tell(call, changed)
                return changed
            current = from_reply(pairs(said[0]))
            if current is None:
                raise KeyError(call.id)
            if current.stamp == changed.stamp:
                # The client sent the change twice, because the first answer was lost.
                _tell(call, current)
                return current
            call = current

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

    def adopt(self, call: Call, note: Note) -> bool:
        """Write a call that is on its switch, and that Redis does not know. Returns whether it was
        written: not if Redis knows it by now."""
        new = evolve(call, version=1, stamp=writes.stamp())
        (reply,) = self._run([writes.adopted(self.keys, new, note, self.now())], False)
        if isinstance(reply, Exception):
            raise reply
        if reply != 1:
            current = from_reply(pairs(reply))
            # The client sent it twice, because the first answer was lost.
            return current is not None and current.stamp == new.stamp
        counting.accepted([new])
        return True

    def send_hang_up(self, call: Call, wanted: Call) -> int:
        """Ask the listeners for the hang-up that Redis refused to write. Returns how many heard
        it."""
        return unwritten.send(self.redis, self.keys, call, wanted)

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

    def due_queued(self) -> tuple[int, list[str]]:
        """How many queued calls were due to be looked at, of a batch of QUEUED_BATCH at most; and
        the ids of those that have waited too long or stand in no line.

        No other process gets these ids for QUEUED_LEFT seconds.
        """
        words = (2, self.keys.queued, self.keys.claims, QUEUED_LEFT, QUEUED_BATCH)
        reply = scripts.run(self.redis, scripts.QUEUED, words)
        return reply[0], [call_id.decode() for call_id in reply[1]]

    def put_in_line(self, calls: Sequence[Call]) -> None:
        """Put queued calls in line that stand in none, each if nothing has changed it since."""
        self._run([writes.line_arguments(self.keys, call) for call in calls], False)

    def count_legs(self, switch: str, channels: set[str], strangers: set[str]) -> None:
        """Count the legs of the switch anew whose calls Redis does not know: it came back empty.

        ``channels`` are the uuids that the switch has, ``strangers`` those of no live call. A leg
        counts until its channel is gone.
        """
        key = self.keys.taken(f"switch:{switch}")
        counted: Any = self.redis.smembers(key)
        known = {uuid.decode() for uuid in counted}
        doubtful = sorted((known - channels) | {uuid for uuid in strangers if is_leg_uuid(uuid)})
        calls = dict(zip(doubtful, self.get_many(map(call_id_of, doubtful)), strict=True))
        lost = {uuid for uuid, call in calls.items() if call is None}
        if new := (lost & channels) - known:
            self.redis.sadd(key, *new)
        if gone := lost - channels:
            self.redis.srem(key, *gone)

    def postpone(self, switch: str, until: dict[str, float]) -> None:
        """Set the times at which the watchdog looks at calls of the switch again."""
        if until:
            self.redis.zadd(self.keys.deadlines(switch), until, xx=True)

    def sort_deadlines(self) -> None:
        """Give the due ones of the deadlines that the version before wrote, a batch at most, to the
        switches of their calls."""
        old, now = self.keys.old_deadlines, self.now()
        found: Any = self.redis.zrange(old, "-inf", now, byscore=True)
        ids = [call_id.decode() for call_id in found[:QUEUED_BATCH]]
        for call_id, call in zip(ids, self.get_many(ids), strict=True):
            if call is not None and call.state is not State.ENDED and call.switch is not None:
                with self.redis.pipeline() as pipe:
                    pipe.zadd(self.keys.deadlines(call.switch), {call_id: now}, nx=True)
                    pipe.zrem(old, call_id)
                    pipe.execute()
            else:
                self._forget(old, call_id)

    def forget_deadline(self, call_id: str, switch: str | None = None) -> None:
        """Remove the deadline of a call that is over, from those of the switch or of queued calls.
        A call that this process cannot read keeps its deadline for others."""
        self._forget(self.keys.queued if switch is None else self.keys.deadlines(switch), call_id)

    def _forget(self, key: str, call_id: str) -> None:
        try:
            flat: Any = self.redis.hgetall(self.keys.call(call_id))
        except ResponseError:
            return
        if not flat or flat.get(b"state") == State.ENDED.encode():
            self.redis.zrem(key, call_id)

    def trim_events(self) -> None:
        """Remove the oldest changes from the stream, as far as they are beyond EVENTS_KEPT and
        older than EVENTS_FRESH."""
        key = self.keys.events
        length: int = self.redis.xlen(key)
        beyond = length - writes.EVENTS_KEPT
        if beyond > 0:
            oldest = int((self.now() - writes.EVENTS_FRESH) * 1000)
            self.redis.xtrim(key, minid=oldest, approximate=True, limit=beyond)

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
        unsent = (None, UNSENT)
        return [isinstance(of, list) and of[0] not in unsent and of[1] is None for of in replies]


def _tell(old: Call, new: Call) -> None:
    """Count, log and trace a change that Redis has."""
    counting.changed(old, new)
    logs.changed(old, new)
    tracing.changed(old, new)
