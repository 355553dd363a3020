"""Ringback on one machine as it would run on several: two of each part, any of which may fail.

Every part is a process group of its own, so that a signal reaches gunicorn's children too.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.settings import KNOWN
from app.store.client import connect
from app.store.keys import Keys
from bench.faults.process import CLOCK
from freeswitch.address import SwitchAddress, parse_list
from freeswitch.errors import EventSocketError
from freeswitch.event_socket import EventSocket
from ringback_cli.embedded_redis import server_binary
from ringback_cli.up import free_port, serves

# Seconds within which a part must be ready, and have ended after SIGTERM.
START_LIMIT = 60.0
GRACE = 60.0
PASSWORD = "ClueCon"
MASTER = "mymaster"
APIS = ("api1", "api2")
WORKERS = ("worker1", "worker2")
LISTENERS = ("listener1", "listener2")
RINGBACK = (*APIS, *WORKERS, *LISTENERS)


class NotReady(Exception):
    """A part did not get ready; the text says which."""


def wait_until(what: str, holds: Callable[[], bool], limit: float = START_LIMIT) -> float:
    """Wait for a condition that nothing announces; the seconds it took. Raises NotReady."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > limit:
            raise NotReady(f"after {limit:.0f} seconds: {what}")
        time.sleep(0.02)
    return time.monotonic() - start


@dataclass(frozen=True)
class Layout:
    """What a cluster is made of. `switch` and `far_end` are URLs of real switches, in place of two
    simulators; `settings` are RINGBACK_* variables."""

    sentinel: bool = False
    appendfsync: str = "always"
    # Sentinel alone. With 1 no master takes a write that it can keep for itself only, and
    # with two servers that is every write until the one that failed is back.
    min_replicas: int = 0
    switch: str | None = None
    far_end: str | None = None
    speed: float = 1.0
    seed: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """What was done to whom and when, as it is told and as it is kept."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._start = time.monotonic()
        # What no process may do, whatever is done to the others.
        self.incidents: list[str] = []

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self._start:8.2f} s  {text}"
        with self._path.open("a") as file:
            file.write(f"{time.time():.3f} {line}\n")
        self._tell(line)

    def incident(self, text: str) -> None:
        self.incidents.append(text)
        self.say(f"INCIDENT {text}")


class Part:
    """One process, which may be killed, stopped, and started again under the same name."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        environment: Mapping[str, str],
        folder: Path,
        journal: Journal,
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = folder / f"{name}.log"
        self._journal = journal
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        # How often it was killed.
        self.kills = 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def start(self, **environment: str) -> None:
        """Start it, or again; with variables of this run alone."""
        with self._log.open("ab") as log:
            log.write(f"--- {time.time():.3f} start\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                self._command(),
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._say(f"started, process {self.pid}")

    def kill(self) -> None:
        """SIGKILL to the process and its children."""
        self._say("SIGKILL")
        self.kills += 1
        self.signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """SIGSTOP: it stands still, its sockets stay open."""
        self._say("SIGSTOP")
        self.signal(signal.SIGSTOP)
        self._stopped = True

    def cont(self) -> None:
        self._say("SIGCONT")
        self.signal(signal.SIGCONT)
        self._stopped = False

    def terminate(self) -> None:
        """SIGTERM, and wait for its end. One that takes longer than GRACE is killed, and that is
        an incident, as is an exit code other than 0."""
        assert self._process is not None
        start = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._journal.incident(f"{self.name} had not ended {GRACE:.0f} s after SIGTERM")
            self.kill()
            return
        self._say(f"SIGTERM, ended after {time.monotonic() - start:.1f} s with exit code {code}")
        if code != 0:
            self._journal.incident(f"{self.name} ended with exit code {code} after SIGTERM")
        self._reap()

    def await_death(self) -> None:
        """Wait until it has died, as it was started to. Raises NotReady."""
        wait_until(f"{self.name} has not died", lambda: not self.alive)
        self._say("died where it was to")
        self.kills += 1
        self._reap()

    def heal(self) -> None:
        """Let it go on if it stands still, start it if it is gone."""
        if self._process is None:
            self.start()
        elif self._stopped:
            self.cont()
        self.check()

    def check(self) -> None:
        """Report a death that nobody caused, and start it again."""
        if self._process is not None and not self.alive:
            code = self._process.returncode
            self._journal.incident(f"{self.name} has ended by itself, exit code {code}")
            self._reap()
            self.start()

    def end(self) -> None:
        """Be done with it, without a word."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._reap()

    def signal(self, number: signal.Signals) -> None:
        """To the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
        self._process = None
        self._stopped = False

    def _say(self, text: str) -> None:
        self._journal.say(f"{self.name:10} {text}")


class Cluster:
    """All parts. `folder` gets their logs, data and records."""

    def __init__(self, layout: Layout, folder: Path, tell: Callable[[str], None]) -> None:
        self.layout = layout
        self.folder = folder
        self.journal = Journal(folder / "journal.log", tell)
        self.parts: dict[str, Part] = {}
        self.keys = Keys()
        self._redis_ports = {"redis1": free_port()}
        self._sentinel_ports = {}
        if layout.sentinel:
            self._redis_ports["redis2"] = free_port()
            self._sentinel_ports = {f"sentinel{n}": free_port() for n in (1, 2, 3)}
        self.api_ports = {name: free_port() for name in APIS}
        if layout.switch:
            self.switches = parse_list(f"real={layout.switch}")
        else:
            places = ((name, free_port()) for name in ("simulator1", "simulator2"))
            self.switches = [SwitchAddress(n, "127.0.0.1", p, password=PASSWORD) for n, p in places]
        # Every write is on "disk" before it is answered. What dies is a process, not the machine:
        # memory keeps as much, and the speed of this disk is not what is tried.
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self._data = Path(tempfile.mkdtemp(prefix="ringback-faults-", dir=memory))
        self.clocks = {name: folder / f"{name}.clock" for name in RINGBACK}
        self._add_parts()

    @property
    def redis_url(self) -> str:
        if not self._sentinel_ports:
            return f"redis://127.0.0.1:{self._redis_ports['redis1']}/0"
        places = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports.values())
        return f"redis+sentinel://{places}/{MASTER}/0"

    # Any: redis-py's types know no client whose answers are bytes.
    def redis(self) -> Any:
        """A client, as Ringback's own are."""
        return connect(self.redis_url)

    def server(self, name: str) -> Any:
        """A client of one server, whatever it is to the others."""
        return _server(self._redis_ports[name])

    def master(self) -> str:
        """The name of the server that takes writes."""
        if not self._sentinel_ports:
            return "redis1"
        for port in self._sentinel_ports.values():
            with contextlib.suppress(RedisError):
                _, named = _server(port).sentinel_get_master_addr_by_name(MASTER)
                return next(n for n, p in self._redis_ports.items() if p == int(named))
        raise NotReady("no Sentinel names a master")

    def part(self, name: str) -> Part:
        return self.parts[name]

    def start(self) -> None:
        """Start everything, and wait until all of it works. Raises NotReady."""
        for name in self._redis_ports:
            self.part(name).start()
        wait_until("Redis does not answer", lambda: all(map(self._answers, self._redis_ports)))
        for name in (*self._sentinel_ports, *self._simulators()):
            self.part(name).start()
        wait_until("Redis takes no writes", self._writable)
        for name in RINGBACK:
            self.part(name).start()
        self.await_ready()

    def heal(self) -> None:
        """Undo whatever was done, and wait until all works again. Raises NotReady."""
        for part in self.parts.values():
            part.heal()
        for name in RINGBACK:
            self.step_clock(name, 0.0)
        for switch in self.switches:
            if not self.layout.switch:
                self.order(switch.name, "simulator heal")
            self.order(switch.name, "fsctl resume outbound")
        self.await_ready()

    def check_parts(self) -> None:
        """Report every part that has ended by itself, and start it again."""
        for part in self.parts.values():
            part.check()

    def await_ready(self) -> None:
        """Wait until Redis takes writes, APIs answer, workers are registered, and a living
        listener follows every switch as it runs now. Raises NotReady."""
        wait_until("Redis takes no writes", self._writable)
        if self._sentinel_ports:
            # Two servers survive one failure: the next one comes after the first is mended.
            wait_until("the master has no replica", self._replicated)
        for name in APIS:
            wait_until(f"{name} does not answer", lambda n=name: self.serves(n))  # type: ignore[misc]
        for name in WORKERS:
            wait_until(f"{name} takes no jobs", lambda n=name: self._works(n))  # type: ignore[misc]
        for switch in self.switches:
            wait_until(
                f"no listener follows {switch.name}",
                lambda s=switch.name: self.follower(s) is not None,  # type: ignore[misc]
            )

    def listens(self, name: str) -> bool:
        """Whether a listener hears every switch, followed by it or not."""
        redis, pid = self.redis(), str(self.part(name).pid)
        heard_by = (redis.zrange(self.keys.switch_listeners(s.name), 0, -1) for s in self.switches)
        return all(pid in [n.decode().rpartition("-")[2] for n in names] for names in heard_by)

    def serves(self, api: str) -> bool:
        return serves(("127.0.0.1", self.api_ports[api]))

    def follower(self, switch: str) -> str | None:
        """The name of the living listener that follows the switch as it runs now."""
        try:
            found = self.redis().hmget(self.keys.switch(switch), "listener", "core_uuid")
            core_uuid = self.order(switch, "global_getvar core_uuid")
        except (RedisError, EventSocketError):
            return None
        if None in found or found[1].decode() != core_uuid.strip():
            return None
        pids = {str(self.part(n).pid): n for n in LISTENERS if self.part(n).alive}
        return pids.get(found[0].decode().rpartition("-")[2])

    def order(self, switch: str, command: str) -> str:
        """An api command to a switch, over a connection of its own. Raises EventSocketError."""
        address = next(each for each in self.switches if each.name == switch)
        return order(address, command)

    def channels(self, switch: str) -> list[str]:
        """The uuids of all channels that the switch has now. Raises EventSocketError."""
        table = json.loads(self.order(switch, "show channels as json"))
        return [row["uuid"] for row in table.get("rows", ())]

    def step_clock(self, name: str, ahead: float) -> None:
        """Put the wall clock of a part of Ringback ahead by so many seconds."""
        new = self.clocks[name].with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self.clocks[name])

    def end(self) -> None:
        """End everything at once; what is written by then is all that will be needed."""
        for part in self.parts.values():
            part.end()
        shutil.move(self._data, self.folder / "data")

    def _simulators(self) -> list[str]:
        return [] if self.layout.switch else [switch.name for switch in self.switches]

    def record_files(self, simulator: str) -> list[Path]:
        """The records of one simulator, one for each time it was started."""
        return sorted(self.folder.glob(f"{simulator}.*.record"))

    def _add_parts(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
        for name in self._redis_ports:
            self._add(name, lambda n=name: self._redis_command(n), inherited)  # type: ignore[misc]
        for name in self._sentinel_ports:
            self._add(name, lambda n=name: self._sentinel_command(n), inherited)  # type: ignore[misc]
        for name in self._simulators():
            self._add(name, lambda n=name: self._simulator_command(n), inherited)  # type: ignore[misc]
        ours = {
            **inherited,
            "RINGBACK_REDIS_URL": self.redis_url,
            "RINGBACK_SWITCHES": ",".join(
                f"{s.name}={self.layout.switch or f'esl://:{s.password}@{s.host}:{s.port}'}"
                for s in self.switches
            ),
            "RINGBACK_DEMO": KNOWN,
            "RINGBACK_LOG_LEVEL": "INFO",
            "WEB_CONCURRENCY": "1",
            **self.layout.settings,
        }
        for name in RINGBACK:
            own = {CLOCK: str(self.clocks[name])}
            if name in self.api_ports:
                own["RINGBACK_HTTP"] = f"127.0.0.1:{self.api_ports[name]}"
            self.step_clock(name, 0.0)
            command = [sys.executable, "-m", "bench.faults.process", name.rstrip("12")]
            self._add(name, lambda c=command: c, {**ours, **own})  # type: ignore[misc]

    def _add(
        self, name: str, command: Callable[[], Sequence[str]], environment: Mapping[str, str]
    ) -> None:
        self.parts[name] = Part(name, command, environment, self.folder, self.journal)

    def _redis_command(self, name: str) -> list[str]:
        folder = self._data / name
        folder.mkdir(exist_ok=True)
        options = {
            "bind": "127.0.0.1",
            "port": str(self._redis_ports[name]),
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": self.layout.appendfsync,
        }
        if self._sentinel_ports:
            options["repl-diskless-sync-delay"] = "0"
            options["min-replicas-to-write"] = str(self.layout.min_replicas)
            try:
                master = self.master()
            except NotReady:
                # The first start, before there are Sentinels.
                master = "redis1"
            if master != name:
                options["replicaof"] = f"127.0.0.1 {self._redis_ports[master]}"
        arguments = [text for k, v in options.items() for text in (f"--{k}", *v.split(" "))]
        return [server_binary(), *arguments]

    def _sentinel_command(self, name: str) -> list[str]:
        config = self.folder / f"{name}.conf"
        if not config.exists():
            config.write_text(
                "bind 127.0.0.1\n"
                f"port {self._sentinel_ports[name]}\n"
                f"dir {self.folder}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {self._redis_ports['redis1']} 2\n"
                f"sentinel down-after-milliseconds {MASTER} 1000\n"
                f"sentinel failover-timeout {MASTER} 3000\n"
            )
        return [server_binary(), str(config), "--sentinel"]

    def _simulator_command(self, name: str) -> list[str]:
        port = next(switch.port for switch in self.switches if switch.name == name)
        record = self.folder / f"{name}.{len(self.record_files(name)):04}.record"
        record.touch()
        return [
            *(sys.executable, "-m", "freeswitch.simulator", f"127.0.0.1:{port}"),
            *("--record", str(record)),
            *("--speed", str(self.layout.speed), "--seed", str(self.layout.seed)),
        ]

    def _answers(self, name: str) -> bool:
        try:
            return bool(self.server(name).ping())
        except RedisError:
            return False

    def _writable(self) -> bool:
        try:
            return bool(self.redis().set("faults:writable", "1", px=1))
        except RedisError:
            return False

    def _replicated(self) -> bool:
        try:
            state = self.server(self.master()).info("replication")
        except RedisError:
            return False
        return bool(state.get("slave0", {}).get("state") == "online")

    def _works(self, name: str) -> bool:
        part = self.part(name)
        try:
            workers: Any = self.redis().smembers("rq:workers")
        except RedisError:
            return False
        return part.alive and any(f"-{part.pid}." in worker.decode() for worker in workers)


def _server(port: int) -> Any:
    """A client that says at once that nobody is there."""
    return Redis(port=port, socket_timeout=2.0, retry=Retry(NoBackoff(), 0))


def order(address: SwitchAddress, command: str) -> str:
    """An api command over a connection of its own. Raises EventSocketError."""
    connection = EventSocket(
        *(address.host, address.port, address.password), user=address.user, tls=address.tls
    )
    connection.connect()
    try:
        return connection.api(command)
    finally:
        connection.close()


@contextlib.contextmanager
def running(layout: Layout, folder: Path, tell: Callable[[str], None]) -> Iterator[Cluster]:
    """A cluster that works, until leaving. Raises NotReady."""
    cluster = Cluster(layout, folder, tell)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()
