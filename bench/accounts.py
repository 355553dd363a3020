"""Accounts of many extensions: how long an import takes, how soon an API is ready and how much
memory it has, how soon a change is seen, and how long requests wait meanwhile.

    python -m bench.accounts [EXTENSIONS]

It makes an accounts file of EXTENSIONS extensions (100,000), each with a user of its own, in 1,000
organizations, and imports it by `ringback accounts import`. Then it starts an API without a file,
and one with it, and sends one POST after another: while nothing else happens, while one extension
is changed, and while half of all rows change. Beside each bound stands the same for 1,000
extensions of the same run, or the requests of the same API while nothing happens.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from bench.speed.table import quantile
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port

MANY, FEW = 100_000, 1_000
ORGANIZATIONS = 1_000
# Seconds of requests in a part.
WINDOW = 5.0
# The bounds: seconds of an import, seconds until an API is ready, MB of an API, seconds until a
# change is seen, and milliseconds of a request.
BOUNDS = {"import": 30.0, "ready": 5.0, "memory": 150.0, "seen": 1.0, "request": 100.0}
_HEAD = """
[[gateways]]
name = "pstn"
max_legs = 100000

[[routes]]
prefix = ""
gateways = ["pstn"]
"""
_TOKEN = "bench-token-of-organization-{:05d}"
_PATH = "/uapi/phoneCalls/@owner/simple"


def text(extensions: int, changed: int = 0, name: str = "User") -> str:
    """The accounts file. The first ``changed`` users and extensions have another ``name``."""
    organizations = min(ORGANIZATIONS, extensions)
    parts = [_HEAD]
    for number in range(organizations):
        parts.append(
            f'[[organizations]]\nid = "o{number}"\nnumber = "{number:04d}"\n'
            f'name = "Organization {number}"\nextension_digits = 5\n\n'
            f'[[apps]]\nid = "app{number}"\nlevel = "organization"\n'
            f'organization = "{number:04d}"\ntoken = "{_TOKEN.format(number)}"\n'
        )
    for number in range(extensions):
        of = name if number < changed else "User"
        organization = f"{number % organizations:04d}"
        parts.append(
            f'[[users]]\nid = "u{number}"\norganization = "{organization}"\n'
            f'name = "{of} {number}"\n\n'
            f'[[extensions]]\nnumber = "{organization}*{number // organizations:05d}"\n'
            f'type = "phone_terminal"\nowner = "u{number}"\n'
            f'dial_string = "user/{number}@example.com"\n'
            f'caller_id = "{of} {number} <1555{number:07d}>"\n'
        )
    return "\n".join(parts)


@dataclass
class Requests:
    """POSTs, one after another, by a thread of its own."""

    port: int
    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    @contextmanager
    def running(self) -> Iterator["Requests"]:
        ends = threading.Event()
        thread = threading.Thread(target=self._send, args=(ends,))
        thread.start()
        try:
            yield self
        finally:
            ends.set()
            thread.join()

    def _send(self, ends: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        number = 0
        while not ends.wait(0.02):
            number += 1
            begun = time.perf_counter()
            if post(connection, number % 500, "15551234567") != 202:
                self.failed += 1
            self.seconds.append(time.perf_counter() - begun)

    def shown(self) -> str:
        found = [quantile(self.seconds, share) * 1e3 for share in (0.5, 0.99)]
        most = max(self.seconds) * 1e3
        return (
            f"p50 {found[0]:.1f} ms, p99 {found[1]:.1f} ms, longest {most:.0f} ms, "
            f"{len(self.seconds)} sent, {self.failed} failed"
        )


def post(connection: http.client.HTTPConnection, organization: int, number: str) -> int:
    body = {
        "extension": f"{organization:04d}*00000",
        "phoneCallView": [{"source": [f"{organization:04d}*00000"], "destination": [number]}],
    }
    token = _TOKEN.format(organization)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    connection.request("POST", _PATH, json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@dataclass
class Api:
    """A running API, the seconds until it was ready, and its port."""

    port: int
    ready: float
    process: subprocess.Popen[bytes]

    @property
    def memory(self) -> float:
        """The resident memory of its server process, in MB."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        (server,) = children.split()[:1]
        lines = Path(f"/proc/{server}/status").read_text().splitlines()
        (line,) = (each for each in lines if each.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextmanager
def api(environment: Mapping[str, str], **more: str) -> Iterator[Api]:
    port = free_port()
    own = {**environment, "RINGBACK_HTTP": f"127.0.0.1:{port}", **more}
    begun = time.monotonic()
    process = subprocess.Popen([*_COMMAND, "api"], env=own)
    try:
        _until(lambda: _is_ready(port), 300.0)
        yield Api(port, time.monotonic() - begun, process)
    finally:
        process.terminate()
        process.wait()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/readyz")
    return connection.getresponse().status == 200


def _until(holds: Callable[[], bool], limit: float, every: float = 0.02) -> None:
    retry(
        retry=retry_if_result(lambda found: not found) | retry_if_exception_type(OSError),
        wait=wait_fixed(every),
        stop=stop_after_delay(limit),
    )(holds)()


_COMMAND = (sys.executable, "-m", "ringback_cli")


def ringback(environment: Mapping[str, str], *words: str) -> float:
    """Run a command. Returns its seconds."""
    begun = time.monotonic()
    subprocess.run([*_COMMAND, *words], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def measure(extensions: int, folder: Path) -> dict[str, float]:
    path = folder / f"{extensions}.toml"
    path.write_text(text(extensions))
    redis = EmbeddedRedis(free_port())
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
    environment = {**clean, "RINGBACK_REDIS_URL": redis.url, "RINGBACK_LOG_LEVEL": "ERROR"}
    environment |= {"RINGBACK_APP_REQUESTS": "0", "RINGBACK_APP_CALLS": "0"}
    found = {}
    try:
        found["import"] = ringback(environment, "accounts", "import", str(path))
        with api(environment, RINGBACK_ACCOUNTS=str(path)) as given:
            print(f"  ready with the file that was imported: {given.ready:.1f} s")
        with api(environment) as served:
            found["ready"] = served.ready
            with Requests(served.port).running() as quiet:
                time.sleep(WINDOW)
            print(f"  POSTs while nothing happens: {quiet.shown()}")
            found["quiet"] = max(quiet.seconds) * 1e3
            found["memory"] = served.memory
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
            with Requests(served.port).running() as busy:
                token = _TOKEN.format(0)
                own = {**environment, "RINGBACK_BENCH": token}
                add = ("--level", "organization", "--organization", "0000", "--json")
                done = subprocess.run(
                    [*_COMMAND, "accounts", "add-app", "new", *add],
                    env=own,
                    check=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                begun = time.monotonic()
                new = json.loads(done.stdout)["token"]
                _until(lambda: _knows(connection, new), 30.0, 0.005)
                found["seen"] = time.monotonic() - begun
                path.write_text(text(extensions, extensions // 2, "Someone"))
                took = ringback(environment, "accounts", "import", str(path))
                print(f"  import of a file with half of the rows changed: {took:.1f} s")
            print(f"  POSTs while rows change: {busy.shown()}")
            found["request"] = max(busy.seconds) * 1e3
            print(f"  memory after the change: {served.memory:.0f} MB")
            print(f"  undo: {ringback(environment, 'accounts', 'undo'):.1f} s")
    finally:
        redis.stop()
    return found


def _knows(connection: http.client.HTTPConnection, token: str) -> bool:
    headers = {"Authorization": f"Bearer {token}"}
    connection.request("GET", "/uapi/phoneCalls/@owner/@self", headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200


def main() -> int:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else MANY
    with TemporaryDirectory() as folder:
        few = _measured(FEW, Path(folder))
        found = _measured(many, Path(folder))
    print(f"\n{'':10} {f'{FEW} extensions':>18} {f'{many} extensions':>18} {'bound':>8}")
    for name, bound in BOUNDS.items():
        print(f"{name:10} {few[name]:18.2f} {found[name]:18.2f} {bound:8.0f}")
    return int(any(found[name] > bound for name, bound in BOUNDS.items()))


def _measured(extensions: int, folder: Path) -> dict[str, float]:
    print(f"{extensions} extensions")
    return measure(extensions, folder)


if __name__ == "__main__":
    sys.exit(main())
