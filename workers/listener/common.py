"""The common watchdog: it sees to what no leader of a switch looks after. One listener process at
a time has its lease.

That is what waits in the queue, the calls of a switch that nobody leads, and the calls of a switch
that an operator has declared dead. The last needs no connection to the switch.
"""

import json
import logging
import time
from functools import partial

from gevent.event import Event as Flag
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from app.calls import transitions, watch
from app.calls.model import Call, State
from app.store.calls import QUEUED_BATCH, Change
from app.store.switches import SwitchStore
from app.store.writes import Note, end_note
from app.telemetry import logs
from workers.listener.failures import guarded
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds after which a lease that is not renewed is free, and between two looks.
LEASE = 3.0
INTERVAL = 0.5
# Seconds for which the list of switches is kept.
_NAMES_KEPT = 5.0
# Calls that are read and changed at a time, so that events are handled in between.
BATCH = 100


class CommonWatchdog:
    """The common watchdog of one listener process. It looks while it has the lease."""

    def __init__(self, runtime: Runtime) -> None:
        self._store = runtime.store
        self._switches = SwitchStore(runtime.redis, runtime.keys)
        self._stopping = Flag()
        self._lease = Lock(
            runtime.redis,
            runtime.keys.watch_lease,
            timeout=LEASE,
            blocking=False,
            thread_local=False,
        )
        self._has_lease = False
        self._names: list[str] = []
        self._named: float | None = None
        # Since when (monotonic) a switch has had no leader, and one of its calls has been due.
        self._left_alone: dict[str, float] = {}
        self._unasked: dict[str, float] = {}

    def run(self) -> None:
        """Look whenever the lease is free or this process's, until :meth:`stop`."""
        while not self._stopping.is_set():
            if self._keeps_lease():
                self.look()
            self._stopping.wait(INTERVAL)
        if self._has_lease:
            guarded("*", self._lease.release)

    def stop(self) -> None:
        """Make :meth:`run` release the lease and return."""
        self._stopping.set()

    def look(self) -> None:
        """Look once at everything."""
        for work in (
            self._store.trim_events,
            self._watch_queued,
            self._store.sort_deadlines,
            self._watch_switches,
        ):
            guarded("*", work)

    def _keeps_lease(self) -> bool:
        try:
            self._has_lease = self._has_lease and self._renews()
            if not self._has_lease and self._lease.acquire():
                self._has_lease = True
                # What another process counted is not known here.
                self._left_alone.clear()
                self._unasked.clear()
        except RedisError as error:
            log.warning("cannot ask Redis for the lease of the common watchdog: %s", error)
            return False
        return self._has_lease

    def _renews(self) -> bool:
        try:
            self._lease.reacquire()
        except LockError:
            # It has expired, and may be another process's.
            return False
        return True

    def _watch_queued(self) -> None:
        """Look at queued calls in batches: end those that waited too long."""
        due = QUEUED_BATCH
        while due == QUEUED_BATCH:
            due, ids = self._store.due_queued()
            calls = dict(zip(ids, self._store.get_many(ids), strict=True))
            queued = [c for c in calls.values() if c is not None and c.waits]
            at = self._store.now()
            late = [call for call in queued if at >= watch.queued_until(call)]
            end = partial(transitions.end_queued, at=at)
            self._change([Change(call, end, (end_note(call),)) for call in late])
            if strays := [call for call in queued if at < watch.queued_until(call)]:
                # Their claims did not fit their hashes.
                self._store.put_in_line(strays)
                for call in strays:
                    self._store.note(call.id, Note("command", "queue again"))
            for call_id, found in calls.items():
                if found is None or not found.waits:
                    self._store.forget_deadline(call_id)

    def _watch_switches(self) -> None:
        """End the calls of dead switches, and look at the due calls of those without a leader."""
        at = time.monotonic()
        if self._named is None or at - self._named > _NAMES_KEPT:
            self._names, self._named = self._switches.names(), at
        dead = self._switches.dead()
        for name, of in dead.items():
            guarded(name, partial(self._end_calls, name, str(of.get("by"))))
        for name, led in self._switches.led(self._names).items():
            if led or name in dead:
                self._left_alone.pop(name, None)
            else:
                since = self._left_alone.setdefault(name, at)
                guarded(name, partial(self._watch_unled, name, since))

    def _end_calls(self, name: str, by: str) -> None:
        """End all live calls of a switch that an operator has declared dead. What another process
        has begun goes on here: only live calls are read."""
        # Calls that could not be ended stay the first ones.
        stuck = ended = 0
        while ids := self._store.live_of_switch(name, stuck, BATCH):
            calls = [call for call in self._store.get_many(ids) if call is not None]
            at = self._store.now()

            def end(call: Call, at: float = at) -> Call:
                # A call may have been claimed for another switch since.
                dies = call.switch == name and not call.waits
                return transitions.end(call, transitions.SWITCH_DEAD, at=at) if dies else call

            data = json.dumps({"switch": name, "by": by})
            note = (Note("event", transitions.SWITCH_DEAD, data=data),)
            over = self._change([Change(call, end, note) for call in calls])
            ended += over
            stuck += len(ids) - over
            if not self._keeps_lease():
                break
        if ended:
            log.warning("switch %s was declared dead by %s: ended %d calls", name, by, ended)

    def _watch_unled(self, name: str, since: float) -> None:
        """Look at the due calls of a switch that no listener could ask since then (monotonic)."""
        due = self._store.due(name, self._store.now())
        for first in range(0, len(due), BATCH):
            some = due[first : first + BATCH]
            later: dict[str, float] = {}
            for call_id, call in zip(some, self._store.get_many(some), strict=True):
                if call is None or call.state is State.ENDED:
                    self._unasked.pop(call_id, None)
                    self._store.forget_deadline(call_id, name)
                    continue
                at = time.monotonic()
                # A call may be younger than the outage: workers may still reach the switch.
                for_ = at - max(since, self._unasked.setdefault(call_id, at))
                if fault := watch.fate_unreachable(call, unreachable_for=for_):
                    self._end(call, fault)
                again = watch.next_look_unreachable(call, unreachable_for=for_)
                later[call_id] = self._store.now() + again
            self._store.postpone(name, later)

    def _end(self, call: Call, fault: str) -> None:
        at, seen = self._store.now(), call.stamp

        def end(current: Call) -> Call:
            # After another change of the call, the fault may no longer be true.
            return transitions.end(current, fault, at=at) if current.stamp == seen else current

        data = json.dumps({"switch": call.switch})
        self._change([Change(call, end, (Note("event", fault, data=data),))])

    def _change(self, changes: list[Change]) -> int:
        """Make changes that end calls. Returns how many calls have ended."""
        errors: dict[str, Exception] = {}
        found = self._store.change_many(changes, errors=errors)
        for call_id, error in errors.items():
            with logs.about(call=call_id):
                log.error("call %s: the end of the call failed: %s", call_id, error)
        return sum(call is not None and call.state is State.ENDED for call in found)
