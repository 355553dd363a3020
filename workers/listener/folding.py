"""Folding: several events of a call make one change in Redis.

The listener that leads writes what it hears. A standby keeps the last of it in a buffer. When the
standby takes the lease over it applies the buffer first, so that no event is lost between the two.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore

from app.calls import transitions
from app.calls.model import Call, State
from app.store import counted, once
from app.store.calls import Change
from app.store.client import is_unavailable
from app.store.writes import Note
from app.telemetry import counting
from freeswitch.connection import SwitchConnection
from freeswitch.events import Event
from workers.hang_up import hang_up_leg
from workers.leg_reports import seconds
from workers.listener import heard as hearing
from workers.listener.failures import guarded, patiently
from workers.listener.heard import CALL_HEADER, REFUSED, Heard
from workers.listener.steering import Steering
from workers.listener.switch_record import SwitchRecord
from workers.runtime import Runtime

# Seconds for which a standby keeps what it heard: longer than a take-over takes.
BUFFERED_FOR = 15.0
BUFFERED_EVENTS = 100_000
# The most events that are handled at once: more save little, and no other greenlet runs meanwhile.
MAX_BATCH = 128
# Seconds for which a write may be delayed, so that it takes with it what follows. Only what brings
# a call that is being set up no new state is delayed.
DELAY = 0.1
# Calls that have ended and are still known: the last events of their legs are to come.
ENDED_KEPT = 1000


class _Fold:
    """The events of a call that are not written yet. They bring at most one new state."""

    def __init__(self, call: Call, until: float) -> None:
        # The call as it is known, and after what was heard.
        self.call = self.after = call
        # When it is written at the latest (monotonic).
        self.until = until
        self.heard: list[Heard] = []
        self.notes: list[Note] = []
        # Events that bring a second new state. They wait for the next change.
        self.rest: list[Heard] = []
        self._at = 0.0
        self._urgent = False

    def take(self, one: Heard, at: float) -> None:
        """Take over what was heard at ``at``, in epoch seconds."""
        if self.rest:
            self.rest.append(one)
            return
        before = self.after
        after = hearing.applied(before, one, at)
        if after.state is not before.state:
            if before.state is not self.call.state:
                self.rest.append(one)
                return
            self._urgent = True
        if (note := hearing.note_of(before, after, one)) is not None:
            self.notes.append(note)
        self.heard.append(one)
        self.after, self._at = after, at
        self._urgent = self._urgent or not hearing.may_wait(self.call, one)

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
                current = hearing.applied(current, one, self._at)
            return current

        return Change(self.call, transition, tuple(self.notes))


class Folding:
    """The known calls, with their events that are not written yet."""

    def __init__(
        self,
        runtime: Runtime,
        link: SwitchConnection,
        record: SwitchRecord,
        steering: Steering,
        stopping: Flag,
    ) -> None:
        """``link`` takes the commands that hang up unwanted channels."""
        self._runtime = runtime
        self._store = runtime.store
        self._link = link
        self._name = link.address.name
        self._record = record
        self._steering = steering
        self._stopping = stopping
        self._leads = False
        # One greenlet at a time applies events, writes them, or changes the lead.
        self._order = BoundedSemaphore()
        # What a standby heard, and when (monotonic).
        self._buffer: deque[tuple[float, Heard]] = deque(maxlen=BUFFERED_EVENTS)
        self._folds: dict[str, _Fold] = {}
        # Set while some writes are delayed.
        self.some_wait = Flag()
        # The calls as last seen, so that an event costs one round trip. A stale one costs a
        # second round trip: the script compares versions.
        self._calls: dict[str, Call] = {}
        self._ended: deque[str] = deque()
        # The known calls whose minutes or cost caps count, live ones and those that have just
        # ended.
        self._timed: dict[str, Call] = {}
        # Set when one of them has changed.
        self.timed_changed = Flag()
        # Results that may be refusals before any channel, and when they came (monotonic).
        self._refused: deque[tuple[float, Heard]] = deque()
        # Set while there are some.
        self.some_refused = Flag()

    @property
    def known(self) -> Collection[str]:
        """The ids of the calls that are known."""
        return self._calls.keys()

    def keep(self, live: Collection[str]) -> None:
        """Forget the calls that are no longer live: another process has ended them."""
        self._calls = {i: call for i, call in self._calls.items() if i in live}
        self._timed = {i: call for i, call in self._timed.items() if i in live}

    @property
    def has_timed(self) -> bool:
        """Whether caps count minutes or cost of a known call."""
        return bool(self._timed)

    def take_timed(self) -> list[Call]:
        """The calls whose minutes or cost caps count. One that has ended is given once."""
        found = list(self._timed.values())
        self._timed = {c.id: c for c in found if c.state is not State.ENDED}
        return found

    def take_over(self, live: Iterable[Call], begun: float) -> None:
        """Apply what is in the buffer, as far as the last leader may not have, then lead.

        ``live`` are the live calls of the switch, read since ``begun`` (monotonic).
        """
        self._calls = {call.id: call for call in live}
        self._timed = {}
        for call in self._calls.values():
            self._note_timed(call)
        with self._order:
            # The last leader has ended a call that is not among the live ones, or a worker has
            # claimed it since.
            left = [
                one
                for at, one in self._buffer
                if at >= begun or (at >= begun - BUFFERED_FOR and one.call_id in self._calls)
            ]
            self._buffer.clear()
            for first in range(0, len(left), MAX_BATCH):
                self._guarded(partial(self._apply, left[first : first + MAX_BATCH]))
            self._guarded(self._write_all)
            self._leads = True

    def step_down(self, *, write: bool) -> None:
        """Stop leading. Without ``write``, another listener leads and writes what is left."""
        with self._order:
            refused = [one for _, one in self._refused]
            self._refused.clear()
            if write:
                self._guarded(partial(self._fold, refused, final=True))
                self._guarded(self._write_all)
            self._leads = False
            if not write:
                for one in refused:
                    self._keep_in_buffer(one)
            # The next leader has heard these events too.
            for fold in self._folds.values():
                for one in (*fold.heard, *fold.rest):
                    self._keep_in_buffer(one)
            self._folds.clear()

    def hear(self, events: Sequence[Event]) -> None:
        """Apply the events of a batch, or keep them in the buffer while another listener leads."""
        found: list[Heard] = []
        # A batch is taken as a whole: the lead does not change before all of it is applied.
        with self._order:
            for event in events:
                call_id = event.headers.get(CALL_HEADER)
                self._guarded(partial(self._read, event, found), call_id)
            if self._leads:
                self._apply(found)
                self._guarded(self._steering.take_out)
                self._guarded(partial(self._count, events))
            else:
                for one in found:
                    self._keep_in_buffer(one)

    def write_due(self) -> None:
        """Write the events whose delay is over."""
        with self._order:
            self._guarded(partial(self._write, list(self._folds)))
            if not self._folds:
                self.some_wait.clear()

    def write_all(self) -> None:
        """Write all that was heard. May raise an error of Redis."""
        with self._order:
            self._write_all()

    def take_refused(self, age: float) -> list[Heard]:
        """The results that may be refusals, and came at least ``age`` seconds ago."""
        found = []
        while self._refused and self._refused[0][0] <= time.monotonic() - age:
            found.append(self._refused.popleft()[1])
        if not self._refused:
            self.some_refused.clear()
        return found

    def finish(self, one: Heard) -> None:
        """Apply a result that is no refusal before any channel."""
        with self._order:
            if self._leads:
                self._fold([one], final=True)
                self._guarded(partial(self._write, [one.call_id]))
            else:
                self._keep_in_buffer(one)

    def change(self, call: Call, transition: Callable[[Call], Call], note: Note) -> Call:
        """Apply a pure transition to the call in Redis, and know the call after it.

        If Redis no longer keeps the call, this returns ``call`` as it was.
        """
        try:
            call = self._store.change(call, transition, note)
        except KeyError:
            self._calls.pop(call.id, None)
        else:
            self._remember(call)
        return call

    def _guarded(self, work: Callable[[], object], call_id: str | None = None) -> None:
        guarded(self._name, work, call_id)

    def _count(self, events: Sequence[Event]) -> None:
        """Count the events of a batch, the oldest first, once they are applied."""
        at = seconds(events[0].headers.get("Event-Date-Timestamp"))
        lag = self._store.now() - at if at is not None else None
        counting.events(self._name, [event.name for event in events], lag)

    def _read(self, event: Event, into: list[Heard]) -> None:
        if event.name == "HEARTBEAT":
            if self._leads:
                self._record.note_load(event)
        elif (one := hearing.hear(event)) is not None:
            into.append(one)
            if one.error == REFUSED and self._leads:
                self._steering.refused()

    def _keep_in_buffer(self, one: Heard) -> None:
        if one.report is None and one.error is None:
            # The event only adds a note to the timeline, and the leader writes it.
            return
        at = time.monotonic()
        while self._buffer and self._buffer[0][0] < at - BUFFERED_FOR:
            self._buffer.popleft()
        self._buffer.append((at, one))

    def _apply(self, heard: Sequence[Heard]) -> None:
        """Add events to the folds in their order, and write what may not wait."""
        patiently(self._stopping, partial(self._fold, heard))
        self._write(dict.fromkeys(one.call_id for one in heard))

    def _fold(self, heard: Sequence[Heard], *, final: bool = False) -> None:
        """Add events to the folds of their calls. Unknown calls cost one round trip.

        What may be a refusal before any channel waits for a decision, unless this one is final.
        """
        at, until = self._store.now(), time.monotonic() + DELAY
        calls = self._calls_of(heard)
        for one in heard:
            if (fold := self._folds.get(one.call_id)) is None:
                if (call := calls.get(one.call_id)) is None:
                    continue
                if not final and self._may_be_refused(call, one):
                    continue
                fold = self._folds[call.id] = _Fold(call, until)
            self._steering.heard(fold.call, one, at)
            self._guarded(partial(fold.take, one, at), one.call_id)

    def _may_be_refused(self, call: Call, one: Heard) -> bool:
        """Keep a result that may be a refusal before any channel for a decision. Returns whether it
        is one."""
        has_others = self._runtime.outcomes.has_others(self._name)
        if not has_others or not hearing.is_refusal(call, one):
            return False
        self._refused.append((time.monotonic(), one))
        self.some_refused.set()
        return True

    def _calls_of(self, heard: Sequence[Heard]) -> dict[str, Call]:
        """The calls of some events. They may be old, but have all legs of the events."""
        calls: dict[str, Call] = {}
        unknown: dict[str, None] = {}
        for one in heard:
            fold = self._folds.get(one.call_id)
            call = fold.call if fold is not None else self._calls.get(one.call_id)
            if call is None or hearing.concerns_new_leg(call, one):
                unknown[one.call_id] = None
            else:
                calls[call.id] = call
        if unknown:
            for call in self._store.get_many(unknown):
                if call is not None:
                    calls[call.id] = call
                    self._remember(call)
                    if (fold := self._folds.get(call.id)) is not None:
                        # Earlier events apply to the call as it is now.
                        fold.rest[:0] = fold.heard
                        self._go_on(fold, call)
        return calls

    def _write_all(self) -> None:
        self._write(list(self._folds), all_of_it=True)

    def _write(self, ids: Collection[str], *, all_of_it: bool = False) -> None:
        """Write the due changes of these calls."""
        now = math.inf if all_of_it else time.monotonic()
        while due := [f for i in ids if (f := self._folds.get(i)) is not None and f.is_due(now)]:
            try:
                patiently(self._stopping, partial(self._write_together, due))
            except Exception as error:
                if is_unavailable(error):
                    raise
                # A call that cannot be written delays no other.
                for fold in due:
                    again = partial(self._write_together, [fold])
                    self._guarded(partial(patiently, self._stopping, again), fold.call.id)
                    if self._folds.get(fold.call.id) is fold:
                        del self._folds[fold.call.id]
        if self._folds:
            self.some_wait.set()

    def _write_together(self, folds: Sequence[_Fold]) -> None:
        """Write one change of each call, all in one round trip.

        A further state of a call takes a change of its own, so that a reader of the changes sees
        every state.
        """
        # A retry may begin in the middle.
        folds = [fold for fold in folds if self._folds.get(fold.call.id) is fold]
        changing = [fold for fold in folds if fold.changes]
        written = self._store.change_many([fold.change() for fold in changing])
        for fold, call in zip(changing, written, strict=True):
            if call is not None:
                self._runtime.outcomes.changed(fold.call, call)
                self._remember(call)
                self._hang_up_unwanted(fold.heard, call)
            else:
                # Redis no longer keeps the call.
                self._calls.pop(fold.call.id, None)
            self._go_on(fold, call)
        for fold in folds:
            if not fold.changes:
                for note in fold.notes:
                    add = partial(self._store.note, fold.call.id, note, once.new_mark())
                    patiently(self._stopping, add)
                self._hang_up_unwanted(fold.heard, fold.call)
                self._go_on(fold, fold.call)

    def _go_on(self, fold: _Fold, call: Call | None) -> None:
        """End a fold that is written, and begin another with the rest."""
        del self._folds[fold.call.id]
        if call is not None and fold.rest:
            at, again = self._store.now(), _Fold(call, fold.until)
            self._folds[call.id] = again
            for one in fold.rest:
                again.take(one, at)

    def _note_timed(self, call: Call) -> None:
        if counted.timed_holders(call):
            self._timed[call.id] = call
            self.timed_changed.set()

    def _remember(self, call: Call) -> None:
        self._calls[call.id] = call
        self._note_timed(call)
        if call.state is State.ENDED:
            self._ended.append(call.id)
            if len(self._ended) > ENDED_KEPT:
                self._calls.pop(self._ended.popleft(), None)

    def _hang_up_unwanted(self, heard: list[Heard], call: Call) -> None:
        """Hang up channels that came up after the end or the hang-up of their call."""
        for leg in hearing.legs_to_check(call, heard):
            if transitions.is_unwanted(call, leg):
                # The switch's reply must not delay the events.
                gevent.spawn(
                    guarded,
                    self._name,
                    partial(hang_up_leg, self._store, self._link, call, leg),
                    call.id,
                    leg.id,
                )
