"""The commands as an operator runs them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.calls.model import State
from app.settings import KNOWN, load_settings
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.queue import QUEUES
from ringback_cli.up import Stack, free_port, serves
from tests.conftest import eventually, redis_running
from tests.integration.conftest import Ringback

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# Seconds within which the whole of Ringback starts, does its part and ends.
LIMIT = 180


def environment(**settings: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
    path = f"{BIN}{os.pathsep}{inherited.get('PATH', '')}"
    own = {"PATH": path, "PYTHONUNBUFFERED": "1", "RINGBACK_DEMO": KNOWN}
    return {**inherited, **own, **settings}


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    direct = [int(line) for line in found.stdout.split()]
    return [*direct, *(grandchild for child in direct for grandchild in children(child))]


def lines_until(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """The lines that a process prints up to the one that matches; all of them if none does."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError("".join(lines))


def test_the_demo() -> None:
    result = subprocess.run(
        [BIN / "ringback", "demo"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for text in (
        "POST /uapi/phoneCalls/@me/simple",
        "HTTP 202",
        "call is ringing",
        "call is bridged",
        "DELETE /uapi/phoneCalls/@me/210/",
        "call has ended: answered, NORMAL_CLEARING",
        '"hangupCause": "NORMAL_CLEARING"',
        "curl -H",
    ):
        assert text in result.stdout


@pytest.fixture
def redis_server() -> Iterator[str]:
    with redis_running() as url:
        yield url


def test_the_procfile(redis_server: str) -> None:
    """honcho runs the parts by themselves, with a Redis and addresses that are given."""
    redis = connect(redis_server)
    simulator = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [BIN / "honcho", "start"],
        cwd=ROOT,
        env=environment(
            RINGBACK_REDIS_URL=redis_server,
            RINGBACK_SIMULATOR=simulator,
            RINGBACK_SWITCHES=f"sim=esl://:ClueCon@{simulator}",
            RINGBACK_HTTP=f"127.0.0.1:{free_port()}",
        ),
        stdout=subprocess.PIPE,
        text=True,
        # honcho signals its whole process group.
        start_new_session=True,
    )
    try:
        lines_until(process, r"listener.*switch sim is up")
        eventually(lambda: len(redis.keys("rq:worker:*")) == len(QUEUES))
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT)
    finally:
        process.kill()
    # The worker had time to say goodbye.
    keys = redis.keys("rq:worker:*")
    assert len(keys) == len(QUEUES) and all(redis.hexists(key, "death") for key in keys)


@pytest.mark.parametrize(
    ("command", "settings", "said"),
    [
        ("up", {"RINGBACK_HTTP": "8080"}, "RINGBACK_HTTP must be host:port"),
        ("up", {"RINGBACK_ACCOUNTS": "/nowhere/accounts.toml"}, "RINGBACK_ACCOUNTS: /nowhere"),
        (
            "up",
            {"RINGBACK_SWITCHES": "a=tcp://:s3cret@x"},
            "RINGBACK_SWITCHES cannot be used: switch 1",
        ),
        ("up", {"RINGBACK_SWITCHES": "a=esl://:s3cret@x:0"}, "RINGBACK_SWITCHES cannot be used"),
        ("up", {"RINGBACK_REDIS_URL": "ftp://x"}, "RINGBACK_REDIS_URL cannot be used"),
        ("api", {}, "RINGBACK_REDIS_URL is not set"),
        ("worker", {}, "RINGBACK_REDIS_URL is not set"),
        (
            "listener",
            {"RINGBACK_REDIS_URL": "redis://127.0.0.1", "RINGBACK_SWITCHES": "a=esl://s3cret"},
            "RINGBACK_SWITCHES cannot be used",
        ),
    ],
)
def test_a_bad_setting_stops_the_start(command: str, settings: dict[str, str], said: str) -> None:
    result = subprocess.run(
        [BIN / "ringback", command],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "s3cret" not in result.stderr


def test_rqs_own_tools_see_the_workers(ringback: Ringback) -> None:
    url = ringback.stack.settings.require_redis()

    def shown() -> str:
        options = ["--url", url, "--serializer", "rq.serializers.JSONSerializer"]
        command = [BIN / "rq", "info", *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        assert result.returncode == 0, result.stderr
        return result.stdout

    # Each registers itself once it runs, some time after its process is ready, and again after a
    # heartbeat that came late.
    eventually(lambda: "calls" in (text := shown()) and "3 workers" in text)


def test_without_a_switch_a_call_ends_in_time(redis_server: str) -> None:
    """No switch answers: the call waits, and ends with a reason when its time in the queue does."""
    nowhere = f"a=esl://:x@127.0.0.1:{free_port()}"
    settings = environment(
        RINGBACK_REDIS_URL=redis_server,
        RINGBACK_SWITCHES=nowhere,
        RINGBACK_HTTP=f"127.0.0.1:{free_port()}",
        RINGBACK_QUEUE_TIMEOUT="2",
        RINGBACK_LOG_LEVEL="ERROR",
    )
    processes = [
        subprocess.Popen([BIN / "ringback", name], env=settings)
        for name in ("api", "worker", "listener")
    ]
    try:
        stack = Stack(replace(load_settings(), http=settings["RINGBACK_HTTP"]))
        eventually(lambda: serves(stack.settings.http_address))
        ringback = Ringback(stack, CallStore(connect(redis_server), Keys()))
        call = ringback.ended(ringback.place("15500", "15600"))
        assert (call.ended_by, call.disposition) == ("queue_timeout", 2)
        assert call.state is State.ENDED and call.switch is None
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(LIMIT)
