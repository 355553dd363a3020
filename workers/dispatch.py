"""The dispatcher dials calls in turn: it claims them, sends the one originate and notes it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from redis.exceptions import RedisError

from app.accounts.guard import barred
from app.accounts.prompts import Prompt
from app.calls import transitions, watch
from app.calls.model import Call
from app.calls.sight import organization_of
from app.store.calls import Change
from app.store.ejection import REFUSED
from app.store.errors import NotReplicated
from app.store.pace import Asking, Turn
from app.store.writes import Note, end_note
from app.telemetry import counting, logs, tracing
from freeswitch.connection import SwitchConnection
from freeswitch.errors import CommandRefused, EventSocketError
from freeswitch.pool import SwitchPool
from workers import media
from workers.dial_command import originate_command, prompts_of, within_maxima
from workers.hang_up import try_to_hang_up
from workers.quota import what_is_left
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# The most calls that are claimed and sent together.
BATCH = 32
# Seconds within which a healthy switch answers.
_PROMPT = 0.2
# Seconds after which a switch that owes a reply gets no more calls.
OWED = 0.5
# Seconds until the next look at the queue while no call is known to wait.
_IDLE = 1.0
# Seconds until the next look while this process reaches no switch, or Redis is unavailable.
_UNAVAILABLE = 0.25

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
    """The dialling half of a worker process. It claims calls when the process takes jobs, and in
    :meth:`run`, which finds the calls whose turn comes later."""

    def __init__(self, runtime: Runtime, pool: SwitchPool) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._claims = runtime.claims
        self._pool = pool
        self._soon = Flag()
        self._again = _IDLE
        self._stopping = False
        # The request that goes with the next jobs, and the greenlets that dial what such claimed.
        self._asking: Asking | None = None
        self._turns: set[gevent.Greenlet] = set()
        # All greenlets that dial, those that wait for a slow switch included.
        self._under_way: set[gevent.Greenlet] = set()
        self._sent: list[Sent] = []
        # The originates without a reply: the switch, and when each was sent (monotonic). Not by
        # Job-UUID: a claim that Redis lost may be made again while the first one has no reply yet.
        self._unanswered: list[tuple[str, float]] = []
        # The switches that were reported to owe one.
        self._owed: set[str] = set()
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
                self._dial_next()
            except RedisError as error:
                log.warning("the queue cannot be read: %s", error)
                self._again = _UNAVAILABLE
            except Exception:
                log.exception("a look at the queue failed")
                self._again = _UNAVAILABLE

    def finish(self) -> None:
        """Finish the work that is under way, after the last job."""
        self._give_back()
        try:
            while self._claims.some_lost:
                self._dial(self._claims.next({}, BATCH))
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

    def wait_sent(self) -> None:
        """Wait until all calls that were claimed together with jobs are with their switches."""
        gevent.joinall(list(self._turns))

    def ask(self, token: str) -> list[Any] | None:
        """The number of keys, KEYS and ARGV of pace.lua, for the request that goes with jobs.

        Returns None where a switch has to be waited for first: then :meth:`run` makes the request.
        The same ``token`` stands for the same request. May raise an error of Redis.
        """
        if self._asking is None or self._asking.token != token:
            self._give_back()
            # Before the claim: what is claimed must be sent soon, and without a look at Redis.
            self._runtime.accounts.latest(fresh=True)
            self._asking = Asking(token)
        ready = self._pool.heard and not self._stopping
        if not ready and not self._asking.made:
            self._soon.set()
            return None
        switches = self._switches() if ready else {}
        return self._claims.words(self._asking, switches, BATCH)

    def dial(self, reply: Any) -> None:
        """Dial what pace.lua has claimed for the request that :meth:`ask` has made.

        ``reply`` is its reply, or the error that stands for it: then the next request asks again.
        """
        if isinstance(reply, Exception):
            log.error("calls cannot be claimed: %s", reply)
            self._give_back()
            return
        assert self._asking is not None
        asking, self._asking = self._asking, None
        turn = self._claims.turn(asking, reply)
        if turn.calls or turn.late:
            dialling = self._begin(self._dial_guarded, turn)
            self._turns.add(dialling)
            dialling.link(self._turns.discard)
        if turn.again is not None and turn.again < self._again:
            # The loop may be in the middle of a longer wait.
            self._again = turn.again
            self._soon.set()

    def _give_back(self) -> None:
        """Keep the request that goes with jobs, if its answer may be lost, to make it again."""
        if self._asking is not None and self._asking.made:
            self._claims.lost(self._asking)
            self._soon.set()
        self._asking = None

    def _switches(self) -> dict[str, str]:
        """The switches that are ready, and their runs. One that owes a reply gets no more calls
        until it answers, where there is another."""
        found = {name: self._pool.get(name) for name in self._pool.ready()}
        owing = self._owing()
        return {
            name: each.core_uuid or ""
            for name, each in found.items()
            if each is not None and name not in owing
        }

    def _owing(self) -> set[str]:
        """The switches that have owed the reply to an originate for longer than OWED, where there
        are others."""
        since = time.monotonic() - OWED
        outcomes = self._runtime.outcomes
        late = {switch for switch, at in self._unanswered if at < since}
        owing = {switch for switch in late if outcomes.has_others(switch)}
        for switch in owing - self._owed:
            outcomes.owes(switch)
        self._owed = owing
        return owing

    def _begin(self, work: Callable[..., Any], *args: Any) -> gevent.Greenlet:
        greenlet = gevent.spawn(work, *args)
        self._under_way.add(greenlet)
        greenlet.link(self._under_way.discard)
        return greenlet

    def _dial_next(self) -> None:
        """Dial all calls that may be dialled now."""
        while True:
            self._runtime.accounts.latest(fresh=True)
            ready = {} if self._stopping else self._switches()
            turn = self._claims.next(ready, BATCH)
            self._dial(turn)
            if turn.again != 0.0:
                break
        if turn.again is None:
            self._again = _IDLE
        else:
            self._again = turn.again if ready else _UNAVAILABLE

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
        calls = self._allowed(calls)
        send_before = turn.asked + watch.SEND_WITHIN
        sends = [
            self._begin(self._send, connection, call, send_before)
            for call in calls
            if (connection := self._pool.get(call.switch or "")) is not None
        ]
        if turn.late:
            late, at = self._store.get_many(turn.late), self._store.now()
            self._change([_end_late(call, at) for call in late if call is not None])
        # A slow switch must not delay calls on other switches.
        gevent.joinall(sends, timeout=_PROMPT)

    def _allowed(self, calls: Sequence[Call]) -> Sequence[Call]:
        """The calls that the accounts allow now. They may have changed since the acceptance."""
        accounts = self._runtime.accounts.known
        found = {call.id: barred(accounts, call) for call in calls}
        if any(found.values()):
            # An API may have accepted a call by a change that this process has not read yet.
            accounts = self._runtime.accounts.latest(fresh=True)
            found = {call.id: barred(accounts, call) for call in calls}
        changes = []
        for call in calls:
            if (why := found[call.id]) is None:
                continue
            leg, rule = why
            counting.barred(rule.policy, rule.entry)
            counting.originate(call, call.switch or "", "not_sent")
            data = f"{rule.rule}: {rule.reason}"
            note = Note("event", transitions.BY_POLICY, leg=leg.id if leg else None, data=data)
            end = partial(
                transitions.give_up,
                by=transitions.BY_POLICY,
                worker=call.worker,
                claimed=call.claimed,
                at=self._store.now(),
                cause="OUTGOING_CALL_BARRED",
            )
            changes.append(Change(call, end, (note,)))
        if changes:
            self._change(changes)
        return [call for call in calls if found[call.id] is None]

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
        left = what_is_left(self._store, call)
        if left is None:
            log.warning("call %s: its caps leave nothing, so it is not dialled", call.id)
            counting.originate(call, switch, "not_sent")
            end = partial(transitions.end_for_quota, at=self._store.now())
            self._store.change(call, end, Note("event", transitions.BY_QUOTA))
            return
        try:
            settings = self._runtime.settings
            allowed = within_maxima(call, settings)
            command = originate_command(
                allowed,
                settings.video_codecs,
                left,
                partial(
                    media.timeout_of, call, accounts=self._runtime.accounts.known, settings=settings
                ),
                self._prompts(allowed),
                settings.music,
            )
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
        owed = switch, asked
        self._unanswered.append(owed)
        try:
            with self._traced(connection, call):
                connection.bgapi(command, call.job_uuid, timeout=watch.COMMAND_LIMIT)
        except CommandRefused as error:
            counting.originate(call, switch, "refused", time.monotonic() - asked)
            outcomes = self._runtime.outcomes
            outcomes.add(switch, "", REFUSED)
            again = outcomes.has_others(switch)
            self._refused(call, "OUTGOING_CALL_BARRED", str(error), again=again)
            return
        except EventSocketError as error:
            # It may have been sent or not: only the switch can tell, and the watchdog asks it.
            counting.originate(call, switch, "unknown")
            log.warning("call %s: %s", call.id, error)
            self._store.note(call.id, Note("reply", "originate", data=f"unknown: {error}"))
            return
        finally:
            self._unanswered.remove(owed)
        taken = self._store.now()
        counting.originate(call, switch, "sent", time.monotonic() - asked, taken)
        self._sent.append(Sent(call, command, connection, at, taken))
        self._some_sent.set()

    def _prompts(self, call: Call) -> Mapping[str, Prompt]:
        """The prompts that the call may have."""
        wanted, number = prompts_of(call), organization_of(call.extension)
        if not wanted:
            return {}
        found = self._runtime.accounts.known.prompts_of(number)
        if not wanted <= found.keys():
            # An API may have accepted the call by a change that this process has not read yet.
            found = self._runtime.accounts.latest(fresh=True).prompts_of(number)
        return found

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
                        Change(call, _sent(open_[call.id]), ())
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

    def _refused(self, call: Call, cause: str, text: str, *, again: bool = False) -> None:
        refuse = partial(
            transitions.refuse,
            error=cause,
            job_uuid=call.job_uuid,
            at=self._store.now(),
            again=again,
        )
        if self._store.change(call, refuse, Note("reply", "originate", data=text)).waits:
            self.look()


def _sent(sent: Sent) -> Callable[[Call], Call]:
    return partial(transitions.mark_sent, at=sent.taken, job_uuid=sent.call.job_uuid)


def _end_late(call: Call, at: float) -> Change:
    """The end of a call that waits no longer: its client does not expect it to ring any more, no
    switch is left to dial it, or the switch that it has to be dialled on takes no calls."""
    if call.refused_by is not None or at >= watch.queued_until(call):
        end = partial(transitions.end_queued, at=at)
        return Change(call, end, (end_note(call),))
    fault = transitions.HOME_UNAVAILABLE
    end = partial(transitions.end_queued, at=at, fault=fault)
    return Change(call, end, (Note("event", fault, data=call.home),))


def _end_claim(call: Call, *, worker: str, claimed: float) -> Call:
    reason = transitions.NOT_REPLICATED
    return transitions.give_up(call, reason, worker=worker, claimed=claimed, at=claimed)
