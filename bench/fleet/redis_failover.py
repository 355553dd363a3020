"""Redis fails over under load, and no call that was answered with 202 is lost.

    python -m bench.fleet.redis_failover [--replicas 2] [--wait N] [--times 10] [--rate 10]
        [--how planned|maintenance|killed|hung|full]

Starts a Redis with replicas, three Sentinels, an API, a worker, a listener and a simulator, and
places calls at the rate while Redis fails over. Then each call that was answered with 202 must be
in Redis, have ended, and have been dialled at most once. Exit status 0 if so.

``--how`` says what is done to the master: ``planned`` is `SENTINEL FAILOVER`, ``maintenance`` the
same by `ringback maintenance failover`, ``killed`` SIGKILL, ``hung`` SIGSTOP, ``full`` a disk that
takes no more, until the operator fails over.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.calls.model import State
from app.settings import KNOWN
from app.store.client import connect
from app.store.keys import Keys
from app.store.reading import CallReader
from bench.faults.cluster import PASSWORD, NotReady, order, wait_until
from freeswitch.address import SwitchAddress
from freeswitch.errors import EventSocketError
from ringback_cli.embedded_redis import server_binary
from ringback_cli.up import free_port, serves

SERVICE = "ringback"
HOW = ("planned", "maintenance", "killed", "hung", "full")
# Seconds that an attempt at a POST may take, and until everything works again.
_ATTEMPT, _LIMIT = 8.0, 40.0


def server(port: int) -> Any:
    """A client of one server that says at once that nobody is there."""
    return Redis(port=port, socket_timeout=2.0, retry=Retry(NoBackoff(), 0))


@dataclass
class Answers:
    """What the clients were told. ``placed`` has the ids of the calls answered with 202 by the time
    (monotonic) of the answer."""

    placed: dict[str, float] = field(default_factory=dict)
    # By status and code; those that are no JSON of Ringback stand as themselves.
    count: Counter[str] = field(default_factory=Counter)

    def gap(self, since: float, until: float) -> float:
        """The longest time without a 202 within this span."""
        times = sorted(at for at in self.placed.values() if since <= at <= until)
        return max(b - a for a, b in itertools.pairwise([since, *times, until]))

    def first_after(self, at: float) -> float | None:
        return min((each for each in self.placed.values() if each > at), default=None)


class Fleet:
    """All processes of the exercise."""

    def __init__(
        self, folder: Path, replicas: int, wait: str, *, sentinels: int = 3, speed: float = 4.0
    ) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(replicas + 1)]
        self.sentinels = [free_port() for _ in range(sentinels)]
        self.http = free_port()
        self.switch = SwitchAddress("s1", "127.0.0.1", free_port(), password=PASSWORD)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.answers = Answers()
        self._speed = speed
        self._halt = threading.Event()
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        self.url = f"redis+sentinel://{places}/{SERVICE}/0"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
        self.environment = inherited | {
            "RINGBACK_REDIS_URL": self.url,
            "RINGBACK_SWITCHES": f"s1=esl://:{PASSWORD}@127.0.0.1:{self.switch.port}",
            "RINGBACK_DEMO": KNOWN,
            "RINGBACK_HTTP": f"127.0.0.1:{self.http}",
            "RINGBACK_WAIT_REPLICAS": wait,
            "RINGBACK_APP_REQUESTS": "0",
            "RINGBACK_APP_CALLS": "0",
            "RINGBACK_LOG_LEVEL": "WARNING",
            "WEB_CONCURRENCY": "1",
        }

    def start(self) -> None:
        """Start all, and wait until a call can be placed. Raises NotReady."""
        for port in self.ports:
            self._start_redis(port)
        simulator = [sys.executable, "-m", "freeswitch.simulator", f"127.0.0.1:{self.switch.port}"]
        self.run("simulator", [*simulator, "--speed", str(self._speed)])
        for port in self.ports:
            wait_until("Redis does not answer", lambda p=port: _answers(p))  # type: ignore[misc]
        for port in self.sentinels:
            conf = self.folder / f"sentinel-{port}.conf"
            conf.write_text(
                f"bind 127.0.0.1\nport {port}\ndir {self.folder}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.ports[0]}"
                f" {len(self.sentinels) // 2 + 1}\n"
                f"sentinel down-after-milliseconds {SERVICE} 1000\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
            self.run(f"sentinel {port}", [server_binary(), str(conf), "--sentinel"])
        self.await_replicas()
        for name in ("api", "worker", "listener"):
            self.run(name, [sys.executable, "-m", "ringback_cli", name])
        wait_until("the API does not answer", lambda: serves(("127.0.0.1", self.http)))
        wait_until("no call is placed", lambda: self._post(0) and bool(self.answers.placed))

    def _start_redis(self, port: int) -> None:
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        options = {
            **{"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "save": ""},
            **{"appendonly": "yes", "repl-diskless-sync-delay": "0", "repl-timeout": "5"},
        }
        master = self.master() if self.processes and self._is_watched() else self.ports[0]
        if master != port:
            options["replicaof"] = f"127.0.0.1 {master}"
        words = [text for k, v in options.items() for text in (f"--{k}", *v.split(" "))]
        self.run(f"redis {port}", [server_binary(), *words])

    def run(self, name: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            # Python's children may get SIGXFSZ, and Redis would end of it.
            process = self.processes[name] = subprocess.Popen(
                *(command,),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                restore_signals=False,
            )
        return process

    def end(self) -> None:
        self._halt.set()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait()

    # Redis

    def _is_watched(self) -> bool:
        return any(name.startswith("sentinel") for name in self.processes)

    def master(self) -> int:
        """The port of the master that most Sentinels name. Raises NotReady."""
        named: Counter[int] = Counter()
        for port in self.sentinels:
            with contextlib.suppress(RedisError):
                named[int(server(port).sentinel_get_master_addr_by_name(SERVICE)[1])] += 1
        if not named:
            raise NotReady("no Sentinel names a master")
        return named.most_common(1)[0][0]

    def await_replicas(self) -> None:
        """Wait until all others are replicas of the master that have all, and Sentinels see them.
        Raises NotReady."""

        def complete() -> bool:
            try:
                info = server(self.master()).info("replication")
                seen = [len(server(p).sentinel_slaves(SERVICE)) for p in self.sentinels]
                states = [server(p).sentinel_master(SERVICE) for p in self.sentinels]
            except (RedisError, NotReady):
                return False
            replicas = [info.get(f"slave{n}", {}) for n in range(info["connected_slaves"])]
            return (
                len([each for each in replicas if each.get("state") == "online"])
                == len(self.ports) - 1
                and min(seen) >= len(self.ports) - 1
                and all(state["num-other-sentinels"] == len(self.sentinels) - 1 for state in states)
            )

        wait_until("the replicas are not there", complete, _LIMIT)

    # Calls

    def _post(self, index: int) -> bool:
        number = f"1{os.getpid() % 1_000_000:06}{index:09}09"
        body = {
            "extension": "210",
            "phoneCallView": [{"source": [number], "destination": ["15500"]}],
            "nonce": f"failover-{index}",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=_ATTEMPT)
        try:
            connection.request(
                *("POST", "/uapi/phoneCalls/@me/simple", json.dumps(body)),
                {"Authorization": "Bearer demo-user-token"},
            )
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            self.answers.count[type(error).__name__] += 1
            return False
        finally:
            connection.close()
        try:
            document = json.loads(text)
            if answer.status == 202:
                self.answers.placed[document[0]["id"]] = time.monotonic()
                self.answers.count["202"] += 1
                return True
            retry = " Retry-After" if answer.getheader("Retry-After") else ""
            self.answers.count[f"{answer.status} {document['error']['code']}{retry}"] += 1
        except (ValueError, KeyError, TypeError):
            self.answers.count[f"{answer.status} not Ringback's JSON"] += 1
        return False

    @contextlib.contextmanager
    def load(self, rate: float) -> Iterator[None]:
        """Place calls at a rate, whatever becomes of the earlier ones."""
        self._halt.clear()
        indices = itertools.count(int(time.monotonic() * 1000) % 100_000_000)
        asking: list[threading.Thread] = []

        def place() -> None:
            at = time.monotonic()
            while not self._halt.is_set():
                thread = threading.Thread(target=self._post, args=(next(indices),), daemon=True)
                asking.append(thread)
                thread.start()
                at += 1 / rate
                self._halt.wait(max(0.0, at - time.monotonic()))

        placing = threading.Thread(target=place, daemon=True)
        placing.start()
        try:
            yield
        finally:
            self._halt.set()
            placing.join()
            for thread in asking:
                thread.join(_ATTEMPT + 2)

    def check(self) -> list[str]:
        """A sentence for each call that a promise was broken for."""
        reader = CallReader(connect(self.url), Keys())
        ids = list(self.answers.placed)

        def left() -> list[str]:
            found = zip(ids, reader.get_many(ids), strict=True)
            return [i for i, call in found if call is None or call.state is not State.ENDED]

        with contextlib.suppress(NotReady):
            wait_until("calls have not ended", lambda: not left(), _LIMIT)
        wrong = []
        calls = dict(zip(ids, reader.get_many(ids), strict=True))
        sent: Counter[str] = Counter()
        for each in json.loads(order(self.switch, "simulator originates")):
            for call_id in ids:
                if call_id in each["command"]:
                    sent[call_id] += 1
        for call_id, call in calls.items():
            if call is None:
                dialled = "dialled" if sent[call_id] else "not dialled"
                wrong.append(f"{call_id} was answered with 202, {dialled}, and is lost")
            elif call.state is not State.ENDED:
                wrong.append(f"{call_id} is {call.state} still")
            if sent[call_id] > 1:
                wrong.append(f"{call_id} was dialled {sent[call_id]} times")
        self.ended: Counter[str] = Counter(
            str(call.ended_by) for call in calls.values() if call is not None
        )
        return wrong

    # What is done to the master

    def fail_over(self, how: str) -> tuple[float, float]:
        """Fail over; return when (monotonic) it was asked for, and when Sentinel named another
        master. Raises NotReady."""
        old = self.master()
        process = self.processes[f"redis {old}"]
        asked = time.monotonic()
        if how == "killed":
            process.kill()
            process.wait()
        elif how == "hung":
            process.send_signal(signal.SIGSTOP)
        elif how == "full":
            # The file may not grow: the write fails as on a full disk.
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            wait_until("Redis takes writes still", lambda: _refuses(old), _LIMIT)
        if how in ("planned", "full"):
            self._sentinel_failover()
        if how == "maintenance":
            command = [sys.executable, "-m", "ringback_cli", "maintenance", "failover"]
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            if done.returncode:
                raise NotReady(done.stderr)
        wait_until("Sentinel names no other master", lambda: self._named_other(old), _LIMIT)
        return asked, time.monotonic()

    def _named_other(self, old: int) -> bool:
        try:
            return self.master() != old
        except NotReady:
            return False

    def _sentinel_failover(self) -> None:
        def begun() -> bool:
            try:
                return bool(server(self.sentinels[0]).sentinel_failover(SERVICE))
            except RedisError:
                # It looks at a replica it has not heard for too long, or is at it already.
                return False

        wait_until("Sentinel does not fail over", begun, _LIMIT)

    @property
    def needs_all(self) -> bool:
        """Whether a call is accepted only while no server is missing."""
        wait = self.environment["RINGBACK_WAIT_REPLICAS"]
        return wait.isdecimal() and int(wait) >= len(self.ports) - 1

    def heal(self) -> None:
        """Have all servers again, as replicas of the new master. Raises NotReady."""
        self.mend()
        self.await_replicas()

    def mend(self) -> None:
        """Start the server that was killed, and let the one go on that stands still."""
        for port in self.ports:
            process = self.processes[f"redis {port}"]
            if process.poll() is not None:
                self._start_redis(port)
            else:
                process.send_signal(signal.SIGCONT)
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)


def _answers(port: int) -> bool:
    try:
        return bool(server(port).ping())
    except RedisError:
        return False


def _refuses(port: int) -> bool:
    try:
        server(port).set("failover:probe", 1, px=100)
    except RedisError:
        return True
    return False


@dataclass(frozen=True)
class Timing:
    """Seconds of one failover: from the command or fault to the new master, from there to the first
    202, and the longest time without one."""

    named: float
    again: float
    gap: float


def exercise(
    fleet: Fleet, how: str, times: int, rate: float, tell: Callable[[str], None]
) -> tuple[list[Timing], list[str]]:
    """Fail over so often under load. Returns the timings, and what was wrong."""
    timings = []
    with fleet.load(rate):
        for number in range(times):
            start = time.monotonic()
            wait_until(
                "no call is placed",
                lambda s=start: fleet.answers.first_after(s) is not None,  # type: ignore[misc]
                _LIMIT,
            )
            start = time.monotonic()
            asked, named = fleet.fail_over(how)
            if how in ("killed", "hung") and fleet.needs_all:
                # No call is accepted without the server that failed.
                fleet.mend()
            wait_until(
                "no call is placed after the failover",
                lambda n=named: fleet.answers.first_after(n) is not None,  # type: ignore[misc]
                _LIMIT,
            )
            first = fleet.answers.first_after(named) or named
            timings.append(
                Timing(named - asked, first - named, fleet.answers.gap(start, time.monotonic()))
            )
            tell(
                f"{number + 1:3}. new master after {timings[-1].named:.1f} s, a 202 "
                f"{timings[-1].again:.1f} s later, {timings[-1].gap:.1f} s without one"
            )
            if number + 1 < times:
                fleet.heal()
    fleet.mend()
    return timings, fleet.check()


@contextlib.contextmanager
def running(replicas: int, wait: str, **options: Any) -> Iterator[Fleet]:
    """A fleet that works. Raises NotReady."""
    folder = Path(tempfile.mkdtemp(prefix="ringback-failover-"))
    fleet = Fleet(folder, replicas, wait, **options)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.end()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser("python -m bench.fleet.redis_failover", description=__doc__)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--wait", help="RINGBACK_WAIT_REPLICAS, the number of replicas by default")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--how", choices=HOW, default="planned")
    given = parser.parse_args()
    wait = given.wait if given.wait is not None else str(given.replicas)
    try:
        with running(given.replicas, wait) as fleet:
            timings, wrong = exercise(fleet, given.how, given.times, given.rate, print)
            ended, answers = dict(fleet.ended), dict(fleet.answers.count)
    except (NotReady, EventSocketError) as error:
        print(f"VIOLATION nothing works any more: {error}")
        return 1
    for sentence in wrong:
        print(f"VIOLATION {sentence}")
    print(f"answers: {answers}\nended by: {ended}")
    print(
        f"{given.how}, {given.replicas} replicas, WAIT {wait}, {len(timings)} times:"
        f" {len(wrong)} violations; at most {max(t.again for t in timings):.1f} s from the new"
        f" master to a 202, {max(t.gap for t in timings):.1f} s without one"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
