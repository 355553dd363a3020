"""The watchdog: it looks at calls whose deadline has passed without the expected event."""

import time
from collections.abc import Callable
from functools import cache, partial

from app.calls import transitions, watch
from app.calls.model import Call, State
from app.store.switches import SwitchStore
from app.store.writes import Note
from freeswitch.connection import SwitchConnection
from workers.listener.failures import guarded
from workers.listener.folding import Folding
from workers.listener.reconcile import SECOND_LOOK, Reconciler
from workers.listener.switch_record import SwitchRecord
from workers.runtime import Runtime


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
        self._queue = runtime.queue
        self._pacer = runtime.pacer
        self._switches = SwitchStore(runtime.redis, runtime.keys)
        self._link = link
        self._name = link.address.name
        self._folding = folding
        self._record = record
        self._reconciler = reconciler
        # Since when (monotonic) another switch has had no leader.
        self._left_alone: dict[str, float] = {}

    def watch(self) -> None:
        """Look at every call whose deadline has passed."""
        due = self._store.due(self._store.now())
        later: dict[str, float] = {}
        found = set()

        @cache
        def waiting() -> frozenset[str]:
            return self._queue.waiting() | self._pacer.waiting(due)

        def see_to(call: Call) -> None:
            # The next look is soon, also where this one fails.
            later[call.id] = self._store.now() + SECOND_LOOK
            if (again := self._see_to(call, waiting)) is None:
                del later[call.id]
            else:
                later[call.id] = self._store.now() + again

        for call in self._reconciler.read(due, ended=True):
            found.add(call.id)
            guarded(self._name, partial(see_to, call), call.id)
        for call_id in set(due) - found:
            self._store.forget_deadline(call_id)
        self._store.postpone(later)

    def _see_to(self, call: Call, waiting: Callable[[], frozenset[str]]) -> float | None:
        """Look at a call: end it, queue it again, or ask the switch.

        Returns the seconds until the next look, or None if another listener looks at the call.
        ``waiting`` returns the ids of the calls that have a job or wait for their turn.
        """
        if call.state is State.ENDED:
            self._store.forget_deadline(call.id)
            return None
        if call.state is State.QUEUED:
            return self._watch_queued(call, call.id in waiting())
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

    def _watch_queued(self, call: Call, waits: bool) -> float:
        at = self._store.now()
        if at >= watch.queued_until(call):
            end = partial(transitions.end_queued, at=at)
            self._folding.change(call, end, Note("event", transitions.QUEUE_TIMEOUT))
        elif not waits:
            # A worker died with its job before the claim, or has the job and waits for a switch.
            self._queue.place_again(call)
            self._store.note(call.id, Note("command", "enqueue again"))
        return min(watch.QUEUE_LOOK, watch.queued_until(call) - at)

    def _unreachable_for(self, switch: str) -> float | None:
        """The seconds for which no listener could ask the switch; None if another one may."""
        if switch == self._name:
            return self._record.down_for
        if self._switches.has_leader(switch):
            self._left_alone.pop(switch, None)
            return None
        at = time.monotonic()
        return at - self._left_alone.setdefault(switch, at)
