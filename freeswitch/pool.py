"""The connections of one process to all its switches."""

import time
from collections.abc import Iterable

import gevent
from gevent.event import Event as Flag

from freeswitch.address import SwitchAddress
from freeswitch.event_socket import SwitchConnection


class SwitchPool:
    """Keeps a connection to each switch open, for commands; events come elsewhere."""

    def __init__(self, addresses: Iterable[SwitchAddress]) -> None:
        self._changed = Flag()
        self.stopped = False
        self._connections = {
            # Not before the listeners, who come back sooner: the first calls would go unheard.
            address.name: SwitchConnection(address, on_up=self._up, min_delay=0.7)
            for address in addresses
        }
        self._order = list(self._connections)

    def start(self) -> None:
        for connection in self._connections.values():
            connection.start()

    def stop_waiting(self) -> None:
        """Whoever waits for a switch gets none; commands under way are finished."""
        self.stopped = True
        self._changed.set()

    def stop(self) -> None:
        """Close all connections."""
        gevent.joinall([gevent.spawn(each.stop) for each in self._connections.values()])

    def get(self, name: str) -> SwitchConnection | None:
        """The connection to the switch of that name, up or not."""
        return self._connections.get(name)

    def choose(self, timeout: float) -> SwitchConnection | None:
        """A switch for a new call, each in turn, of those that answer.

        Waits at most ``timeout`` seconds for one to come up; None where none does.
        """
        end = time.monotonic() + timeout
        while True:
            for name in tuple(self._order):
                if self._connections[name].is_answering():
                    self._order.remove(name)
                    self._order.append(name)
                    return self._connections[name]
            left = end - time.monotonic()
            if left <= 0 or self.stopped:
                return None
            self._changed.clear()
            self._changed.wait(left)

    def _up(self, _: SwitchConnection) -> None:
        self._changed.set()
