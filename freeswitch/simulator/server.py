"""The event socket: it takes commands and sends replies and events, over TCP."""

import asyncio
import re
import socket
import struct
import uuid
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from . import api
from .channel import Channel
from .events import CALLING, EVENT_NAMES, SwitchEvent, Value
from .switch import SwitchCore

LOST_LIMIT = 500
"""The most events lost in a row before the switch drops a listener."""
MAX_COMMAND = 10_485_760
REPLY_LIMIT = 511
JOB_UUID_LIMIT = 255
"""The most bytes of a command, of a reply and of a Job-UUID. Further bytes are lost."""

_GOODBYE = b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
_TOO_SLOW = b"killed listener because of lost events\n"
_RESET = struct.pack("ii", 1, 0)
"""The SO_LINGER that makes a socket close with an RST."""
_END = re.compile(rb"\n\r*\n")
_LINES = re.compile(r"[\r\n]+")
HIGH_WATER = 1 << 20


@dataclass(slots=True)
class Command:
    """One command: its first line, and the headers below it."""

    line: str
    headers: dict[str, str] = field(default_factory=dict)


class CommandParser:
    """A parser of commands, which may come in any segments."""

    def __init__(self) -> None:
        self._buffer = b""
        self._command: Command | None = None
        self._body_left = 0

    def feed(self, data: bytes) -> list[Command]:
        """The commands that `data` completes. Raises ValueError for a command of over 10 MB."""
        self._buffer += data
        commands = []
        while command := self._next():
            commands.append(command)
        if len(self._buffer) > MAX_COMMAND:
            raise ValueError(f"a command must have at most {MAX_COMMAND} bytes")
        return commands

    def _next(self) -> Command | None:
        if self._command is None:
            self._buffer = self._buffer.lstrip(b"\r\n")
            end = _END.search(self._buffer)
            if not end:
                return None
            text = self._buffer[: end.start()].decode(errors="surrogateescape")
            self._buffer = self._buffer[end.end() :]
            self._command = _command(text)
            length = self._command.headers.get("content-length", "")
            self._body_left = int(length) if length.isascii() and length.isdigit() else 0
        if len(self._buffer) < self._body_left:
            return None
        # No command here uses its body.
        self._buffer = self._buffer[self._body_left :]
        command, self._command = self._command, None
        return command


def _command(text: str) -> Command:
    line, *rest = _LINES.split(text)
    headers = {}
    for header in rest:
        name, colon, value = header.partition(":")
        if colon:
            headers[name.lower()] = value.lstrip(" ")
    return Command(line, headers)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """One `filter` of a listener, by the rules of mod_event_socket."""

    header: str
    value: str
    positive: bool
    wanted: str

    @classmethod
    def parse(cls, header: str, value: str) -> "EventFilter":
        signs = len(value) - len(value.lstrip(" +-"))
        positive = True
        for sign in value[:signs]:
            positive = {"+": True, "-": False}.get(sign, positive)
        return cls(header, value, positive, value[signs:])

    def matches(self, value: str) -> bool:
        # Only a value that begins with a slash is a pattern, so `-/…/` is none.
        if self.value.startswith("/"):
            return _matches_pattern(self.wanted, value)
        return value.lower() == self.wanted.lower()


def _matches_pattern(text: str, value: str) -> bool:
    pattern, _, flags = text[1:].rpartition("/")
    try:
        return bool(re.search(pattern, value, re.IGNORECASE if "i" in flags else 0))
    except re.error:
        return False


def passes(event: SwitchEvent, filters: list[EventFilter]) -> bool:
    """Whether an event passes the filters.

    One positive filter that matches lets it pass, a negative one that matches drops it. Without
    filters every event passes.
    """
    if not filters:
        return True
    send = False
    for each in filters:
        value = event.header(each.header)
        if value is None or (send and each.positive):
            continue
        text = value if isinstance(value, str) else "ARRAY::" + "|:".join(value)
        if each.matches(text):
            if not each.positive:
                return False
            send = True
    return send


class Connection(asyncio.Protocol):
    """One client of the event socket."""

    def __init__(self, switch: SwitchCore[Channel], password: str) -> None:
        self._switch = switch
        self._password = password
        self._parser = CommandParser()
        self._transport: asyncio.Transport | None = None
        self._authenticated = False
        self._format: str | None = None
        self._listening = False
        self._names: set[str] = set()
        self._all = False
        self._filters: list[EventFilter] = []
        self._events: deque[tuple[float, SwitchEvent]] = deque()
        """The events that wait to be sent, each with its time on the loop's clock."""
        self._lost_in_a_row = 0
        self._blocked = False
        self._flushing = False
        self._due: asyncio.TimerHandle | None = None
        self._commands: deque[Command] = deque()
        self._working = False
        self._closed = False
        self.muted: set[str] = set()

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        transport.write(b"Content-Type: auth/request\n\n")
        self._switch.listeners.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self in self._switch.listeners:
            self._switch.listeners.remove(self)
        self._events.clear()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self.flush_soon()

    def data_received(self, data: bytes) -> None:
        if "in" in self.muted:
            return
        try:
            self._commands.extend(self._parser.feed(data))
        except ValueError:
            self.close()
            return
        self._work()

    def close(self, farewell: bytes = _GOODBYE) -> None:
        """Send the disconnect notice and close, once everything written has gone out."""
        if self._closed or self._transport is None:
            return
        head = b"Content-Type: text/disconnect-notice\nContent-Length: %d\n\n"
        self._write(head % len(farewell) + farewell)
        self._closed = True
        if self in self._switch.listeners:
            self._switch.listeners.remove(self)
        self._transport.close()

    def abort(self) -> None:
        """Cut the connection without a notice."""
        if self._transport is not None:
            self._transport.abort()

    def cut(self) -> None:
        """Cut the connection with an RST."""
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def send(self, data: bytes) -> None:
        """Send bytes that no event and no reply has."""
        self._write(data)

    def mute(self, ways: Collection[str]) -> None:
        """Be half open until the client closes.

        With `in`, everything that the client sends is lost. With `out`, the client gets nothing.
        """
        self.muted.update(ways)
        if "in" in ways:
            self._commands.clear()
        if "out" in ways:
            self._events.clear()

    # Events

    def wants(self, name: str) -> bool:
        return self._listening and "out" not in self.muted and (self._all or name in self._names)

    def deliver(self, event: SwitchEvent) -> None:
        if self._filters and not passes(event, self._filters):
            return
        for _ in range(self._switch.copies(event.name)):
            self._queue(event)

    def _queue(self, event: SwitchEvent) -> None:
        if len(self._events) >= self._switch.faults.queue:
            self._switch.lost += 1
            self._lost_in_a_row += 1
            if self._lost_in_a_row > LOST_LIMIT:
                self.close(_TOO_SLOW)
            return
        self._lost_in_a_row = 0
        self._events.append((asyncio.get_running_loop().time(), event))
        # A later event waits for the same as the event before it.
        if len(self._events) == 1:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Send the events that wait, or find out how long they must."""
        if not self._flushing and not self._blocked:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        # `api` runs in the listener's own thread, which sends no event until the command ends.
        if self._closed or self._working or self._transport is None:
            return
        loop, delay = asyncio.get_running_loop(), self._switch.faults.delay
        if self._due:
            self._due.cancel()
        while self._events and not self._blocked:
            batch: list[SwitchEvent] = []
            while self._events and len(batch) < 100 and self._events[0][0] + delay <= loop.time():
                batch.append(self._events.popleft()[1])
            if not batch:
                self._due = loop.call_at(self._events[0][0] + delay, self._flush)
                break
            frames = (each.json() if self._format == "json" else each.plain() for each in batch)
            self._transport.write(b"".join(frames))

    # Commands

    def _work(self) -> None:
        """Run the commands that have come, in order."""
        while self._commands and not self._working and not self._closed:
            self._carry_out(self._commands.popleft())

    def _carry_out(self, command: Command) -> None:
        line = command.line
        verb = line.partition(" ")[0].lower()
        argument = line[len(verb) + 1 :]
        if verb.startswith("exit") or line.startswith("..."):
            self._reply("+OK bye")
            self.close()
        elif not self._authenticated:
            self._authenticate(verb, argument)
        elif verb == "api" and " " in line:
            self._working = True
            self._switch.spawn(self._api(argument))
        elif verb == "bgapi" and " " in line:
            self._bgapi(argument, command.headers.get("job-uuid"))
        elif verb == "filter" and argument:
            self._reply(self._filter(argument))
        # The switch compares the first letters only.
        elif verb.startswith("event"):
            self._reply(self._event(argument))
        elif verb.startswith("nixevent"):
            self._reply(self._nixevent(argument))
        elif verb.startswith("noevents"):
            self._reply(self._noevents())
        else:
            self._reply("-ERR command not found")

    def _reply(self, text: str, more: str = "") -> None:
        """Reply to a command.

        The switch's buffer cuts a long reply, and with it the blank line that ends a reply of
        several lines.
        """
        if more:
            lines = f"Reply-Text: {text}\n{more}\n".encode(errors="surrogateescape")
            self._write(b"Content-Type: command/reply\n" + lines[: REPLY_LIMIT - 1])
        else:
            line = text.encode(errors="surrogateescape")[:REPLY_LIMIT]
            self._write(b"Content-Type: command/reply\nReply-Text: " + line + b"\n\n")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._closed and "out" not in self.muted:
            self._transport.write(data)

    def _authenticate(self, verb: str, argument: str) -> None:
        if verb == "auth" and argument == self._password:
            self._authenticated = True
            self._reply("+OK accepted")
        elif verb == "userauth" and _user_password(argument) == self._password:
            self._authenticated = True
            allowed = "Allowed-Events: all\nAllowed-API: all\nAllowed-LOG: true\n"
            self._reply("+OK accepted", allowed)
        elif verb in ("auth", "userauth"):
            self._reply("-ERR invalid")
            self.close()
        else:
            self._reply("-ERR command not found")

    async def _api(self, text: str) -> None:
        name, _, argument = text.partition(" ")
        try:
            answer = await api.execute(self._switch, name, argument, asker=self)
            content = (answer or "-ERR no reply\n").encode(errors="surrogateescape")
            head = b"Content-Type: api/response\nContent-Length: %d\n\n"
            self._write(head % len(content) + content)
        finally:
            self._working = False
        self.flush_soon()
        self._work()

    def _bgapi(self, text: str, job_uuid: str | None) -> None:
        if self._switch.faults.swallow:
            return
        if self._switch.faults.reject:
            self._reply("-ERR refused")
            return
        job_uuid = (job_uuid or str(uuid.uuid4()))[:JOB_UUID_LIMIT]
        self._reply(f"+OK Job-UUID: {job_uuid}", f"Job-UUID: {job_uuid}\n")
        name, _, argument = text.partition(" ")
        self._switch.spawn(self._background_job(job_uuid, name, argument))

    async def _background_job(self, job_uuid: str, name: str, argument: str) -> None:
        run = self._switch.core_uuid
        body = await api.execute(self._switch, name, argument, job_uuid, asker=self)
        if self._switch.core_uuid != run:
            # The run that took the job has crashed.
            return
        headers: dict[str, Value] = {"Job-UUID": job_uuid, "Job-Command": name}
        if argument:
            headers["Job-Command-Arg"] = argument
        self._switch.send("BACKGROUND_JOB", headers, body)

    def _event(self, argument: str) -> str:
        words = argument.split(" ")
        if words[0].lower() in ("plain", "json", "xml"):
            form = words.pop(0).lower()
            if form == "xml":
                return "-ERR xml is not simulated"
            self._format = form
        else:
            self._format = self._format or "plain"
        names = _event_names(words)
        if not names:
            return "-ERR no keywords supplied"
        self._all = self._all or "ALL" in names
        self._names |= names
        self._listening = True
        return f"+OK event listener enabled {self._format}"

    def _nixevent(self, argument: str) -> str:
        names = _event_names(argument.split(" "))
        if not names:
            return "-ERR no keywords supplied"
        if "ALL" in names:
            self._all = False
            self._names.clear()
        else:
            if self._all:
                self._all = False
                self._names |= set(EVENT_NAMES) | set(CALLING)
            self._names -= names
        return "+OK events nixed"

    def _noevents(self) -> str:
        self._events.clear()
        if not self._listening:
            return "-ERR not listening for events"
        self._listening = self._all = False
        self._names.clear()
        return "+OK no longer listening for events"

    def _filter(self, argument: str) -> str:
        header, space, value = argument.lstrip(" ").partition(" ")
        if header.lower() == "delete" and space:
            header, _, value = value.partition(" ")
            self._filters = [
                each
                for each in self._filters
                if header.lower() != "all"
                and (
                    each.header.lower() != header.lower()
                    or (value and each.value.lower() != value.lower())
                )
            ]
            return f"+OK filter deleted. [{header}][{value}]"
        if not space:
            return "-ERR invalid syntax"
        if header.lower() == "add":
            header, _, value = value.partition(" ")
        self._filters.append(EventFilter.parse(header, value))
        return f"+OK filter added. [{header}]=[{value}]"


def _user_password(argument: str) -> str | None:
    """The password of `user@domain:password`. Without a domain the switch finds no user."""
    user, colon, password = argument.partition(":")
    return password if colon and user.partition("@")[2] and user.partition("@")[0] else None


def _event_names(words: list[str]) -> set[str]:
    """The events that a listener names. Names after CUSTOM are its subclasses."""
    names = set()
    for word in words:
        if "CUSTOM" in names:
            names.add(word)
        elif word.upper() in EVENT_NAMES or word.upper() == "ALL":
            names.add(word.upper())
    return names
