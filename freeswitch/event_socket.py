"""The inbound event socket of a switch: one connection, and one that is kept open.

greenswitch 0.0.19 gives the shape; what it leaves open is mended in the methods of the same names.
Everything here belongs to one thread, the greenlets of one gevent hub; nothing is monkey-patched.
"""

import contextlib
import logging
import random
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.socket
import greenswitch
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from greenswitch.esl import NotConnectedError

from freeswitch.address import SwitchAddress
from freeswitch.events import Event
from freeswitch.framing import Frame, FrameParser, FramingError

log = logging.getLogger(__name__)

MAX_QUEUED_EVENTS = 100_000
"""Events read and not yet handled. The switch's own queue for a listener is as long; a handler
so far behind is better served by a new connection and a look at the channels that live."""

MAX_BATCH = 128
"""Events handed on at once: what is saved by more is little, and nothing else runs meanwhile."""

BATCH_SPACING = 0.04
"""Seconds between the beginnings of two batches: a first event is handed on at once, those that
follow it closely together."""

CORE_UUID = "global_getvar core_uuid"
"""The cheapest api command there is, a look-up in a hash: the switch's Core-UUID alone."""

DELIVERY_LIMIT = 5.0
"""Seconds after which bytes that the switch's host has not acknowledged are given up, with the
connection: a command must not reach the switch long after its sender has stopped to wait."""

# Seconds before a batch in which what waits for it is read.
_READ_AHEAD = 0.002
_CHUNK = 65536
_LINE_BREAK = re.compile(r"[\r\n\0]")
_HEADER_NAME = re.compile(r"[^\s:]+")
# The switch cuts its reply to bgapi at 512 bytes, and the uuid stands in it twice: one of more than
# about 230 characters loses the blank line, and every later reply with it (seen on 1.10.12).
_JOB_UUID = re.compile(r"[\x21-\x7e]{1,128}")


class EventSocketError(Exception):
    """The parent of all errors here."""


class NotConnected(EventSocketError, NotConnectedError):  # type: ignore[misc]
    """No connection, or it ended before the reply: the command may have been carried out."""


class ConnectFailed(EventSocketError):
    """Nothing listens, or it does not speak the protocol, refuses us, or takes too long."""


class AuthenticationFailed(ConnectFailed):
    """The switch refuses the password."""


class CommandTimeout(EventSocketError):
    """No reply within the time limit: the command may have been carried out, or may yet be."""


class CommandRefused(EventSocketError):
    """The switch answered, and did not do it; `reply` says why."""

    def __init__(self, reply: "Reply") -> None:
        super().__init__(reply.text.strip())
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one command: `text` is the Reply-Text, or the body of an api response."""

    text: str
    headers: dict[str, str]

    @property
    def data(self) -> str:
        """The same under greenswitch's name."""
        return self.text


class EventSocket(greenswitch.InboundESL):  # type: ignore[misc]
    """One connection to a switch, from `connect` until it ends; it is not used a second time.

    `timeout` (seconds) limits `connect` as a whole, and each command that brings no limit of its
    own. `on_event` gets every event, one after the other and in order, in a greenlet of its own: a
    slow handler delays no reply. It may send commands. What it raises is logged. `on_events` in its
    place gets all that wait, up to MAX_BATCH, in a list, every BATCH_SPACING.
    `on_close(reason)` is called once for each `connect` that succeeded, in the same greenlet,
    after the last event; `close` throws away events that wait, a loss by the switch or the network
    does not. More than MAX_QUEUED_EVENTS waiting end the connection with `event queue full`.

    `send` works as greenswitch's does; its `register_handle` gives way to `on_event`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str,
        *,
        user: str | None = None,
        timeout: float = 5.0,
        on_event: Callable[[Event], object] | None = None,
        on_events: Callable[[list[Event]], object] | None = None,
        on_close: Callable[[str], object] | None = None,
    ) -> None:
        """Raises ValueError if user or password hold a line break."""
        super().__init__(host, port, password, timeout)
        self._login = _encode(f"userauth {user}:{password}" if user else f"auth {password}")
        self.bad_events = 0
        """Events whose JSON could not be read."""
        self.sock: Any = None  # gevent has no types
        self._on_event = on_event
        self._on_events = on_events
        self._on_close = on_close
        self.heard = time.monotonic()
        """When the last bytes came from the switch, on the monotonic clock."""
        self.busy = 0
        """Commands that somebody waits for the reply to, each with a limit of its own."""
        # When events are handed on next (monotonic), if that is waited for.
        self._next_batch = 0.0
        self._commands_sent: deque[AsyncResult] = deque()
        self._write_lock = BoundedSemaphore()
        self._end_reason: str | None = None

    def connect(self) -> None:
        """Connect and log in within `timeout` seconds; leaves nothing behind when it fails.

        Raises ConnectFailed, as AuthenticationFailed if the password is wrong.
        """
        if self.sock is not None or self._end_reason is not None:
            raise RuntimeError("an EventSocket connects once")
        # One limit over all three steps: greenswitch waits for the challenge without any.
        limit = gevent.Timeout.start_new(self.timeout)
        try:
            # IPv6 too; and it closes its socket whatever interrupts it.
            self.sock = gevent.socket.create_connection((self.host, self.port))
            _set_options(self.sock)
            self._receive_events_greenlet = gevent.spawn(self.receive_events)
            self._auth_request_event.wait()
            self.authenticate()
        except BaseException as error:
            # ECONNREFUSED, a wrong password, EOF before the challenge: greenswitch leaks the
            # socket, the greenlets, or hangs.
            self._end(str(error) or "connect failed")
            if error is limit:
                raise ConnectFailed(f"{self._place}: no login in {self.timeout} s") from None
            # UnicodeError: a host name that DNS cannot hold.
            if isinstance(error, OSError | NotConnected | UnicodeError):
                raise ConnectFailed(f"{self._place}: {error}") from error
            raise
        finally:
            limit.close()
        self.connected = self._end_reason is None
        self._process_events_greenlet = gevent.spawn(self.process_events)

    def authenticate(self) -> None:
        """Log in; `connect` calls it, within its time limit. Raises AuthenticationFailed."""
        reply = self._exchange(self._login, None, "login")
        if not reply.text.startswith("+OK"):
            raise AuthenticationFailed(f"{self._place}: {reply.text}")

    def command(
        self,
        line: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Reply:
        """Send a command with its header lines and return its reply; any number of greenlets may.

        Raises ValueError, before anything is sent, for a line break or NUL anywhere; NotConnected;
        CommandTimeout after `timeout` seconds; CommandRefused if the reply begins with `-ERR`.
        """
        reply = self._request(line, headers, timeout)
        if reply.text.startswith("-ERR"):
            raise CommandRefused(reply)
        return reply

    def api(self, line: str, *, timeout: float | None = None) -> str:
        """Run an api command on the switch and return what it says, `-ERR …` included.

        Until it ends this connection gets no other reply and no event: for what takes long there
        is `bgapi`. Raises as `command` does, CommandRefused only if it was not run at all.
        """
        reply = self._request(f"api {line}", None, timeout)
        if reply.headers["Content-Type"] != "api/response":
            raise CommandRefused(reply)
        return reply.text

    def bgapi(self, line: str, job_uuid: str, *, timeout: float | None = None) -> None:
        """Start an api command; a BACKGROUND_JOB event with this Job-UUID brings its result.

        `job_uuid` has 1 to 128 printable ASCII characters. Raises as `command` does.
        """
        if not _JOB_UUID.fullmatch(job_uuid):
            raise ValueError("a Job-UUID has 1 to 128 printable ASCII characters")
        reply = self._request(f"bgapi {line}", {"Job-UUID": job_uuid}, timeout)
        if reply.text != f"+OK Job-UUID: {job_uuid}":
            raise CommandRefused(reply)

    def send(self, data: str) -> Reply:
        """Send a command as greenswitch does: header lines follow in `data`, `-ERR` is returned.

        Unlike `command` it cannot tell a header line from an injected one, so nothing a client
        chose belongs in `data`. A blank line is a ValueError all the same: one command a call.
        """
        line, *rest = data.split("\n")
        headers = {}
        for header in rest:
            name, _, value = header.partition(":")
            headers[name] = value.strip(" ")
        return self._request(line, headers, None)

    def close(self, reason: str = "closed on our side") -> None:
        """End the connection at once, from any greenlet; waiting commands raise NotConnected.

        Waits for nothing: greenswitch asks a switch that may be gone to say goodbye first, and
        joins its greenlets, its own included.
        """
        if self._end_reason is None:
            while not self._esl_event_queue.empty():
                self._esl_event_queue.get_nowait()
        self._end(reason)

    def stop(self) -> None:
        """Close, under greenswitch's name."""
        self.close()

    def register_handle(self, name: str, handler: object) -> None:
        """Not offered: one handler's events would pass another's."""
        raise NotImplementedError("events go to on_event")

    @property
    def backlog(self) -> int:
        """Events read and not yet handed on."""
        size: int = self._esl_event_queue.qsize()
        return size

    def catch_up(self, timeout: float) -> bool:
        """Wait until the handler has had every event that the switch has sent by now, or of a
        connection that has ended all that were read; False where that takes longer than
        `timeout` seconds."""
        end = time.monotonic() + timeout
        if self._end_reason is None:
            # Its reply comes behind them on the wire.
            with contextlib.suppress(EventSocketError):
                self.api(CORE_UUID, timeout=timeout)
                handled = Flag()
                self._esl_event_queue.put(handled)
                return bool(handled.wait(max(0.0, end - time.monotonic())))
        if self._process_events_greenlet is not None:
            self._process_events_greenlet.join(max(0.0, end - time.monotonic()))
            return bool(self._process_events_greenlet.dead)
        return True

    @property
    def _place(self) -> str:
        return f"{self.host} port {self.port}"

    def _request(
        self, line: str, headers: Mapping[str, str] | None, timeout: float | None
    ) -> Reply:
        data = _encode(line, headers)
        # Not the arguments: they hold telephone numbers, and errors are logged.
        verb = (
            " ".join(line.split()[:2]) if line.startswith(("api ", "bgapi ")) else line.split()[0]
        )
        return self._exchange(data, self.timeout if timeout is None else timeout, verb)

    def _exchange(self, data: bytes, timeout: float | None, verb: str) -> Reply:
        limit = gevent.Timeout.start_new(timeout)
        self.busy += 1
        try:
            # Replies carry no number, they come in the order of the commands: a place in the queue
            # and the bytes on the wire must be taken together, or two greenlets swap replies.
            with self._write_lock:
                if self.sock is None or self._end_reason is not None:
                    raise NotConnected(self._end_reason or "connect() was not called")
                slot = AsyncResult()
                self._commands_sent.append(slot)
                try:
                    self.sock.sendall(data)
                except BaseException as error:
                    # Half a command may be on the wire, a job's own time limit included: the
                    # next one would be read as its rest.
                    self._end(f"write failed: {error}")
                    raise
            # A slot whose command gave up stays in the queue, so that its late reply is thrown
            # away and the replies after it find their commands.
            reply: Reply = slot.get()
            return reply
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            raise CommandTimeout(f"{verb}: no reply within {timeout} s") from None
        except OSError as error:
            raise NotConnected(f"write failed: {error}") from error
        finally:
            self.busy -= 1
            limit.close()

    def receive_events(self) -> None:
        """Read until the connection ends, however it ends; then wake whoever waits for a reply."""
        parser = FrameParser()
        try:
            while self._end_reason is None:
                data = self.sock.recv(_CHUNK)
                if not data:
                    # greenswitch tells nobody, and spins if it comes within a body.
                    self._end("end of file")
                self.heard = time.monotonic()
                for frame in parser.feed(data):
                    self.handle_event(frame)
                # recv does not yield while there is more to read: a burst would starve the rest.
                # What the next batch is to have may be read together, just before it.
                left = self._next_batch - _READ_AHEAD - time.monotonic()
                together = left > 0 and self.backlog and not self.busy
                gevent.sleep(left if together else 0)
        except FramingError as error:
            self._end(f"bad frame: {error}")
        except OSError as error:
            self._end(f"read failed: {error}")
        except Exception as error:
            # A reader that dies alone leaves a connection that looks alive.
            log.exception("reading from %s failed", self._place)
            self._end(f"read failed: {error!r}")

    def handle_event(self, frame: Frame) -> None:
        """Do what a frame asks for; events are only put in the queue, unread."""
        if self._end_reason is not None:
            return
        match frame.content_type:
            case "text/event-json":
                if self._on_event is None and self._on_events is None:
                    return
                if self._esl_event_queue.qsize() >= MAX_QUEUED_EVENTS:
                    self.close("event queue full")
                else:
                    self._esl_event_queue.put(frame.body)
            case "command/reply":
                self._deliver(Reply(frame.headers.get("Reply-Text", ""), frame.headers))
            case "api/response":
                self._deliver(Reply(frame.body.decode(errors="replace"), frame.headers))
            case "auth/request":
                self._auth_request_event.set()
            case "text/disconnect-notice" | "text/rude-rejection" as notice:
                # Rejection: the ACL of the event socket, which allows only loopback by default.
                said = " ".join(frame.body.decode(errors="replace").split())
                self._end(f"{notice.removeprefix('text/')}: {said}")
            case other:
                log.debug("%s: a frame of type %r is left aside", self._place, other)

    def _deliver(self, reply: Reply) -> None:
        if self._commands_sent:
            self._commands_sent.popleft().set(reply)
        else:
            self._end("a reply to no command")

    def process_events(self) -> None:
        """Hand events to their handler until the connection ends, then call `on_close`."""
        queue = self._esl_event_queue
        most = 1 if self._on_events is None else MAX_BATCH
        ended = False
        while not ended:
            waiting = [queue.get()]
            begun = time.monotonic()
            while len(waiting) < most and not queue.empty():
                waiting.append(queue.get_nowait())
            self._process([data for data in waiting if isinstance(data, bytes)])
            for item in waiting:
                if isinstance(item, Flag):
                    # All before it have been handled.
                    item.set()
                ended = ended or item is None
            # A handler that never waits must not keep the reader from reading.
            if len(waiting) < most:
                self._next_batch = begun + BATCH_SPACING
            gevent.sleep(max(0.0, self._next_batch - time.monotonic()))
        _call_back(self._on_close, self._end_reason)

    def _process(self, waiting: list[bytes]) -> None:
        events = []
        for data in waiting:
            try:
                events.append(Event.from_json(data))
            except ValueError as error:
                self.bad_events += 1
                log.warning("%s: unreadable event (%s): %r", self._place, error, data[:200])
        if self._on_events is None:
            for event in events:
                _call_back(self._on_event, event)
        elif events:
            _call_back(self._on_events, events)

    def _end(self, reason: str) -> None:
        """Close the socket, and the first time wake everyone; never waits."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                # What is still on its way is not delivered behind our back after a partition.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        if self._end_reason is not None:
            return
        self._end_reason = reason
        self.connected = self._run = False
        # greenswitch leaves these waiting for ever.
        while self._commands_sent:
            self._commands_sent.popleft().set_exception(NotConnected(reason))
        self._auth_request_event.set()
        self._esl_event_queue.put(None)


class SwitchConnection:
    """Keeps an event socket to one switch open, from `start` until `stop`.

    `events` are names for `event json`, with CUSTOM and its subclasses last. `filters` are pairs
    of header and value (`/…/` is a regular expression); an event passes if any of them matches, so
    with a filter for the own calls (`variable_call_id`, `/.+/`) BACKGROUND_JOB, HEARTBEAT and
    CUSTOM each need one for their Event-Name. Both are sent anew on every connection.

    A greenlet of the connection calls `on_up(connection)` when all is subscribed, when commands
    already work and events already come, and `on_down(reason)` once for each `on_up`, after the
    last event. If `on_up` raises, the connection is closed and tried again. `on_event` or
    `on_events` get events as with EventSocket, those of one connection before those of the next.

    Seconds: `timeout` limits connecting and each command; every `heartbeat` the switch must answer,
    for a half-open link brings no end of file; attempts are `min_delay` to `max_delay` apart,
    the longer the more of them failed, with jitter.
    """

    def __init__(
        self,
        address: SwitchAddress,
        *,
        events: Sequence[str] = (),
        filters: Iterable[tuple[str, str]] = (),
        on_event: Callable[[Event], object] | None = None,
        on_events: Callable[[list[Event]], object] | None = None,
        on_up: Callable[["SwitchConnection"], object] | None = None,
        on_down: Callable[[str], object] | None = None,
        timeout: float = 5.0,
        heartbeat: float = 10.0,
        min_delay: float = 0.1,
        max_delay: float = 5.0,
    ) -> None:
        """Raises ValueError if an event or a filter holds a line break."""
        self.address = address
        self.timeout = timeout
        self.heartbeat = heartbeat
        self.min_delay = min_delay
        self.max_delay = max_delay
        self._on_event = on_event
        self._on_events = on_events
        self._on_up = on_up
        self._on_down = on_down
        # Filters first, so that nothing comes unfiltered in between.
        self._subscription = [f"filter {header} {value}" for header, value in filters]
        if events:
            self._subscription.append(f"event json {' '.join(events)}")
        for line in self._subscription:
            _encode(line)
        self._keeper: gevent.Greenlet | None = None
        self._socket: EventSocket | None = None
        # The same, and once it is lost until the next.
        self._last: EventSocket | None = None
        self._is_up = Flag()
        self._core_uuid: str | None = None
        self._last_error: str | None = None

    def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._keeper is None:
            self._keeper = gevent.spawn(self._keep)

    def stop(self) -> None:
        """Close the connection and connect no more; interrupts `on_up` if it is running.

        Waits for `on_down`, at most `timeout` seconds, and not when a callback calls it.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        callers = [keeper, self._socket and self._socket._process_events_greenlet]
        keeper.kill(block=False)
        if gevent.getcurrent() not in callers:
            keeper.join(self.timeout)

    def wait_up(self, timeout: float | None = None) -> bool:
        """Wait until the switch is subscribed, at most `timeout` seconds; say whether it is."""
        self._is_up.wait(timeout)
        return self.up

    @property
    def up(self) -> bool:
        """Whether the switch is connected and subscribed."""
        return self._socket is not None and self._socket.connected

    @property
    def core_uuid(self) -> str | None:
        """The Core-UUID of the running switch, or of the last that was: another after a restart."""
        return self._core_uuid

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed or the last connection ended; None before the first."""
        return self._last_error

    @property
    def backlog(self) -> int:
        """Events read and not yet handed on."""
        return self._socket.backlog if self._socket is not None else 0

    def catch_up(self, timeout: float) -> bool:
        """As EventSocket.catch_up; while the switch is down, of the connection that was."""
        return self._last is None or self._last.catch_up(timeout)

    def was_heard(self, within: float = 1.0) -> bool:
        """Whether anything has come from the switch these last seconds, on a link that stands."""
        connection = self._socket
        return (
            connection is not None
            and connection.connected
            and time.monotonic() - connection.heard < within
        )

    def is_answering(self, within: float = 1.0, timeout: float = 2.0) -> bool:
        """Whether the switch has been heard `within` seconds, or answers now within `timeout`.

        A link that does not is closed, to be made anew, unless another waits for a reply on it: it
        may be half-open, and what is sent into it is lost.
        """
        connection = self._socket
        if connection is None:
            return False
        if self.was_heard(within):
            return True
        try:
            connection.api(CORE_UUID, timeout=timeout)
        except EventSocketError as error:
            if not connection.busy:
                connection.close(f"no sign of life: {error}")
            return False
        return connection.connected

    def command(
        self,
        line: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Reply:
        """As EventSocket.command; NotConnected while the switch is down."""
        with self._heard() as connection:
            return connection.command(line, headers, timeout=timeout)

    def api(self, line: str, *, timeout: float | None = None) -> str:
        """As EventSocket.api; NotConnected while the switch is down."""
        with self._heard() as connection:
            return connection.api(line, timeout=timeout)

    def api_apart(self, line: str, *, timeout: float) -> str:
        """As EventSocket.api, on a connection made for it: what takes long holds up no other
        command, whose time limit would end the connection."""
        address = self.address
        connection = EventSocket(
            address.host, address.port, address.password, user=address.user, timeout=self.timeout
        )
        connection.connect()
        try:
            return connection.api(line, timeout=timeout)
        finally:
            connection.close()

    def bgapi(self, line: str, job_uuid: str, *, timeout: float | None = None) -> None:
        """As EventSocket.bgapi; NotConnected while the switch is down."""
        with self._heard() as connection:
            connection.bgapi(line, job_uuid, timeout=timeout)

    @contextlib.contextmanager
    def _heard(self) -> Iterator[EventSocket]:
        """The connection for one command; closed, to be made anew, where not a byte came while its
        reply was waited for."""
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
                    log.exception("switch %s: connecting failed", self.address.name, extra=about)
                self._last_error = str(error)
            log.warning("switch %s is down: %s", self.address.name, self._last_error, extra=about)
            # A link that breaks as soon as it is up earns no quick retry: that is how reconnects
            # become a storm.
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
            timeout=self.timeout,
            on_event=self._on_event,
            on_events=self._on_events,
            on_close=ended.set,
        )
        connection.connect()
        reason = "stopped"
        up_since = None
        try:
            self._core_uuid = _core_uuid(connection)
            for line in self._subscription:
                connection.command(line)
            up_since = time.monotonic()
            self._socket = self._last = connection
            self._is_up.set()
            about = {"switch": address.name}
            log.info("switch %s is up, core %s", address.name, self._core_uuid, extra=about)
            if self._on_up is not None:
                self._on_up(self)
            while not ended.wait(self.heartbeat):
                # Whoever waits has a limit, and is told sooner.
                if not connection.busy:
                    _core_uuid(connection)
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
                    _call_back(self._on_down, self._last_error)
        return 0.0 if up_since is None else time.monotonic() - up_since


def _core_uuid(connection: EventSocket) -> str:
    text = connection.api(CORE_UUID).strip()
    if not text or text.startswith("-"):
        raise ConnectFailed(f"no Core-UUID: {text}")
    return text


def _encode(line: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Write a command as it goes over the wire. Raises ValueError if it would be more than one."""
    # No reply at all comes to an empty command; the next reply would be taken for it.
    if not line.strip():
        raise ValueError("a command is not empty")
    lines = [line]
    for name, value in (headers or {}).items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("a header's name is not empty and holds no blank and no colon")
        if name.lower() == "content-length":
            raise ValueError("a Content-Length would swallow the commands after it")
        lines.append(f"{name}: {value}")
    # A line break in a number or a name would be a header, two of them the next command.
    if any(map(_LINE_BREAK.search, lines)):
        raise ValueError("a command and its headers hold no line break and no NUL")
    return ("\n".join(lines) + "\n\n").encode()


def _set_options(sock: gevent.socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The switch sets no keepalive on its side; seconds where the system can be told.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", int(DELIVERY_LIMIT * 1000)),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _call_back(callback: Callable[..., object] | None, value: object) -> None:
    """Call it, and let no exception of its own end the greenlet that others rely on."""
    if callback is None:
        return
    try:
        callback(value)
    # A time limit that went astray is no Exception; GreenletExit and SystemExit are meant.
    except (Exception, gevent.Timeout):
        log.exception("%r failed", callback)
