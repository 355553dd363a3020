"""Switches come and go while all processes run and calls go on: nothing is restarted or lost."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
from click.testing import CliRunner, Result

from app.calls.model import Call, State
from app.settings import KNOWN, load_settings
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from ringback_cli.main import main
from ringback_cli.up import Stack, environment, free_port, serves
from tests.conftest import eventually, redis_running
from tests.integration.conftest import LIMIT, SPEED, Ringback

PASSWORD = "n0-list-shows-this"
# Calls each second while a switch is drained.
RATE = 12
PARTS = ("api", "worker", "listener")
Run = Callable[..., Result]


def simulator(exits: ExitStack) -> str:
    """The address of a simulator of its own."""
    port = free_port()
    code = "import sys; from freeswitch.simulator import run; "
    code += f"run('127.0.0.1', {port}, {PASSWORD!r}, {SPEED})"
    process = subprocess.Popen([sys.executable, "-c", code])
    exits.callback(process.wait)
    exits.callback(process.kill)
    return f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def fleet(folder: Path) -> Iterator[Ringback]:
    """An API, a worker and a listener that nobody has told of a switch."""
    with ExitStack() as exits, pytest.MonkeyPatch.context() as patch:
        url = exits.enter_context(redis_running())
        patch.delenv("RINGBACK_SWITCHES", raising=False)
        settings = replace(
            load_settings(),
            redis_url=url,
            demo=KNOWN,
            http=f"127.0.0.1:{free_port()}",
            log_level="DEBUG",
            action_timeout=LIMIT,
        )
        stack = Stack(settings, f"http://{settings.http}")
        log = exits.enter_context(open(folder / "log", "wb"))
        for name in PARTS:
            stack.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "ringback_cli", name], env=environment(settings), stderr=log
            )
        exits.callback(stack.stop, *PARTS)
        eventually(lambda: serves(settings.http_address))
        yield Ringback(stack, CallStore(connect(url), Keys()))


@pytest.fixture
def run(fleet: Ringback) -> Run:
    def _run(*words: str) -> Result:
        env = {"RINGBACK_REDIS_URL": fleet.stack.settings.require_redis()}
        return CliRunner().invoke(main, ["switch", *words], env=env)

    return _run


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def names(run: Run) -> list[str]:
    return [each["name"] for each in json.loads(ok(run("list", "--json")))]


class Load:
    """Calls at RATE in a thread. The destination of each hangs up after some seconds."""

    def __init__(self, ringback: Ringback) -> None:
        self.calls: list[str] = []
        self._ringback = ringback
        self._over = Event()
        self._thread = Thread(target=self._place)
        self._thread.start()

    def _place(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self.calls.append(self._ringback.place("15500", "15511"))
            due += 1 / RATE

    def stop(self) -> list[Call]:
        self._over.set()
        self._thread.join()
        return [self._ringback.ended(call_id) for call_id in self.calls]


def test_a_fleet_changes_while_calls_go_on(fleet: Ringback, run: Run, folder: Path) -> None:
    with ExitStack() as exits:
        one, two = simulator(exits), simulator(exits)
        assert names(run) == []
        early = fleet.place("15500", "15600")
        assert fleet.store.get(early).state is State.QUEUED  # type: ignore[union-attr]
        ok(run("add", "one", f"esl://:{PASSWORD}@{one}"))
        assert fleet.wait_state(early, State.BRIDGED).switch == "one"

        (folder / "password").write_text(f"{PASSWORD}\n")
        words = "--password-file", str(folder / "password"), "--tag", "eu"
        ok(run("add", "two", f"esl://{two}", *words))
        load = Load(fleet)
        eventually(lambda: fleet.store.redis.zcard(fleet.store.keys.switch_calls("two")) > 0)
        refused = run("remove", "one")
        assert refused.exit_code == 1 and "live calls" in refused.stderr
        # An action reaches the new switch from a worker that has been running all the time.
        held = fleet.place("15500", "15600")
        fleet.wait_state(held, State.BRIDGED)
        assert fleet.request("DELETE", f"@me/@self/{held}")[0] == 200
        assert "still has" in run("remove", "one", "--drain", "--limit", "0").stderr
        assert fleet.request("DELETE", f"@me/@self/{early}")[0] == 200
        # A listener removes it, with or without a command that waits.
        eventually(lambda: names(run) == ["two"])
        at = fleet.store.now()
        eventually(
            lambda: any((c.accepted or 0) > at for c in map(fleet.store.get, load.calls) if c)
        )
        calls = load.stop()
        assert {call.switch for call in calls} == {"one", "two"}
        assert {call.switch for call in calls if (call.accepted or 0) > at} == {"two"}
        assert {(call.disposition, call.ended_by) for call in calls} == {(0, "destination")}
        assert [p.poll() for p in fleet.stack.processes.values()] == [None] * len(PARTS)

        # A dead switch gets nothing, until that is taken back.
        ok(run("declare-dead", "two", "--why", "fire"))
        late = fleet.place("15500", "15509")
        assert "declared dead" in ok(run("list"))
        assert fleet.store.get(late).state is State.QUEUED  # type: ignore[union-attr]
        ok(run("resume", "two"))
        assert fleet.ended(late).switch == "two"
        # What talks there is hung up, if the operator says so.
        last = fleet.place("15500", "15600")
        fleet.wait_state(last, State.BRIDGED)
        assert ok(run("remove", "two", "--force")) == "two is removed.\n"
        assert fleet.ended(last).hangup_cause == "NORMAL_CLEARING"
        eventually(lambda: fleet.store.redis.exists(fleet.store.keys.switch_lease("two")) == 0)
    shown = (folder / "log").read_text() + ok(run("list", "--json"))
    shown += str(fleet.store.redis.xrange(fleet.store.keys.audit))
    assert "switch two is up" in shown and "add_switch" in shown
    assert PASSWORD not in shown
