"""Reconciling: the live calls of one switch in Redis, compared with the channels of the switch.

The listener asks the switch about each call whose channels are not as expected. It writes what it
finds, hangs up channels that should not be there, and ends calls that are gone.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import gevent
from gevent.pool import Pool

from app.calls import transitions, watch
from app.calls.model import Call, State, call_id_of
from app.calls.transitions import LegReport
from app.store.writes import Note
from app.telemetry import counting
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.events import Event
from workers.hang_up import hang_up_call, hang_up_leg, hang_up_unwanted
from workers.leg_reports import leg_report
from workers.listener.failures import guarded
from workers.listener.folding import MAX_BATCH, Folding
from workers.listener.strangers import Strangers
from workers.listener.switch_record import SwitchRecord
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds until the next look at a call whose channels are missing.
SECOND_LOOK = 2.0
# The fewest seconds until the next look at a call.
SOON = 0.2
# Calls read from Redis at a time, so that events are handled in between.
CHUNK = 20
# The calls that are examined at the same time.
EXAMINERS = 4
# The most seconds that a step of the comparison waits for events to be handled.
GIVE_WAY_LIMIT = 0.1
# The most seconds that a verdict, or the end of this process, waits until all events so far are
# written. After that, the next look decides.
CATCH_UP_LIMIT = 3.0


class Reconciler:
    """The reconciler of one switch: it compares calls with channels."""

    def __init__(
        self,
        runtime: Runtime,
        events: SwitchConnection,
        link: SwitchConnection,
        folding: Folding,
        record: SwitchRecord,
    ) -> None:
        """``events`` brings the switch's events, ``link`` takes the commands."""
        self._store = runtime.store
        self._events = events
        self._link = link
        self._name = link.address.name
        self._folding = folding
        self._record = record
        self._strangers = Strangers(runtime, link)
        # The seconds for which a call or a leg, by its id or uuid, has been missing on the switch,
        # and the time of the last look (monotonic).
        self._missing: dict[str, tuple[float, float]] = {}
        # Since when (monotonic) a call's deadline has passed and its switch could not be asked.
        self._unasked: dict[str, float] = {}
        self._examiners = Pool(EXAMINERS)
        self._recover_wait = runtime.settings.recover_wait
        # The run of the switch that answered last, and since when it is known (monotonic).
        self._run = "", 0.0
        # Whether calls of the run before may yet be recovered.
        self.awaits_recovery = False

    @property
    def misses_some(self) -> bool:
        """Whether a call or a leg was missing at the last look."""
        return bool(self._missing)

    def begin(self) -> None:
        """Begin to lead. Calls and legs that were missing before may be there by now."""
        self._missing.clear()

    def stop(self) -> None:
        """Examine no more calls."""
        self._examiners.kill()

    def compare(self) -> None:
        """Compare the live calls in Redis with the switch's channels, while the switch is up.

        The calls are read first: a call that is claimed afterwards is not among them, and the
        switch's answer is the state of the run that they were claimed for.
        """
        if self._link.up:
            with counting.reconciling(self._name):
                self._compare()

    def look_again(self) -> None:
        """Look again at the calls and legs that were missing."""
        if self._link.up:
            live = set()
            for call in self.read(sorted({call_id_of(i) for i in self._missing})):
                live.add(call.id)
                self.examine(call)
            self._missing = {i: of for i, of in self._missing.items() if call_id_of(i) in live}

    def examine(self, call: Call) -> float:
        """Ask the switch for a claimed call's channels, and write, hang up or end what follows.

        Returns the seconds until the next look, unless an event comes before.
        """
        if call.switch != self._name or call.waits:
            # A failover of Redis lost the claim, and the call was claimed for another switch. Or
            # the switch has refused it.
            self._missing.pop(call.id, None)
            return SECOND_LOOK
        asked = time.monotonic()
        self._unasked.pop(call.id, None)
        found = self._ask(call)
        # An absence before the call was sent does not count after it.
        name = call.id if call.sent else f"{call.id}-unsent"
        fault = watch.fate(
            call,
            core_uuid=self._core,
            there=bool(found),
            gone_for=0.0 if found else self._missing_for(name, asked),
            new_for=self._run_age(),
            recover_wait=self._recover_wait,
        )
        if fault is not None:
            if self.caught_up():
                # No event waits here that could say more.
                self.end(call, fault)
            return SECOND_LOOK
        if not found:
            return SECOND_LOOK
        for name in (call.id, f"{call.id}-unsent", *found):
            self._missing.pop(name, None)
        if call.core_uuid != self._core:
            call = self._take_over(call, found)
        reports = [report for event in found.values() if (report := leg_report(event))]
        note = Note("event", "found on the switch")
        call = self._folding.change(call, _reporting(*reports), note)
        call = self._end_gone_legs(call, found, asked)
        call = self._end_unsent_legs(call, found, asked)
        at = _clock(found)
        if call.sent is None:
            mark = partial(transitions.mark_sent, at=at, job_uuid=call.job_uuid)
            call = self._folding.change(call, mark, Note("command", "found on the switch"))
        return self._enforce(call, at)

    def _take_over(self, call: Call, found: Mapping[str, Event]) -> Call:
        """Follow a call that the switch has recovered. Its own limit went down with the switch."""
        core_uuid, left = self._core, watch.limit(call) - watch.MARGIN - _clock(found)
        for uuid in found:
            commands.limit_duration(self._link, uuid, int(left))
        log.info("switch %s has recovered call %s", self._name, call.id, extra={"call": call.id})
        again = partial(transitions.recover, core_uuid=core_uuid)
        return self._folding.change(call, again, Note("event", "recovered", data=core_uuid))

    def _run_age(self) -> float:
        """The seconds for which the present run of the switch is known."""
        now = time.monotonic()
        if self._run[0] != self._core:
            self._run = self._core, now
        return now - self._run[1]

    def end(self, call: Call, fault: str) -> None:
        """End a call that no event will end, unless it has changed since it was read."""
        at, seen = self._store.now(), call.stamp

        def transition(current: Call) -> Call:
            # After another change of the call, the fault may no longer be true.
            return transitions.end(current, fault, at=at) if current.stamp == seen else current

        data = json.dumps({"switch": call.switch})
        ended = self._folding.change(call, transition, Note("event", fault, data=data))
        if ended.state is State.ENDED:
            self._unasked.pop(call.id, None)
        if (ended.ended, ended.ended_by) == (at, transitions.EVENTS_LOST):
            counting.legs_gone(self._name, sum(leg.live for leg in call.legs))

    def caught_up(self) -> bool:
        """Write all events that the switch has sent by now; False if that takes too long."""
        if not self._events.catch_up(CATCH_UP_LIMIT):
            return False
        self._folding.write_all()
        return True

    def unasked_for(self, call: Call) -> float:
        """The seconds since the call's deadline for which its switch could not be asked."""
        at = time.monotonic()
        return at - self._unasked.setdefault(call.id, at)

    def live_calls(self) -> list[Call]:
        """The live calls of the switch in Redis."""
        return list(self.read(self._store.live_of_switch(self._name)))

    def read(self, ids: Sequence[str], *, ended: bool = False) -> Iterator[Call]:
        """Read calls by their ids, the ended ones only with ``ended``. Events go first."""
        for first in range(0, len(ids), CHUNK):
            for call in self._store.get_many(ids[first : first + CHUNK]):
                if call is not None and (ended or call.state is not State.ENDED):
                    yield call
            self._give_way()

    def _compare(self) -> None:
        begun = time.monotonic()
        calls = self.live_calls()
        states = commands.call_states(self._link)
        live = {call.id for call in calls}
        self._folding.keep(live)
        ours = {leg.uuid for call in calls for leg in call.legs}
        # Looks are put off while the switch cannot be asked, by whatever listener led.
        at = self._store.now()
        late = [call.id for call in calls if (watch.deadline(call) or at) < at]
        self._store.postpone(self._name, dict.fromkeys(late, at))
        self._missing = {i: of for i, of in self._missing.items() if call_id_of(i) in live}
        # The list is some hundred milliseconds old: it is a reason to ask, not to end a call.
        waiting = self._awaiting(calls, states)
        self.awaits_recovery = bool(waiting)
        doubtful = [
            call
            for call in calls
            if call.id not in waiting
            and (call.core_uuid != self._core or watch.is_doubtful(call, states))
        ]
        self._examine_all(doubtful)
        strangers = set(states) - ours
        self._hang_up_orphans(strangers)
        self._strangers.look(strangers, states)
        self._store.count_legs(self._name, set(states), strangers)
        if self._unasked:
            alive = set(self._store.due(self._name, math.inf))
            self._unasked = {i: at for i, at in self._unasked.items() if i in alive}
        seconds = f"{time.monotonic() - begun:.3f}"
        log.info("switch %s: compared %d live calls in %s s", self._name, len(calls), seconds)
        self._record.note_reconciled(seconds)

    def _awaiting(self, calls: Sequence[Call], states: Mapping[str, str]) -> set[str]:
        """The ids of the calls that the switch may yet recover. To ask for each of them would take
        the switch's time when it has the least."""
        if self._run_age() >= self._recover_wait:
            return set()
        gone = [call for call in calls if not any(leg.uuid in states for leg in call.legs)]
        return {call.id for call in gone if watch.may_recover(call, self._core)}

    def _examine_all(self, calls: Sequence[Call]) -> None:
        """Examine several calls at a time: each waits for the switch and for Redis by turns."""
        for call in calls:
            self._give_way()
            self._examiners.spawn(self._examine_guarded, call)
        self._examiners.join()

    def _examine_guarded(self, call: Call) -> None:
        guarded(self._name, partial(self.examine, call), call.id)

    def _give_way(self) -> None:
        """Let events go first. In a flood of events, the calls are looked after too."""
        end = time.monotonic() + GIVE_WAY_LIMIT
        # The listener takes a smaller backlog in one batch, soon.
        while self._events.backlog > MAX_BATCH and time.monotonic() < end:
            gevent.sleep(0.001)

    @property
    def _core(self) -> str:
        return self._link.core_uuid or ""

    def _ask(self, call: Call) -> dict[str, Event]:
        """The channels of the call on the switch, by uuid, each as a CHANNEL_DATA event."""
        found = {}
        open_legs = [leg for leg in call.legs if leg.ended is None]
        for leg in open_legs:
            if (event := commands.dump(self._link, leg.uuid)) is not None:
                found[leg.uuid] = event
            if call.core_uuid != self._core and not watch.may_recover(call, self._core):
                # Another run of the switch has answered: it has nothing of the call.
                break
        if not open_legs:
            # Every leg has ended, and the end of the call is on its way. Ask the switch anyway: a
            # verdict needs the run that answers.
            commands.core_uuid(self._link)
        return found

    def _end_gone_legs(self, call: Call, found: Mapping[str, Event], asked: float) -> Call:
        for leg in call.legs:
            gone = leg.live and leg.uuid not in found
            if gone and self._missing_for(leg.uuid, asked) >= watch.GONE_LIMIT and self.caught_up():
                # The leg's last event was lost, or is applied by now. Its cause is unknown.
                self._missing.pop(leg.uuid, None)
                note, at = Note("event", "gone from the switch", leg=leg.id), self._store.now()
                over = _reporting(LegReport(leg.uuid, ended=at))
                call = self._folding.change(call, over, note)
                if any((each.id, each.ended) == (leg.id, at) for each in call.legs):
                    counting.legs_gone(self._name, 1)
        return call

    def _end_unsent_legs(self, call: Call, found: Mapping[str, Event], asked: float) -> Call:
        for leg in call.legs:
            unsent = watch.is_unsent(leg) and leg.uuid not in found
            if unsent and self._missing_for(leg.uuid, asked) >= watch.UNSENT_LIMIT:
                cause, at = "NORMAL_UNSPECIFIED", self._store.now()
                over = partial(transitions.end_leg, uuid=leg.uuid, cause=cause, at=at)
                call = self._folding.change(call, over, Note("event", "never sent", leg=leg.id))
        return call

    def _missing_for(self, name: str, asked: float) -> float:
        """The seconds for which a call or a leg has been missing, summed over several looks.

        Between two looks this process or the switch may have stood still, so one look adds at most
        LOOK_LIMIT.
        """
        missing, before = self._missing.get(name, (0.0, asked))
        missing += min(asked - before, watch.LOOK_LIMIT)
        self._missing[name] = missing, asked
        return missing

    def _enforce(self, call: Call, at: float) -> float:
        """Hang up what a client asked to hang up, and a call that is past its limit by the switch's
        clock ``at``.

        Returns the seconds until the next look.
        """
        if call.state is State.ENDED:
            return SECOND_LOOK
        if at >= watch.limit(call):
            hang_up_call(self._store, self._link, call, "ALLOTTED_TIMEOUT")
        elif not hang_up_unwanted(self._store, self._link, call):
            late = watch.rang_too_long(call, at)
            for leg in late:
                hang_up_leg(self._store, self._link, call, leg, "NO_ANSWER")
            if not late and (until := watch.deadline(call)) is not None:
                return max(SOON, until - at)
        return SECOND_LOOK

    def _hang_up_orphans(self, uuids: set[str]) -> None:
        """Hang up the channels of calls that have ended. Channels of other programs stay."""
        of_calls = {uuid: call_id_of(uuid) for uuid in uuids}
        ended = {call.id: call for call in self.read(sorted(set(of_calls.values())), ended=True)}
        for uuid, call_id in of_calls.items():
            call = ended.get(call_id)
            leg = call.leg(uuid) if call else None
            if call is not None and leg is not None and call.state is State.ENDED:
                hang_up_leg(self._store, self._link, call, leg)


def _reporting(*reports: LegReport) -> Callable[[Call], Call]:
    def transition(call: Call) -> Call:
        for report in reports:
            call = transitions.report_leg(call, report)
        return call

    return transition


def _clock(dumps: Mapping[str, Event]) -> float:
    """The switch's clock in epoch seconds, from the last dump."""
    stamp = max(event.headers.get("Event-Date-Timestamp", "0") for event in dumps.values())
    return int(stamp) / 1e6
