"""The record of one switch in Redis: its listeners, its load, its limits, its outages."""

import logging
import time
from contextlib import suppress
from functools import partial

from gevent.event import Event as Flag

from app.store.pace import Limit
from app.store.switches import SwitchStore
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.events import Event
from workers.listener.failures import patiently
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds after which a switch that cannot be reached is called unreachable.
UNREACHABLE_AFTER = 10.0


class SwitchRecord:
    """The writer of a switch's record. A standby only signs that it hears the switch; the leader
    writes the rest."""

    def __init__(self, runtime: Runtime, link: SwitchConnection, stopping: Flag) -> None:
        """``link`` takes the command that asks for the switch's capacity."""
        self._store = runtime.store
        self._pacer = runtime.pacer
        self._switches = SwitchStore(runtime.redis, runtime.keys)
        self._listener = runtime.name
        self._link = link
        self._name = link.address.name
        self._stopping = stopping
        # Since when the switch is unreachable (monotonic).
        self._down_since: float | None = time.monotonic()
        # As it was last set by this listener.
        self._limit: Limit | None = None
        # Whether the switch's address says other limits than those that were set.
        self._limit_is_old = False

    def sign(self, *, hears: bool, lasts: float) -> None:
        """Put this listener on the list of those that hear the switch, or take it off.

        The entry counts for ``lasts`` seconds.
        """
        at = self._store.now()
        self._switches.sign(self._name, self._listener, hears=hears, at=at, lasts=lasts)

    def has_another_listener(self) -> bool:
        """Whether another listener hears the switch."""
        return any(name != self._listener for name in self._switches.listeners(self._name))

    def begin(self) -> None:
        """Begin to lead: write all of the record again."""
        self._down_since = time.monotonic()

    def tell(self, *, core_uuid: str | None) -> None:
        """Write the run of the switch. With None, write since when the switch is unreachable."""
        if core_uuid is not None:
            if self._down_since is not None:
                self._note({"core_uuid": core_uuid, "up_since": self._store.now()})
                self._switches.mark_reachable(self._name)
                self._set_limit(commands.capacity(self._link))
                self._down_since = None
            elif self._limit_is_old:
                self._set_limit(commands.capacity(self._link))
            self._limit_is_old = False
        elif self._down_since is None:
            self._down_since = time.monotonic()
        elif time.monotonic() - self._down_since > UNREACHABLE_AFTER:
            since = self._store.now() - (time.monotonic() - self._down_since)
            if self._switches.mark_unreachable(self._name, since):
                log.error("switch %s is unreachable; its calls wait for it", self._name)

    def renew_limit(self) -> None:
        """Set the limit again, since the address of the switch has changed."""
        self._limit_is_old = True

    @property
    def limit(self) -> Limit | None:
        """The limit of the switch. None until this listener has set it since it began to lead, or
        since the switch is reachable."""
        return self._limit if self._down_since is None else None

    @property
    def down_for(self) -> float:
        """The seconds for which the switch has been unreachable."""
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

    def note_load(self, heartbeat: Event) -> None:
        """Write the load and the limits in the switch's HEARTBEAT."""
        headers = heartbeat.headers
        with suppress(KeyError, ValueError):
            self._set_limit((int(headers["Session-Per-Sec"]), int(headers["Max-Sessions"])))
        self._note(
            {
                "sessions": headers.get("Session-Count", ""),
                "max_sessions": headers.get("Max-Sessions", ""),
                "sessions_per_second": headers.get("Session-Per-Sec", ""),
                "heartbeat": self._store.now(),
            }
        )

    def note_reconciled(self, seconds: str) -> None:
        """Write that the calls have just been compared with the switch, and how long it took."""
        self._note({"reconciled": self._store.now(), "reconcile_seconds": seconds})

    def _note(self, fields: dict[str, str | float]) -> None:
        fields = {**fields, "listener": self._listener}
        patiently(self._stopping, partial(self._switches.note, self._name, fields))

    def _set_limit(self, capacity: tuple[int, int] | None) -> None:
        """Set the limit of the switch: what its address says, else its own capacity.

        ``capacity`` is its sessions-per-second and its max-sessions. The switch refuses the last
        session of a second.
        """
        address = self._link.address
        rate, most = address.legs_per_second, address.max_legs
        if capacity is not None:
            rate = max(1, capacity[0] - 1) if rate is None else rate
            most = capacity[1] if most is None else most
        self._limit = Limit(rate or 0, most or 0)
        self._pacer.set_switch_limit(self._name, self._limit)

    def keep_limit(self) -> bool:
        """Set the switch's limit if Redis has none: it came back empty. Returns whether it did."""
        if self._limit is None or not self._pacer.keep_switch_limit(self._name, self._limit):
            return False
        # All else that Redis said of the switch is lost too.
        self.begin()
        return True
