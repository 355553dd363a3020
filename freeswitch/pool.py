"""The connections of one process to all its switches."""

from collections.abc import Callable, Iterable

import gevent

from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection

# Seconds within which a switch says that it is there.
_SOON = 0.5
# Seconds that one command waits for a switch that is away, and for its answer.
_UP_LIMIT = 0.3
_ANSWER_LIMIT = 1.0


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
        # Who waits for a switch's sign of life.
        self._asked: dict[str, gevent.Greenlet] = {}

    def start(self) -> None:
        for connection in self._connections.values():
            connection.start()

    def stop(self) -> None:
        """Close all connections."""
        gevent.joinall([gevent.spawn(each.stop) for each in self._connections.values()])

    def get(self, name: str) -> SwitchConnection | None:
        """The connection to the switch of that name, up or not."""
        return self._connections.get(name)

    def reach(self, name: str) -> SwitchConnection | None:
        """The connection to a switch that answers, waited for but for a moment: others wait behind
        who asks."""
        connection = self.get(name)
        if connection is None or not connection.wait_up(_UP_LIMIT):
            return None
        return connection if connection.is_answering(timeout=_ANSWER_LIMIT) else None

    @property
    def heard(self) -> bool:
        """Whether every switch has been heard of just now: who asks for those that are ready need
        not wait."""
        return all(each.was_heard() for each in self._connections.values())

    def ready(self) -> list[str]:
        """The switches that answer, soon."""
        heard = [name for name, each in self._connections.items() if each.was_heard()]
        asked = {
            name: self._asked.get(name) or gevent.spawn(connection.is_answering)
            for name, connection in self._connections.items()
            if name not in heard
        }
        done = gevent.joinall(list(asked.values()), timeout=_SOON)
        # One question at a time: a link that is waited on is not given up.
        self._asked = {name: asking for name, asking in asked.items() if asking not in done}
        return heard + [name for name, asking in asked.items() if asking in done and asking.value]
