"""The connections of one process to all its switches."""

from collections.abc import Callable, Iterable

import gevent

from freeswitch.address import SwitchAddress
from freeswitch.event_socket import SwitchConnection


class SwitchPool:
    """Keeps a connection to each switch open, for commands; events come elsewhere."""

    def __init__(
        self, addresses: Iterable[SwitchAddress], on_up: Callable[[SwitchConnection], object]
    ) -> None:
        self._connections = {
            # Not before the listeners, who come back sooner: the first calls would go unheard.
            address.name: SwitchConnection(address, on_up=on_up, min_delay=0.7)
            for address in addresses
        }

    def start(self) -> None:
        for connection in self._connections.values():
            connection.start()

    def stop(self) -> None:
        """Close all connections."""
        gevent.joinall([gevent.spawn(each.stop) for each in self._connections.values()])

    def get(self, name: str) -> SwitchConnection | None:
        """The connection to the switch of that name, up or not."""
        return self._connections.get(name)

    def ready(self) -> list[str]:
        """The switches that answer."""
        connections = self._connections.items()
        return [name for name, connection in connections if connection.is_answering()]
