"""A connection to one switch that stays open: it reconnects and subscribes again."""

import contextlib
import logging
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Flag

from freeswitch.address import SwitchAddress
from freeswitch.errors import (
    CommandRefused,
    CommandTimeout,
    ConnectFailed,
    EventSocketError,
    NotConnected,
)
from freeswitch.event_socket import (
    AT_ONCE,
    CORE_UUID,
    Batching,
    EventSocket,
    call_back,
    encode,
)
from freeswitch.events import Event
from freeswitch.outages import Outages

log = logging.getLogger(__name__)

# Seconds for which the last bytes of a switch are a sign of life.
_LATELY = 1.0
# So many events in the time of one command say that its reply waits behind them, and is not lost.
FLOOD = 1000
# A Core-UUID goes into Redis and into logs, so it is not whatever a switch may answer.
_UUID = re.compile(r"[!-~]{1,64}")


class SwitchConnection:
    """A connection to one switch that reconnects, from `start` until `stop`.

    `events` are names for `event json`, with CUSTOM and its subclasses last. `filters` are pairs
    of header and value (`/…/` is a regular expression). An event passes if any filter matches:
    beside a filter for our own calls (`variable_call_id`, `/.+/`), BACKGROUND_JOB, HEARTBEAT and
    CUSTOM each need a filter for their Event-Name. Every new connection sends both again. The user
    may lack the right to one of `optional`, each the names of a further `event json`: the log says
    so once, and the connection goes on.

    A greenlet calls `on_up(connection)` once everything is subscribed: commands already work and
    events already come. It calls `on_down(reason)` once for each `on_up`, after the last event.
    If `on_up` raises, the connection closes and tries again. `on_event`, or `on_events` with its
    `batching`, get events as in EventSocket, all of one connection before those of the next.
    `on_skipped` is told of the events that they do not get.

    Connections of one process to one switch share their `outages`, so that the log tells of each
    outage once.

    Times are in seconds. `timeout` limits connecting and each command. The switch must answer
    every `heartbeat`, since a half-open link brings no end of file. Attempts are `min_delay` to
    `max_delay` apart, with jitter, longer after each failure.
    """

    def __init__(
        self,
        address: SwitchAddress,
        *,
        events: Sequence[str] = (),
        optional: Sequence[str] = (),
        filters: Iterable[tuple[str, str]] = (),
        on_event: Callable[[Event], object] | None = None,
        on_events: Callable[[list[Event]], object] | None = None,
        batching: Batching = AT_ONCE,
        on_up: Callable[["SwitchConnection"], object] | None = None,
        on_down: Callable[[str], object] | None = None,
        timeout: float = 5.0,
        heartbeat: float = 10.0,
        min_delay: float = 0.1,
        max_delay: float = 5.0,
        on_skipped: Callable[[str], object] | None = None,
        outages: Outages | None = None,
    ) -> None:
        """Set up a connection without connecting. Raises ValueError if an event or a filter holds
        a line break."""
        self.address = address
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.min_delay = min_delay
        self.max_delay = max_delay
        self._on_event = on_event
        self._on_events = on_events
        self._batching = batching
        self._on_up = on_up
        self._on_down = on_down
        self._on_skipped = on_skipped
        self._outages = Outages(address.name) if outages is None else outages
        self._outages.add(self)
        # Filters go first, so that nothing comes unfiltered in between.
        self._subscription = [f"filter {header} {value}" for header, value in filters]
        if events:
            self._subscription.append(f"event json {' '.join(events)}")
        self._optional = [f"event json {names}" for names in optional]
        # The refusals that the log has told of.
        self._refusals: set[str] = set()
        for line in (*self._subscription, *self._optional):
            encode(line)
        self._keeper: gevent.Greenlet | None = None
        self._socket: EventSocket | None = None
        # The last connection that was up; it stays here after it is lost, until the next.
        self._last: EventSocket | None = None
        self._is_up = Flag()
        # Since when it is up (monotonic).
        self._up_since = 0.0
        self._core_uuid: str | None = None
        self._last_error: str | None = None

    def start(self) -> None:
        """Begin to connect. It returns at once."""
        if self._keeper is None:
            self._keeper = gevent.spawn(self._keep)

    def stop(self) -> None:
        """Close the connection and do not reconnect. This interrupts a running `on_up`.

        It waits for `on_down`, at most `timeout` seconds, unless a callback calls `stop`.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        called_back = self._socket is not None and self._socket.is_calling_back
        keeper.kill(block=False)
        if gevent.getcurrent() is not keeper and not called_back:
            keeper.join(self.timeout)

    def move(self, address: SwitchAddress) -> None:
        """Use another address of the same switch from now on. If it is another place, the
        connection closes and connects there; a new login counts from the next connection on."""
        before, self.address = self.address, address
        place = (address.host, address.port, address.tls)
        if place != (before.host, before.port, before.tls) and self._socket is not None:
            self._socket.close("the switch has another address")

    def wait_up(self, timeout: float | None = None) -> bool:
        """Wait until everything is subscribed, at most `timeout` seconds; say whether it is."""
        self._is_up.wait(timeout)
        return self.up

    @property
    def up(self) -> bool:
        """Whether the switch is connected and everything is subscribed."""
        return self._socket is not None and self._socket.connected

    @property
    def up_for(self) -> float:
        """The seconds for which it has been up without a gap; 0 while it is down."""
        return time.monotonic() - self._up_since if self.up else 0.0

    @property
    def core_uuid(self) -> str | None:
        """The Core-UUID that the switch had when it was last up. A restart changes it."""
        return self._core_uuid

    @property
    def backlog(self) -> int:
        """The number of events that the connection has read and not yet handed on."""
        return self._socket.backlog if self._socket is not None else 0

    def catch_up(self, timeout: float) -> bool:
        """Catch up as EventSocket does; while the switch is down, with the last connection."""
        return self._last is None or self._last.catch_up(timeout)

    def was_heard(self) -> bool:
        """Whether bytes came from the switch in the last second, on a link that is up."""
        connection = self._socket
        return (
            connection is not None
            and connection.connected
            and time.monotonic() - connection.heard < _LATELY
        )

    def is_answering(self, timeout: float = 2.0) -> bool:
        """Whether bytes came in the last second, or the switch replies within `timeout` seconds.

        A link without either may be half-open and lose commands. So this closes it for a new one,
        unless another command waits for its reply on it.
        """
        connection = self._socket
        if connection is None:
            return False
        if self.was_heard():
            return True
        try:
            connection.api(CORE_UUID, timeout=timeout)
        except EventSocketError as error:
            if not connection.busy:
                connection.close(f"no sign of life: {error}")
            return False
        return connection.connected

    def api(self, line: str, *, timeout: float | None = None) -> str:
        """Run an api command as EventSocket.api does. Raises NotConnected while the switch is
        down."""
        with self._heard() as connection:
            return connection.api(line, timeout=timeout)

    def api_apart(self, line: str, *, timeout: float) -> str:
        """Run an api command as EventSocket.api does, on a separate connection.

        So a long command delays no other command. A delayed command would time out and end the
        connection.
        """
        with self._apart(self.timeout) as connection:
            return connection.api(line, timeout=timeout)

    def probe(self, line: str, *, timeout: float) -> str:
        """Ask for an answer to a `bgapi`, then run an api command, on a separate connection; return
        the command's output. Raises EventSocketError."""
        with self._apart(timeout) as connection:
            connection.bgapi(CORE_UUID, str(uuid.uuid4()), timeout=timeout)
            return connection.api(line, timeout=timeout)

    @contextlib.contextmanager
    def _apart(self, timeout: float) -> Iterator[EventSocket]:
        """A separate connection, which is up within ``timeout`` seconds."""
        address = self.address
        connection = EventSocket(
            address.host,
            address.port,
            address.password,
            user=address.user,
            tls=address.tls,
            timeout=timeout,
        )
        connection.connect()
        try:
            yield connection
        finally:
            connection.close()

    def bgapi(self, line: str, job_uuid: str, *, timeout: float | None = None) -> None:
        """Start an api command as EventSocket.bgapi does. Raises NotConnected while the switch is
        down."""
        with self._heard() as connection:
            connection.bgapi(line, job_uuid, timeout=timeout)

    @contextlib.contextmanager
    def _heard(self) -> Iterator[EventSocket]:
        """The connection for one command. If no byte comes while the command waits, its timeout
        closes the connection, and a new one follows."""
        connection = self._socket
        if connection is None:
            raise NotConnected(f"{self.address.name} is down: {self._last_error or 'not started'}")
        asked = time.monotonic()
        try:
            yield connection
        except CommandTimeout as error:
            if connection.heard < asked:
                connection.close(f"no sign of life: {error}")
            raise

    def _keep(self) -> None:
        ceiling = self.min_delay
        about = {"switch": self.address.name}
        while True:
            up_for = 0.0
            try:
                up_for = self._serve()
            except Exception as error:
                if not isinstance(error, EventSocketError):
                    log.exception("switch %s: cannot connect", self.address.name, extra=about)
                self._last_error = str(error)
            self._outages.down(self, self._last_error)
            # A link that breaks as soon as it is up earns no quick retry: quick retries turn
            # reconnects into a storm.
            if up_for > self.max_delay:
                ceiling = self.min_delay
            ceiling = min(self.max_delay, 2 * ceiling)
            gevent.sleep(random.uniform(self.min_delay, ceiling))

    def _serve(self) -> float:
        """Connect, subscribe and watch until the connection ends; return the seconds it was up."""
        ended = AsyncResult()
        address = self.address
        connection = EventSocket(
            address.host,
            address.port,
            address.password,
            user=address.user,
            tls=address.tls,
            timeout=self.timeout,
            on_event=self._on_event,
            on_events=self._on_events,
            batching=self._batching,
            on_close=ended.set,
            on_skipped=self._on_skipped,
        )
        connection.connect()
        reason = "stopped"
        up_since = None
        try:
            self._core_uuid = _core_uuid(connection)
            for line in self._subscription:
                connection.command(line)
            self._subscribe_to_optional(connection)
            up_since = self._up_since = time.monotonic()
            self._socket = self._last = connection
            self._is_up.set()
            self._outages.up(self, self._core_uuid)
            if self._on_up is not None:
                self._on_up(self)
            while not ended.wait(self.heartbeat):
                # A command that waits has a limit of its own, and notices sooner.
                if not connection.busy:
                    _beat(connection)
        except EventSocketError as error:
            reason = str(error)
        except (Exception, gevent.Timeout) as error:
            log.exception("switch %s: on_up failed", address.name)
            reason = f"on_up failed: {error!r}"
        finally:
            connection.close(reason)
            self._socket = None
            self._is_up.clear()
            self._last_error = reason
            try:
                # The handler finishes with these events before the next connection brings more.
                self._last_error = ended.get()
            finally:
                if up_since is not None:
                    call_back(self._on_down, self._last_error)
        return 0.0 if up_since is None else time.monotonic() - up_since

    def _subscribe_to_optional(self, connection: EventSocket) -> None:
        for line in self._optional:
            try:
                connection.command(line)
            except CommandRefused as error:
                if line not in self._refusals:
                    self._refusals.add(line)
                    log.warning("switch %s: %s: %s", self.address.name, line, error)


def _beat(connection: EventSocket) -> None:
    """Ask for a sign of life. Raises EventSocketError if there is none."""
    before = connection.events_read
    try:
        _core_uuid(connection)
    except CommandTimeout:
        # The switch sends the reply after the events that wait. A new connection would lose them.
        if connection.events_read - before < FLOOD:
            raise


def _core_uuid(connection: EventSocket) -> str:
    text = connection.api(CORE_UUID).strip()
    if text.startswith("-") or _UUID.fullmatch(text) is None:
        raise ConnectFailed(f"the switch did not tell its Core-UUID: {text[:80]}")
    return text
