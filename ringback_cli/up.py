"""All parts of Ringback on one machine: `ringback up` starts, watches and ends them."""

import contextlib
import http.client
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory

from redis.exceptions import RedisError
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from app.accounts.credential_schemas import DEMO_WEBHOOK_SECRET
from app.calls.model import State
from app.settings import KNOWN, Settings
from app.store import index
from app.store.client import connect
from app.store.keys import Keys
from app.store.queue import QUEUES
from app.store.registered import SwitchRegistry
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.made_accounts import make_accounts
from workers.runtime import READY_FD, switch_addresses

# Seconds within which a part must be ready, and within which it must have ended.
START_LIMIT = 60.0
STOP_LIMIT = 15.0
SIMULATOR_PASSWORD = "ClueCon"
# The parts are started by these files: `ps` shows the first one's name.
_COMMAND = Path(__file__).with_name("ringback")
_GUARD = Path(__file__).with_name("guard.py")
# Seconds between two looks at the parts, and at the calls that wait while the parts end.
_LOOK = 0.5
_WAITING_LOOK = 0.1


class StartFailed(Exception):
    """A part did not get ready; the text says which one."""


@dataclass
class Stack:
    """The running parts and their addresses. :func:`running` makes it."""

    settings: Settings
    url: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    # The folder where all parts write their metrics.
    metrics: str = ""
    # The process group of all parts.
    group: int = 0
    # Whether Redis is a part.
    embedded: bool = False

    def failed(self) -> str | None:
        """The name of a part that has ended by itself."""
        return next((n for n, p in self.processes.items() if p.poll() is not None), None)

    def stop(self, *names: str) -> None:
        """End these parts together. A part that takes longer than STOP_LIMIT seconds is killed."""
        ending = [self.processes.pop(name) for name in names if name in self.processes]
        for process in ending:
            process.terminate()
        end = time.monotonic() + STOP_LIMIT
        for process in ending:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def running(settings: Settings, ports: "Ports | None" = None) -> Iterator[Stack]:
    """Start all parts, wait until each is ready, and end all of them on leaving.

    Without RINGBACK_REDIS_URL a Redis server is a part. Without RINGBACK_SWITCHES and a registered
    switch a simulator is one.
    Without RINGBACK_ACCOUNTS the accounts are the demo's: with the simulator under tokens that
    everybody knows, with other switches under new ones.
    The API ends first. Then all others that use Redis end together, and the simulator and the Redis
    server end last. All parts end too when this process is killed.
    Raises SettingsError or StartFailed; no part is left running then either.
    """
    ports = ports or Ports()
    with contextlib.ExitStack() as exits:
        stack = Stack(settings)
        # The API shows the metrics of all parts, at an address that no client keeps busy.
        metrics = settings.metrics or f"127.0.0.1:{free_port()}"
        settings = replace(settings, metrics=None)
        stack.metrics = exits.enter_context(TemporaryDirectory(prefix="ringback-metrics-"))
        stack.group = exits.enter_context(_guarded(stack))
        made: list[str] = []
        if settings.accounts is None and settings.demo is None:
            demo = KNOWN
            if settings.switches is not None or _registered(settings):
                folder = exits.enter_context(TemporaryDirectory(prefix="ringback-accounts-"))
                path, made = make_accounts(folder)
                demo = str(path)
            settings = replace(settings, demo=demo)
        if settings.redis_url is None:
            redis = EmbeddedRedis(ports.redis or free_port(), stack.group)
            exits.callback(redis.stop)
            settings = replace(settings, redis_url=redis.url)
            stack.processes["redis"] = redis.process
            stack.embedded = True
            stack.started.append(
                f"Redis      RINGBACK_REDIS_URL=$(cat {redis.url_file}) (embedded, keeps nothing)"
            )
        # What ends last, first.
        for names in (("simulator",), ("worker", "listener", "webhooks", "records"), ("api",)):
            exits.callback(stack.stop, *names)
        _ready("Redis", stack, lambda: _answers(settings))
        if settings.switches is None and not _registered(settings):
            place = settings.simulator or f"127.0.0.1:{free_port()}"
            settings = replace(
                settings, simulator=place, switches=f"simulator=esl://:{SIMULATOR_PASSWORD}@{place}"
            )
            _spawn("simulator", settings, stack)
            _ready("the simulator", stack, lambda: _accepts(settings.simulator_address))
            stack.started.append(f"Simulator  esl://:{SIMULATOR_PASSWORD}@{place}")
        given = switch_addresses(settings) if settings.switches else []
        followed = {each.name for each in given if each.found_by is None}
        if (why := _cannot_listen(settings.http_address)) is not None:
            if not ports.any_http:
                raise StartFailed(f"RINGBACK_HTTP: cannot listen on {settings.http}: {why}.")
            settings = replace(settings, http=f"127.0.0.1:{free_port()}")
        knows = settings.accounts is None and settings.demo == KNOWN
        if knows and settings.webhook_allow is None:
            # The demo's tokens are refused from elsewhere, and a receiver of call events runs here.
            settings = replace(settings, webhook_allow="127.0.0.0/8,::1/128")
        _spawn("api", replace(settings, metrics=metrics), stack)
        for name in ("worker", "listener"):
            _spawn(name, settings, stack)
        if settings.records_url:
            _spawn("records", settings, stack, words=("records", "export"))
        delivers = exits.enter_context(_spawned_telling("webhooks", settings, stack))
        stack.settings, stack.url = settings, f"http://{settings.http}"
        _ready("the API", stack, lambda: serves(settings.http_address))
        worker, listener = (
            f"{socket.gethostname()}-{stack.processes[name].pid}" for name in ("worker", "listener")
        )
        _ready("the worker", stack, lambda: _works(settings, worker))
        for name in followed.union(_registered(settings)):
            _ready(
                f"switch {name}",
                stack,
                lambda name=name: _follows(settings, listener, name),  # type: ignore[misc]
            )
        _ready("the webhooks process", stack, delivers)
        stack.started.append(f"API        {stack.url}")
        if settings.records_url:
            stack.started.append("Records    go to the database of RINGBACK_RECORDS_URL")
        stack.started.append(f"Console    {stack.url}/console")
        stack.started.append(f"Metrics    http://{metrics}/metrics, /healthz and /readyz")
        stack.started += made
        if knows:
            stack.started.append(f"Webhooks   signed with {DEMO_WEBHOOK_SECRET}")
        yield stack


@dataclass(frozen=True)
class Ports:
    """Ports of parts. ``any_http`` allows another port if that of RINGBACK_HTTP is taken."""

    redis: int | None = None
    any_http: bool = False


def run_up(settings: Settings, say: Callable[[str], None], ports: Ports) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit status: 1 if a part failed."""
    if settings.accounts is not None:
        # The API refuses a bad file too, but only once all other parts run.
        from app.accounts.store import read_accounts

        read_accounts(settings.accounts)
    # Its `put` may interrupt its `get`, as a signal does. That of threading.Event may not.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.put(number))

    def asked(limit: float) -> bool:
        try:
            signals.get(timeout=limit)
        except Empty:
            return False
        return True

    with running(settings, ports) as stack:
        for line in stack.started:
            say(line)
        say("Ringback is up. Ctrl-C ends it.")
        while not asked(_LOOK):
            if (name := stack.failed()) is not None:
                say(f"The {name} process has ended by itself.")
                return 1
        _stop_api(stack, say, asked)
    return 0


def _stop_api(stack: Stack, say: Callable[[str], None], asked: Callable[[float], bool]) -> None:
    """End the API, then wait until each accepted call is claimed.

    The wait ends RINGBACK_STOP_TIMEOUT seconds after its begin, or with a second signal.
    """
    limit = stack.settings.stop_timeout
    end = time.monotonic() + limit
    say("Ringback stops: the API accepts no more calls.")
    stack.stop("api")
    waiting = _waiting(stack.settings)
    if waiting and time.monotonic() < end:
        say(f"Ringback waits up to {limit:g} seconds until it has dialled {_calls(waiting)}.")
    while waiting != 0 and time.monotonic() < end and stack.failed() is None:
        if asked(_WAITING_LOOK):
            break
        waiting = _waiting(stack.settings)
    if waiting is None:
        say("Redis does not answer: Ringback cannot tell how many accepted calls wait.")
    elif waiting and stack.embedded:
        say(f"Ringback loses {_calls(waiting)}: the embedded Redis keeps nothing.")
    elif waiting:
        say(f"Ringback leaves {_calls(waiting)} in Redis, to be dialled when it runs again.")


def _calls(count: int) -> str:
    return "1 accepted call" if count == 1 else f"{count} accepted calls"


def _waiting(settings: Settings) -> int | None:
    """The number of accepted calls that no worker has claimed; None if Redis does not answer."""
    redis, keys = connect(settings.require_redis()), Keys(settings.key_prefix)
    count = 0
    try:
        for part in index.walk(redis, keys.calls):
            with redis.pipeline(transaction=False) as pipe:
                for call_id, _ in part:
                    pipe.hget(keys.call(call_id), "state")
                count += pipe.execute().count(State.QUEUED.encode())
    except RedisError:
        return None
    finally:
        redis.close()
    return count


# The ports that this process has given to parts.
_given: set[int] = set()


def free_port() -> int:
    """A port below those that the system gives out by itself, so that no other program gets it
    before the part that is to have it has started. No port is given twice."""
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _given:
            continue
        _given.add(port)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def environment(settings: Settings) -> Mapping[str, str]:
    """The environment that gives these settings to a child process."""
    values = {
        f"RINGBACK_{name.upper()}": str(value)
        for name, value in vars(settings).items()
        if value is not None
    }
    # A setting that is None stays unset, even if this process has the variable.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
    return {**inherited, **values}


@contextlib.contextmanager
def _guarded(stack: Stack) -> Iterator[int]:
    """A process group for all parts. The guard kills it when this process ends."""
    guard = subprocess.Popen(
        # The guard needs only the standard library, and no variables.
        [sys.executable, "-I", "-S", str(_GUARD)],
        stdin=subprocess.PIPE,
        # Ctrl-C is for this process, which ends the parts in order.
        process_group=0,
    )
    stack.processes["guard"] = guard
    try:
        yield guard.pid
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def _spawn(
    name: str,
    settings: Settings,
    stack: Stack,
    ready: int | None = None,
    words: tuple[str, ...] = (),
) -> None:
    """Start a part by its name, or by the ``words`` of its command. ``ready`` is a file descriptor
    that it writes to once it is ready."""
    environ = {**environment(settings), "PROMETHEUS_MULTIPROC_DIR": stack.metrics}
    if ready is not None:
        environ[READY_FD] = str(ready)
    stack.processes[name] = subprocess.Popen(
        # -P: the folder of the command's file is no place to look for packages.
        [sys.executable, "-P", str(_COMMAND), *(words or (name,))],
        env=environ,
        stdin=subprocess.DEVNULL,
        process_group=stack.group,
        pass_fds=() if ready is None else (ready,),
    )


@contextlib.contextmanager
def _spawned_telling(name: str, settings: Settings, stack: Stack) -> Iterator[Callable[[], bool]]:
    """Start a part that tells when it is ready. Yields a function that says whether it has."""
    heard, ready = os.pipe()
    try:
        try:
            _spawn(name, settings, stack, ready)
        finally:
            os.close(ready)
        yield lambda: bool(select.select([heard], [], [], 0)[0])
    finally:
        os.close(heard)


def _ready(what: str, stack: Stack, is_ready: Callable[[], bool]) -> None:
    def look() -> bool:
        if (name := stack.failed()) is not None:
            raise StartFailed(f"The {name} process has ended before {what} was ready.")
        return is_ready()

    def give_up(_: object) -> bool:
        raise StartFailed(f"{what} is not ready after {START_LIMIT:.0f} seconds.")

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
    """Whether an API answers at this address."""
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
    keys = redis.scan_iter(f"rq:worker:{name}.*", count=1000)
    return len({key.split(b".")[-2] for key in keys}) == len(QUEUES)


def _registered(settings: Settings) -> list[str]:
    """The switches of the registry that need no RINGBACK_SWITCHES."""
    if settings.redis_url is None:
        return []
    redis = connect(settings.redis_url)
    try:
        known = SwitchRegistry(redis, Keys(settings.key_prefix)).all()
    except RedisError:
        return []
    finally:
        redis.close()
    usable = {name for name, each in known.items() if each.setting is None}
    return [
        name
        for name in usable
        if not (known[name].is_source or known[name].removing or known[name].dead)
        and (known[name].source or name) in usable
    ]


def _follows(settings: Settings, listener: str, switch: str) -> bool:
    redis = connect(settings.require_redis())
    found = redis.hmget(Keys(settings.key_prefix).switch(switch), "listener", "core_uuid")
    return found[0] == listener.encode() and found[1] is not None


def _cannot_listen(address: tuple[str, int]) -> str | None:
    """Why the API could not listen on an address; None if it can."""
    # As gunicorn takes an address.
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.create_server(address, family=family):
            return None
    except OSError as error:
        return error.strerror
