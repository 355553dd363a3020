"""The listeners of one process: one for each registered switch."""

import logging
from collections.abc import Iterable

import gevent
from gevent.event import Event as Flag

from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from workers.following import Following
from workers.listener.leading import SwitchListener
from workers.runtime import Runtime

log = logging.getLogger(__name__)


class Listeners:
    """The listeners, which start and stop as switches come into the registry and go."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises SettingsError."""
        self._runtime = runtime
        self._listeners: dict[str, SwitchListener] = {}
        self._running: dict[str, gevent.Greenlet] = {}
        # The connections for commands, by the switch.
        self.links: dict[str, SwitchConnection] = {}
        self._following = Following(runtime, self._follow, sees_to=True)
        self._stopping = Flag()

    def hear(self) -> dict[str, bool]:
        """Whether each switch is heard."""
        return {name: each.hears for name, each in self._listeners.items()}

    def run(self) -> None:
        """Listen to what the registry has until :meth:`stop`, and release all leases then."""
        self._following.begin()
        follows = gevent.spawn(self._following.run)
        self._stopping.wait()
        follows.kill()
        gevent.joinall([*self._running.values()])

    def stop(self) -> None:
        """Make :meth:`run` return."""
        self._stopping.set()
        for each in self._listeners.values():
            each.stop()

    def _follow(self, addresses: Iterable[SwitchAddress]) -> None:
        if self._stopping.is_set():
            return
        wanted = {address.name: address for address in addresses}
        self._runtime.outcomes.follow(wanted)
        for name in self._listeners.keys() - wanted.keys():
            log.info("switch %s is registered no more", name, extra={"switch": name})
            self.links.pop(name, None)
            self._listeners.pop(name).stop()
            gevent.spawn(self._clean, name, self._running.pop(name))
        for name, address in wanted.items():
            if (known := self._listeners.get(name)) is not None:
                known.move(address)
                continue
            made = self._listeners[name] = SwitchListener(self._runtime, address)
            self.links[name] = made.link
            self._running[name] = gevent.spawn(made.run)

    def _clean(self, name: str, running: gevent.Greenlet) -> None:
        """Take out what the listener has written since the switch was removed."""
        running.join()
        self._following.registry.clean(name)
