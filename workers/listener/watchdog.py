"""The watchdog: it looks at calls whose deadline has passed without the expected event."""

import logging
import time
from functools import partial

from app.calls import transitions, watch
from app.calls.model import Call, State
from app.store.calls import QUEUED_BATCH, Change
from app.store.switches import SwitchStore
from app.store.writes import Note, end_note
from app.telemetry import logs
from freeswitch.connection import SwitchConnection
from workers.listener.failures import guarded
from workers.listener.folding import Folding
from workers.listener.reconcile import SECOND_LOOK, Reconciler
from workers.listener.switch_record import SwitchRecord
from workers.runtime import Runtime

log = logging.getLogger(__name__)


class Watchdog:
    """The watchdog of a leader, for calls of its own switch and of switches without a leader."""

    def __init__(
        self,
        runtime: Runtime,
        link: SwitchConnection,
        folding: Folding,
        record: SwitchRecord,
        reconciler: Reconciler,
    ) -> None:
        self._store = runtime.store
        self._switches = SwitchStore(runtime.redis, runtime.keys)
        self._link = link
        self._name = link.address.name
        self._folding = folding
        self._record = record
        self._reconciler = reconciler
        # Since when (monotonic) another switch has had no leader.
        self._left_alone: dict[str, float] = {}

    def watch(self) -> None:
        """Look at every call whose deadline has passed, and at the length of the stream."""
        self._store.trim_events()
        self._watch_queued()
        due = self._store.due(self._store.now())
        later: dict[str, float] = {}
        found = set()

        def see_to(call: Call) -> None:
            # The next look is soon, also where this one fails.
            later[call.id] = self._store.now() + SECOND_LOOK
            if (again := self._see_to(call)) is None:
                del later[call.id]
            else:
                later[call.id] = self._store.now() + again

        for call in self._reconciler.read(due, ended=True):
            found.add(call.id)
            guarded(self._name, partial(see_to, call), call.id)
        for call_id in set(due) - found:
            self._store.forget_deadline(call_id)
        self._store.postpone(later)

    def _watch_queued(self) -> None:
        """Look at queued calls of all switches. Each call goes to one listener, in batches."""
        due = QUEUED_BATCH
        while due == QUEUED_BATCH:
            due, ids = self._store.due_queued()
            calls = dict(zip(ids, self._store.get_many(ids), strict=True))
            queued = [c for c in calls.values() if c is not None and c.state is State.QUEUED]
            at = self._store.now()
            late = [call for call in queued if at >= watch.queued_until(call)]
            end = partial(transitions.end_queued, at=at)
            note = (Note("event", transitions.QUEUE_TIMEOUT),)
            errors: dict[str, Exception] = {}
            self._store.change_many([Change(call, end, note) for call in late], errors=errors)
            for call_id, error in errors.items():
                with logs.about(call=call_id):
                    log.error("call %s: the end of the waiting call failed: %s", call_id, error)
            if strays := [call for call in queued if at < watch.queued_until(call)]:
                # Their claims did not fit their hashes.
                self._store.put_in_line(strays)
                for call in strays:
                    self._store.note(call.id, Note("command", "queue again"))
            for call_id, found in calls.items():
                if found is None or found.state is not State.QUEUED:
                    self._store.forget_deadline(call_id)

    def _see_to(self, call: Call) -> float | None:
        """Look at a claimed call: end it, or ask the switch.

        Returns the seconds until the next look, or None if another listener looks at the call.
        """
        if call.state is State.ENDED:
            self._store.forget_deadline(call.id)
            return None
        if call.waits:
            return self._see_to_refused(call)
        if call.switch == self._name and self._link.up:
            return self._reconciler.examine(call)
        unreachable_for = self._unreachable_for(call.switch or "")
        if unreachable_for is None:
            return None
        # A call may be younger than the outage: workers may still reach the switch.
        unreachable_for = min(unreachable_for, self._reconciler.unasked_for(call))
        if fault := watch.fate_unreachable(call, unreachable_for=unreachable_for):
            self._reconciler.end(call, fault)
        return SECOND_LOOK

    def _see_to_refused(self, call: Call) -> float:
        """Look at a call that a switch refused and that waits to be dialled on another one."""
        at = self._store.now()
        if at >= watch.queued_until(call):
            self._store.change(call, partial(transitions.end_queued, at=at), end_note(call))
        else:
            # In case it stands in no line. To put it there again changes nothing.
            self._store.put_in_line([call])
        return SECOND_LOOK

    def _unreachable_for(self, switch: str) -> float | None:
        """The seconds for which no listener could ask the switch; None if another one may."""
        if switch == self._name:
            return self._record.down_for
        if self._switches.has_leader(switch):
            self._left_alone.pop(switch, None)
            return None
        at = time.monotonic()
        return at - self._left_alone.setdefault(switch, at)
