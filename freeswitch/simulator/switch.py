"""The core of the simulated switch: its channels, limits and events."""

import asyncio
import itertools
import json
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from .clock import Clock, microseconds
from .endpoints import Gateway
from .events import CALLING, SwitchEvent, Value, dates
from .faults import Faults
from .originated import Originated
from .values import whole_number

log = logging.getLogger(__name__)

VERSION = "1.10.12-release"
HEARTBEAT_SECONDS = 20.0
MAX_RECORDS = 100_000
"""The most originate commands in the switch's record."""


class Listener(Protocol):
    """A connection of the event socket, as the switch sees it."""

    muted: set[str]

    def wants(self, name: str) -> bool: ...

    def deliver(self, event: SwitchEvent) -> None: ...

    def flush_soon(self) -> None: ...

    def cut(self) -> None: ...

    def send(self, data: bytes) -> None: ...

    def mute(self, ways: Collection[str]) -> None: ...


class ChannelLike(Protocol):
    """A channel, as the switch sees it."""

    uuid: str

    @property
    def up(self) -> bool: ...

    def get(self, variable: str) -> str | None: ...

    def hangup(self, cause: str) -> None: ...

    def add_headers(self, headers: dict[str, Value]) -> None: ...


C = TypeVar("C", bound=ChannelLike)

Application = Callable[[C, str], Awaitable[str | None]]
"""An application. It runs to its end, or until the channel is not `ready`, and may respond."""


class SwitchCore(Generic[C]):
    """A switch without its event socket. It belongs to the event loop that makes it.

    It runs the `applications` and the api `commands` that it is made with. `execute_on_answer` runs
    what a channel's variable of that name says. The switch appends what it does to the file
    `record`. Raises OSError if it cannot open that.
    """

    def __init__(
        self,
        *,
        speed: float,
        seed: int,
        gateways: Mapping[str, Gateway],
        applications: Mapping[str, Application[C]],
        commands: "Mapping[str, ApiCommand[C]]",
        execute_on_answer: Callable[[C, str], None],
        record: Path | None = None,
    ) -> None:
        self.clock = Clock(speed)
        self.core_uuid = str(uuid.uuid4())
        self.gateways = gateways
        self.applications = applications
        self.commands = commands
        self.execute_on_answer = execute_on_answer
        self.channels: dict[str, C] = {}
        self.fallen: dict[str, C] = {}
        """The answered channels of the run before a crash, until they are recovered."""
        self.silent: set[str] = set()
        """The uuids of channels of earlier runs: no listener hears of them."""
        self.registered: dict[str, float] | None = None
        """The registered phones, and until when; None while every phone can be reached."""
        self.scheduled: dict[str, list[asyncio.TimerHandle]] = {}
        """The scheduled tasks of each channel, by its uuid, and of other groups."""
        self.task_numbers = itertools.count(1)
        self.listeners: list[Listener] = []
        self.originates: deque[Originated] = deque(maxlen=MAX_RECORDS)
        self.paused: set[str] = set()
        self.shutting_down = False
        self.end: Callable[[], object] = lambda: None
        """Ends the process, as `fsctl shutdown` does once it comes to that."""
        self.idle_cpu = 100.0
        self._work: deque[float] = deque()
        """When each piece of work for the CPU will be done, on the switch's clock."""
        self.max_sessions = 20_000
        self.sessions_per_second = 10_000
        self.sessions_since_startup = 0
        self.peak = 0
        self.faults = Faults()
        self.dropped = 0
        """How many events a fault kept from listeners."""
        self.lost = 0
        """How many events found a listener's queue full."""
        self._chance = random.Random(f"{seed}:faults")
        self._record = record.open("ab", buffering=0) if record else None
        self._seed = seed
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls_to: dict[str, int] = {}
        self._left_this_second = self.sessions_per_second
        self._sequence = itertools.count(1)
        self._base = {
            "Core-UUID": self.core_uuid,
            "FreeSWITCH-Hostname": "simulator",
            "FreeSWITCH-Switchname": "simulator",
            "FreeSWITCH-IPv4": "127.0.0.1",
            "FreeSWITCH-IPv6": "::1",
        }
        self._every_second()
        self.clock.call_later(HEARTBEAT_SECONDS, self._heartbeat)

    # Tasks

    def schedule(self, group: str, when: str, work: Callable[[], object]) -> None:
        """Do work after `+N` seconds, or at a time in seconds since 1970, unless its group is
        deleted before."""
        second = whole_number(when) + (self.clock.second() if when.startswith("+") else 0)
        tasks = self.scheduled.setdefault(group, [])

        def due() -> None:
            tasks.remove(task)
            if not tasks:
                self.scheduled.pop(group, None)
            work()

        task = self.clock.call_at_second(second, due)
        tasks.append(task)

    def run(self, command: str) -> None:
        """Run an api command, and tell nobody its reply."""
        verb, _, argument = command.partition(" ")
        if known := self.commands.get(verb):
            known(self, argument)

    def begin_run(self, core_uuid: str) -> None:
        """Begin another run, without the timers of the one before."""
        self.core_uuid = self._base["Core-UUID"] = core_uuid
        for tasks in self.scheduled.values():
            for task in tasks:
                task.cancel()
        self.scheduled.clear()

    # Limits

    def _every_second(self) -> None:
        self._left_this_second = self.sessions_per_second
        self.clock.call_at_second(self.clock.second() + 1, self._every_second)

    def admits(self, channel_uuid: str, *, unlimited: bool = False) -> bool:
        """Whether the switch admits one more channel.

        It does not if it is paused, full or too busy, or has the uuid already. The caller cannot
        tell these apart: all end DESTINATION_OUT_OF_ORDER. With `unlimited` (no_throttle_limits)
        only the pause and the uuid count.
        """
        if "outbound" in self.paused or channel_uuid in self.channels:
            return False
        if unlimited:
            return True
        self._left_this_second -= 1
        # The switch rejects the last one of a second too: N sessions per second are N - 1.
        return self._left_this_second > 0 and len(self.channels) < self.max_sessions

    def busy(self) -> float:
        """Give the CPU a piece of work; returns after how many seconds it is done."""
        if not self.faults.cost:
            return 0.0
        now = self.clock.now()
        while self._work and self._work[0] <= now:
            self._work.popleft()
        cost = self.faults.cost * (1 + self.faults.growth * len(self._work))
        self._work.append(max(now, self._work[-1] if self._work else now) + cost)
        return self._work[-1] - now

    async def shut_down(self, *, asap: bool) -> None:
        """End when the last channel has ended, unless that is cancelled before. Until then the
        switch takes calls, or with `asap` none."""
        self.send("SHUTDOWN_REQUESTED", {"Event-Info": "ASAP" if asap else "elegant"})
        self.shutting_down = True
        if asap:
            self.paused |= {"inbound", "outbound"}
        while self.shutting_down and self.channels:
            await self.clock.sleep(0.5)
        if self.shutting_down:
            self.end()
        elif asap:
            self.paused.clear()

    def next_session_id(self) -> int:
        self.sessions_since_startup += 1
        return self.sessions_since_startup

    def add(self, channel: C) -> None:
        self.channels[channel.uuid] = channel
        self.peak = max(self.peak, len(self.channels))

    def luck(self, number: str) -> random.Random:
        """The random generator for this call to a number.

        It depends on the seed, the number and how many calls that had, and on nothing else.
        """
        nth = self._calls_to[number] = self._calls_to.get(number, 0) + 1
        return random.Random(f"{self._seed}:{number}:{nth}")

    # Events

    def event_headers(self, name: str) -> dict[str, Value] | None:
        """The headers at the start of every event; None if no listener wants this one."""
        for listener in self.listeners:
            if listener.wants(name):
                return self._event_headers(name)
        next(self._sequence)
        return None

    def _event_headers(self, name: str) -> dict[str, Value]:
        now = microseconds()
        local, gmt = dates(now // 1_000_000)
        file, function, line = CALLING[name]
        headers: dict[str, Value] = {
            "Event-Name": name,
            **self._base,
            "Event-Date-Local": local,
            "Event-Date-GMT": gmt,
            "Event-Date-Timestamp": str(now),
            "Event-Calling-File": file,
            "Event-Calling-Function": function,
            "Event-Calling-Line-Number": line,
            "Event-Sequence": str(next(self._sequence)),
        }
        if "::" in name:
            headers = {"Event-Subclass": name, **headers, "Event-Name": "CUSTOM"}
        return headers

    def fire(self, event: SwitchEvent) -> None:
        if self.silent and event.header("Unique-ID") in self.silent:
            return
        # Losing too many events closes a listener, which leaves the list meanwhile.
        for listener in tuple(self.listeners):
            if listener.wants(event.name):
                listener.deliver(event)

    def copies(self, name: str) -> int:
        """How often a listener gets an event: once, unless a fault drops or doubles it."""
        faults = self.faults
        if faults.drop and (not faults.drop_names or name in faults.drop_names):
            dropped = self._chance.random() < faults.drop
            self.dropped += dropped
            if dropped:
                return 0
        return 2 if faults.double and self._chance.random() < faults.double else 1

    def send(self, name: str, headers: dict[str, Value], body: str | None = None) -> None:
        """Send an event of no channel."""
        base = self.event_headers(name)
        if base is not None:
            self.fire(SwitchEvent(name, base | headers, body))

    def _heartbeat(self) -> None:
        self.send(
            "HEARTBEAT",
            {
                "Event-Info": "System Ready",
                "Up-Time": self.uptime_text(),
                "FreeSWITCH-Version": VERSION,
                "Uptime-msec": str(int(self.clock.uptime() * 1000)),
                "Session-Count": str(len(self.channels)),
                "Max-Sessions": str(self.max_sessions),
                "Session-Per-Sec": str(self.sessions_per_second),
                "Session-Per-Sec-Last": str(self.sessions_this_second()),
                "Session-Per-Sec-Max": str(self.sessions_per_second),
                "Session-Per-Sec-FiveMin": str(self.sessions_this_second()),
                "Session-Since-Startup": str(self.sessions_since_startup),
                "Session-Peak-Max": str(self.peak),
                "Session-Peak-FiveMin": str(self.peak),
                "Idle-CPU": f"{self.idle_cpu:.6f}",
            },
        )
        self.clock.call_later(HEARTBEAT_SECONDS, self._heartbeat)

    def sessions_this_second(self) -> int:
        return max(0, self.sessions_per_second - self._left_this_second)

    def uptime_text(self) -> str:
        micros = int(self.clock.uptime() * 1_000_000)
        parts = []
        for unit, size in _UNITS:
            count, micros = divmod(micros, size)
            parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
        return ", ".join(parts)

    # The record on disk

    def note(self, what: str, **details: str | None) -> None:
        """Append a line to the record on disk, if there is one.

        It is not buffered: the line is there even if the process is killed the next moment.
        """
        if self._record:
            line = {"at": time.time(), "what": what, **details}
            self._record.write(json.dumps(line).encode() + b"\n")

    # Work under way

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task in the background, until it or the switch ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("the simulator has a defect", exc_info=error)

    async def close(self) -> None:
        """End all tasks."""
        # The record closes first: the switch did not end what these tasks were doing.
        if self._record:
            self._record.close()
            self._record = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Channels

    def locate(self, channel_uuid: str) -> C | None:
        """The channel that a command names, None if it is gone or hung up.

        The uuid of a channel that is hung up stays taken until CHANNEL_DESTROY
        (switch_core_session_read_lock).
        """
        channel = self.channels.get(channel_uuid)
        return channel if channel and channel.up else None

    def announce_stillborn(self, channel_uuid: str) -> None:
        """Send CHANNEL_DESTROY, the only event of a channel that failed before it had a name."""
        self.send(
            "CHANNEL_DESTROY",
            {
                "Channel-State": "CS_NONE",
                "Channel-Call-State": "DOWN",
                "Channel-State-Number": "0",
                "Channel-Name": "N/A",
                "Unique-ID": channel_uuid,
                "Call-Direction": "outbound",
                "Presence-Call-Direction": "outbound",
                "Channel-HIT-Dialplan": "false",
                "Channel-Call-UUID": channel_uuid,
                "Answer-State": "ringing",
                "variable_direction": "outbound",
                "variable_is_outbound": "true",
                "variable_uuid": channel_uuid,
                "variable_call_uuid": channel_uuid,
                "variable_session_id": str(self.next_session_id()),
            },
        )

    def hang_up_all(self, cause: str, variables: Mapping[str, str]) -> None:
        """Hang up every channel with all these values of variables."""
        for channel in reversed(tuple(self.channels.values())):
            if all(channel.get(name) == value for name, value in variables.items()):
                channel.hangup(cause)

    def dump(self, channel: C) -> dict[str, Value]:
        """The headers of a channel as in an event, for uuid_dump."""
        headers = self._event_headers("CHANNEL_DATA")
        channel.add_headers(headers)
        return headers


ApiCommand = Callable[[SwitchCore[C], str], str]
"""An api command: it takes its argument and returns its reply."""

_UNITS = (
    ("year", 365 * 86_400_000_000),
    ("day", 86_400_000_000),
    ("hour", 3_600_000_000),
    ("minute", 60_000_000),
    ("second", 1_000_000),
    ("millisecond", 1000),
    ("microsecond", 1),
)
