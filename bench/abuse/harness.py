"""A running Ringback with two organizations, a hostile and a quiet one, and what the quiet one
measures."""

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redis import Redis

from app.settings import Settings, load_settings
from app.store.client import connect
from app.store.keys import Keys
from bench.speed.switch import Switch, switch_to_measure
from ringback_cli.up import free_port, running

ACCOUNTS = Path(__file__).with_name("accounts.toml")
TOKENS = {
    "hostile": "hostile-token-of-the-abuse-bench",
    "quiet": "quiet-token-of-the-abuse-bench",
}
# The quiet client has another address than the hostile one.
QUIET_ADDRESS = "127.0.0.3"
# The quiet client's requests, by name.
KINDS = ("POST", "GET", "readyz")
# This number answers at once.
NUMBER = "15517"
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Stack:
    """The running stack, as a part of the benchmark uses it."""

    # Host and port of the API.
    address: tuple[str, int]
    redis: Redis
    keys: Keys
    switch: Switch
    settings: Settings
    # The process ids by name: api, worker, listener, webhooks, redis.
    pids: Mapping[str, int] = field(default_factory=dict)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        app: str = "hostile",
        headers: Mapping[str, str] | None = None,
        timeout: float = _TIMEOUT,
    ) -> tuple[int, bytes]:
        """Send one request of an app on a connection of its own; status and body. Raises OSError
        or HTTPException."""
        connection = http.client.HTTPConnection(*self.address, timeout=timeout)
        sent = {"Authorization": f"Bearer {TOKENS[app]}", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, sent)
            response = connection.getresponse()
            return response.status, response.read()

    def place(self, *, app: str = "hostile", seconds: int | None = None) -> str:
        """Place a call that is answered at once, and ends after so many seconds; its id."""
        limit = f"?callDuration={seconds}" if seconds is not None else ""
        status, answer = self.request("POST", CREATE + limit, CALL, app=app)
        if status != 202:
            raise RuntimeError(f"a call of {app} was refused: {status} {answer!r}")
        return str(json.loads(answer)[0]["id"])


CREATE = "/uapi/phoneCalls/@me/simple"
CALL = {"extension": "210", "phoneCallView": [{"source": [NUMBER], "destination": [NUMBER]}]}


@contextlib.contextmanager
def started(more: Mapping[str, Any]) -> Iterator[Stack]:
    """A stack of its own, with more settings, until leaving. Raises SettingsError, StartFailed."""
    with switch_to_measure() as switch:
        settings = replace(
            load_settings(),
            redis_url=None,
            accounts=ACCOUNTS,
            switches=switch.url,
            http=f"127.0.0.1:{free_port()}",
            log_level="ERROR",
            **more,
        )
        with running(settings) as up:
            host, _, port = up.url.removeprefix("http://").rpartition(":")
            yield Stack(
                (host, int(port)),
                connect(up.settings.require_redis()),
                Keys(up.settings.key_prefix),
                switch,
                up.settings,
                {name: process.pid for name, process in up.processes.items()},
            )


def measure(stack: Stack, seconds: float) -> dict[str, list[float]]:
    """What the quiet client sees for so many seconds: by kind the seconds of each request, infinite
    for one that failed. The client is a process of its own, so that the abuse does not slow it."""
    host, port = stack.address
    command = [sys.executable, "-m", "bench.abuse.quiet", host, str(port), str(seconds)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True, text=True
    )
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for line in done.stdout.splitlines():
        kind, took = line.split()
        found[kind].append(float(took))
    return found
