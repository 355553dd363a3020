"""The dispatcher dials calls in turn: it claims them, sends the one originate and notes it."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from redis.exceptions import RedisError

from app.calls import transitions, watch
from app.calls.model import Call
from app.store.calls import Change
from app.store.errors import NotReplicated
from app.store.pace import PACE, Asking, Turn
from app.store.writes import Note
from app.telemetry import counting, logs, tracing
from freeswitch.connection import SwitchConnection
from freeswitch.errors import CommandRefused, EventSocketError
from freeswitch.pool import SwitchPool
from workers.dial_command import originate_command
from workers.hang_up import try_to_hang_up
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# The most calls that are claimed and sent together.
BATCH = 32
# Seconds within which a healthy switch answers.
_PROMPT = 0.2
# Seconds until the next look at the queue while no call is known to wait.
_IDLE = 1.0
# Seconds until the next look while this process reaches no switch, or Redis is unavailable.
_AWAY = 0.25

# Jobs whose calls are in line already. One that is forgotten puts them there again, to no effect.
_REMEMBERED = 1000
# Seconds for which what was sent is gathered, to be noted together: longer than it takes until a
# call's first event says that it was.
_GATHER = 0.25


@dataclass(frozen=True, slots=True)
class Sent:
    """A call as it was claimed, the command that carries it, and where and when it was sent, and
    taken by the switch."""

    call: Call
    command: str
    connection: SwitchConnection
    at: float
    taken: float


class Dispatcher:
    """What a worker process dials with. Jobs bring new calls; :meth:`run` sees to those whose turn
    comes later, whoever brought them."""

    # In the round trip in which RQ's worker takes jobs, calls are put in line and claimed.
    script = f"{PACE}local companion = pace\n"

    def __init__(self, runtime: Runtime, pool: SwitchPool) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._claims = runtime.claims
        self._pool = pool
        self._soon = Flag()
        self._again = _IDLE
        self._stopping = False
        # The request that is made with the next jobs, and who dials what came of it, by each job.
        self._asking: Asking | None = None
        self._dialling: dict[str, gevent.Greenlet] = {}
        # Those who wait for switches, and for those that are slow to answer.
        self._under_way: set[gevent.Greenlet] = set()
        self._sent: list[Sent] = []
        self._noting = BoundedSemaphore()
        self._some_sent = Flag()

    def run(self) -> None:
        """Dial queued calls until :meth:`stop`."""
        gevent.spawn(self._keep_noting)
        while not self._stopping:
            self._soon.wait(self._again)
            self._soon.clear()
            if self._stopping:
                break
            try:
                self._dial_next([])
            except RedisError as error:
                log.warning("the queue cannot be read: %s", error)
                self._again = _AWAY
            except Exception:
                log.exception("a look at the queue failed")
                self._again = _AWAY

    def finish(self) -> None:
        """Finish the work that is under way, after the last job."""
        self._give_back()
        try:
            while self._claims.some_lost:
                self._dial(self._claims.next([], {}, BATCH))
        except RedisError as error:
            log.warning("calls may be claimed and not dialled: %s", error)
        gevent.joinall(list(self._under_way), timeout=watch.COMMAND_LIMIT)
        self._note_sent()

    def look(self) -> None:
        """Look at the queue at once, because a switch is available again."""
        self._soon.set()

    def stop(self) -> None:
        """Take no more calls; other workers take those that wait."""
        self._stopping = True
        self._soon.set()

    def place(self, ids: Sequence[str]) -> None:
        """Put calls in line, and dial those whose turn it is.

        A call that is not queued any more was cancelled, or claimed before: by a job that died
        then, or by this very job in a worker that died. Nothing is ever sent for it again; the
        watchdog asks the switch what became of it.
        """
        asked = {i: self._dialling.pop(i) for i in ids if i in self._dialling}
        # Not more is taken than the switches take.
        gevent.joinall(list(asked.values()))
        if left := [call_id for call_id in ids if call_id not in asked]:
            self._dial_next(left)

    def ask(self, token: str) -> tuple[list[str], list[Any]] | None:
        """The keys and arguments for :attr:`script`; None where a switch has to be waited for."""
        if self._asking is None or self._asking.token != token:
            self._give_back()
            self._asking = Asking(token)
        ready = self._pool.heard and not self._stopping
        if not ready and not self._asking.made:
            return None
        switches = self._switches() if ready else {}
        keys = self._claims.keys(self._asking)
        return keys, self._claims.arguments(self._asking, switches, BATCH)

    def answered(self, jobs: Sequence[str], reply: Any) -> None:
        """What came of it. The calls that these jobs are for, whose names they have, are in
        line."""
        assert self._asking is not None
        asking, self._asking = self._asking, None
        turn = self._claims.turn(asking, reply)
        dialling = self._begin(self._dial_guarded, turn)
        self._dialling |= dict.fromkeys(jobs, dialling)
        while len(self._dialling) > _REMEMBERED:
            del self._dialling[next(iter(self._dialling))]
        if turn.again is not None:
            self._again = turn.again
            self._soon.set()

    def _give_back(self) -> None:
        """Nobody waits for the answer any more."""
        if self._asking is not None and self._asking.made:
            self._claims.lost(self._asking)
            self._soon.set()
        self._asking = None

    def _switches(self) -> dict[str, str]:
        """The switches that are ready, and their runs."""
        found = {name: self._pool.get(name) for name in self._pool.ready()}
        return {name: each.core_uuid or "" for name, each in found.items() if each is not None}

    def _begin(self, work: Callable[..., Any], *args: Any) -> gevent.Greenlet:
        greenlet = gevent.spawn(work, *args)
        self._under_way.add(greenlet)
        greenlet.link(self._under_way.discard)
        return greenlet

    def _dial_next(self, new: Sequence[str]) -> None:
        """All that may be dialled now, the new calls or others."""
        brought = bool(new)
        while True:
            ready = {} if self._stopping else self._switches()
            turn = self._claims.next(new, ready, BATCH)
            self._dial(turn)
            if len(turn.calls) < BATCH:
                break
            new = []
        if turn.again is None:
            self._again = _IDLE
            return
        self._again = turn.again if ready else _AWAY
        if brought:
            # The loop may be in the middle of a longer wait.
            self._soon.set()

    def _dial_guarded(self, turn: Turn) -> None:
        try:
            self._dial(turn)
        except RedisError as error:
            log.warning("dialling %d claimed calls failed: %s", len(turn.calls), error)
        except Exception:
            log.exception("dialling %d calls failed", len(turn.calls))

    def _dial(self, turn: Turn) -> None:
        calls: Sequence[Call] = turn.calls
        if calls and self._store.replicas:
            calls = self._replicated(calls)
        send_before = turn.asked + watch.SEND_WITHIN
        sends = [
            self._begin(self._send, connection, call, send_before)
            for call in calls
            if (connection := self._pool.get(call.switch or "")) is not None
        ]
        if turn.late:
            # Nobody expects them to ring any more.
            note = (Note("event", transitions.QUEUE_TIMEOUT),)
            end = partial(transitions.end_queued, at=self._store.now())
            late = self._store.get_many(turn.late)
            self._change([Change(call, end, note) for call in late if call is not None])
        # A slow switch must not delay calls on other switches.
        gevent.joinall(sends, timeout=_PROMPT)

    def _change(self, changes: Sequence[Change]) -> list[Call | None]:
        """Make the changes through the store. A call whose change fails is logged and left out."""
        errors: dict[str, Exception] = {}
        calls = self._store.change_many(changes, errors=errors)
        for call_id, error in errors.items():
            with logs.about(call=call_id):
                log.error("a change of the call failed: %s", error)
        return calls

    def _replicated(self, calls: Sequence[Call]) -> Sequence[Call]:
        """The calls whose claims enough replicas have. A replica that takes over without a claim
        would let the call be dialled again."""
        try:
            return self._store.replicated(calls)
        except NotReplicated as error:
            log.error("too few replicas have the claims of %d calls: %s", len(calls), error)
            note = (Note("event", transitions.NOT_REPLICATED, data=str(error)),)
            # All by one request, at one time.
            worker, at = self._runtime.name, calls[0].claimed or 0.0
            give_up = partial(_end_claim, worker=worker, claimed=at)
            known = self._store.get_many([call.id for call in calls])
            self._change([Change(call, give_up, note) for call in known if call is not None])
            return ()

    def _send(self, connection: SwitchConnection, call: Call, send_before: float) -> None:
        """Send the call's one originate."""
        # In a greenlet of its own.
        logs.bind(call=call.id, switch=connection.address.name)
        try:
            self._originate(connection, call, send_before)
        except RedisError as error:
            # The listener finds out what happened to the call.
            log.warning("call %s: %s", call.id, error)

    def _originate(self, connection: SwitchConnection, call: Call, send_before: float) -> None:
        switch = connection.address.name
        try:
            command = originate_command(call, self._runtime.settings.video_codecs)
        except ValueError as error:
            # Refused before it was queued, unless somebody wrote the call past the API.
            log.error("call %s cannot be dialled: %s", call.id, error)
            counting.originate(call, switch, "not_sent")
            self._refused(call, "INVALID_NUMBER_FORMAT", str(error))
            return
        # Nothing that waits comes between the look at its age and the sending.
        at = self._store.now()
        if time.monotonic() > send_before or call.core_uuid != connection.core_uuid:
            # This process stood still, or the switch was restarted: the call is about to be ended.
            log.error("call %s: its claim is too old to be sent", call.id)
            counting.originate(call, switch, "not_sent")
            return
        asked = time.monotonic()
        try:
            with self._traced(connection, call):
                connection.bgapi(command, call.job_uuid, timeout=watch.COMMAND_LIMIT)
        except CommandRefused as error:
            counting.originate(call, switch, "refused", time.monotonic() - asked)
            self._refused(call, "OUTGOING_CALL_BARRED", str(error))
            return
        except EventSocketError as error:
            # It may have been sent or not: only the switch can tell, and the watchdog asks it.
            counting.originate(call, switch, "unknown")
            log.warning("call %s: %s", call.id, error)
            self._store.note(call.id, Note("reply", "originate", data=f"unknown: {error}"))
            return
        taken = self._store.now()
        counting.originate(call, switch, "sent", time.monotonic() - asked, taken)
        self._sent.append(Sent(call, command, connection, at, taken))
        self._some_sent.set()

    def _traced(self, connection: SwitchConnection, call: Call) -> AbstractContextManager[None]:
        address = connection.address
        about = {
            "ringback.switch": address.name,
            "server.address": address.host,
            "server.port": address.port,
        }
        return tracing.span(call.id, call.traceparent, "originate", self._store.now, about)

    def _keep_noting(self) -> None:
        while True:
            self._some_sent.wait()
            gevent.sleep(_GATHER)
            self._some_sent.clear()
            try:
                self._note_sent()
            except Exception:
                log.exception("noting the sent calls failed")

    def _note_sent(self) -> None:
        """Note what was sent. That the switch took it, the calls' first events have mostly said
        by now."""
        with self._noting:
            sent, self._sent = self._sent, []
            notes = [(s.call.id, Note("command", "originate", data=s.command), s.at) for s in sent]
            if not notes:
                return
            try:
                done = self._store.note_sent(notes)
                open_ = {s.call.id: s for s, is_done in zip(sent, done, strict=True) if not is_done}
                calls = self._change(
                    [
                        Change(call, partial(transitions.mark_sent, at=open_[call.id].taken), ())
                        for call in self._store.get_many(open_)
                        if call is not None
                    ]
                )
            except RedisError as error:
                # The listener finds out that they were sent.
                log.warning("the sent calls could not be noted: %s", error)
                return
        for call in calls:
            # Asked for while this was under way; what is not there yet the listener hangs up.
            if call is not None and call.hangup_requested is not None:
                self._begin(self._hang_up_guarded, open_[call.id].connection, call)

    def _hang_up_guarded(self, connection: SwitchConnection, call: Call) -> None:
        try:
            try_to_hang_up(self._store, connection, call)
        except RedisError as error:
            # The call was hung up, or the listener does it.
            log.warning("call %s: %s", call.id, error)

    def _refused(self, call: Call, cause: str, text: str) -> None:
        refuse = partial(transitions.finish_originate, error=cause, at=self._store.now())
        self._store.change(call, refuse, Note("reply", "originate", data=text))


def _end_claim(call: Call, *, worker: str, claimed: float) -> Call:
    # Of the claim of another, who may have sent it, nothing is known.
    if (call.worker, call.claimed) != (worker, claimed):
        return call
    return transitions.end(call, transitions.NOT_REPLICATED, at=claimed)
