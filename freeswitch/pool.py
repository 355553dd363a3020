"""The connections of one process to all of its switches."""

from collections.abc import Callable, Iterable

import gevent

from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection

# Seconds that `ready` waits for replies.
_READY_LIMIT = 0.5
# Seconds that `reach` waits for a switch that is down, and for its reply.
_UP_LIMIT = 0.3
_ANSWER_LIMIT = 1.0
# The least seconds between two attempts to connect. Listeners reconnect sooner, so that they hear
# the events of the first calls.
_MIN_DELAY = 0.7


class SwitchPool:
    """Connections to all switches, kept open for commands. They bring no events."""

    def __init__(
        self,
        addresses: Iterable[SwitchAddress],
        on_up: Callable[[SwitchConnection], object],
        on_down: Callable[[str], object] | None = None,
        on_unknown: Callable[[], object] | None = None,
    ) -> None:
        """``on_up`` gets the connection that is up, ``on_down`` the name of a switch that was.
        ``on_unknown`` looks for new switches where one is asked for that the pool does not have."""
        self._on_unknown = on_unknown
        self._on_up = on_up
        self._on_down = on_down
        self._started = False
        self._connections: dict[str, SwitchConnection] = {}
        # The greenlets that ask a switch for a sign of life, by its name.
        self._asked: dict[str, gevent.Greenlet] = {}
        self.follow(addresses)

    def follow(self, addresses: Iterable[SwitchAddress]) -> None:
        """Connect to these switches and to no others, at once where the pool is started. A
        connection whose switch stays where it is goes on."""
        wanted = {address.name: address for address in addresses}
        for name in self._connections.keys() - wanted.keys():
            # In the background: its end waits for what runs on it.
            gevent.spawn(self._connections.pop(name).stop)
            self._asked.pop(name, None)
        for name, address in wanted.items():
            if (known := self._connections.get(name)) is not None:
                known.move(address)
                continue
            made = SwitchConnection(
                address, on_up=self._on_up, on_down=self._lost(name), min_delay=_MIN_DELAY
            )
            self._connections[name] = made
            if self._started:
                made.start()

    def _lost(self, name: str) -> Callable[[str], object] | None:
        on_down = self._on_down
        return None if on_down is None else lambda _: on_down(name)

    def start(self) -> None:
        """Begin to connect to every switch."""
        self._started = True
        for connection in self._connections.values():
            connection.start()

    def stop(self) -> None:
        """Close all connections."""
        self._started = False
        gevent.joinall([gevent.spawn(each.stop) for each in self._connections.values()])

    @property
    def connected(self) -> dict[str, bool]:
        """Whether each switch is connected."""
        return {name: each.up for name, each in self._connections.items()}

    def get(self, name: str) -> SwitchConnection | None:
        """The connection to the switch of that name, up or down; None for an unknown name."""
        return self._connections.get(name)

    def reach(self, name: str) -> SwitchConnection | None:
        """The connection to a switch that replies; None if it does not within 1.3 seconds.

        The wait is short because other calls wait behind the caller.
        """
        connection = self.get(name)
        if connection is None and self._on_unknown is not None:
            # It may have been added a moment ago.
            self._on_unknown()
            connection = self.get(name)
        if connection is None or not connection.wait_up(_UP_LIMIT):
            return None
        return connection if connection.is_answering(timeout=_ANSWER_LIMIT) else None

    @property
    def heard(self) -> bool:
        """Whether every switch that is connected was heard in the last second. Then `ready` does
        not wait: neither does it for one that is down."""
        return all(each.was_heard() for each in self._connections.values() if each.up)

    def ready(self) -> list[str]:
        """The names of the switches that reply, within half a second."""
        heard = [name for name, each in self._connections.items() if each.was_heard()]
        asked = {
            name: self._asked.get(name) or gevent.spawn(connection.is_answering)
            for name, connection in self._connections.items()
            # One that is down does not answer, and nobody waits for it.
            if name not in heard and connection.up
        }
        done = gevent.joinall(list(asked.values()), timeout=_READY_LIMIT)
        # Each switch is asked once at a time: a connection on which a command waits is not closed.
        self._asked = {name: asking for name, asking in asked.items() if asking not in done}
        return heard + [name for name, asking in asked.items() if asking in done and asking.value]
