"""The listener: turns the events of the switches into what Redis says of the calls.

Any number may run. A lease in Redis says which of them has a switch; should two have
one for a moment, the changes are idempotent.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event as Flag
from redis.exceptions import LockError, RedisError
from redis.lock import Lock
from tenacity import before_sleep_log, retry, retry_if_exception, wait_exponential

from app.calls import transitions
from app.calls.model import Call, Leg, State, call_id_of
from app.calls.store import Note
from app.redis_client import is_unavailable
from freeswitch import commands
from freeswitch.address import SwitchAddress
from freeswitch.event_socket import EventSocketError, SwitchConnection
from freeswitch.events import Event
from workers.reports import leg_report
from workers.runtime import CALL_VARIABLE, Runtime, now

log = logging.getLogger(__name__)

EVENTS = (
    "CHANNEL_CREATE",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_HANGUP_COMPLETE",
    "CHANNEL_DESTROY",
    "BACKGROUND_JOB",
    "HEARTBEAT",
)
# Filters are alternatives: our calls' channels, and the two events that are of no channel.
FILTERS = (
    (f"variable_{CALL_VARIABLE}", "/.+/"),
    ("Event-Name", "BACKGROUND_JOB"),
    ("Event-Name", "HEARTBEAT"),
)

# Seconds. A lease not renewed for LEASE goes to whoever asks next.
LEASE = 4.0
RENEWAL = 1.0
WATCHDOG_INTERVAL = 1.0
# A call whose channels are missing is looked for again after this, and ended after GRACE:
# an originate just taken has no channels yet, and its events may be on their way.
SECOND_LOOK = 2.0
GRACE = 6.0

patiently = retry(
    retry=retry_if_exception(is_unavailable),
    wait=wait_exponential(multiplier=0.05, max=2.0),
    before_sleep=before_sleep_log(log, logging.WARNING),
)


class SwitchListener:
    """Follows the calls of one switch while it holds the switch's lease."""

    def __init__(self, runtime: Runtime, address: SwitchAddress) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._name = address.name
        self._connection = SwitchConnection(
            address, events=EVENTS, filters=FILTERS, on_event=self._on_event, on_up=self._on_up
        )
        self._lease = Lock(
            runtime.redis,
            runtime.keys.switch_lease(address.name),
            timeout=LEASE,
            blocking=False,
            thread_local=False,
        )
        # The live calls as last seen, so that an event costs one round trip. A stale one costs
        # a second: the script compares versions.
        self._calls: dict[str, Call] = {}
        # Since when calls have been missed on the switch.
        self._missing: dict[str, float] = {}
        self._look = Flag()
        self._stopping = Flag()

    def run(self) -> None:
        """Take the lease whenever it is free and follow the switch, until :meth:`stop`."""
        while not self._stopping.is_set():
            if self._asked(self._lease.acquire):
                log.info("switch %s is ours to follow", self._name)
                self._follow()
            else:
                self._stopping.wait(RENEWAL)

    def stop(self) -> None:
        self._stopping.set()

    def _follow(self) -> None:
        self._calls.clear()
        self._missing.clear()
        self._connection.start()
        helpers = [gevent.spawn(self._reconcile_loop), gevent.spawn(self._watchdog_loop)]
        try:
            while not self._stopping.wait(RENEWAL):
                # While Redis is away nobody else can take the lease, and the events that wait
                # here are all there is: they are dropped only for another holder.
                renewed = self._asked(self._lease.reacquire)
                if renewed is False and self._asked(self._lease.acquire) is False:
                    log.warning("the lease of switch %s is another's", self._name)
                    return
        finally:
            gevent.killall(helpers)
            self._connection.stop()
            self._asked(self._lease.release)

    def _asked(self, action: Callable[[], Any]) -> bool | None:
        """Whether the lease was had; None where Redis could not be asked."""
        try:
            return action() is not False
        except LockError:
            return False
        except RedisError as error:
            log.warning("the lease of switch %s: %s", self._name, error)
            return None

    # Events

    def _on_up(self, connection: SwitchConnection) -> None:
        self._note_switch({"core_uuid": connection.core_uuid or "", "up_since": str(now())})
        self._look.set()

    @patiently
    def _note_switch(self, fields: dict[str, str]) -> None:
        mapping: Any = {**fields, "listener": self._runtime.name}
        self._runtime.redis.hset(self._runtime.keys.switch(self._name), mapping=mapping)

    @patiently
    def _on_event(self, event: Event) -> None:
        headers = event.headers
        if event.name == "HEARTBEAT":
            self._note_switch(
                {
                    "sessions": headers.get("Session-Count", ""),
                    "max_sessions": headers.get("Max-Sessions", ""),
                    "sessions_per_second": headers.get("Session-Per-Sec", ""),
                    "heartbeat": str(now()),
                }
            )
        elif event.name == "BACKGROUND_JOB":
            self._on_originate_result(headers.get("Job-UUID", ""), event.body or "")
        elif call_id := headers.get(f"variable_{CALL_VARIABLE}"):
            self._on_channel_event(call_id, event)

    def _on_originate_result(self, job_uuid: str, result: str) -> None:
        call = self._get(call_id_of(job_uuid))
        if call is None or call.job_uuid != job_uuid:
            return
        error = commands.originate_error(result)
        note = Note("reply", "originate", data=result.strip())
        if error is None:
            # The legs' own events say more.
            self._store.note(call.id, note)
            return
        at = now()
        self._change(call, lambda c: transitions.finish_originate(c, error=error, at=at), note)

    def _on_channel_event(self, call_id: str, event: Event) -> None:
        report = leg_report(event)
        call = self._get(call_id)
        leg = call.leg(report.uuid) if call and report else None
        if call is None or report is None or leg is None:
            return
        call = self._change(
            call,
            lambda c: transitions.report_leg(c, report),
            Note("event", event.name, leg=leg.id, data=report.cause),
        )
        if event.name in ("CHANNEL_CREATE", "CHANNEL_ANSWER") and transitions.is_unwanted(
            call, call.leg(leg.uuid) or leg
        ):
            # It came up after the call was ended or its hang-up was carried out.
            self._kill(call, leg)

    def _get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id) or self._store.get(call_id)

    def _change(self, call: Call, transition: Callable[[Call], Call], note: Note) -> Call:
        try:
            call = self._store.change(call, transition, note)
        except KeyError:
            # Its time in Redis is over.
            self._calls.pop(call.id, None)
            return call
        if call.state is State.ENDED:
            self._calls.pop(call.id, None)
        else:
            self._calls[call.id] = call
        return call

    def _kill(self, call: Call, leg: Leg) -> None:
        try:
            reply = commands.kill(self._connection, leg.uuid)
        except EventSocketError as error:
            reply = str(error)
        self._store.note(call.id, Note("command", "uuid_kill", leg=leg.id, data=reply))

    # Reconciling

    def _reconcile_loop(self) -> None:
        interval = self._runtime.settings.reconcile_interval
        while True:
            self._look.wait(SECOND_LOOK if self._missing else interval)
            self._look.clear()
            if self._connection.up:
                self._guarded(self._reconcile)

    def _watchdog_loop(self) -> None:
        while True:
            gevent.sleep(WATCHDOG_INTERVAL)
            self._guarded(self._watch)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (EventSocketError, RedisError) as error:
            log.warning("switch %s: %s", self._name, error)
        except Exception:
            log.exception("switch %s: %s failed", self._name, work.__name__)

    def _reconcile(self) -> None:
        """Compare the live calls in Redis with the switch's channels.

        The calls are read first: whatever is claimed afterwards is not among them, and what
        this connection then answers is the state of the run that it belongs to.
        """
        calls = self._live_calls()
        live = {call.id for call in calls}
        # Calls that another process has ended.
        self._calls = {i: call for i, call in self._calls.items() if i in live}
        channels = commands.channels(self._connection)
        missing: dict[str, float] = {}
        for call in calls:
            if call.core_uuid != self._connection.core_uuid:
                self._end(call, transitions.SWITCH_RESTARTED)
            elif any(leg.uuid in channels for leg in call.legs):
                if call.hangup_requested is not None:
                    self._hang_up(call, "NORMAL_CLEARING")
            elif call.sent is not None:
                since = missing[call.id] = self._missing.get(call.id, now())
                # Not while the first look is fresh, and not on the list's word alone.
                if now() - since >= GRACE and not self._exists(call):
                    self._end(call, transitions.EVENTS_LOST)
        self._missing = missing
        self._hang_up_orphans(set(channels) - {leg.uuid for call in calls for leg in call.legs})

    def _hang_up_orphans(self, uuids: set[str]) -> None:
        """Hang up channels of calls that have ended. Of others we know nothing: let them be."""
        of_calls = {uuid: call_id_of(uuid) for uuid in uuids}
        for uuid, call in zip(of_calls, self._store.get_many(of_calls.values()), strict=True):
            leg = call.leg(uuid) if call else None
            if call is not None and leg is not None and call.state is State.ENDED:
                self._kill(call, leg)

    def _watch(self) -> None:
        """See to calls whose deadline has passed without the event that should have come."""
        due = self._store.due(now())
        for call_id, call in zip(due, self._store.get_many(due), strict=True):
            if call is None or call.state is State.ENDED:
                self._store.forget_deadline(call_id)
            elif call.state is State.QUEUED:
                at = now()
                self._change(
                    call,
                    lambda c: transitions.end_queued(c, at=at),  # noqa: B023
                    Note("event", transitions.QUEUE_TIMEOUT),
                )
            elif (call.switch, call.core_uuid) != (self._name, self._connection.core_uuid):
                # Another listener's, or reconciling's. Not to stand before those behind it.
                self._store.postpone(call.id, now() + GRACE)
            elif not self._connection.up:
                # It may well live on: nothing is ended while nobody can ask.
                self._store.postpone(call.id, now() + GRACE)
            elif self._exists(call):
                if call.sent is None:
                    sent = now()
                    self._change(
                        call,
                        lambda c: transitions.mark_sent(c, at=sent),  # noqa: B023
                        Note("command", "found on the switch"),
                    )
                else:
                    self._hang_up(call, "ALLOTTED_TIMEOUT")
                    self._store.postpone(call.id, now() + GRACE)
            else:
                lost = transitions.WORKER_LOST if call.sent is None else transitions.EVENTS_LOST
                self._end(call, lost)

    def _live_calls(self) -> list[Call]:
        ids = self._store.live_of_switch(self._name)
        calls = self._store.get_many(ids)
        return [call for call in calls if call and call.state is not State.ENDED]

    def _exists(self, call: Call) -> bool:
        return any(commands.exists(self._connection, leg.uuid) for leg in call.legs)

    def _hang_up(self, call: Call, cause: str) -> None:
        reply = commands.hang_up_all(self._connection, CALL_VARIABLE, call.id, cause)
        self._store.note(call.id, Note("command", "hupall", data=reply))

    def _end(self, call: Call, fault: str) -> None:
        log.warning("call %s ends: %s", call.id, fault)
        at = now()
        self._change(
            call,
            lambda c: transitions.end(c, fault, at=at),
            Note("event", fault, data=json.dumps({"switch": self._name})),
        )
