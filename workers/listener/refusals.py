"""Refusals: originates that ended with an error before the switch made any channel.

Such a call is dialled again on another switch, once. A mistake would dial somebody twice, so the
listener asks all that can tell: the events, the connection that brings them, and the switch.
"""

from functools import partial

from app.calls import transitions
from app.calls.model import Call
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from workers.listener.failures import guarded
from workers.listener.folding import Folding
from workers.listener.heard import Heard, is_refusal
from workers.listener.reconcile import Reconciler
from workers.runtime import Runtime

# Seconds after the result in which an event of a channel may still come: the switch sends events
# of several threads.
SETTLE = 0.2
# Seconds by which the connection for events must be older than the claim.
_MARGIN = 1.0


class Refusals:
    """What one listener decides of its switch's refusals."""

    def __init__(
        self,
        runtime: Runtime,
        events: SwitchConnection,
        link: SwitchConnection,
        folding: Folding,
        reconciler: Reconciler,
    ) -> None:
        """``events`` brings the switch's events, ``link`` takes the commands."""
        self._store = runtime.store
        self._outcomes = runtime.outcomes
        self._events = events
        self._link = link
        self._name = link.address.name
        self._folding = folding
        self._reconciler = reconciler

    def look(self) -> None:
        """Decide of the results that are old enough."""
        for one in self._folding.take_refused(SETTLE):
            guarded(self._name, partial(self._decide, one), one.call_id)

    def _decide(self, one: Heard) -> None:
        call = None
        try:
            if self._reconciler.caught_up():
                call = self._refused(one)
        except EventSocketError:
            # The switch cannot tell.
            pass
        if call is None:
            self._folding.finish(one)
            return
        error, at = one.error or "", self._store.now()
        self._outcomes.changed(call, transitions.finish_originate(call, error=error, at=at))
        refuse = partial(transitions.refuse, error=error, job_uuid=call.job_uuid, at=at, again=True)
        self._folding.change(call, refuse, one.note)

    def _refused(self, one: Heard) -> Call | None:
        """The call, if the switch made no channel of it for certain. All events that the switch has
        sent are written. Raises EventSocketError."""
        call = self._store.get(one.call_id)
        if call is None or call.switch != self._name or not is_refusal(call, one):
            return None
        if call.core_uuid != self._link.core_uuid:
            return None
        if any(commands.exists(self._link, leg.uuid) for leg in call.legs):
            return None
        # No event was lost with a connection.
        age = self._store.now() - (call.claimed or 0.0)
        return call if self._events.up_for > age + _MARGIN else None
