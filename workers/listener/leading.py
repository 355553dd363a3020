"""The leader among the listeners of a switch: the lease, the take-over, and the leader's loops.

Any number of listeners may run. A lease in Redis says which of them leads at a switch. If two lead
for a moment, this does no harm: the changes are idempotent. The others are standbys: they hear the
same events, and apply the last of them when they take the lease over.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gevent
from gevent.event import Event as Flag
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from app.telemetry import counting, logs
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.event_socket import Batching
from freeswitch.events import Event
from freeswitch.outages import Outages
from workers.listener.failures import guarded, patiently
from workers.listener.folding import MAX_BATCH, Folding
from workers.listener.heard import EVENTS, FILTERS, is_recovered
from workers.listener.probing import Prober
from workers.listener.quota import LOOK as QUOTA_LOOK
from workers.listener.quota import QuotaTimers
from workers.listener.reconcile import SECOND_LOOK, Reconciler
from workers.listener.refusals import SETTLE, Refusals
from workers.listener.registrations import EVENTS as REGISTRATIONS
from workers.listener.registrations import RegistrationKeeper
from workers.listener.steering import SAID_EACH, Steering
from workers.listener.switch_record import SwitchRecord
from workers.listener.watchdog import Watchdog
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds after which a lease that is not renewed is free, and between two attempts to renew it or
# to take it.
LEASE = 3.0
RENEWAL = 0.5
# Seconds between two looks of the watchdog.
WATCHDOG_INTERVAL = 0.5
# Seconds between two looks for delayed writes.
DELAY_LOOK = 0.05
# Seconds between two requests for a sign of life, and until the switch must answer: a half-open
# link brings no end of file, and no events.
HEARTBEAT = 2.0
TIMEOUT = 3.0
# Seconds between two attempts to reach a switch, at most: sooner than workers do.
MAX_DELAY = 0.5
# Seconds after which a listener that is cut off from a switch lets another one lead that is not.
DEAF_LIMIT = 2.0
# An event that comes alone is handled at once. Events that follow it closely share a batch, and
# with it the round trip to Redis.
BATCHING = Batching(size=MAX_BATCH, spacing=0.04, read_ahead=0.002)


class SwitchListener:
    """The listener of one switch. It leads while it has the lease, and stands by otherwise."""

    def __init__(self, runtime: Runtime, address: SwitchAddress) -> None:
        self._runtime = runtime
        self._name = address.name
        self._stopping = Flag()
        # Set when the switch has come up: its channels are compared with the calls at once.
        self._look = Flag()
        outages = Outages(address.name)
        # Two connections: while an api command runs, its connection brings no events.
        self._link = SwitchConnection(
            address,
            on_up=self._on_up,
            on_down=self._on_down,
            outages=outages,
            timeout=TIMEOUT,
            heartbeat=HEARTBEAT,
            max_delay=MAX_DELAY,
        )
        self._record = SwitchRecord(runtime, self._link, self._stopping)
        self._steering = Steering(runtime, self._link)
        self._folding = Folding(
            *(runtime, self._link, self._record, self._steering, self._stopping)
        )
        self._registrations = RegistrationKeeper(runtime, self._link)
        self._events = SwitchConnection(
            address,
            events=EVENTS,
            # The user of an older configuration may not hear of registrations.
            optional=REGISTRATIONS,
            filters=FILTERS,
            on_events=self._hear,
            batching=BATCHING,
            on_up=self._on_up,
            on_down=self._on_down,
            on_skipped=partial(counting.event_skipped, address.name),
            outages=outages,
            timeout=TIMEOUT,
            heartbeat=HEARTBEAT,
            max_delay=MAX_DELAY,
        )
        self._reconciler = Reconciler(
            runtime, self._events, self._link, self._folding, self._record
        )
        self._refusals = Refusals(
            runtime, self._events, self._link, self._folding, self._reconciler
        )
        self._prober = Prober(runtime, self._link)
        self._timers = QuotaTimers(runtime, self._link, self._folding)
        self._watchdog = Watchdog(runtime, self._link, self._record, self._reconciler)
        self._lease = Lock(
            runtime.redis,
            runtime.keys.switch_lease(address.name),
            timeout=LEASE,
            blocking=False,
            thread_local=False,
        )
        # When the switch was last reachable (monotonic).
        self._reached = time.monotonic()

    def run(self) -> None:
        """Lead whenever the lease is free, until :meth:`stop`."""
        logs.bind(switch=self._name)
        counting.leads(self._name, False)
        self._events.start()
        self._link.start()
        try:
            while not self._stopping.is_set():
                self._guarded(self._sign)
                if not self._should_give_way() and self._asked(self._lease.acquire):
                    log.info("took the lease of switch %s", self._name)
                    self._guarded(self._lead)
                self._stopping.wait(RENEWAL)
        finally:
            self._events.stop()
            self._link.stop()
            self._guarded(self._sign)

    def stop(self) -> None:
        """Make :meth:`run` release the lease and return."""
        self._stopping.set()

    def move(self, address: SwitchAddress) -> None:
        """Follow the switch at another address, or with other limits, from now on."""
        if address == self._link.address:
            return
        self._events.move(address)
        self._link.move(address)
        self._record.renew_limit()

    @property
    def name(self) -> str:
        """The name of the switch."""
        return self._name

    @property
    def link(self) -> SwitchConnection:
        """The connection for commands."""
        return self._link

    @property
    def hears(self) -> bool:
        """Whether it is connected to the switch, and the switch's events come."""
        return self._events.up and self._link.up

    def _guarded(self, work: Callable[[], object]) -> None:
        guarded(self._name, work)

    def _hear(self, events: Sequence[Event]) -> None:
        self._folding.hear(events)
        self._registrations.hear(events)
        if any(map(is_recovered, events)):
            self._look.set()

    def _on_up(self, _: SwitchConnection) -> None:
        self._look.set()
        # A switch that begins anew has no timers, also where it recovers the legs.
        self._timers.begin()
        self._registrations.look()

    def _on_down(self, _: str) -> None:
        counting.disconnected(self._name, "listener")

    def _lead(self) -> None:
        self._record.begin()
        counting.leads(self._name, True)
        over = Flag()
        helpers = [gevent.spawn(self._keep_lease, over), gevent.spawn(self._steer_loop)]
        try:
            # The take-over may last longer than a lease: the lease is renewed meanwhile.
            patiently(self._stopping, self._take_over)
            self._look.set()
            self._registrations.begin()
            loops = (
                *(self._write_loop, self._reconcile_loop, self._watchdog_loop, self._quota_loop),
                *(self._registrations_loop, self._refusals_loop),
            )
            helpers += [gevent.spawn(loop) for loop in loops]
            gevent.wait([over, self._stopping], count=1)
            if not over.is_set():
                # Write what is here already: there may be no other listener to hear it.
                self._guarded(self._reconciler.caught_up)
        finally:
            gevent.killall(helpers)
            self._reconciler.stop()
            self._registrations.stop()
            counting.leads(self._name, False)
            self._guarded(partial(self._leave, lost=over.is_set()))
            self._folding.step_down(write=not over.is_set())
            self._asked(self._lease.release)

    def _take_over(self) -> None:
        begun = time.monotonic()
        self._reconciler.begin()
        self._timers.begin()
        self._folding.take_over(self._reconciler.live_calls(), begun)

    def _keep_lease(self, over: Flag) -> None:
        """Renew the lease until it is lost or given up; then set ``over``."""
        logs.bind(switch=self._name)
        while not over.is_set():
            # While Redis is unavailable no other listener can take the lease, and only this process
            # has the events that wait here. Only another leader is a reason to drop them.
            renewed = self._asked(self._lease.reacquire)
            if renewed is False and self._asked(self._lease.acquire) is False:
                log.warning("lost the lease of switch %s to another listener", self._name)
                over.set()
            elif self._should_give_way():
                log.warning(
                    "gave up the lease of switch %s: another listener hears it, this one does not",
                    self._name,
                )
                over.set()
            self._guarded(self._sign)
            self._guarded(self._tell)
            over.wait(RENEWAL)

    def _should_give_way(self) -> bool:
        """Whether another listener hears the switch, while this one has been cut off from it."""
        if self.hears:
            self._reached = time.monotonic()
            return False
        if time.monotonic() - self._reached < DEAF_LIMIT:
            return False
        try:
            return self._record.has_another_listener()
        except RedisError:
            return False

    def _asked(self, action: Callable[[], Any]) -> bool | None:
        """Whether Redis gave or renewed the lease; None if Redis is unavailable."""
        try:
            return action() is not False
        except LockError:
            return False
        except RedisError as error:
            log.warning("cannot ask Redis for the lease of switch %s: %s", self._name, error)
            return None

    def _sign(self) -> None:
        self._record.sign(hears=self._events.up, lasts=LEASE)

    def _tell(self) -> None:
        was_known = self._record.limit is not None
        self._record.tell(core_uuid=(self._events.core_uuid or "") if self.hears else None)
        if self._record.limit is not None and not was_known:
            self._steering.soon.set()

    def _leave(self, *, lost: bool) -> None:
        """Say that nobody leads, unless another listener does or can."""
        if not lost and not self._record.has_another_listener():
            self._steering.stop()

    def _steer_loop(self) -> None:
        logs.bind(switch=self._name)
        patiently(self._stopping, self._steering.begin)
        while True:
            self._guarded(self._steer)
            self._steering.soon.wait(SAID_EACH)
            self._steering.soon.clear()

    def _steer(self) -> None:
        core = (self._events.core_uuid or "") if self.hears else ""
        self._steering.look(hears=self.hears, core=core, limit=self._record.limit)

    def _write_loop(self) -> None:
        logs.bind(switch=self._name)
        while True:
            self._folding.some_wait.wait()
            gevent.sleep(DELAY_LOOK)
            self._folding.write_due()

    def _refusals_loop(self) -> None:
        logs.bind(switch=self._name)
        while True:
            self._folding.some_refused.wait()
            gevent.sleep(SETTLE)
            self._guarded(self._refusals.look)

    def _reconcile_loop(self) -> None:
        logs.bind(switch=self._name)
        interval = self._runtime.settings.reconcile_interval
        at = 0.0
        while True:
            left = max(0.0, at + interval - time.monotonic())
            awaits = self._reconciler.awaits_recovery
            soon = min(SECOND_LOOK, left) if self._reconciler.misses_some or awaits else left
            whole = self._look.wait(soon)
            self._look.clear()
            if whole or awaits or time.monotonic() >= at + interval:
                at = time.monotonic()
                self._guarded(self._reconciler.compare)
            else:
                self._guarded(self._reconciler.look_again)

    def _watchdog_loop(self) -> None:
        logs.bind(switch=self._name)
        while True:
            gevent.sleep(WATCHDOG_INTERVAL)
            self._guarded(self._keep_limit)
            self._guarded(self._watchdog.watch)
            self._guarded(self._prober.look)

    def _quota_loop(self) -> None:
        logs.bind(switch=self._name)
        changed = self._folding.timed_changed
        while True:
            changed.wait(QUOTA_LOOK if self._folding.has_timed else None)
            changed.clear()
            if self._link.up:
                self._guarded(self._timers.look)

    def _registrations_loop(self) -> None:
        logs.bind(switch=self._name)
        while True:
            self._registrations.wait()
            self._guarded(self._registrations.write)

    def _keep_limit(self) -> None:
        if self._record.keep_limit():
            log.warning("switch %s: Redis came back empty", self._name)
            # What talks on is counted again.
            self._look.set()
            self._registrations.look()
