"""The command line beside the running program."""

import json
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result

from app.calls.model import State
from app.store.queue import QUEUES
from freeswitch.simulator import Simulator
from ringback_cli.main import main
from ringback_cli.up import environment
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, REAL, SPEED, Ringback, started
from tests.receiver import receiving

Run = Callable[..., Result]


def runner(ringback: Ringback) -> Run:
    """Runs a command with the settings of the running program."""

    def run(*words: str) -> Result:
        settings = environment(ringback.stack.settings)
        env = {name: text for name, text in settings.items() if name.startswith("RINGBACK_")}
        return CliRunner().invoke(main, words, env={"COLUMNS": "150", **env})

    return run


@pytest.fixture
def run(ringback: Ringback) -> Run:
    return runner(ringback)


@contextmanager
def following(ringback: Ringback, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ringback_cli", *words],
        env={**environment(ringback.stack.settings), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        # A job in the background, as this run may be, is born deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_call_is_placed_and_followed(ringback: Ringback, run: Run) -> None:
    result = run("call", "15500", "15511", "--extension", "210")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("call ")
    assert [word for line in lines for word in State if line.endswith(f"call is {word}")][-1] == (
        State.BRIDGED
    )
    assert "call has ended: answered, NORMAL_CLEARING" in lines[-1]
    call = ringback.store.get(lines[0].split()[1])
    assert call is not None and call.app == "@command-line" and call.ended_by == "destination"


def test_a_call_with_metadata_and_a_callback(ringback: Ringback, run: Run) -> None:
    with receiving() as receiver:
        url = f"{receiver.url}/?key=password"
        words = ("call", "15509", "15500", "--extension", "0003*210", "--json", "--callback", url)
        result = run(*words, "--metadata", "order=a=b", "--metadata", "note=")
        message = receiver.next()
    call = json.loads(result.stdout)
    assert json.loads(call["metadata"]) == {"order": "a=b", "note": ""}
    assert message["id"] == f"{call['id']}-ended"
    assert json.loads(message["content"])["call"]["metadata"] == {"order": "a=b", "note": ""}
    shown = run("calls", "show", call["id"], "--json")
    assert shown.exit_code == 0 and "order" in shown.stdout
    assert "password" not in result.output + shown.output
    assert run("call", "15509", "15500", "--metadata", "order").exit_code == 2
    refused = run("call", "15509", "15500", "--extension", "0003*210", "--callback", "ftp://a")
    assert refused.exit_code == 1 and "statusCallback" in refused.stderr


def test_the_exit_status_is_the_disposition(ringback: Ringback, run: Run) -> None:
    busy = run("call", "15509", "15500", "--extension", "0003*210", "--json")
    assert busy.exit_code == 11, busy.output
    call = json.loads(busy.stdout)
    assert (call["state"], call["hangup_cause"]) == ("ended", "USER_BUSY")


def test_a_call_that_is_left_goes_on(ringback: Ringback, run: Run) -> None:
    with following(ringback, "call", "15500", "15500", "--extension", "210") as follower:
        assert follower.stdout is not None
        call_id = next(follower.stdout).split()[1]
        ringback.wait_state(call_id, State.BRIDGED)
        follower.send_signal(signal.SIGINT)
        _, told = follower.communicate(timeout=LIMIT)
    assert follower.returncode == 130 and f"ringback calls hangup {call_id}" in told, told
    call = ringback.store.get(call_id)
    assert call is not None and call.state is State.BRIDGED
    assert run("calls", "hangup", "--number", "15500", "--yes").exit_code == 0


def test_calls_are_watched_shown_and_hung_up(ringback: Ringback, run: Run) -> None:
    with following(ringback, "calls", "watch", "--json") as watch:
        call_id = ringback.place("15500", "15500")
        assert watch.stdout is not None
        seen = (json.loads(line) for line in watch.stdout)
        assert next(call for call in seen if call["id"] == call_id)["extension"] == "0003*210"
        ringback.wait_state(call_id, State.BRIDGED)
        listed = json.loads(run("calls", "list", "--number", "15500", "--json").stdout)
        assert call_id in [call["id"] for call in listed]
        # A variable of the shell that is not set does not mean all of them.
        assert run("calls", "hangup", "--user", "12", "--extension", "", "--yes").exit_code == 2
        hung_up = run("calls", "hangup", call_id)
        assert hung_up.exit_code == 0 and hung_up.stdout == "1 ended\n", hung_up.output
        last = next(c for c in seen if c["id"] == call_id and c["state"] == "ended")
        assert last["ended_by"] == "api"
    shown = run("calls", "show", call_id).stdout
    assert "█" in shown and "CHANNEL_BRIDGE" in shown and "hupall" in shown


def test_events_of_a_call_are_followed_to_its_end(ringback: Ringback, run: Run) -> None:
    call_id = ringback.place("15500", "15500")
    ringback.wait_state(call_id, State.BRIDGED)
    with following(ringback, "events", "--call", call_id, "--json") as events:
        # It says nothing before something happens: each hold is one more chance to hear it.
        def heard() -> bool:
            for action in ("OnHold", "OffHold"):
                body = {"action": action, "phoneCallViewId": "00"}
                ringback.request("PUT", f"@me/@self/{call_id}", body)
            return bool(events.stdout and select_ready(events))

        eventually(heard, LIMIT)
        ringback.request("DELETE", f"@me/@self/{call_id}")
        out, _ = events.communicate(timeout=LIMIT)
    changes = [json.loads(line) for line in out.splitlines()]
    assert {change["call"] for change in changes} == {call_id}
    assert changes[-1]["changed"]["state"] == "ended"
    over = run("events", "--call", call_id)
    assert over.exit_code == 1 and "has ended" in over.stderr


def select_ready(process: "subprocess.Popen[str]") -> bool:
    return bool(select.select([process.stdout], [], [], 0.2)[0])


def test_the_switch_and_the_queue(ringback: Ringback, run: Run) -> None:
    (switch,) = json.loads(run("switch", "list", "--json").stdout)
    assert (switch["state"], switch["listeners"], switch["paused"]) == ("up", 1, None)
    assert switch["name"] in run("switch", "list").stdout
    state = json.loads(run("queue", "--json").stdout)
    assert {worker["queue"] for worker in state["workers"]} == set(QUEUES)
    assert "No call waits." in run("queue").stdout


def test_the_doctor_finds_what_the_demo_lacks(ringback: Ringback, run: Run) -> None:
    found = json.loads((result := run("doctor", "--json")).stdout)
    assert {check["section"] for check in found} == {
        *("Settings", "Redis", "Processes", "Accounts", "Records", "Switches")
    }
    bad = {check["subject"]: check["level"] for check in found if check["level"] == "failure"}
    assert result.exit_code == 1 and bad == {}
    warned = {check["subject"] for check in found if check["level"] == "warning"}
    assert {"persistence", "accounts"} <= warned
    assert "→" in run("doctor").stdout


@pytest.mark.skipif(bool(REAL), reason="two switches of our own")
class TestTwoSwitches:
    """What a paused switch is not given, by its own record."""

    @pytest.fixture
    def pair(self) -> Iterator[tuple[Simulator, Simulator]]:
        with Simulator(speed=SPEED) as a, Simulator(speed=SPEED) as b:
            yield a, b

    @pytest.fixture
    def ringback(self, pair: tuple[Simulator, Simulator]) -> Iterator[Ringback]:
        switches = (
            f"{n}=esl://:{s.password}@127.0.0.1:{s.port}" for n, s in zip("ab", pair, strict=True)
        )
        with started(",".join(switches), queue_timeout=600) as ringback:
            yield ringback

    def test_pause_drain_and_resume(
        self, ringback: Ringback, run: Run, pair: tuple[Simulator, Simulator]
    ) -> None:
        a, b = pair

        def place(count: int) -> list[str]:
            calls = [ringback.place("15500", "15500") for _ in range(count)]
            for call_id in calls:
                ringback.wait_state(call_id, State.BRIDGED)
            return calls

        first = place(6)
        assert a.originates and b.originates, "both are given calls"
        before = len(a.originates)
        assert run("switch", "pause", "a", "--why", "new disks").exit_code == 0
        second = place(6)
        assert len(a.originates) == before, "a paused switch is given none"
        assert len(b.originates) == 12 - before

        # What it has goes on, and can be acted on and hung up.
        on_a = [c.id for c in ringback.store.get_many(first) if c is not None and c.switch == "a"]
        held = {"action": "OnHold", "phoneCallViewId": "00"}
        status, answer = ringback.request("PUT", f"@me/@self/{on_a[0]}", held)
        assert status == 200, answer
        late = run("switch", "drain", "a", "--wait", "--limit", "0")
        assert late.exit_code == 1 and f"still has {len(on_a)} calls" in late.stderr
        assert run("calls", "hangup", *on_a).exit_code == 0
        drained = run("switch", "drain", "a", "--wait", "--limit", str(LIMIT), "--json")
        assert drained.exit_code == 0, drained.output
        assert json.loads(drained.stdout)["state"] == "draining"
        # It is in the registry still.
        assert "run `ringback switch remove a`" in run("switch", "forget", "a").stderr

        # With every switch paused a call waits in the queue.
        run("switch", "pause", "b")
        waiting = ringback.place("15500", "15500")
        eventually(
            lambda: [c["id"] for row in queue(run)["line"] for c in row["calls"]] == [waiting]
        )
        assert queue(run)["paused_switches"] == ["a", "b"]
        call = ringback.store.get(waiting)
        assert call is not None and call.state is State.QUEUED
        assert run("switch", "resume", "a").exit_code == 0
        call = ringback.wait_state(waiting, State.BRIDGED)
        assert call.switch == "a"
        assert run("calls", "hangup", "--all", "--yes").exit_code == 0
        assert {ringback.ended(call_id).ended_by for call_id in (*second, waiting)} == {"api"}


def queue(run: Run) -> dict[str, list[dict[str, list[dict[str, str]]]]]:
    state: dict[str, list[dict[str, list[dict[str, str]]]]] = json.loads(
        run("queue", "--json").stdout
    )
    return state
