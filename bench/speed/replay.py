"""How many events one listener takes to Redis: a burst from what looks like a switch.

The events of bridged.jsonl are those of one call on a FreeSWITCH 1.10.12, as many as the listener
asks for, whole.
"""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import gevent
import gevent.server
import gevent.socket
from gevent.lock import BoundedSemaphore
from greenswitch.esl import ESLEvent

from app.calls import transitions
from app.calls.model import Call, Role, State, job_uuid, leg_uuid
from app.settings import Settings
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.pace import Pacer
from app.store.writes import Note
from bench.speed.bare import NUMBER, call_to
from bench.speed.meter import Meter
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import environment, free_port

SWITCH = "replay"
_CORE = "6b0653e6-5563-4757-960a-afcc4b93bd98"
_SOURCE = "21421a59-c600-441c-9d31-e2c696f67bc5"
_DESTINATION = "5b532d11-9c65-401d-86a3-264162f81633"
_JOB = "af385f1a-2e0a-4c41-82f8-a13e77a7e7a2"
_CALL = '"variable_ringback_call":"c02"'
_MICROSECONDS = re.compile(r'"(1795\d{12})"')
# Seconds from one call's first event to the next one's: so their events mix as at 100 calls/s.
_BETWEEN = 0.01
_LIMIT = 180.0


@dataclass(frozen=True)
class Events:
    count: int
    size: float
    per_second: float
    # Seconds of CPU per event.
    listener_cpu: float
    redis_cpu: float
    commands: float
    reads: float
    # Events/s that greenswitch can parse, and do nothing with.
    greenswitch: float
    # Calls that do not stand as bridged and ended.
    wrong: int


def measure(settings: Settings, calls: int) -> Events:
    """Have a listener follow so many calls from their first event to their last."""
    redis = EmbeddedRedis(free_port())
    server = _Server()
    server.start()
    settings = replace(
        settings,
        redis_url=redis.url,
        switches=f"{SWITCH}=esl://:ClueCon@127.0.0.1:{server.port}",
        # Nothing but events is to tell it of the calls.
        reconcile_interval=3600.0,
    )
    try:
        with _listener(settings) as listener:
            return _burst(settings, redis, listener, server, calls)
    finally:
        server.stop()
        redis.stop()


@contextlib.contextmanager
def _listener(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ringback_cli", "listener"],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _burst(
    settings: Settings,
    embedded: EmbeddedRedis,
    listener: subprocess.Popen[bytes],
    server: "_Server",
    count: int,
) -> Events:
    redis, keys = connect(settings.require_redis()), Keys(settings.key_prefix)
    _until(lambda: bool(redis.hexists(keys.switch(SWITCH), "reconciled")))
    store = CallStore(redis, keys)
    Pacer(store.redis, store.keys).set_limits({})
    ids = [_dialled(store) for _ in range(count)]
    frames = _frames(ids)
    meter = Meter({"listener": listener.pid, "redis": embedded.process.pid}, redis)
    before = meter.read()
    server.send(frames)
    looks = 0
    while redis.zcard(keys.switch_calls(SWITCH)) and time.time() < before.at + _LIMIT:
        looks += 1
        gevent.sleep(0.05)
    used = meter.read() - before
    ended = store.get_many(ids)
    right = [call for call in ended if call and call.state is State.ENDED and call.bridged]
    return Events(
        len(frames),
        sum(map(len, frames)) / len(frames),
        len(frames) / used.at,
        used.cpu["listener"] / len(frames),
        used.cpu["redis"] / len(frames),
        (used.commands - looks - 2) / len(frames),
        (used.reads - looks - 2) / len(frames),
        _greenswitch(),
        count - len(right),
    )


def _dialled(store: CallStore) -> str:
    """A call as a worker leaves it."""
    call = call_to(NUMBER)
    Acceptor(store).accept([call], lambda *_: None)

    def dial(call: Call) -> Call:
        at = store.now()
        call = transitions.claim(call, worker="bench", switch=SWITCH, core_uuid=_CORE, at=at)
        return transitions.mark_sent(call, at=at, job_uuid=call.job_uuid)

    # As it was accepted.
    store.change(replace(call, version=1), dial, Note("command", "claim"))
    return call.id


def _frames(ids: list[str]) -> list[bytes]:
    """The events of all these calls, as the switch sends them, in the order of their times."""
    events = _recorded(time.time() + len(ids) * _BETWEEN)
    begun = min(at for at, _ in events)
    due: list[tuple[float, int, bytes]] = []
    for number, call_id in enumerate(ids):
        for at, text in events:
            body = (
                text.replace(_CALL, f'"variable_ringback_call":"{call_id}"')
                .replace(_SOURCE, leg_uuid(call_id, Role.SOURCE, 1, 1))
                .replace(_DESTINATION, leg_uuid(call_id, Role.DESTINATION, 1, 1))
                .replace(_JOB, job_uuid(call_id))
                .encode()
            )
            head = b"Content-Length: %d\nContent-Type: text/event-json\n\n" % len(body)
            due.append((number * _BETWEEN + at - begun, len(due), head + body))
    return [frame for _, _, frame in sorted(due)]


def _recorded(now: float) -> list[tuple[float, str]]:
    """The recorded events with their times, moved to now."""
    lines = (Path(__file__).with_name("bridged.jsonl")).read_text().splitlines()
    stamps = [int(json.loads(line)["Event-Date-Timestamp"]) for line in lines]
    later = int(now * 1e6) - min(stamps)

    def moved(found: re.Match[str]) -> str:
        return f'"{int(found[1]) + later}"'

    times = [stamp / 1e6 for stamp in stamps]
    return list(zip(times, (_MICROSECONDS.sub(moved, line) for line in lines), strict=True))


def _greenswitch() -> float:
    """greenswitch reads the plain format alone: the same events in that, URL-encoded."""
    plain = []
    for _, text in _recorded(time.time()):
        headers = json.loads(text)
        headers.pop("_body", None)
        plain.append("".join(f"{name}: {quote(str(value))}\n" for name, value in headers.items()))
    times = 100
    begun = time.process_time()
    for _ in range(times):
        for text in plain:
            ESLEvent(text)
    return times * len(plain) / (time.process_time() - begun)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the listener does not follow the switch")
        gevent.sleep(0.05)


class _Server:
    """As much of an event socket as a listener needs."""

    def __init__(self) -> None:
        self._server = gevent.server.StreamServer(("127.0.0.1", 0), self._serve)
        self._listening: list[tuple[gevent.socket.socket, BoundedSemaphore]] = []

    def start(self) -> None:
        self._server.start()

    @property
    def port(self) -> int:
        port: int = self._server.server_port
        return port

    def stop(self) -> None:
        self._server.stop(timeout=1)

    def send(self, frames: list[bytes]) -> None:
        """Every event to those who asked for events, as fast as they take them."""
        for connection, lock in self._listening:
            gevent.spawn(self._send, connection, lock, frames)

    def _send(
        self, connection: gevent.socket.socket, lock: BoundedSemaphore, frames: list[bytes]
    ) -> None:
        for frame in frames:
            with lock:
                connection.sendall(frame)

    def _serve(self, connection: gevent.socket.socket, _: object) -> None:
        lock = BoundedSemaphore()
        buffer = b""
        # It ends as a listener does, with a reset.
        with contextlib.suppress(OSError):
            connection.sendall(b"Content-Type: auth/request\n\n")
            while data := connection.recv(65_536):
                *commands, buffer = (buffer + data).split(b"\n\n")
                for command in commands:
                    with lock:
                        connection.sendall(_reply(command.decode()))
                    if command.startswith(b"event"):
                        self._listening.append((connection, lock))


def _reply(command: str) -> bytes:
    if not command.startswith("api "):
        return b"Content-Type: command/reply\nReply-Text: +OK\n\n"
    match command.split()[1]:
        case "global_getvar":
            body = _CORE
        case "show":
            body = '{"row_count": 0}\n'
        case "uuid_exists":
            body = "false"
        case _:
            body = "-ERR No such channel!\n"
    head = f"Content-Type: api/response\nContent-Length: {len(body)}\n\n"
    return (head + body).encode()
