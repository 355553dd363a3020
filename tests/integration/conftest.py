"""The whole of Ringback as processes, against the simulator or, with FREESWITCH_URL, a switch."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from tempfile import gettempdir
from typing import Any

import pytest

from app.calls.model import Call, State
from app.settings import KNOWN, load_settings
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from freeswitch.event_socket import EventSocket
from ringback_cli.up import Ports, Stack, environment, free_port, running
from workers.runtime import switch_addresses

REAL = os.environ.get("FREESWITCH_URL")
# What RINGBACK_SWITCHES is: None for the simulator.
SWITCHES = f"real={REAL}" if REAL else None
# The simulator's clock; a real switch's telephones take their time.
SPEED = 1.0 if REAL else 4.0
LIMIT = 60.0
# Where a real switch may write its recordings; the simulator writes none.
RECORDINGS = gettempdir() + "/recordings/{organization}/{date}/{call}-{view}-{time}.{format}"
# The settings of the stack that most tests share.
STACK = {"log_level": "WARNING", **({"recordings": RECORDINGS} if REAL else {})}


@dataclass
class Ringback:
    """What a test asks of the running program."""

    stack: Stack
    store: CallStore

    def request(
        self, method: str, path: str, body: Any = None, token: str = "demo-user-token"
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(*self.stack.settings.http_address, timeout=LIMIT)
        try:
            connection.request(
                method,
                f"/uapi/phoneCalls/{path}",
                None if body is None else json.dumps(body),
                {"Authorization": f"Bearer {token}"},
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def place(
        self,
        source: Any,
        destination: Any,
        query: str = "",
        token: str = "demo-user-token",
        **view: Any,
    ) -> str:
        """Place a call for extension 210 and return its id."""
        status, answer = self.request(
            "POST",
            f"@me/simple{query}",
            {
                "extension": "210",
                "phoneCallView": [{"source": source, "destination": destination, **view}],
            },
            token,
        )
        assert status in (200, 202), answer
        call_id: str = answer[0]["id"]
        return call_id

    def wait(self, call_id: str, until: Callable[[Call], bool]) -> Call:
        call = self.store.wait(call_id, until, LIMIT)
        assert call is not None and until(call), call
        return call

    def wait_state(self, call_id: str, state: State) -> Call:
        """Wait until the call is at least that far."""
        return self.wait(call_id, lambda call: call.state.rank >= state.rank)

    def ended(self, call_id: str) -> Call:
        return self.wait_state(call_id, State.ENDED)

    def api(self, command: str) -> str:
        """An api command to the switch."""
        address = switch_addresses(self.stack.settings)[0]
        connection = EventSocket(
            *(address.host, address.port, address.password), user=address.user, tls=address.tls
        )
        connection.connect()
        try:
            return connection.api(command)
        finally:
            connection.close()

    def kill(self, name: str) -> None:
        process = self.stack.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def start(self, name: str) -> "subprocess.Popen[bytes]":
        """A part once more, in place of the one that was of that name before."""
        process = self.stack.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "ringback_cli", name], env=environment(self.stack.settings)
        )
        return process

    def heal(self) -> None:
        """Start the parts that are dead, end all calls, and wait until a new call goes through."""
        while (name := self.stack.failed()) is not None:
            self.start(name)
        for call_id in self.store.redis.zrange(self.store.keys.user_calls("12"), 0, -1):
            self.request("DELETE", f"@me/@self/{call_id.decode()}")
            self.ended(call_id.decode())
        call = self.ended(self.place("15509", "15500"))
        assert call.hangup_cause == "USER_BUSY", call

    def originates(self) -> list[dict[str, Any]]:
        """The switch's own record of what it was told to dial; the simulator's alone."""
        record: list[dict[str, Any]] = json.loads(self.api("simulator originates"))
        return record


@contextmanager
def started(switches: str | None, **changes: Any) -> Iterator[Ringback]:
    """The whole of Ringback with the default settings but for the changes. Actions and hang-ups
    are answered once they are done, however busy the machine is."""
    for name in [name for name in os.environ if name.startswith("RINGBACK_")]:
        del os.environ[name]
    settings = replace(
        load_settings(),
        switches=switches,
        # The tokens of all tests, with a real switch too.
        demo=KNOWN,
        http=f"127.0.0.1:{free_port()}",
        **{
            "simulator_speed": SPEED,
            "log_level": "ERROR",
            "action_timeout": LIMIT,
            **changes,
        },
    )
    with running(settings, Ports()) as stack:
        redis = connect(stack.settings.require_redis())
        try:
            yield Ringback(stack, CallStore(redis, Keys()))
        finally:
            # The parts, with those that a test has started in place of others. Redis and the guard
            # end with `running`.
            stack.stop(*(name for name in stack.processes if name not in ("redis", "guard")))


@pytest.fixture(scope="session")
def ringback(stacks: Callable[..., Ringback]) -> Ringback:
    """The stack of most tests, on the switch that there is."""
    return stacks(SWITCHES, **STACK)


@pytest.fixture(scope="session")
def mortal(stacks: Callable[..., Ringback]) -> Ringback:
    """A stack on the simulator whose parts may die, and are soon missed."""
    return stacks(None, reconcile_interval=0.5)
