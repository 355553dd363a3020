"""Replays the commands of a trace against a switch and records what it says.

A trace here is like those of the lab, without the subscription, with the headers that are
compared only, and of an event only what differs from the one before of its leg (null: gone).

As a program it makes traces: `python tests/conformance/trace_replay.py FROM TO [esl://…]` replays
FROM against a real switch and writes TO; without a switch it only trims FROM. FROM needs no more
than its first line and the commands with their times.
"""

import json
import re
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.event import Event as Flag
from trace_compare import UUID, Item, trim

from freeswitch.event_socket import EventSocket

EVENTS = (
    "CHANNEL_CREATE CHANNEL_ORIGINATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER"
    " CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_DESTROY"
    " CHANNEL_PARK CHANNEL_UNPARK CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE BACKGROUND_JOB"
    " CHANNEL_HOLD CHANNEL_UNHOLD RECORD_START RECORD_STOP"
    " CUSTOM conference::maintenance valet_parking::info"
)
MAX_WAIT = 60.0
"""Seconds of the switch's clock to wait for the last events of a scenario."""
LOOK = 1.0
"""Seconds without these events after which the switch is asked whether anything still goes on."""


@dataclass(frozen=True)
class Address:
    """A switch to replay against; its durations are `speed` times shorter."""

    host: str
    port: int
    password: str
    speed: float = 1.0

    @classmethod
    def from_url(cls, url: str) -> "Address":
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 8021, parts.password or "ClueCon")


def load(path: Path) -> list[Item]:
    """The items of a trace, its first line (what it is about) left aside.

    The lab ended each scenario with a hupall that is not in its files: it is put back in, for the
    call of the trace alone.
    """
    head, *items = map(json.loads, path.read_text().splitlines())
    items = [item for item in items if not (_is_subscription(item) or _is_of_no_leg(item))]
    if head.get("changes_only"):
        items = _unpack(items)
    if any(item.get("unanswered") for item in items):
        return items
    for index, item in enumerate(items):
        event = item.get("event", {})
        if event.get("Event-Name") == "CHANNEL_HANGUP" and (
            event.get("Hangup-Cause") == "MANAGER_REQUEST"
        ):
            command = f"api hupall MANAGER_REQUEST call_id {event['variable_call_id']}"
            return [
                *items[:index],
                {"t": item["t"], "send": command, "unanswered": True},
                *items[index:],
            ]
    return items


def _is_subscription(item: Item) -> bool:
    return item.get("send", "").startswith("event ") or (
        item.get("reply", "").startswith("+OK event listener enabled")
    )


def _is_of_no_leg(item: Item) -> bool:
    """An event of a whole conference."""
    event = item.get("event", {})
    return event.get("Event-Name") == "CUSTOM" and "Unique-ID" not in event


def _leg(headers: dict[str, Any]) -> str:
    return headers.get("Unique-ID") or headers.get("Job-UUID") or ""


def _pack(items: Iterable[Item]) -> list[Item]:
    """Leave out of each event what it shares with the one before of its leg."""
    last: dict[str, dict[str, Any]] = {}
    packed = []
    for item in items:
        if event := item.get("event"):
            before = last.get(_leg(event), {})
            changes = {k: v for k, v in event.items() if before.get(k) != v or k in _NAMING}
            gone = {k: None for k in before if k not in event}
            last[_leg(event)] = event
            item = {**item, "event": changes | gone}
        packed.append(item)
    return packed


def _unpack(items: Iterable[Item]) -> list[Item]:
    last: dict[str, dict[str, Any]] = {}
    unpacked = []
    for item in items:
        if event := item.get("event"):
            whole = last.get(_leg(event), {}) | event
            event = {k: v for k, v in whole.items() if v is not None}
            last[_leg(event)] = event
            item = {**item, "event": event}
        unpacked.append(item)
    return unpacked


_NAMING = ("Event-Name", "Unique-ID", "Job-UUID")


def replay(trace: list[Item], address: Address) -> list[Item]:
    """Send the commands of a trace with its spacing; returns what was sent and came back.

    Uuids, call ids and lots are chosen anew for the run, and stand in the result as in the trace.
    """
    fresh = {
        known: str(uuid.uuid4())
        for item in trace
        if "send" in item
        for known in UUID.findall(item["send"])
    }
    sent = [item.get("send", "") for item in trace]
    call_ids = {call_id for command in sent for call_id in _CALL_ID.findall(command)}
    # A place in a lot is taken for a while after it is left.
    lots = {lot for command in sent for lot in _LOT.findall(command)}
    for name in call_ids | lots:
        fresh[name] = f"{name}-{uuid.uuid4().hex[:8]}"
    record = _Record(trace, fresh)
    connection = EventSocket(address.host, address.port, address.password, on_event=record.on_event)
    connection.connect()
    try:
        connection.command(f"event json {EVENTS}")
        for item in trace:
            if "send" not in item:
                continue
            record.wait_until(item["t"] / address.speed)
            record.add(
                {"send": item["send"]} | ({"unanswered": True} if "unanswered" in item else {})
            )
            reply = connection.send(record.fresh(item["send"]))
            if "unanswered" not in item:
                record.add({"reply": reply.text})
        looks = 0
        while not record.complete.wait(LOOK) and _goes_on(connection, record):
            looks += 1
            if looks * LOOK >= MAX_WAIT / address.speed:
                # On a real switch a call may stand still; do not leave it behind.
                for call_id in call_ids:
                    connection.send(record.fresh(f"api hupall MANAGER_REQUEST call_id {call_id}"))
                break
        # The last events of a channel that has just gone.
        record.complete.wait(LOOK if record.awaits else 0)
    finally:
        connection.close()
    return record.items


def _goes_on(connection: EventSocket, record: "_Record") -> bool:
    """Whether a job of the run is not done, or one of its channels is still there."""
    exists = (connection.send(f"api uuid_exists {uuid}").text for uuid in record.uuids)
    return record.has_jobs or "true" in exists


def _now() -> float:
    """The time of gevent's loop, which is that of its last turn until it is told: in the first
    trace of a process that may have been a minute ago."""
    loop = gevent.get_hub().loop
    loop.update_now()
    now: float = loop.now()
    return now


_CALL_ID = re.compile(r"\bc\d\d\b")
_LOT = re.compile(r"\bvalet_park:(\w+) ")


class _Record:
    """What happens in one run, in the words of the trace."""

    def __init__(self, trace: list[Item], fresh: dict[str, str]) -> None:
        self.items: list[Item] = []
        self.complete = Flag()
        self._fresh = fresh
        self._known = {new: old for old, new in fresh.items()}
        self._start = _now()
        self._ours = set(fresh.values())
        self._awaited = [item["event"]["Event-Name"] for item in trace if "event" in item]
        self._stillborn = "nosuch" in json.dumps(trace)

    @property
    def awaits(self) -> bool:
        """The trace tells what to wait for."""
        return bool(self._awaited)

    @property
    def has_jobs(self) -> bool:
        """A job's result is still to come."""
        return "BACKGROUND_JOB" in self._awaited

    @property
    def uuids(self) -> list[str]:
        """Those of this run, of channels and jobs."""
        return [new for old, new in self._fresh.items() if UUID.fullmatch(old)]

    def fresh(self, text: str) -> str:
        return _replace(text, self._fresh)

    def wait_until(self, seconds: float) -> None:
        gevent.sleep(max(0.0, self._start + seconds - _now()))

    def add(self, item: Item) -> None:
        at = round(_now() - self._start, 3)
        self.items.append({"t": at, **json.loads(_replace(json.dumps(item), self._known))})

    def on_event(self, event: Any) -> None:
        headers = dict(event.headers)
        if event.body is not None:
            headers["_body"] = event.body
        ours = headers.get("Unique-ID") or headers.get("Job-UUID")
        if ours not in self._ours and not (
            self._stillborn and headers.get("Channel-Name") == "N/A"
        ):
            return
        self.add(trim({"event": headers}))
        if event.name in self._awaited:
            self._awaited.remove(event.name)
            if not self._awaited:
                self.complete.set()


def _replace(text: str, names: dict[str, str]) -> str:
    for name, other in names.items():
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", lambda _, o=other: o, text)
    return text


def write(path: Path, about: str, switch: str, items: list[Item]) -> None:
    """Write a trace, trimmed to what is compared."""
    head = {"about": about, "switch": switch, "changes_only": True}
    lines = [head, *_pack(map(trim, items))]
    path.write_text(
        "".join(
            json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines
        )
    )


def main(arguments: list[str], say: Callable[[str], object] = print) -> None:
    source, target, *url = arguments
    head = json.loads(Path(source).read_text().splitlines()[0])
    items = load(Path(source))
    if url:
        items = replay(items, Address.from_url(url[0]))
    write(Path(target), head["about"], head["switch"], items)
    say(f"{target}: {len(items)} items")


if __name__ == "__main__":
    main(sys.argv[1:])
