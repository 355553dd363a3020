"""The timers of legs that talk under caps on minutes or cost.

The switch's own timer cuts a leg off when the cap is reached. The timer is set when the leg is
dialled, as if the leg were alone. When other legs of the same holder answer or end, the listener
sets the timers of all legs anew, so that they end at the moment at which their sum reaches the cap.
"""

import logging
import math
from dataclasses import dataclass

from app.calls import transitions
from app.calls.model import Call, Leg, call_id_of
from app.store import counted, quotas
from app.store.quotas import Usage
from app.store.writes import Note
from app.telemetry import logs
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from workers.listener.folding import Folding
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds between two looks while legs talk under a cap: the other legs of a holder may be on other
# switches, and its caps may change.
LOOK = 0.5
# Seconds ahead for which a timer is set.
_AHEAD = 86_400.0
# Timers of so many legs are exact. Those of more may be off by this part of the time that is left.
_FEW, _ABOUT = 64, 0.02


@dataclass(frozen=True, slots=True)
class _Timed:
    """A leg of this switch that talks, its call, and the whole second at which it is cut off; None
    for never."""

    call: Call
    leg: Leg
    end: int | None


class QuotaTimers:
    """The timers of one switch."""

    def __init__(self, runtime: Runtime, link: SwitchConnection, folding: Folding) -> None:
        """``link`` takes the commands."""
        self._store = runtime.store
        self._link = link
        self._folding = folding
        self._longest = runtime.settings.max_call_duration
        # The second at which the switch ends a leg, by its uuid, as this listener has set it.
        self._set: dict[str, int | None] = {}
        # What holders had used at the last look, and when that reaches a cap.
        self._ends: dict[str, tuple[Usage, int | None]] = {}
        # The alerts that were told.
        self._told: set[str] = set()

    def begin(self) -> None:
        """Begin to lead: the timers that the switch has are not known."""
        self._set.clear()

    def look(self) -> None:
        """Set the timers that have changed. May raise an error of Redis."""
        calls = self._folding.take_timed()
        holders = {name for call in calls for name in counted.timed_holders(call)}
        if not holders:
            self._set.clear()
            return
        now = self._store.now()
        usages = quotas.usages(self._store.redis, self._store.keys, holders, now)
        quotas.tell_spent(self._store.redis, self._store.keys, usages, now, self._told)
        self._ends = {name: self._end_of(name, usage, now) for name, usage in usages.items()}
        timed = _timed({call.id: call for call in calls}, self._ends)
        self._set = {uuid: end for uuid, end in self._set.items() if uuid in timed}
        for uuid, leg in timed.items():
            if uuid not in self._set or _differs(self._set[uuid], leg.end, now, len(timed)):
                with logs.about(call=leg.call.id, leg=leg.leg.id):
                    self._limit(uuid, leg, now)

    def _end_of(self, name: str, usage: Usage, now: float) -> tuple[Usage, int | None]:
        known = self._ends.get(name)
        if known is not None and known[0] == usage:
            return known
        moment = usage.end_of(usage.running.values(), now, now + _AHEAD)
        return usage, None if moment is None else math.floor(moment)

    def _limit(self, uuid: str, timed: _Timed, now: float) -> None:
        try:
            before = self._set.get(uuid)
            # A timer that comes sooner needs no other to go, so the leg is never without one.
            sooner = before is not None and timed.end is not None and timed.end < before
            if not sooner and (said := commands.lift_limits(self._link, uuid)).startswith("-"):
                log.error("switch refuses sched_del, install its ringback.xml again: %s", said)
            note = None
            if timed.end is not None:
                left = max(0, timed.end - math.floor(now))
                reply = commands.limit_quota(self._link, uuid, left)
                about = f"+{left} {transitions.QUOTA_CAUSE}: {reply}"
                note = Note("command", "sched_hangup", leg=timed.leg.id, data=about)
            if not sooner:
                begun = timed.call.answered or timed.leg.answered or now
                lasts = min(timed.call.call_duration, self._longest)
                left = math.floor(begun + lasts) - math.floor(now)
                commands.limit_duration(self._link, uuid, left)
        except EventSocketError as error:
            log.warning("call %s: a timer cannot be set yet: %s", timed.call.id, error)
            return
        self._set[uuid] = timed.end
        if note is not None:
            # At last: without Redis the leg has its timers all the same.
            self._store.note(timed.call.id, note)


def _differs(end: int | None, other: int | None, now: float, legs: int) -> bool:
    """Whether a timer is to be set anew. Among many legs, each answer and each end would set the
    timers of all others: while the end is far, one that is about right will do."""
    if end is None or other is None:
        return end is not other
    tolerance = 0 if legs <= _FEW else int((min(end, other) - now) * _ABOUT)
    return abs(end - other) > tolerance


def _timed(calls: dict[str, Call], ends: dict[str, tuple[Usage, int | None]]) -> dict[str, _Timed]:
    """The legs of these calls that talk, by uuid, each with the soonest end of its holders."""
    found: dict[str, _Timed] = {}
    for usage, end in ends.values():
        for uuid in usage.running:
            call = calls.get(call_id_of(uuid))
            leg = call.leg(uuid) if call is not None else None
            if call is None or leg is None or leg.ended is not None:
                continue
            known = found.get(uuid)
            both = [at for at in (end, known.end if known else None) if at is not None]
            found[uuid] = _Timed(call, leg, min(both, default=None))
    return found
