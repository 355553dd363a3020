"""The watchdog of one switch: it looks at its calls whose deadline has passed without the expected
event. What is of no switch, or of one that nobody leads, is for the common watchdog."""

from functools import partial

from app.calls import watch
from app.calls.model import Call, State
from freeswitch.connection import SwitchConnection
from workers.listener.failures import guarded
from workers.listener.reconcile import SECOND_LOOK, Reconciler
from workers.listener.switch_record import SwitchRecord
from workers.runtime import Runtime


class Watchdog:
    """The watchdog of a leader, for the calls of its own switch."""

    def __init__(
        self,
        runtime: Runtime,
        link: SwitchConnection,
        record: SwitchRecord,
        reconciler: Reconciler,
    ) -> None:
        self._store = runtime.store
        self._link = link
        self._name = link.address.name
        self._record = record
        self._reconciler = reconciler

    def watch(self) -> None:
        """Look at every call whose deadline has passed."""
        due = self._store.due(self._name, self._store.now())
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
            self._store.forget_deadline(call_id, self._name)
        self._store.postpone(self._name, later)

    def _see_to(self, call: Call) -> float | None:
        """Look at a claimed call: end it, or ask the switch.

        Returns the seconds until the next look, or None if the call has ended.
        """
        if call.state is State.ENDED:
            self._store.forget_deadline(call.id, self._name)
            return None
        if self._link.up or call.switch != self._name:
            return self._reconciler.examine(call)
        # A call may be younger than the outage: workers may still reach the switch.
        unreachable_for = min(self._record.down_for, self._reconciler.unasked_for(call))
        if fault := watch.fate_unreachable(call, unreachable_for=unreachable_for):
            self._reconciler.end(call, fault)
            return SECOND_LOOK
        return watch.next_look_unreachable(call, unreachable_for=unreachable_for)
