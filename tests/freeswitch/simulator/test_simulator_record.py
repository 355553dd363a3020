"""The simulator's record on disk, and the simulator as a program."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blocking_client import LIMIT, Client

from freeswitch.simulator import Simulator

CALL = (
    "{{origination_uuid={0}a,ignore_early_media=true}}sofia/gateway/pstn/15500"
    " &bridge([origination_uuid={0}b]sofia/gateway/pstn/{1})"
)


def lines(record: Path) -> list[dict[str, Any]]:
    """The lines of a record without their times, which are checked."""
    found = [json.loads(line) for line in record.read_text().splitlines()]
    times = [each.pop("at") for each in found]
    assert times == sorted(times)
    assert not times or abs(times[-1] - time.time()) < 60
    return found


@contextmanager
def program(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", Client]]:
    """A simulator as a process, and a client that gets all its events."""
    with subprocess.Popen(
        [sys.executable, "-m", "freeswitch.simulator", "127.0.0.1:0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            client = Client(int(process.stdout.readline().rpartition(":")[2]))
            client.command("event json ALL")
            yield process, client
            client.close()
        finally:
            process.kill()


def test_what_is_done_is_on_disk_whatever_the_faults(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with Simulator(speed=50, record=path) as simulator:
        client = Client(simulator.port)
        client.command("event json ALL")
        for fault in ("drop 1 CHANNEL_ANSWER", "double 1"):
            client.command(f"api simulator {fault}")
        good, bad = CALL.format("1", "15600"), CALL.format("2", "15609")
        client.originate(good, "j1")
        client.named("CHANNEL_BRIDGE")
        client.command("api uuid_kill 1b CALL_REJECTED")
        client.event(lambda e: (e["Event-Name"], e.get("Unique-ID")) == ("CHANNEL_DESTROY", "1a"))
        client.originate(bad, "j2")
        client.event(lambda e: (e["Event-Name"], e.get("Unique-ID")) == ("CHANNEL_DESTROY", "2a"))
        client.command("api simulator refuse USER_BUSY")
        client.originate(good, "j3")
        client.result("j3")
        client.command("api simulator refuse off")
        client.originate("{origination_uuid=3a}user/210 &park()", "j4")
        client.result("j4")
        core_uuid = simulator.core_uuid
    a, b = {"uuid": "1a"}, {"uuid": "1b"}
    assert lines(path) == [
        {"what": "start", "core_uuid": core_uuid},
        {"what": "originate", "job_uuid": "j1", "command": good},
        {"what": "create", "uuid": "1a", "number": "15500", "gateway": "pstn"},
        {"what": "ring", **a},
        {"what": "answer", **a},
        {"what": "result", "job_uuid": "j1", "result": "+OK 1a\n"},
        {"what": "create", "uuid": "1b", "number": "15600", "gateway": "pstn"},
        {"what": "ring", **b},
        {"what": "answer", **b},
        {"what": "bridge", "uuid": "1a", "other": "1b"},
        {"what": "hangup", **b, "cause": "CALL_REJECTED"},
        {"what": "hangup", **a, "cause": "NORMAL_CLEARING"},
        {"what": "originate", "job_uuid": "j2", "command": bad},
        {"what": "create", "uuid": "2a", "number": "15500", "gateway": "pstn"},
        {"what": "ring", "uuid": "2a"},
        {"what": "answer", "uuid": "2a"},
        {"what": "result", "job_uuid": "j2", "result": "+OK 2a\n"},
        {"what": "create", "uuid": "2b", "number": "15609", "gateway": "pstn"},
        {"what": "hangup", "uuid": "2b", "cause": "USER_BUSY"},
        {"what": "hangup", "uuid": "2a", "cause": "USER_BUSY"},
        {"what": "originate", "job_uuid": "j3", "command": good},
        {"what": "result", "job_uuid": "j3", "result": "-ERR USER_BUSY\n"},
        {
            "what": "originate",
            "job_uuid": "j4",
            "command": "{origination_uuid=3a}user/210 &park()",
        },
        {"what": "create", "uuid": "3a", "number": "210", "gateway": None},
        {"what": "ring", "uuid": "3a"},
        {"what": "answer", "uuid": "3a"},
        # The end of the switch is no hang-up of its.
        {"what": "result", "job_uuid": "j4", "result": "+OK 3a\n"},
    ]


def test_the_record_outlives_a_kill_and_goes_on_with_the_next_switch(tmp_path: Path) -> None:
    path = tmp_path / "record"
    for run in ("1", "2"):
        with program("--record", str(path), "--speed", "50") as (process, client):
            client.originate(CALL.format(run, "15600"), run)
            client.named("CHANNEL_BRIDGE")
            process.kill()
            with pytest.raises((EOFError, ConnectionError)):
                client.named("nothing")
    whats = [line["what"] for line in lines(path)]
    one = "start originate create ring answer result create ring answer bridge".split()
    assert whats == one * 2
    cores = {line["core_uuid"] for line in lines(path) if line["what"] == "start"}
    assert len(cores) == 2


def test_a_record_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError), Simulator(record=tmp_path / "no" / "record"):
        pass


def test_a_switch_that_never_listened_is_not_on_record(tmp_path: Path) -> None:
    path = tmp_path / "record"
    with Simulator() as simulator, pytest.raises(OSError):
        Simulator(port=simulator.port, record=path).start()
    assert lines(path) == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_program(end: signal.Signals) -> None:
    options = ("--speed", "50", "--seed", "3", "--gateways", "g=up,h=dead,i=down")
    with program(*options) as (process, client):
        for gateway, answer in (
            ("g", "+OK g\n"),
            ("h", "-ERR NORMAL_TEMPORARY_FAILURE\n"),
            ("i", "-ERR GATEWAY_DOWN\n"),
            ("pstn", "-ERR INVALID_GATEWAY\n"),
        ):
            target = f"{{origination_uuid={gateway}}}sofia/gateway/{gateway}/15512"
            assert client.command(f"api originate {target} &hangup()") == answer
        process.send_signal(end)
        assert process.wait(LIMIT) == 0


@pytest.mark.parametrize(
    "arguments", [[], ["127.0.0.1:x"], ["127.0.0.1:0", "--gateways", "a=sideways"]]
)
def test_the_program_wants_to_be_called_right(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "freeswitch.simulator", *arguments]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 2
