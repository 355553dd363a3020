"""Dials calls when it is their turn: claim, send the one originate, note that it was sent."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import gevent
from gevent.event import Event as Flag
from redis.exceptions import RedisError

from app import logs, tracing
from app.calls import transitions, watch
from app.calls.model import Call, State
from app.calls.store import Change, Note, NotReplicated
from app.metrics import counting
from freeswitch import commands
from freeswitch.event_socket import CommandRefused, EventSocketError, SwitchConnection
from freeswitch.pool import SwitchPool
from workers.originate import originate_command
from workers.runtime import CALL_VARIABLE, Runtime

log = logging.getLogger(__name__)

# Calls that are claimed and sent together.
BATCH = 32
# Seconds within which a switch answers that is well.
_PROMPT = 0.2
# Seconds until the next look at the line while nobody is known to wait in it.
_IDLE = 1.0
# The same where this process reaches no switch, or Redis is away.
_AWAY = 0.25

# A call as it was claimed, the command that carries it, and where that was sent.
Sent = tuple[Call, str, SwitchConnection]


class Dispatcher:
    """What a worker process dials with. Jobs bring new calls; :meth:`run` sees to those whose turn
    comes later, whoever brought them."""

    def __init__(self, runtime: Runtime, pool: SwitchPool) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._pool = pool
        self._soon = Flag()
        self._again = _IDLE
        self._stopping = False
        # Those who wait for switches that are slow to answer.
        self._slow: list[gevent.Greenlet] = []

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._stopping:
            self._soon.wait(self._again)
            self._soon.clear()
            if self._stopping:
                break
            try:
                self._dial_next([])
            except RedisError as error:
                log.warning("the line: %s", error)
                self._again = _AWAY
            except Exception:
                log.exception("seeing to the line failed")
                self._again = _AWAY
        gevent.joinall(self._slow)

    def look(self) -> None:
        """See to the line at once: there is a switch again."""
        self._soon.set()

    def stop(self) -> None:
        """Take no more calls; those that wait are for the other workers."""
        self._stopping = True
        self._soon.set()

    def place(self, ids: Sequence[str]) -> None:
        """Put calls in line, and dial those whose turn it is.

        A call that is not queued any more was cancelled, or claimed before: by a job that died
        then, or by this very job in a worker that died. Nothing is ever sent for it again; the
        watchdog asks the switch what became of it.
        """
        self._dial_next(ids)

    def _dial_next(self, new: Sequence[str]) -> None:
        """All that may be dialled now, the new calls or others."""
        brought = bool(new)
        while True:
            ready = [] if self._stopping else self._pool.ready()
            turn = self._runtime.pacer.next(new, ready, BATCH)
            if turn.calls:
                self._dial(turn.calls)
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

    def _dial(self, turn: Sequence[tuple[Call, str]]) -> None:
        at, send_before = self._store.now(), time.monotonic() + watch.SEND_WITHIN
        late = [call for call, _ in turn if at >= watch.queued_until(call)]
        if late:
            # Nobody expects them to ring any more.
            note = (Note("event", transitions.QUEUE_TIMEOUT),)
            end = partial(transitions.end_queued, at=at)
            self._change([Change(call, end, note) for call in late])
        chosen = []
        for call, switch in turn:
            connection = self._pool.get(switch)
            if connection is not None and call not in late:
                chosen.append((call, connection))
        if not chosen:
            return
        claimed = self._claim(chosen, at)
        sends = [
            gevent.spawn(self._send, connection, call, send_before) for call, connection in claimed
        ]
        done = self._note_done(sends, _PROMPT)
        if slow := [each for each in sends if each not in done]:
            # One switch that is slow holds up no other's calls.
            waiting = gevent.spawn(self._note_slow, slow)
            self._slow = [each for each in self._slow if not each.dead] + [waiting]

    def _note_done(self, sends: list[gevent.Greenlet], limit: float | None) -> list[Any]:
        done: list[Any] = gevent.joinall(sends, timeout=limit)
        self._note_sent([sent for each in done if (sent := each.value) is not None])
        return done

    def _note_slow(self, sends: list[gevent.Greenlet]) -> None:
        try:
            self._note_done(sends, None)
        except RedisError as error:
            # The listener finds out that they were sent.
            log.warning("calls that were sent could not be noted: %s", error)

    def _change(self, changes: Sequence[Change], *, replicated: bool = False) -> list[Call | None]:
        """As the store does it; what fails of one call is logged, and its call left out."""
        errors: dict[str, Exception] = {}
        calls = self._store.change_many(changes, replicated=replicated, errors=errors)
        for call_id, error in errors.items():
            with logs.about(call=call_id):
                log.error("a change of the call failed: %s", error)
        return calls

    def _claim(
        self, chosen: Sequence[tuple[Call, SwitchConnection]], at: float
    ) -> list[tuple[Call, SwitchConnection]]:
        """Claim them; those that are ours."""
        worker = self._runtime.name
        changes = []
        for call, connection in chosen:
            switch = connection.address.name
            claim = partial(
                transitions.claim,
                worker=worker,
                switch=switch,
                core_uuid=connection.core_uuid or "",
                at=at,
            )
            note = Note("command", "claim", data=f"{worker} on {switch}")
            changes.append(Change(call, claim, (note,)))
        try:
            calls = self._change(changes, replicated=True)
        except NotReplicated as error:
            # A replica that takes over would know nothing of the claims, and have them dialled
            # again.
            log.error("%d claims are not safe: %s", len(chosen), error)
            self._give_up([call.id for call, _ in chosen], at, str(error))
            return []
        return [
            (call, connection)
            for call, (_, connection) in zip(calls, chosen, strict=True)
            if call is not None and _is_ours(call, worker, at)
        ]

    def _give_up(self, ids: Sequence[str], at: float, text: str) -> None:
        note = (Note("event", transitions.NOT_REPLICATED, data=text),)
        give_up = partial(_end_claim, worker=self._runtime.name, claimed=at)
        calls = [call for call in self._store.get_many(ids) if call is not None]
        self._change([Change(call, give_up, note) for call in calls])

    def _send(self, connection: SwitchConnection, call: Call, send_before: float) -> Sent | None:
        """The originate; None where it was not sent, or nobody knows."""
        # In a greenlet of its own.
        logs.bind(call=call.id, switch=connection.address.name)
        try:
            return self._originate(connection, call, send_before)
        except RedisError as error:
            # What came of it the listener finds out.
            log.warning("call %s: %s", call.id, error)
            return None

    def _originate(
        self, connection: SwitchConnection, call: Call, send_before: float
    ) -> Sent | None:
        switch = connection.address.name
        try:
            command = originate_command(call, self._runtime.settings.video_codecs)
        except ValueError as error:
            # Refused before it was queued, unless somebody wrote the call past the API.
            log.error("call %s cannot be dialled: %s", call.id, error)
            counting.originate(call, switch, "not_sent")
            self._refused(call, "INVALID_NUMBER_FORMAT", str(error))
            return None
        if time.monotonic() > send_before or call.core_uuid != connection.core_uuid:
            # This process stood still, or the switch was restarted: the call is about to be ended.
            log.error("call %s: its claim is too old to be sent", call.id)
            counting.originate(call, switch, "not_sent")
            return None
        asked = time.monotonic()
        try:
            with self._traced(connection, call):
                connection.bgapi(command, call.job_uuid, timeout=watch.COMMAND_LIMIT)
        except CommandRefused as error:
            counting.originate(call, switch, "refused", time.monotonic() - asked)
            self._refused(call, "OUTGOING_CALL_BARRED", str(error))
            return None
        except EventSocketError as error:
            # It may have been sent or not: only the switch can tell, and the watchdog asks it.
            counting.originate(call, switch, "unknown")
            log.warning("call %s: %s", call.id, error)
            self._store.note(call.id, Note("reply", "originate", data=f"unknown: {error}"))
            return None
        counting.originate(call, switch, "sent", time.monotonic() - asked)
        return call, command, connection

    def _traced(self, connection: SwitchConnection, call: Call) -> AbstractContextManager[None]:
        address = connection.address
        about = {
            "ringback.switch": address.name,
            "server.address": address.host,
            "server.port": address.port,
        }
        return tracing.span(call.id, call.traceparent, "originate", self._store.now, about)

    def _note_sent(self, sent: Sequence[Sent]) -> None:
        if not sent:
            return
        mark = partial(transitions.mark_sent, at=self._store.now())
        calls = self._change(
            [
                Change(call, mark, (Note("command", "originate", data=command),))
                for call, command, _ in sent
            ]
        )
        for call, (_, _, connection) in zip(calls, sent, strict=True):
            # Asked for while this was under way; what is not there yet the listener hangs up.
            if call is not None and call.hangup_requested is not None:
                self.hang_up(connection, call)

    def _refused(self, call: Call, cause: str, text: str) -> None:
        refuse = partial(transitions.finish_originate, error=cause, at=self._store.now())
        self._store.change(call, refuse, Note("reply", "originate", data=text))

    def hang_up(self, connection: SwitchConnection, call: Call) -> None:
        """Hang up what a client has asked for, the call or parties of it; what fails here the
        listener makes good."""
        try:
            if call.hangup_requested is not None:
                reply = commands.hang_up_all(connection, CALL_VARIABLE, call.id)
                self._store.note(call.id, Note("command", "hupall", data=reply))
                return
            for leg in call.legs:
                if leg.hangup_requested is not None and leg.live:
                    reply = commands.kill(connection, leg.uuid)
                    self._store.note(call.id, Note("command", "uuid_kill", leg=leg.id, data=reply))
        except EventSocketError as error:
            with logs.about(call=call.id, switch=connection.address.name):
                log.warning("call %s is not hung up yet: %s", call.id, error)


def _is_ours(call: Call, worker: str, claimed: float) -> bool:
    return call.state is State.DIALING and (call.worker, call.claimed) == (worker, claimed)


def _end_claim(call: Call, *, worker: str, claimed: float) -> Call:
    # Of the claim of another, who may have sent it, nothing is known.
    if (call.worker, call.claimed) != (worker, claimed):
        return call
    return transitions.end(call, transitions.NOT_REPLICATED, at=claimed)
