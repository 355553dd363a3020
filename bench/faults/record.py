"""What the switches really did: which telephones rang, and what became of it.

The simulators append theirs to a file. A real switch keeps none: there two witnesses listen on
its event socket and on that of the far end, where each telephone that rings is a channel.
"""

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent

from app.calls.model import call_id_of
from freeswitch.address import SwitchAddress
from freeswitch.errors import EventSocketError
from freeswitch.event_socket import EventSocket
from freeswitch.events import Event
from workers.runtime import CALL_VARIABLE


@dataclass
class LegRecord:
    """A channel that a switch dialled; times in epoch seconds."""

    switch: str
    uuid: str
    number: str
    created: float
    ringing: float | None = None
    answered: float | None = None
    bridged: float | None = None
    ended: float | None = None
    cause: str | None = None


@dataclass(frozen=True)
class Ring:
    """A telephone was called; `call_id` where that is known."""

    where: str
    at: float
    call_id: str | None


@dataclass
class OriginateRecord:
    """An originate command as a switch had it."""

    switch: str
    job_uuid: str
    time: float
    result: str | None = None


class Record:
    """All that is known by now: `legs_of` and `originates` by call, `rings` by number called."""

    def __init__(self) -> None:
        self.originates: dict[str, list[OriginateRecord]] = defaultdict(list)
        self.legs_of: dict[str, list[LegRecord]] = defaultdict(list)
        self.rings: dict[str, list[Ring]] = defaultdict(list)
        # The numbers and calls of which only that they were dialled is still known.
        self.forgotten: set[str] = set()

    def forget(self) -> None:
        """Drop all but that, of what has ended."""
        self.forgotten |= self.rings.keys() | self.originates.keys()
        for kept in (self.originates, self.legs_of, self.rings):
            kept.clear()

    def read_on(self) -> None:
        """Take in what was done since."""


class SimulatorRecord(Record):
    """From the files of the simulators, one for each time that one was started."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._read: dict[Path, int] = {}
        # Of each run of a simulator the channels that are up: with it they are gone.
        self._up: dict[Path, dict[str, LegRecord]] = defaultdict(dict)

    def read_on(self) -> None:
        runs: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self._folder.glob("*.record")):
            self._read_file(path)
            runs[path.name.partition(".")[0]].append(path)
        for paths in runs.values():
            for path in paths[:-1]:
                self._up.pop(path, None)

    def _read_file(self, path: Path) -> None:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        # A line that is being written is read the next time.
        whole = data[: data.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        switch = path.name.partition(".")[0]
        for line in whole.splitlines():
            self._take(switch, self._up[path], json.loads(line))

    def _take(self, switch: str, up: dict[str, LegRecord], entry: dict[str, Any]) -> None:
        at = entry["at"]
        match entry["what"]:
            case "originate":
                job_uuid = entry["job_uuid"] or ""
                sent = OriginateRecord(switch, job_uuid, at)
                self.originates[call_id_of(job_uuid)].append(sent)
            case "result":
                for sent in self.originates[call_id_of(entry["job_uuid"] or "")]:
                    if sent.result is None and sent.switch == switch:
                        sent.result = entry["result"].strip()
            case "create":
                leg = up[entry["uuid"]] = LegRecord(switch, entry["uuid"], entry["number"], at)
                call_id = call_id_of(leg.uuid)
                self.legs_of[call_id].append(leg)
                self.rings[leg.number].append(Ring(switch, at, call_id))
            case "ring":
                _set(up, entry["uuid"], ringing=at)
            case "answer":
                _set(up, entry["uuid"], answered=at)
            case "bridge":
                _set(up, entry["uuid"], bridged=at)
                _set(up, entry["other"], bridged=at)
            case "hangup":
                _set(up, entry["uuid"], ended=at, cause=entry["cause"])
                up.pop(entry["uuid"], None)


def _set(up: dict[str, LegRecord], uuid: str, **values: Any) -> None:
    """The first word on a leg; a leg that is none of ours has none."""
    for name, value in values.items():
        if uuid in up and getattr(up[uuid], name) is None:
            setattr(up[uuid], name, value)


class WitnessRecord(Record):
    """From the events of a real switch and of the far end; made by :func:`witnessed`."""

    def __init__(self) -> None:
        super().__init__()
        self.near: deque[Event] = deque()
        self.far: deque[Event] = deque()
        self._legs: dict[str, LegRecord] = {}

    def read_on(self) -> None:
        while self.far:
            event = self.far.popleft()
            if event.headers.get("Call-Direction") == "inbound":
                number = event.headers["Caller-Destination-Number"]
                self.rings[number].append(Ring("the far end", _stamp(event), None))
        while self.near:
            self._take(self.near.popleft())

    def _take(self, event: Event) -> None:
        headers = event.headers
        uuid = headers.get("Unique-ID", "")
        match event.name:
            case "BACKGROUND_JOB":
                job_uuid = headers["Job-UUID"]
                sent = OriginateRecord("real", job_uuid, _stamp(event), (event.body or "").strip())
                if headers.get("Job-Command") == "originate":
                    self.originates[call_id_of(job_uuid)].append(sent)
            case "CHANNEL_CREATE":
                number = headers.get("Caller-Destination-Number", "")
                leg = self._legs[uuid] = LegRecord("real", uuid, number, _stamp(event))
                self.legs_of[call_id_of(uuid)].append(leg)
            case "CHANNEL_BRIDGE":
                for each in (uuid, headers.get("Other-Leg-Unique-ID", "")):
                    _set(self._legs, each, bridged=_stamp(event))
            case "CHANNEL_HANGUP_COMPLETE":
                times = {"ringing": "Progress", "answered": "Answered", "ended": "Hangup"}
                found = {n: int(headers[f"Caller-Channel-{t}-Time"]) for n, t in times.items()}
                seen = {name: micros / 1e6 for name, micros in found.items() if micros}
                _set(self._legs, uuid, cause=headers["Hangup-Cause"], **seen)


def _stamp(event: Event) -> float:
    return int(event.headers["Event-Date-Timestamp"]) / 1e6


@contextmanager
def witnessed(near: SwitchAddress, far: SwitchAddress) -> Iterator[WitnessRecord]:
    """Listen on a real switch and on the far end of its calls, in a thread with its own hub: the
    main thread sleeps. Raises EventSocketError."""
    record = WitnessRecord()
    over, listening = threading.Event(), Future[None]()

    def listen() -> None:
        try:
            sockets = [_witness(near, _NEAR, record.near), _witness(far, _FAR, record.far)]
            listening.set_result(None)
        except EventSocketError as error:
            listening.set_exception(error)
            return
        while not over.is_set():
            gevent.sleep(0.05)
        for each in sockets:
            each.close()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    listening.result()
    try:
        yield record
    finally:
        over.set()
        thread.join()


_NEAR = (
    f"filter variable_{CALL_VARIABLE} /.+/",
    "filter Event-Name BACKGROUND_JOB",
    "event json CHANNEL_CREATE CHANNEL_BRIDGE CHANNEL_HANGUP_COMPLETE BACKGROUND_JOB",
)
_FAR = ("event json CHANNEL_CREATE",)


def _witness(address: SwitchAddress, commands: Sequence[str], events: deque[Event]) -> EventSocket:
    connection = EventSocket(
        *(address.host, address.port, address.password),
        user=address.user,
        tls=address.tls,
        on_event=events.append,
    )
    connection.connect()
    for command in commands:
        connection.command(command)
    return connection
