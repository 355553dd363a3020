"""The whole of Ringback on one machine: what `ringback up` starts, watches and ends."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory
from threading import Event

from redis.exceptions import RedisError
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from app.settings import Settings
from app.store.client import connect
from app.store.keys import Keys
from workers.embedded_redis import EmbeddedRedis
from workers.runtime import switch_addresses

# Seconds within which a part must be ready, and within which it must have ended.
START_LIMIT = 30.0
STOP_LIMIT = 15.0
SIMULATOR_PASSWORD = "ClueCon"


class StartFailed(Exception):
    """A part did not get ready; the text says which."""


@dataclass
class Stack:
    """The running parts and where they are. Made by :func:`running`."""

    settings: Settings
    url: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    # The folder that they count into.
    metrics: str = ""

    def failed(self) -> str | None:
        """The name of a part that has ended by itself."""
        return next((n for n, p in self.processes.items() if p.poll() is not None), None)


@contextlib.contextmanager
def running(settings: Settings, ports: "Ports | None" = None) -> Iterator[Stack]:
    """Start all parts, wait until each is ready, and end all of them on leaving.

    What RINGBACK_REDIS_URL and RINGBACK_SWITCHES leave unset is started too.
    Raises SettingsError or StartFailed; nothing is left running then either.
    """
    ports = ports or Ports()
    with contextlib.ExitStack() as exits:
        stack = Stack(settings)
        # The API shows what all have counted.
        settings = replace(settings, metrics=None)
        stack.metrics = exits.enter_context(TemporaryDirectory(prefix="ringback-metrics-"))
        if settings.redis_url is None:
            redis = EmbeddedRedis(ports.redis or free_port())
            exits.callback(redis.stop)
            settings = replace(settings, redis_url=redis.url)
            stack.processes["redis"] = redis.process
            stack.started.append(f"Redis      {redis.url} (embedded, kept nowhere)")
        _ready("Redis", stack, lambda: _answers(settings))
        if settings.switches is None:
            place = settings.simulator or f"127.0.0.1:{free_port()}"
            settings = replace(
                settings, simulator=place, switches=f"simulator=esl://:{SIMULATOR_PASSWORD}@{place}"
            )
            _spawn("simulator", settings, stack, exits)
            _ready("the simulator", stack, lambda: _accepts(settings.simulator_address))
            stack.started.append(f"Simulator  esl://:{SIMULATOR_PASSWORD}@{place}")
        addresses = switch_addresses(settings)
        if not _free(settings.http_address):
            if not ports.any_http:
                raise StartFailed(f"RINGBACK_HTTP: {settings.http} is taken.")
            settings = replace(settings, http=f"127.0.0.1:{free_port()}")
        if settings.accounts is None and settings.webhook_allow is None:
            # Whoever tries it out has his receiver here, and nobody else has a token.
            settings = replace(settings, webhook_allow="127.0.0.0/8,::1/128")
        for name in ("api", "worker", "listener", "webhooks"):
            _spawn(name, settings, stack, exits)
        stack.settings, stack.url = settings, f"http://{settings.http}"
        _ready("the API", stack, lambda: serves(settings.http_address))
        worker, listener = (
            f"{socket.gethostname()}-{stack.processes[name].pid}" for name in ("worker", "listener")
        )
        _ready("the worker", stack, lambda: _works(settings, worker))
        for address in addresses:
            _ready(
                f"switch {address.name}",
                stack,
                lambda name=address.name: _follows(settings, listener, name),  # type: ignore[misc]
            )
        stack.started.append(f"API        {stack.url}")
        stack.started.append(f"Console    {stack.url}/console")
        yield stack


@dataclass(frozen=True)
class Ports:
    """Given ports: ``any_http`` allows another where the one of RINGBACK_HTTP is taken."""

    redis: int | None = None
    any_http: bool = False


def run_up(settings: Settings, say: Callable[[str], None], ports: Ports) -> int:
    """Run until SIGINT or SIGTERM; the exit status, 1 where a part failed."""
    over = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with running(settings, ports) as stack:
        for line in stack.started:
            say(line)
        say("Ringback is up. Ctrl-C ends it.")
        while not over.wait(0.5):
            if (name := stack.failed()) is not None:
                say(f"The {name} process has ended by itself.")
                return 1
    return 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def environment(settings: Settings) -> Mapping[str, str]:
    """The settings as a child process is given them."""
    values = {
        f"RINGBACK_{name.upper()}": str(value)
        for name, value in vars(settings).items()
        if value is not None
    }
    # What is not set stays so, whatever the environment of this process says.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
    return {**inherited, **values}


def _spawn(name: str, settings: Settings, stack: Stack, exits: contextlib.ExitStack) -> None:
    # A session of its own: Ctrl-C is for this process, which ends the others in order.
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", name],
        env={**environment(settings), "PROMETHEUS_MULTIPROC_DIR": stack.metrics},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    stack.processes[name] = process
    exits.callback(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ready(what: str, stack: Stack, is_ready: Callable[[], bool]) -> None:
    def look() -> bool:
        if (name := stack.failed()) is not None:
            raise StartFailed(f"The {name} process ended while {what} was awaited.")
        return is_ready()

    def give_up(_: object) -> bool:
        raise StartFailed(f"After {START_LIMIT:.0f} seconds {what} is not ready.")

    retry(
        retry=retry_if_result(lambda ready: not ready),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(START_LIMIT),
        retry_error_callback=give_up,
    )(look)()


def _answers(settings: Settings) -> bool:
    try:
        return bool(connect(settings.require_redis()).ping())
    except RedisError:
        return False


def _accepts(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1) as connection:
            return connection.recv(1) != b""
    except OSError:
        return False


def serves(address: tuple[str, int]) -> bool:
    """Whether an API answers there."""
    connection = http.client.HTTPConnection(*address, timeout=1)
    try:
        connection.request("GET", "/uapi/")
        return connection.getresponse().status == 404
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _works(settings: Settings, name: str) -> bool:
    redis = connect(settings.require_redis())
    return len(list(redis.scan_iter(f"rq:worker:{name}.*", count=1000))) == 2


def _follows(settings: Settings, listener: str, switch: str) -> bool:
    redis = connect(settings.require_redis())
    found = redis.hmget(Keys(settings.key_prefix).switch(switch), "listener", "core_uuid")
    return found[0] == listener.encode() and found[1] is not None


def _free(address: tuple[str, int]) -> bool:
    try:
        with socket.create_server(address):
            return True
    except OSError:
        return False
