"""One connection to the inbound event socket of a switch.

greenswitch 0.0.19 gives the class its shape; methods of the same names replace what is unsafe
there. Every object here belongs to one thread, to the greenlets of one gevent hub. The module
works without gevent's monkey patches.
"""

import contextlib
import logging
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.socket
import greenswitch
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore

from freeswitch.errors import (
    AuthenticationFailed,
    CommandRefused,
    CommandTimeout,
    ConnectFailed,
    EventSocketError,
    NotConnected,
)
from freeswitch.events import Event
from freeswitch.framing import Frame, FrameParser, FramingError
from freeswitch.tls import Tls

log = logging.getLogger(__name__)

MAX_QUEUED_EVENTS = 100_000
"""The most events that wait for their handler. The switch's own queue for a listener is as long.
A handler that is so late is better served by a new connection and a look at the live channels."""

MAX_QUEUED_BYTES = 256 * 1024 * 1024
"""Bytes of the events that wait for their handler: the ends of 10,000 legs at once are 110 MB."""

TOLD_A_MINUTE = 10
"""The log lines about skipped events that a connection writes in a minute; a counter has all."""

CORE_UUID = "global_getvar core_uuid"
"""The cheapest api command of the switch, a look-up in a hash. It answers the Core-UUID."""

DELIVERY_LIMIT = 5.0
"""Seconds that sent bytes may wait for the acknowledgement of the switch's host; then the
connection ends. A command must not reach the switch long after its sender stopped waiting."""

_CHUNK = 65536
_LINE_BREAK = re.compile(r"[\r\n\0]")
_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z-]+")
_HEADER_NAME = re.compile(r"[^\s:]+")
# The switch cuts its reply to bgapi at 512 bytes, and the reply holds the Job-UUID twice. A longer
# one than about 230 characters loses the blank line, and with it every later reply (seen on
# 1.10.12).
_JOB_UUID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one command: `text` is the Reply-Text, or the body of an api response."""

    text: str
    headers: dict[str, str]

    @property
    def data(self) -> str:
        """The text, under greenswitch's name."""
        return self.text


@dataclass(frozen=True, slots=True)
class Batching:
    """The batches in which `on_events` gets events.

    A batch holds at most `size` events: no other greenlet runs while its handler computes.
    `spacing` is the shortest time in seconds between the starts of two batches that are not full.
    An event that comes alone goes on at once; the events that follow it closely wait and share a
    batch. In a spacing, the connection reads no more until `read_ahead` seconds before its end, so
    that one read takes what came meanwhile. It reads at once while a command waits for its reply.
    """

    size: int = 128
    spacing: float = 0.0
    read_ahead: float = 0.0


AT_ONCE = Batching()
"""Every event goes on at once, together with all others that wait."""


class EventSocket(greenswitch.InboundESL):  # type: ignore[misc]
    """One connection to a switch, from `connect` until it ends. An object connects once.

    With `tls` the connection is encrypted, and nothing is sent before the certificate is checked.
    `timeout` (seconds) limits `connect` as a whole, and each command that brings no limit of its
    own. `on_event` gets every event, one at a time and in order. `on_events`, in its place, gets
    lists of events as `batching` says. Both run in a greenlet of their own: a slow handler delays
    no reply. They may send commands. The connection logs what they raise, and goes on.

    `on_close(reason)` runs once for each `connect` that succeeded, in that same greenlet, after
    the last event. `close` drops the events that wait. A connection that the switch or the network
    ends still hands them on. More than MAX_QUEUED_EVENTS waiting end the connection with the
    reason `event queue full`, as do MAX_QUEUED_BYTES.

    `on_skipped(why)` runs for each event that cannot be read (`unreadable`) or is longer than
    MAX_EVENT of freeswitch.framing (`too large`).

    `send` works as in greenswitch; `on_event` replaces greenswitch's `register_handle`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str,
        *,
        user: str | None = None,
        tls: Tls | None = None,
        timeout: float = 5.0,
        on_event: Callable[[Event], object] | None = None,
        on_events: Callable[[list[Event]], object] | None = None,
        batching: Batching = AT_ONCE,
        on_close: Callable[[str], object] | None = None,
        on_skipped: Callable[[str], object] | None = None,
    ) -> None:
        """Set up a connection without connecting. Raises ValueError if the user or the password
        holds a line break."""
        super().__init__(host, port, password, timeout)
        self._login = encode(f"userauth {user}:{password}" if user else f"auth {password}")
        self._tls = tls
        self.sock: Any = None  # gevent has no types
        self._on_event = on_event
        self._on_events = on_events
        self._batching = batching
        self._on_close = on_close
        self._on_skipped = on_skipped
        self._queued_bytes = 0
        # Lines about skipped events since a time (monotonic).
        self._told, self._told_since = 0, 0.0
        self.events_read = 0
        """How many events came, as a sign of life while a reply waits behind them."""
        self.heard = time.monotonic()
        """When the last bytes came from the switch, on the monotonic clock."""
        self.busy = 0
        """How many commands wait for their reply, each with a limit of its own."""
        # When the next batch is due (monotonic). In the past while none is spaced.
        self._next_batch = 0.0
        self._commands_sent: deque[AsyncResult] = deque()
        self._write_lock = BoundedSemaphore()
        self._end_reason: str | None = None

    def connect(self) -> None:
        """Connect and log in within `timeout` seconds. A failed attempt leaves nothing open.

        Raises ConnectFailed, as AuthenticationFailed if the switch rejects the password.
        """
        if self.sock is not None or self._end_reason is not None:
            raise RuntimeError("an EventSocket connects once")
        # One limit covers all three steps: greenswitch waits for the challenge without any.
        limit = gevent.Timeout.start_new(self.timeout)
        try:
            # This tries IPv6 too, and closes its socket whatever interrupts it.
            self.sock = gevent.socket.create_connection((self.host, self.port))
            _set_options(self.sock)
            if self._tls is not None:
                self.sock = self._tls.wrap(self.sock)
                self._tls.shake_hands(self.sock)
            self._receive_events_greenlet = gevent.spawn(self.receive_events)
            self._auth_request_event.wait()
            self.authenticate()
        except BaseException as error:
            # After ECONNREFUSED, a wrong password or an end of file before the challenge,
            # greenswitch leaks the socket or its greenlets, or hangs.
            self._end(str(error) or "connect failed")
            if error is limit:
                raise ConnectFailed(f"{self._place}: no login in {self.timeout} s") from None
            # UnicodeError: DNS cannot hold the host's name.
            if isinstance(error, OSError | NotConnected | UnicodeError):
                raise ConnectFailed(f"{self._place}: {error}") from error
            raise
        finally:
            limit.close()
        self.connected = self._end_reason is None
        self._process_events_greenlet = gevent.spawn(self.process_events)

    def authenticate(self) -> None:
        """Log in. Only `connect` calls it, within its time limit. Raises AuthenticationFailed."""
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
        """Send a command with its header lines and return its reply. Any greenlet may call it.

        Raises ValueError, before it sends anything, for a line break or NUL anywhere;
        NotConnected; CommandTimeout after `timeout` seconds; CommandRefused if the reply begins
        with `-ERR`.
        """
        reply = self._request(line, headers, timeout)
        if reply.text.startswith("-ERR"):
            raise CommandRefused(reply.text.strip())
        return reply

    def api(self, line: str, *, timeout: float | None = None) -> str:
        """Run an api command on the switch and return its output, `-ERR …` included.

        Until the command ends, this connection gets no other reply and no event. Use `bgapi` for
        a long one. Raises as `command` does, but CommandRefused only if the switch did not run it.
        """
        reply = self._request(f"api {line}", None, timeout)
        if reply.headers["Content-Type"] != "api/response":
            raise self._no_reply_of_it(reply)
        return reply.text

    def bgapi(self, line: str, job_uuid: str, *, timeout: float | None = None) -> None:
        """Start an api command. A BACKGROUND_JOB event with this Job-UUID brings its result.

        `job_uuid` has 1 to 128 printable ASCII characters. Raises as `command` does.
        """
        if not _JOB_UUID.fullmatch(job_uuid):
            raise ValueError("a Job-UUID must have 1 to 128 printable ASCII characters")
        reply = self._request(f"bgapi {line}", {"Job-UUID": job_uuid}, timeout)
        if reply.text != f"+OK Job-UUID: {job_uuid}":
            raise self._no_reply_of_it(reply)

    def _no_reply_of_it(self, reply: Reply) -> EventSocketError:
        """The error for a reply that says that the switch refuses, or that is another command's."""
        if reply.text.startswith("-ERR"):
            return CommandRefused(reply.text.strip())
        self._end("the reply of another command")
        return NotConnected("the reply of another command")

    def send(self, data: str) -> Reply:
        """Send a command as greenswitch does: `data` holds its header lines too. Returns `-ERR`.

        Unlike `command` it cannot tell a header line from an injected one, so `data` must hold
        nothing that a client chose. A blank line raises ValueError all the same: one call sends
        one command.
        """
        line, *rest = data.split("\n")
        headers = {}
        for header in rest:
            name, _, value = header.partition(":")
            headers[name] = value.strip(" ")
        return self._request(line, headers, None)

    def close(self, reason: str = "closed on our side") -> None:
        """End the connection at once, from any greenlet. Waiting commands raise NotConnected.

        It waits for nothing. greenswitch first asks a switch that may be gone to say goodbye, and
        joins its greenlets, even the one that calls it.
        """
        if self._end_reason is None:
            while not self._esl_event_queue.empty():
                self._esl_event_queue.get_nowait()
        self._end(reason)

    def stop(self) -> None:
        """Close the connection, under greenswitch's name."""
        self.close()

    def register_handle(self, name: str, handler: object) -> None:
        """Refuse greenswitch's handlers: the events of one would overtake the events of another.
        Raises NotImplementedError."""
        raise NotImplementedError("events go to on_event")

    @property
    def backlog(self) -> int:
        """The number of events that the connection has read and not yet handed on."""
        size: int = self._esl_event_queue.qsize()
        return size

    @property
    def is_calling_back(self) -> bool:
        """Whether the running greenlet is the one that calls the handlers."""
        return gevent.getcurrent() is self._process_events_greenlet

    def catch_up(self, timeout: float) -> bool:
        """Wait until the handler has had every event that the switch has sent by now.

        After the end of the connection these are the events that it read. Returns False if this
        takes longer than `timeout` seconds.
        """
        end = time.monotonic() + timeout
        if self._end_reason is None:
            # The reply follows these events on the wire.
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
        data = encode(line, headers)
        # The arguments stay out: they hold telephone numbers, and errors reach the log.
        verb = (
            " ".join(line.split()[:2]) if line.startswith(("api ", "bgapi ")) else line.split()[0]
        )
        return self._exchange(data, self.timeout if timeout is None else timeout, verb)

    def _exchange(self, data: bytes, timeout: float | None, verb: str) -> Reply:
        limit = gevent.Timeout.start_new(timeout)
        self.busy += 1
        try:
            # Replies carry no number; they come in the order of the commands. One step takes the
            # place in the queue and puts the bytes on the wire, or two greenlets swap replies.
            with self._write_lock:
                if self.sock is None or self._end_reason is not None:
                    raise NotConnected(self._end_reason or "connect() was not called")
                slot = AsyncResult()
                self._commands_sent.append(slot)
                try:
                    self.sock.sendall(data)
                except BaseException as error:
                    # Half a command may be on the wire, also when a job's own time limit struck.
                    # The switch would read the next command as its rest.
                    self._end(f"write failed: {error}")
                    raise
            # The slot of a command that gave up stays in the queue. It takes the late reply, so
            # that the replies after it find their commands.
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
        """Read until the connection ends, however it ends; then wake every waiting command."""
        parser = FrameParser()
        try:
            while self._end_reason is None:
                data = self.sock.recv(_CHUNK)
                if not data:
                    # greenswitch does not report the end, and spins if it comes within a body.
                    self._end("end of file")
                self.heard = time.monotonic()
                for frame in parser.feed(data):
                    self.handle_event(frame)
                # recv does not yield while there is more to read: a burst would starve other
                # greenlets. While the next batch is spaced, one late read takes all of it.
                left = self._next_batch - self._batching.read_ahead - time.monotonic()
                together = left > 0 and self.backlog and not self.busy
                gevent.sleep(left if together else 0)
        except FramingError as error:
            for frame in error.frames:
                self.handle_event(frame)
            self._end(f"bad frame: {error}")
        except OSError as error:
            self._end(f"read failed: {error}")
        except BaseException as error:
            # A reader that dies without this leaves a connection that looks alive.
            self._end(f"read failed: {error!r}")
            if not isinstance(error, Exception | gevent.Timeout):
                raise
            log.exception("cannot read from %s", self._place)

    def handle_event(self, frame: Frame) -> None:
        """Act on one frame. It only queues events, as the bytes that came."""
        if self._end_reason is not None:
            return
        match frame.content_type:
            case "text/event-json":
                if self._on_event is None and self._on_events is None:
                    return
                self.events_read += 1
                if frame.dropped:
                    self._skip("too large", f"{frame.dropped / 2**20:.1f} MiB")
                elif (
                    self._esl_event_queue.qsize() >= MAX_QUEUED_EVENTS
                    or self._queued_bytes >= MAX_QUEUED_BYTES
                ):
                    self.close("event queue full")
                else:
                    self._queued_bytes += len(frame.body)
                    self._esl_event_queue.put(frame.body)
            case "command/reply":
                self._deliver(Reply(frame.headers.get("Reply-Text", ""), frame.headers))
            case "api/response":
                self._deliver(Reply(frame.body.decode(errors="replace"), frame.headers))
            case "auth/request":
                self._auth_request_event.set()
            case "text/disconnect-notice" | "text/rude-rejection" as notice:
                # The access list of the event socket rejects; by default it allows loopback only.
                said = " ".join(frame.body.decode(errors="replace").split())
                self._end(f"{notice.removeprefix('text/')}: {said}")
            case other if not _CONTENT_TYPE.fullmatch(other):
                # A part of a frame is lost, and perhaps a reply: all later ones would be off by
                # one.
                self._end(f"bad frame: its Content-Type is {other[:80]!r}")
            case other:
                log.debug("%s: ignored a frame of type %r", self._place, other)

    def _deliver(self, reply: Reply) -> None:
        if self._commands_sent:
            self._commands_sent.popleft().set(reply)
        else:
            self._end("a reply to no command")

    def process_events(self) -> None:
        """Hand events to their handler until the connection ends, then call `on_close`."""
        try:
            self._hand_on()
        finally:
            # Whatever ended this: the connection is of no use without it.
            self._end("events are not handled any more")
            call_back(self._on_close, self._end_reason)

    def _hand_on(self) -> None:
        queue = self._esl_event_queue
        most = 1 if self._on_events is None else self._batching.size
        ended = False
        while not ended:
            waiting = [queue.get()]
            begun = time.monotonic()
            while len(waiting) < most and not queue.empty():
                waiting.append(queue.get_nowait())
            self._process([data for data in waiting if isinstance(data, bytes)])
            for item in waiting:
                if isinstance(item, Flag):
                    # The handler has had all events before it.
                    item.set()
                ended = ended or item is None
            if len(waiting) < most:
                self._next_batch = begun + self._batching.spacing
            # A handler that never waits must not keep the reader from reading.
            gevent.sleep(max(0.0, self._next_batch - time.monotonic()))

    def _process(self, waiting: list[bytes]) -> None:
        events = []
        for data in waiting:
            self._queued_bytes -= len(data)
            try:
                events.append(Event.from_json(data))
            except Exception as error:
                # Whatever a bad event does to its reader, the events after it count.
                self._skip("unreadable", f"{error}: {data[:200]!r}")
        if self._on_events is None:
            for event in events:
                call_back(self._on_event, event)
        elif events:
            call_back(self._on_events, events)

    def _skip(self, why: str, details: str) -> None:
        """Tell of an event that no handler gets."""
        now = time.monotonic()
        if now - self._told_since >= 60.0:
            self._told, self._told_since = 0, now
        self._told += 1
        level = logging.WARNING if self._told <= TOLD_A_MINUTE else logging.DEBUG
        log.log(level, "%s: skipped an event that is %s (%s)", self._place, why, details)
        call_back(self._on_skipped, why)

    def _end(self, reason: str) -> None:
        """Close the socket, and the first time wake every waiting greenlet. It never waits."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                # A reset drops the bytes that are still under way: after a partition the switch
                # must not get a command that has already timed out.
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


def encode(line: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one command on the wire. Raises ValueError if they would be several commands."""
    # The switch does not reply to an empty command, which would take the next reply.
    if not line.strip():
        raise ValueError("a command must not be empty")
    lines = [line]
    for name, value in (headers or {}).items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("a header's name must not be empty, nor hold a blank or a colon")
        if name.lower() == "content-length":
            raise ValueError("a command with Content-Length would swallow the next commands")
        lines.append(f"{name}: {value}")
    # A line break in a number or a name would begin a header, two of them the next command.
    if any(map(_LINE_BREAK.search, lines)):
        raise ValueError("a command and its headers must not hold a line break or NUL")
    return ("\n".join(lines) + "\n\n").encode()


def call_back(callback: Callable[..., object] | None, value: object) -> None:
    """Call a handler, and log what it raises: other code relies on the greenlet that runs it."""
    if callback is None:
        return
    try:
        callback(value)
    # gevent.Timeout is no Exception, and one that went astray must not end the greenlet.
    # GreenletExit and SystemExit must.
    except (Exception, gevent.Timeout):
        log.exception("%r failed", callback)


def _set_options(sock: gevent.socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The switch sets no keepalive on its side. Systems name the times, in seconds, differently.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 30),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", int(DELIVERY_LIMIT * 1000)),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
