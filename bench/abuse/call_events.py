"""Call events of one app that nobody takes: silent name servers, slow receivers, dead letters.

It needs root: `ringback webhooks` runs in a mount namespace of its own, where /etc/resolv.conf
names a name server that never answers. The stack's own one is stopped for that time.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs

from app.calls.call_events import DIAL_OUT, HANGUP, sample, wide
from app.phone_call_events.model import ENABLED, POST, PhoneCallEvent
from app.phone_call_events.store import EventStore
from bench.abuse.harness import Stack
from bench.speed.table import quantile
from ringback_cli.up import environment
from workers.webhooks.messages import Messages

TITLE = "70 call events to silent name servers, receivers that take 9.5 s, 10,000 dead letters"
# Deliveries take time of the machine's cores, and none of the API's process.
BOUND = 10.0
SETTINGS = {"webhook_allow": "127.0.0.0/8"}
LIMITS = {"others' call events, p95, s": 2.0, "dead letters of others that are lost": 0}

# A name server is asked on port 53 alone.
_NAME_SERVER = "127.0.53.53"
_NAMES, _HOOKS, _PORTS, _CALLS = 70, 40, 32, 60
_SLOW = 9.5
_DEAD, _OTHERS_DEAD = 10_000, 20


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    lags: list[float] = []

    def heard(body: str) -> tuple[float, int]:
        at = datetime.fromisoformat(parse_qs(body)["EventTime"][0])
        lags.append(time.time() - at.timestamp())
        return 0.0, 204

    slow, gone, taking = map(_Receivers, (lambda _: (_SLOW, 204), _gone, heard))
    try:
        with _silent_name_server(), _webhooks(stack):
            _tell(stack, "quiet", _OTHERS_DEAD, gone.open(1)[0])
            _until(lambda: len(_dead(stack, "quiet")) >= _OTHERS_DEAD)
            others = _dead(stack, "quiet")
            (url,) = taking.open(1)
            for kind in (DIAL_OUT, HANGUP):
                _hook(stack, "0002*210", "21", "quiet", [url], kind)
            names = [f"http://n{number}.example.com/" for number in range(_NAMES)]
            _hook(stack, "0001*210", "11", "hostile", names, DIAL_OUT)
            ports = slow.open(_PORTS)
            hooks = [f"{ports[number % _PORTS]}{number}" for number in range(_HOOKS)]
            _hook(stack, wide(user="11"), "", "hostile", hooks, DIAL_OUT)
            _tell(stack, "hostile", _DEAD, gone.open(1)[0])
            for _ in range(_CALLS):
                stack.place(app="hostile", seconds=1)
            stop.wait()
            return {
                "others' call events": len(lags),
                "others' call events, p50, s": quantile(lags, 0.5),
                "others' call events, p95, s": quantile(lags, 0.95),
                "others' call events, most, s": max(lags),
                "dead letters of the hostile app": len(_dead(stack, "hostile")),
                "dead letters of others that are lost": len(others - _dead(stack, "quiet")),
            }
    finally:
        for each in (slow, gone, taking):
            each.close()


def _dead(stack: Stack, app: str) -> set[str]:
    return {letter.id for letter in Messages(stack.redis, stack.keys).dead_letters(app)}


def _gone(_: str) -> tuple[float, int]:
    return 0.0, 410


def _hook(stack: Stack, holder: str, owner: str, app: str, urls: list[str], kind: int) -> None:
    store = EventStore(stack.redis, stack.keys)
    for url in urls:
        event_id = os.urandom(10).hex()
        event = PhoneCallEvent(event_id, kind, url, POST, ENABLED, "", time.time(), app, owner)
        if not store.replace(holder, None, event):
            raise RuntimeError(f"{holder} takes no more call events")


def _tell(stack: Stack, app: str, count: int, url: str) -> None:
    """Have a URL told of so many events of an app, each of a call of its own."""
    extension = {"quiet": "0002*210", "hostile": "0001*210"}[app]
    holder = wide(app=app)
    _hook(stack, holder, "", app, [url], HANGUP)
    with stack.redis.pipeline(transaction=False) as pipe:
        for _ in range(count):
            call_id = os.urandom(10).hex()
            told = sample(HANGUP, extension, call_id, time.time())
            about = {"type": str(HANGUP), "extension": extension, "for": holder}
            pipe.xadd(stack.keys.outbox, {**about, **told})  # type: ignore[dict-item]
        pipe.execute()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("the call events have not been delivered")
        time.sleep(0.1)


@contextmanager
def _silent_name_server() -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((_NAME_SERVER, 53))
        yield


@contextmanager
def _webhooks(stack: Stack) -> Iterator[None]:
    """`ringback webhooks` with the silent name server alone, in place of the stack's own."""
    os.kill(stack.pids["webhooks"], signal.SIGSTOP)
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "resolv.conf")
        conf.write_text(f"nameserver {_NAME_SERVER}\n")
        bound = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", bound, str(conf)]
        process = subprocess.Popen(
            [*command, sys.executable, "-m", "ringback_cli", "webhooks"],
            env=environment(stack.settings),
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            os.kill(stack.pids["webhooks"], signal.SIGCONT)


class _Receivers:
    """HTTP servers in a thread of their own."""

    def __init__(self, answer: Callable[[str], tuple[float, int]]) -> None:
        """``answer`` has the seconds and the status of the answer to a body."""
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, count: int) -> list[str]:
        """Open so many servers; their URLs."""
        opening = asyncio.run_coroutine_threadsafe(self._open(count), self._loop)
        return [f"http://127.0.0.1:{port}/" for port in opening.result()]

    async def _open(self, count: int) -> list[int]:
        servers = [await asyncio.start_server(self._serve, "127.0.0.1", 0) for _ in range(count)]
        return [server.sockets[0].getsockname()[1] for server in servers]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
            seconds, status = self._answer((await reader.readexactly(length)).decode())
            await asyncio.sleep(seconds)
            writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _end(self) -> None:
        """End all connections that are served."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
