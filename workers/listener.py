"""The listener: turns the events of the switches into what Redis says of the calls.

Any number may run. A lease in Redis says which of them leads at a switch; should two do so for
a moment, the changes are idempotent. The others hear the same events and hold the last of them
back: whoever takes the lease over applies these first, so that nothing falls between the two.
"""

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from redis.exceptions import LockError, RedisError
from redis.lock import Lock
from tenacity import before_sleep_log, retry, retry_if_exception, wait_exponential

from app.calls import transitions, watch
from app.calls.model import Call, Leg, State, call_id_of
from app.calls.transitions import LegReport
from app.store import once
from app.store.calls import Change
from app.store.client import is_unavailable
from app.store.pace import Limit
from app.store.writes import Note
from app.telemetry import counting, logs
from freeswitch import commands
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from freeswitch.event_socket import Batching
from freeswitch.events import Event
from workers.leg_reports import leg_report
from workers.runtime import CALL_VARIABLE, Runtime

log = logging.getLogger(__name__)

EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_HOLD",
    "CHANNEL_UNHOLD",
    "RECORD_START",
    "RECORD_STOP",
    "CHANNEL_HANGUP_COMPLETE",
    "BACKGROUND_JOB",
    "HEARTBEAT",
    # The last: what follows it are subclasses.
    "CUSTOM valet_parking::info",
)
_CALL_HEADER = f"variable_{CALL_VARIABLE}"
# Filters are alternatives: our calls' channels, and the two events that are of no channel.
FILTERS = (
    (_CALL_HEADER, "/.+/"),
    ("Event-Name", "BACKGROUND_JOB"),
    ("Event-Name", "HEARTBEAT"),
)

# Seconds. A lease not renewed for LEASE goes to whoever asks next, every RENEWAL.
LEASE = 3.0
RENEWAL = 0.5
# How far back events are held by those that do not lead: longer than it takes to take over.
HOLD = 15.0
HELD_EVENTS = 100_000
WATCHDOG_INTERVAL = 1.0
# Calls whose channels are missing are looked for again after this.
SECOND_LOOK = 2.0
# How often a switch is asked for a sign of life, and how long it may take to answer: a
# half-open link brings no end of file, and no events.
HEARTBEAT = 2.0
TIMEOUT = 3.0
# Seconds between two attempts to reach a switch, at most: sooner than workers do.
MAX_DELAY = 0.5
# Who has been cut off from a switch for longer lets another lead that is not.
DEAF_LIMIT = 2.0
# A switch that is away for longer is said to be unreachable.
UNREACHABLE_AFTER = 10.0
# Events handled at once: more save little, and no other greenlet runs meanwhile.
MAX_BATCH = 128
# An event that comes alone is handled at once. Events that follow it closely share a batch, and
# with it the round trip to Redis.
BATCHING = Batching(size=MAX_BATCH, spacing=0.04, read_ahead=0.002)
# Calls read from Redis at a time, so that events are handled in between.
CHUNK = 20
# Calls that are asked for at the same time.
EXAMINERS = 4
# What a switch answers to an originate while it is paused, full, or throttles.
REFUSED = "DESTINATION_OUT_OF_ORDER"
# Seconds for which what brings a call that is being set up no new state waits for what follows it,
# to be written together; and how often it is seen whether some have waited long enough.
HOLD_BACK = 0.1
HOLD_BACK_LOOK = 0.05
# Ended calls whose last events are expected.
ENDED_KEPT = 1000
# Seconds that comparing waits at each step for events to be handled.
GIVE_WAY_LIMIT = 0.1
# Seconds that a verdict waits for all events so far to be handled; later it is another look's. And
# the end of this process.
CATCH_UP_LIMIT = 3.0

# For as long as Redis is away, unless this process is to stop.
patiently = retry(
    retry=retry_if_exception(is_unavailable),
    stop=lambda state: state.args[0].stopping,
    reraise=True,
    wait=wait_exponential(multiplier=0.05, max=2.0),
    before_sleep=before_sleep_log(log, logging.WARNING),
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the listener takes from one event; it may be applied later, or twice."""

    call_id: str
    note: Note
    # Of a channel.
    report: LegReport | None = None
    # Of an originate that is over.
    job_uuid: str | None = None
    error: str | None = None


class _Fold:
    """What was heard of a call and is not written yet: at most one new state."""

    def __init__(self, call: Call, until: float) -> None:
        # As it is known, and with what was heard.
        self.call = self.after = call
        # When it is written at the latest (monotonic).
        self.until = until
        self.heard: list[Heard] = []
        self.notes: list[Note] = []
        # What is for the change after this one: it brings a second new state.
        self.rest: list[Heard] = []
        self._at = 0.0
        self._urgent = False

    def take(self, one: Heard, at: float) -> None:
        """Take over what was heard at ``at``, in epoch seconds."""
        if self.rest:
            self.rest.append(one)
            return
        call, before = self.call, self.after
        after = _applied(before, one, at)
        if after.state is not before.state:
            if before.state is not call.state:
                self.rest.append(one)
                return
            self._urgent = True
        leg = call.leg(one.report.uuid) if one.report is not None else None
        if one.report is None:
            # A result that is no error changes nothing: the legs' own events say more.
            ours = one.job_uuid == call.job_uuid or call.leg(one.job_uuid or "") is not None
            if ours and (one.error is None or after is not before):
                self.notes.append(one.note)
        elif after is not before and leg is not None:
            self.notes.append(Note("event", one.note.name, leg=leg.id, data=one.note.data))
        self.heard.append(one)
        self.after, self._at = after, at
        self._urgent = self._urgent or not _may_wait(call, leg, one)

    def is_due(self, now: float) -> bool:
        return self._urgent or bool(self.rest) or self.until <= now

    @property
    def changes(self) -> bool:
        return self.after is not self.call

    def change(self) -> Change:
        def transition(current: Call) -> Call:
            if current is self.call:
                return self.after
            for one in self.heard:
                current = _applied(current, one, self._at)
            return current

        return Change(self.call, transition, tuple(self.notes))


def _may_wait(call: Call, leg: Leg | None, one: Heard) -> bool:
    """Whether what brings no new state need not be written at once: that the phones of a call
    which is being set up exist, ring or answer, and that its originate worked."""
    if call.state in (State.BRIDGED, State.ENDED) or one.error is not None:
        return False
    if one.report is None:
        return True
    settled = one.report.ended is not None or one.report.marks is not None
    return leg is not None and leg.action is None and not settled


class SwitchListener:
    """Follows one switch: applies its events while it holds the lease, holds them otherwise."""

    def __init__(self, runtime: Runtime, address: SwitchAddress) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._name = address.name
        # Two connections: while an api command runs, its connection brings no events.
        self._events = SwitchConnection(
            address,
            events=EVENTS,
            filters=FILTERS,
            on_events=self._on_events,
            batching=BATCHING,
            on_up=self._on_up,
            timeout=TIMEOUT,
            heartbeat=HEARTBEAT,
            max_delay=MAX_DELAY,
        )
        self._commands = SwitchConnection(
            address,
            on_up=self._on_up,
            timeout=TIMEOUT,
            heartbeat=HEARTBEAT,
            max_delay=MAX_DELAY,
        )
        self._lease = Lock(
            runtime.redis,
            runtime.keys.switch_lease(address.name),
            timeout=LEASE,
            blocking=False,
            thread_local=False,
        )
        self._leads = False
        # Held while an event is applied or the lead changes.
        self._order = BoundedSemaphore()
        self._held: deque[tuple[float, Heard]] = deque(maxlen=HELD_EVENTS)
        # What was heard of calls and is to be written, by their ids.
        self._folds: dict[str, _Fold] = {}
        self._some_wait = Flag()
        # The live calls as last seen, so that an event costs one round trip. A stale one costs
        # a second: the script compares versions. And the last that have ended.
        self._calls: dict[str, Call] = {}
        self._ended: deque[str] = deque()
        # For how long a call or a leg, by its id or uuid, has been missed on the switch, and when
        # it was last asked for (monotonic).
        self._missing: dict[str, tuple[float, float]] = {}
        # Since when (monotonic) this switch is out of reach, and others that nobody leads at.
        self._down_since: float | None = time.monotonic()
        self._left_alone: dict[str, float] = {}
        # Since when (monotonic) a call's deadline has passed and its switch could not be asked.
        self._unasked: dict[str, float] = {}
        self._look = Flag()
        self._stopping = Flag()
        # When the switch was last within reach (monotonic).
        self._heard = time.monotonic()
        self._examiners = Pool(EXAMINERS)

    def run(self) -> None:
        """Lead whenever the lease is free, until :meth:`stop`."""
        logs.bind(switch=self._name)
        counting.leads(self._name, False)
        self._events.start()
        self._commands.start()
        try:
            while not self._stopping.is_set():
                self._guarded(self._sign)
                if not self._should_give_way() and self._asked(self._lease.acquire):
                    log.info("switch %s is ours to follow", self._name)
                    self._guarded(self._lead)
                self._stopping.wait(RENEWAL)
        finally:
            self._events.stop()
            self._commands.stop()
            self._guarded(self._sign)

    def stop(self) -> None:
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return bool(self._stopping.is_set())

    @property
    def name(self) -> str:
        """The switch's."""
        return self._name

    @property
    def hears(self) -> bool:
        """Whether it is connected to the switch and its events come."""
        return self._events.up and self._commands.up

    def _lead(self) -> None:
        self._down_since = time.monotonic()
        counting.leads(self._name, True)
        over = Flag()
        helpers = [gevent.spawn(self._keep_lease, over)]
        try:
            # It may take longer than a lease lasts.
            self._take_over()
            self._look.set()
            loops = self._write_loop, self._reconcile_loop, self._watchdog_loop
            helpers += [gevent.spawn(loop) for loop in loops]
            gevent.wait([over, self._stopping], count=1)
            if not over.is_set():
                # What is here already: there may be no other to hear it.
                self._guarded(self._caught_up)
        finally:
            gevent.killall(helpers)
            self._examiners.kill()
            counting.leads(self._name, False)
            with self._order:
                if not over.is_set():
                    self._guarded(self._write_all)
                self._leads = False
                # Whoever leads next has heard it too.
                for fold in self._folds.values():
                    for one in (*fold.heard, *fold.rest):
                        self._hold(one)
                self._folds.clear()
            self._asked(self._lease.release)

    def _keep_lease(self, over: Flag) -> None:
        logs.bind(switch=self._name)
        while not over.is_set():
            # While Redis is away nobody else can take the lease, and the events that wait here
            # are all there is: they are dropped only for another holder.
            renewed = self._asked(self._lease.reacquire)
            if renewed is False and self._asked(self._lease.acquire) is False:
                log.warning("the lease of switch %s is another's", self._name)
                over.set()
            elif self._should_give_way():
                log.warning("another listener hears switch %s, this one does not", self._name)
                over.set()
            self._guarded(self._sign)
            self._guarded(self._tell_of_switch)
            over.wait(RENEWAL)

    def _should_give_way(self) -> bool:
        """Whether another hears the switch, while this one has been cut off from it."""
        if self._events.up and self._commands.up:
            self._heard = time.monotonic()
            return False
        if time.monotonic() - self._heard < DEAF_LIMIT:
            return False
        try:
            key = self._runtime.keys.switch_listeners(self._name)
            others: Any = self._runtime.redis.zrange(key, 0, -1)
        except RedisError:
            return False
        return any(name.decode() != self._runtime.name for name in others)

    @patiently
    def _take_over(self) -> None:
        """Apply what was held while another led, as far as it may not have, then lead."""
        begun = time.monotonic()
        self._missing.clear()
        self._calls = {call.id: call for call in self._live_calls()}
        with self._order:
            # What was not live when they were read has been ended by the one before, or was
            # claimed since.
            left = [
                heard
                for at, heard in self._held
                if at >= begun or (at >= begun - HOLD and heard.call_id in self._calls)
            ]
            self._held.clear()
            for first in range(0, len(left), MAX_BATCH):
                self._guarded(partial(self._apply, left[first : first + MAX_BATCH]))
            self._guarded(self._write_all)
            self._leads = True

    def _asked(self, action: Callable[[], Any]) -> bool | None:
        """Whether the lease was had; None where Redis could not be asked."""
        try:
            return action() is not False
        except LockError:
            return False
        except RedisError as error:
            log.warning("the lease of switch %s: %s", self._name, error)
            return None

    # What the switch's own hash says

    def _sign(self) -> None:
        """Be on the list of those that hear the switch, and could lead."""
        key, at = self._runtime.keys.switch_listeners(self._name), self._store.now()
        with self._runtime.redis.pipeline() as pipe:
            pipe.zremrangebyscore(key, "-inf", at - LEASE)
            if self._events.up:
                pipe.zadd(key, {self._runtime.name: at})
            else:
                pipe.zrem(key, self._runtime.name)
            pipe.expire(key, int(LEASE) + 1)
            pipe.execute()

    def _on_up(self, _: SwitchConnection) -> None:
        self._look.set()

    def _tell_of_switch(self) -> None:
        """Keep the switch's hash true: its run, who follows it, since when it is out of reach."""
        key = self._runtime.keys.switch(self._name)
        if self._events.up and self._commands.up:
            if self._down_since is not None:
                self._note_switch(
                    {"core_uuid": self._events.core_uuid or "", "up_since": self._store.now()}
                )
                self._runtime.redis.hdel(key, "unreachable_since")
                self._set_limit(commands.capacity(self._commands))
                self._down_since = None
        elif self._down_since is None:
            self._down_since = time.monotonic()
        elif time.monotonic() - self._down_since > UNREACHABLE_AFTER:
            since = self._store.now() - (time.monotonic() - self._down_since)
            if self._runtime.redis.hsetnx(key, "unreachable_since", f"{since:.6f}"):
                log.error("switch %s is out of reach; its calls wait for it", self._name)

    @patiently
    def _note_switch(self, fields: dict[str, str | float]) -> None:
        mapping: Any = {**fields, "listener": self._runtime.name}
        self._runtime.redis.hset(self._runtime.keys.switch(self._name), mapping=mapping)

    # Events

    def _on_events(self, events: list[Event]) -> None:
        heard: list[Heard] = []
        # Whole: the lead is not given up before what was read is applied.
        with self._order:
            for event in events:
                call_id = event.headers.get(_CALL_HEADER)
                self._guarded(partial(self._read_event, event, heard), call_id)
            if self._leads:
                self._apply(heard)
                self._guarded(partial(self._count, events))
            else:
                for one in heard:
                    self._hold(one)

    def _count(self, events: Sequence[Event]) -> None:
        """These have been handled; the first is the oldest."""
        stamp = events[0].headers.get("Event-Date-Timestamp", "")
        lag = self._store.now() - int(stamp) / 1e6 if stamp.isdecimal() else None
        counting.events(self._name, [event.name for event in events], lag)

    def _read_event(self, event: Event, into: list[Heard]) -> None:
        if event.name == "HEARTBEAT":
            if self._leads:
                self._note_load(event)
        elif (heard := _heard(event)) is not None:
            into.append(heard)
            if heard.error == REFUSED and self._leads:
                self._runtime.pacer.refused(self._name)

    def _hold(self, heard: Heard) -> None:
        if heard.report is None and heard.error is None:
            # A note in the timeline, no more: one is enough.
            return
        at = time.monotonic()
        while self._held and self._held[0][0] < at - HOLD:
            self._held.popleft()
        self._held.append((at, heard))

    def _set_limit(self, capacity: tuple[int, int] | None) -> None:
        """What the switch may be given: what its address says, or its sessions-per-second (it
        refuses the last one of a second) and its max-sessions."""
        address = self._commands.address
        rate, most = address.legs_per_second, address.max_legs
        if capacity is not None:
            rate = max(1, capacity[0] - 1) if rate is None else rate
            most = capacity[1] if most is None else most
        self._runtime.pacer.set_switch_limit(self._name, Limit(rate or 0, most or 0))

    def _note_load(self, event: Event) -> None:
        headers = event.headers
        with suppress(KeyError, ValueError):
            self._set_limit((int(headers["Session-Per-Sec"]), int(headers["Max-Sessions"])))
        self._note_switch(
            {
                "sessions": headers.get("Session-Count", ""),
                "max_sessions": headers.get("Max-Sessions", ""),
                "sessions_per_second": headers.get("Session-Per-Sec", ""),
                "heartbeat": self._store.now(),
            }
        )

    def _apply(self, heard: Sequence[Heard]) -> None:
        """Take over what was heard, in its order, and write of its calls what may not wait."""
        self._patiently(SwitchListener._fold, heard)
        self._write(dict.fromkeys(one.call_id for one in heard))

    def _patiently(self, work: Callable[..., None], *args: object) -> None:
        try:
            work(self, *args)
        except RedisError:
            # Not at once: what it takes to be patient takes a tenth of the time.
            patiently(work)(self, *args)

    def _fold(self, heard: Sequence[Heard]) -> None:
        """Add it to what is to be written. One round trip for calls not known yet."""
        at, until = self._store.now(), time.monotonic() + HOLD_BACK
        calls = self._known(heard)
        for one in heard:
            if (fold := self._folds.get(one.call_id)) is None:
                if (call := calls.get(one.call_id)) is None:
                    continue
                fold = self._folds[call.id] = _Fold(call, until)
            self._guarded(partial(fold.take, one, at), one.call_id)

    def _write_loop(self) -> None:
        logs.bind(switch=self._name)
        while True:
            self._some_wait.wait()
            gevent.sleep(HOLD_BACK_LOOK)
            with self._order:
                self._guarded(partial(self._write, list(self._folds)))
                if not self._folds:
                    self._some_wait.clear()

    def _write_all(self) -> None:
        self._write(list(self._folds), all_of_it=True)

    def _write(self, ids: Collection[str], *, all_of_it: bool = False) -> None:
        """Write of these calls what is due."""
        now = math.inf if all_of_it else time.monotonic()
        while due := [f for i in ids if (f := self._folds.get(i)) is not None and f.is_due(now)]:
            try:
                self._patiently(SwitchListener._write_together, due)
            except Exception as error:
                if is_unavailable(error):
                    raise
                # What cannot be written costs nothing else.
                for fold in due:
                    again = partial(self._patiently, SwitchListener._write_together, [fold])
                    self._guarded(again, fold.call.id)
                    if self._folds.get(fold.call.id) is fold:
                        del self._folds[fold.call.id]
        if self._folds:
            self._some_wait.set()

    def _write_together(self, folds: Sequence[_Fold]) -> None:
        """One round trip for all calls: one for each further state of a call, so that whoever
        follows the changes sees every state."""
        # It may be tried again, in the middle.
        folds = [fold for fold in folds if self._folds.get(fold.call.id) is fold]
        changing = [fold for fold in folds if fold.changes]
        written = self._store.change_many([fold.change() for fold in changing])
        for fold, call in zip(changing, written, strict=True):
            if call is not None:
                self._remember(call)
                self._hang_up_unwanted(fold.heard, call)
            else:
                # Its time in Redis is over.
                self._calls.pop(fold.call.id, None)
            self._go_on(fold, call)
        for fold in folds:
            if not fold.changes:
                for note in fold.notes:
                    self._note(fold.call, note, once.new_mark())
                self._hang_up_unwanted(fold.heard, fold.call)
                self._go_on(fold, fold.call)

    def _go_on(self, fold: _Fold, call: Call | None) -> None:
        """What was heard is written; go on with the rest."""
        del self._folds[fold.call.id]
        if call is not None and fold.rest:
            at, again = self._store.now(), _Fold(call, fold.until)
            self._folds[call.id] = again
            for one in fold.rest:
                again.take(one, at)

    @patiently
    def _note(self, call: Call, note: Note, mark: str) -> None:
        self._store.note(call.id, note, mark)

    def _known(self, heard: Sequence[Heard]) -> dict[str, Call]:
        """The calls of these, as old as they may be, but with all the legs that were heard."""
        calls: dict[str, Call] = {}
        unknown: dict[str, None] = {}
        for one in heard:
            fold = self._folds.get(one.call_id)
            call = fold.call if fold is not None else self._calls.get(one.call_id)
            uuid = one.report.uuid if one.report is not None else one.job_uuid or ""
            if call is None or _came_in_later(call, uuid):
                unknown[one.call_id] = None
            else:
                calls[call.id] = call
        if unknown:
            for call in self._store.get_many(unknown):
                if call is not None:
                    calls[call.id] = call
                    self._remember(call)
                    if (fold := self._folds.get(call.id)) is not None:
                        # What was heard before goes on from what is known now.
                        fold.rest[:0] = fold.heard
                        self._go_on(fold, call)
        return calls

    def _hang_up_unwanted(self, heard: Sequence[Heard], call: Call) -> None:
        """Hang up what came up after its call was ended or its hang-up was carried out."""
        came_up: dict[str, None] = {}
        for one in heard:
            if one.report is None:
                continue
            if one.note.name in ("CHANNEL_CREATE", "CHANNEL_ANSWER"):
                came_up[one.report.uuid] = None
            elif one.report.ended is not None:
                came_up.pop(one.report.uuid, None)
        unwanted = {uuid: leg for uuid in came_up if (leg := call.leg(uuid)) is not None}
        # Who listens would hear nothing for the rest of the time, and who rings for a party
        # that has left would talk to nobody.
        unwanted |= {leg.uuid: leg for leg in call.thirds if leg.live}
        for leg in unwanted.values():
            if transitions.is_unwanted(call, leg):
                gevent.spawn(self._guarded, partial(self._kill, call, leg), call.id, leg.id)

    def _change(self, call: Call, transition: Callable[[Call], Call], note: Note) -> Call:
        try:
            call = self._store.change(call, transition, note)
        except KeyError:
            # Its time in Redis is over.
            self._calls.pop(call.id, None)
        else:
            self._remember(call)
        return call

    def _remember(self, call: Call) -> None:
        self._calls[call.id] = call
        if call.state is State.ENDED:
            self._unasked.pop(call.id, None)
            # The last events of its legs are still to come.
            self._ended.append(call.id)
            if len(self._ended) > ENDED_KEPT:
                self._calls.pop(self._ended.popleft(), None)

    def _kill(self, call: Call, leg: Leg) -> None:
        reply = commands.kill(self._commands, leg.uuid)
        if reply.startswith("+OK"):
            self._store.note(call.id, Note("command", "uuid_kill", leg=leg.id, data=reply))

    # Reconciling

    def _reconcile_loop(self) -> None:
        logs.bind(switch=self._name)
        interval = self._runtime.settings.reconcile_interval
        at = 0.0
        while True:
            left = max(0.0, at + interval - time.monotonic())
            whole = self._look.wait(min(SECOND_LOOK, left) if self._missing else left)
            self._look.clear()
            if whole or time.monotonic() >= at + interval:
                at = time.monotonic()
                self._guarded(self._reconcile)
            else:
                self._guarded(self._look_again)

    def _watchdog_loop(self) -> None:
        logs.bind(switch=self._name)
        while True:
            gevent.sleep(WATCHDOG_INTERVAL)
            self._guarded(self._watch)

    def _guarded(
        self, work: Callable[[], object], call_id: str | None = None, leg_id: str | None = None
    ) -> None:
        try:
            work()
        except (EventSocketError, RedisError) as error:
            with logs.about(switch=self._name, call=call_id, leg=leg_id):
                log.warning("switch %s: %s", self._name, error)
        except Exception:
            with logs.about(switch=self._name, call=call_id, leg=leg_id):
                log.exception("switch %s: looking after its calls failed", self._name)

    def _reconcile(self) -> None:
        """Compare the live calls in Redis with the switch's channels.

        The calls are read first: whatever is claimed afterwards is not among them, and what the
        switch then answers is the state of the run that it belongs to.
        """
        if self._commands.up:
            with counting.reconciling(self._name):
                self._compare()

    def _compare(self) -> None:
        begun = time.monotonic()
        calls = self._live_calls()
        states = commands.call_states(self._commands)
        live = {call.id for call in calls}
        # Calls that another process has ended.
        self._calls = {i: call for i, call in self._calls.items() if i in live}
        ours = {leg.uuid for call in calls for leg in call.legs}
        self._missing = {i: of for i, of in self._missing.items() if call_id_of(i) in live}
        # The list alone ends nothing, and tells little.
        doubtful = [c for c in calls if c.core_uuid != self._core or watch.is_doubtful(c, states)]
        self._examine_all(doubtful)
        self._hang_up_orphans(set(states) - ours)
        if self._unasked:
            alive = set(self._store.due(math.inf))
            self._unasked = {i: at for i, at in self._unasked.items() if i in alive}
        seconds = f"{time.monotonic() - begun:.3f}"
        log.info("switch %s: %d live calls compared in %s s", self._name, len(calls), seconds)
        self._note_switch({"reconciled": self._store.now(), "reconcile_seconds": seconds})

    def _look_again(self) -> None:
        """See whether what was missed is still missing."""
        if self._commands.up:
            live = set()
            for call in self._read(sorted({call_id_of(i) for i in self._missing})):
                live.add(call.id)
                self._examine(call)
            self._missing = {i: of for i, of in self._missing.items() if call_id_of(i) in live}

    def _examine_all(self, calls: Sequence[Call]) -> None:
        """Several at a time: each waits for the switch and for Redis by turns."""
        for call in calls:
            self._give_way()
            self._examiners.spawn(self._guarded, partial(self._examine, call), call.id)
        self._examiners.join()

    def _give_way(self) -> None:
        """Let live events go first; but in a flood of them calls are looked after too."""
        end = time.monotonic() + GIVE_WAY_LIMIT
        # Less is taken at once, soon.
        while self._events.backlog > MAX_BATCH and time.monotonic() < end:
            gevent.sleep(0.001)

    @property
    def _core(self) -> str:
        return self._commands.core_uuid or ""

    def _examine(self, call: Call) -> float:
        """Ask the switch of a claimed call's channels and do what follows; returns how many
        seconds later to look again, unless an event comes."""
        if call.switch != self._name:
            # A fail-over of Redis forgot the claim, and it was claimed for another.
            self._missing.pop(call.id, None)
            return SECOND_LOOK
        asked = time.monotonic()
        self._unasked.pop(call.id, None)
        found = {}
        open_legs = [leg for leg in call.legs if leg.ended is None]
        for leg in open_legs:
            if (event := commands.dump(self._commands, leg.uuid)) is not None:
                found[leg.uuid] = event
            if call.core_uuid != self._core:
                # Answered by another run: there is nothing of the call.
                break
        if not open_legs:
            # Every leg has ended, and the call's own end is on its way.
            commands.core_uuid(self._commands)
        fault = watch.fate(
            call,
            core_uuid=self._core,
            there=bool(found),
            # What was missed before it was sent says nothing of what is sent now.
            gone_for=(
                0.0
                if found
                else self._missed_for(call.id if call.sent else f"{call.id}-unsent", asked)
            ),
        )
        if fault is not None:
            self._end_unheard(call, fault)
            return SECOND_LOOK
        if not found:
            return SECOND_LOOK
        for name in (call.id, f"{call.id}-unsent", *found):
            self._missing.pop(name, None)
        reports = [report for event in found.values() if (report := leg_report(event))]
        call = self._change(call, _reporting(*reports), Note("event", "found on the switch"))
        for leg in call.legs:
            gone = leg.live and leg.uuid not in found
            if gone and self._missed_for(leg.uuid, asked) >= watch.GONE_LIMIT and self._caught_up():
                # Its last event was lost, or is applied by now: how it ended is not known.
                self._missing.pop(leg.uuid, None)
                note, at = Note("event", "gone from the switch", leg=leg.id), self._store.now()
                call = self._change(call, _reporting(LegReport(leg.uuid, ended=at)), note)
                if any((each.id, each.ended) == (leg.id, at) for each in call.legs):
                    counting.legs_gone(self._name, 1)
        for leg in call.legs:
            if (
                watch.is_unsent(leg)
                and leg.uuid not in found
                and self._missed_for(leg.uuid, asked) >= watch.UNSENT_LIMIT
            ):
                note = Note("event", "never sent", leg=leg.id)
                call = self._change(
                    call,
                    partial(
                        transitions.end_leg,
                        uuid=leg.uuid,
                        cause="NORMAL_UNSPECIFIED",
                        at=self._store.now(),
                    ),
                    note,
                )
        at = _clock(found)
        if call.sent is None:
            call = self._change(
                call,
                lambda c: transitions.mark_sent(c, at=at),
                Note("command", "found on the switch"),
            )
        return self._enforce(call, at)

    def _enforce(self, call: Call, at: float) -> float:
        """Hang up what was asked for, and what outlives its limit by the switch's clock ``at``."""
        if call.state is State.ENDED:
            return SECOND_LOOK
        if at >= watch.limit(call):
            self._hang_up(call, "ALLOTTED_TIMEOUT")
        elif call.hangup_requested is not None:
            self._hang_up(call, "NORMAL_CLEARING")
        elif unwanted := [g for g in call.legs if g.live and transitions.is_unwanted(call, g)]:
            for leg in unwanted:
                self._kill(call, leg)
        else:
            return max(SECOND_LOOK, watch.limit(call) - at)
        return SECOND_LOOK

    def _missed_for(self, name: str, asked: float) -> float:
        """For how long it has been missing: what several looks add up to, since between two of
        them this process or the switch may have stood still."""
        missed, before = self._missing.get(name, (0.0, asked))
        missed += min(asked - before, watch.LOOK_LIMIT)
        self._missing[name] = missed, asked
        return missed

    def _hang_up_orphans(self, uuids: set[str]) -> None:
        """Hang up channels of calls that have ended. Of others we know nothing: let them be."""
        of_calls = {uuid: call_id_of(uuid) for uuid in uuids}
        ended = {call.id: call for call in self._read(sorted(set(of_calls.values())), ended=True)}
        for uuid, call_id in of_calls.items():
            call = ended.get(call_id)
            leg = call.leg(uuid) if call else None
            if call is not None and leg is not None and call.state is State.ENDED:
                self._kill(call, leg)

    def _watch(self) -> None:
        """See to calls whose deadline has passed without the event that should have come."""
        due = self._store.due(self._store.now())
        later: dict[str, float] = {}
        found = set()

        @cache
        def waiting() -> frozenset[str]:
            return self._runtime.queue.waiting() | self._runtime.pacer.waiting(due)

        def see_to(call: Call) -> None:
            # Again soon, also where this fails.
            later[call.id] = self._store.now() + SECOND_LOOK
            if (again := self._see_to(call, waiting)) is None:
                del later[call.id]
            else:
                later[call.id] = self._store.now() + again

        for call in self._read(due, ended=True):
            found.add(call.id)
            self._guarded(partial(see_to, call), call.id)
        for call_id in set(due) - found:
            self._store.forget_deadline(call_id)
        self._store.postpone(later)

    def _see_to(self, call: Call, waiting: Callable[[], frozenset[str]]) -> float | None:
        """Do what is due for a call; returns the seconds until the next look, None where another
        sees to it. ``waiting`` tells which calls wait in the queue or in line."""
        if call.state is State.ENDED:
            self._store.forget_deadline(call.id)
            return None
        if call.state is State.QUEUED:
            return self._watch_queued(call, call.id in waiting())
        if call.switch == self._name and self._commands.up:
            return self._examine(call)
        away_for = self._away_for(call.switch or "")
        if away_for is None:
            return None
        # A call may be younger than the outage: workers may still reach the switch.
        at = time.monotonic()
        away_for = min(away_for, at - self._unasked.setdefault(call.id, at))
        if fault := watch.fate_unreachable(call, away_for=away_for):
            self._end(call, fault)
        return SECOND_LOOK

    def _watch_queued(self, call: Call, waits: bool) -> float:
        at = self._store.now()
        if at >= watch.queued_until(call):
            self._change(
                call,
                lambda c: transitions.end_queued(c, at=at),
                Note("event", transitions.QUEUE_TIMEOUT),
            )
        elif not waits:
            # A worker died with its job before the claim, or has it and waits for a switch.
            self._runtime.queue.place_again(call)
            self._store.note(call.id, Note("command", "enqueue again"))
        return min(watch.QUEUE_LOOK, watch.queued_until(call) - at)

    def _away_for(self, switch: str) -> float | None:
        """For how many seconds nobody could ask that switch; None where another may."""
        at = time.monotonic()
        if switch == self._name:
            return at - (self._down_since or at)
        if self._runtime.redis.exists(self._runtime.keys.switch_lease(switch)):
            self._left_alone.pop(switch, None)
            return None
        return at - self._left_alone.setdefault(switch, at)

    def _live_calls(self) -> list[Call]:
        return list(self._read(self._store.live_of_switch(self._name)))

    def _read(self, ids: Sequence[str], *, ended: bool = False) -> Iterator[Call]:
        for first in range(0, len(ids), CHUNK):
            for call in self._store.get_many(ids[first : first + CHUNK]):
                if call is not None and (ended or call.state is not State.ENDED):
                    yield call
            self._give_way()

    def _hang_up(self, call: Call, cause: str) -> None:
        reply = commands.hang_up_all(self._commands, CALL_VARIABLE, call.id, cause)
        self._store.note(call.id, Note("command", "hupall", data=reply))

    def _end_unheard(self, call: Call, fault: str) -> None:
        """End a call whose channels are gone, unless their own events wait here to say more."""
        if self._caught_up():
            self._end(call, fault)

    def _caught_up(self) -> bool:
        """Have all that the switch has sent by now written; False where that takes too long."""
        if not self._events.catch_up(CATCH_UP_LIMIT):
            return False
        with self._order:
            self._write_all()
        return True

    def _end(self, call: Call, fault: str) -> None:
        at, seen = self._store.now(), call.stamp

        def transition(current: Call) -> Call:
            # Nothing is ended on what was true of it before another change.
            return transitions.end(current, fault, at=at) if current.stamp == seen else current

        data = json.dumps({"switch": call.switch})
        ended = self._change(call, transition, Note("event", fault, data=data))
        if (ended.ended, ended.ended_by) == (at, transitions.EVENTS_LOST):
            counting.legs_gone(self._name, sum(leg.live for leg in call.legs))


def _heard(event: Event) -> Heard | None:
    """What is worth keeping of an event; None for one that is of no call."""
    headers = event.headers
    if event.name == "BACKGROUND_JOB":
        job_uuid, result = headers.get("Job-UUID", ""), event.body or ""
        return Heard(
            call_id_of(job_uuid),
            Note("reply", "originate", data=result.strip()),
            job_uuid=job_uuid,
            error=commands.originate_error(result),
        )
    call_id = headers.get(_CALL_HEADER)
    report = leg_report(event)
    if not call_id or report is None:
        return None
    return Heard(call_id, Note("event", event.name, data=report.cause), report=report)


def _came_in_later(call: Call, uuid: str) -> bool:
    """Whether it is a leg of the call that an action has brought in since the call was read."""
    return call.leg(uuid) is None and uuid != call.job_uuid and call_id_of(uuid) == call.id


def _applied(call: Call, heard: Heard, at: float) -> Call:
    if heard.report is not None:
        return transitions.report_leg(call, heard.report)
    if heard.error is None or heard.job_uuid is None:
        return call
    if heard.job_uuid == call.job_uuid:
        return transitions.finish_originate(call, error=heard.error, at=at)
    # Of a third party, whose first leg gave the job its name.
    return transitions.end_leg(call, heard.job_uuid, cause=heard.error, at=at)


def _reporting(*reports: LegReport) -> Callable[[Call], Call]:
    def transition(call: Call) -> Call:
        for report in reports:
            call = transitions.report_leg(call, report)
        return call

    return transition


def _clock(dumps: dict[str, Event]) -> float:
    """The switch's own clock in epoch seconds, as the last dump has it."""
    stamp = max(event.headers.get("Event-Date-Timestamp", "0") for event in dumps.values())
    return int(stamp) / 1e6
