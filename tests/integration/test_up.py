"""`ringback up`: it starts in any folder, and it leaves no part behind however it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from app.accounts.credential_schemas import DEMO_TOKENS, DEMO_WEBHOOK_SECRET
from app.calls.model import State
from app.settings import load_settings
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.switches import Pause, SwitchStore
from ringback_cli.up import Stack, free_port
from tests.conftest import eventually, redis_running
from tests.integration.conftest import LIMIT, Ringback
from tests.integration.test_processes import BIN, children, environment, lines_until

# What `ringback up` runs beside Redis and the guard.
PARTS = ("api", "worker", "listener", "webhooks", "simulator")
# Seconds within which all parts end when `ringback up` is killed.
KILLED_WITHIN = 2.0


@contextmanager
def up(folder: Path, **settings: str) -> Iterator[tuple["subprocess.Popen[str]", Ringback]]:
    """`ringback up` in a folder, once it says that it is up."""
    http = settings.get("RINGBACK_HTTP") or f"127.0.0.1:{free_port()}"
    defaults = {
        "RINGBACK_HTTP": http,
        "RINGBACK_LOG_LEVEL": "ERROR",
        "RINGBACK_QUEUE_TIMEOUT": "900",
    }
    process = subprocess.Popen(
        [BIN / "ringback", "up"],
        env=environment(**(defaults | settings)),
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    try:
        text = "".join(lines_until(process, "Ringback is up"))
        url = settings.get("RINGBACK_REDIS_URL")
        if url is None:
            found = re.search(r"RINGBACK_REDIS_URL=\$\(cat (\S+)\)", text)
            assert found is not None
            file = Path(found[1])
            assert file.stat().st_mode & 0o077 == 0 and file.parent.stat().st_mode & 0o077 == 0
            url = file.read_text().strip()
        stack = Stack(replace(load_settings(), http=http, redis_url=url))
        stack.started += text.splitlines()
        yield process, Ringback(stack, CallStore(connect(url), Keys()))
    finally:
        process.kill()
        process.wait()


def command_lines(pids: list[int]) -> list[str]:
    """What `ps` shows of the processes that run, without the zombies."""
    words = ["ps", "-ww", "-o", "stat=,args=", "-p", ",".join(map(str, pids))]
    lines = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if not line.startswith("Z")]


def pause(ringback: Ringback) -> None:
    """Pause the switch, as the command does that has tests of its own."""
    paused = Pause("test", ringback.store.now())
    SwitchStore(ringback.store.redis, ringback.store.keys).pause("simulator", paused)


def resume(ringback: Ringback) -> None:
    SwitchStore(ringback.store.redis, ringback.store.keys).resume("simulator")


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules of the names that Ringback and its dependencies have."""
    for package in ("app", "workers", "freeswitch", "ringback"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise SystemExit('{package}/')\n")
    for module in ("app", "redis", "flask", "rq", "gunicorn"):
        (tmp_path / f"{module}.py").write_text(f"raise SystemExit('{module}.py')\n")
    return tmp_path


def test_up_in_a_folder_with_modules_of_its_names(hostile: Path) -> None:
    """All that `ringback up` starts and says, what `ps` shows of it, and its end by SIGINT."""
    with up(hostile) as (process, ringback):
        said = "\n".join(ringback.stack.started)
        assert re.search(r"Redis +RINGBACK_REDIS_URL=\$\(cat /\S+/url\) ", said)
        assert re.search(r"Simulator +esl://:ClueCon@127\.0\.0\.1:\d+", said)
        assert re.search(r"API +http://127\.0\.0\.1:\d+", said)
        started = children(process.pid)
        # Beside the parts: the guard, Redis, and the server process of the API.
        assert len(started) == len(PARTS) + 3
        lines = command_lines(started)
        url = urlsplit(ringback.stack.settings.require_redis())
        assert url.password and not any(url.password in line for line in lines)
        # Another user of the machine can connect, and can enqueue nothing.
        with pytest.raises(AuthenticationError):
            Redis(port=url.port or 0).lpush("rq:queue:ringback-actions", "x")
        for part in PARTS:
            found = [line for line in lines if line.endswith(f"ringback {part}")]
            # The API has a server process beside the one that watches it.
            assert len(found) == (2 if part == "api" else 1), lines
        call_id = ringback.place("15500", "15609")
        assert ringback.ended(call_id).hangup_cause == "USER_BUSY"
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
        assert not command_lines(started)


def test_other_modules_of_pythonpath_are_found(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import atexit, end\natexit.register(end.say)\n")
    (tmp_path / "end.py").write_text("def say():\n    import late\n")
    (tmp_path / "late.py").write_text("print('PYTHONPATH is searched')\n")
    result = subprocess.run(
        [BIN / "ringback", "--version"],
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.stdout.endswith("PYTHONPATH is searched\n"), result.stderr


def test_nothing_stays_when_up_is_killed(hostile: Path) -> None:
    """It starts too where PYTHONPATH leads to modules of its names."""
    with up(hostile, PYTHONPATH=".") as (process, ringback):
        started = children(process.pid)
        lines = command_lines(started)
        assert any("redis-server" in line or "valkey-server" in line for line in lines)
        assert len(lines) == len(PARTS) + 3, lines
        # Calls are under way meanwhile.
        ringback.wait_state(ringback.place("15500", "15500"), State.BRIDGED)
        killed = time.monotonic()
        process.kill()
        eventually(lambda: not command_lines(started), LIMIT)
        assert time.monotonic() - killed < KILLED_WITHIN


def test_the_api_stops_first_and_the_others_once_no_call_waits(tmp_path: Path) -> None:
    with redis_running() as url:
        settings = {"RINGBACK_REDIS_URL": url, "RINGBACK_STOP_TIMEOUT": "600"}
        with up(tmp_path, **settings) as (process, ringback):
            started = children(process.pid)
            pause(ringback)
            call_id = ringback.place("15500", "15500")
            process.send_signal(signal.SIGTERM)
            lines_until(process, "waits up to 600 seconds until it has dialled 1 accepted call")
            assert refuses(ringback.stack.settings.http_address)
            lines = command_lines(started)
            assert [any(line.endswith(f"ringback {p}") for line in lines) for p in PARTS] == [
                *(False, True, True, True, True)
            ]
            call = ringback.store.get(call_id)
            assert call is not None and call.state is State.QUEUED

            resume(ringback)
            assert process.wait(LIMIT) == 0
            assert process.stdout is not None and "accepted call" not in process.stdout.read()
            call = ringback.store.get(call_id)
            assert call is not None and call.claimed is not None
            assert not command_lines(started)


def test_a_call_that_waits_longer_stays_in_redis(tmp_path: Path) -> None:
    """The next `ringback up` dials it, and ends when one of its parts has died."""
    with redis_running() as url:
        settings = {"RINGBACK_REDIS_URL": url, "RINGBACK_STOP_TIMEOUT": "0.2"}
        with up(tmp_path, **settings) as (process, ringback):
            pause(ringback)
            call_id = ringback.place("15500", "15500")
            process.send_signal(signal.SIGTERM)
            lines_until(process, "Ringback leaves 1 accepted call in Redis")
            assert process.wait(LIMIT) == 0
            call = ringback.store.get(call_id)
            assert call is not None and call.state is State.QUEUED
        with up(tmp_path, **settings) as (process, ringback):
            resume(ringback)
            ringback.wait_state(call_id, State.BRIDGED)
            started = children(process.pid)
            arguments = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started}
            (worker,) = [pid for pid, text in arguments.items() if text.endswith(b"worker\0")]
            os.kill(worker, signal.SIGKILL)
            lines_until(process, "The worker process has ended by itself")
            assert process.wait(LIMIT) == 1
            assert not command_lines(started)


def test_a_second_signal_ends_the_wait_and_an_embedded_redis_loses_the_call(tmp_path: Path) -> None:
    with up(tmp_path, RINGBACK_STOP_TIMEOUT="3600") as (process, ringback):
        started = children(process.pid)
        pause(ringback)
        ringback.place("15500", "15500")
        process.send_signal(signal.SIGINT)
        lines_until(process, "waits up to 3600 seconds")
        process.send_signal(signal.SIGINT)
        lines_until(process, "Ringback loses 1 accepted call: the embedded Redis keeps nothing")
        assert process.wait(LIMIT) == 0
        assert not command_lines(started)


def test_another_switch_gets_no_token_that_everybody_knows(
    tmp_path: Path, ringback: Ringback
) -> None:
    """With a switch that `up` has not started it makes tokens, and prints them once."""
    switches = ringback.stack.settings.switches
    assert switches is not None
    # An IPv6 address is free as another one is.
    place = f"[::1]:{free_port()}" if socket.has_ipv6 else f"127.0.0.1:{free_port()}"
    with up(tmp_path, RINGBACK_SWITCHES=switches, RINGBACK_HTTP=place) as (process, other):
        lines = [re.fullmatch(r"App +(\{.*\})", line) for line in other.stack.started]
        apps = {app["id"]: app for app in (json.loads(line[1]) for line in lines if line)}
        assert other.request("GET", "@me/@self?count=1")[0] == 401
        assert other.request("GET", "@me/@self", token=apps["demo-user"]["token"])[0] == 200
        client = {"grant_type": "client_credentials", "client_id": "demo-user"}
        for secret, status in (
            ("demo-user-secret", 401),
            (apps["demo-user"]["client_secret"], 200),
        ):
            form = urlencode(client | {"client_secret": secret}).encode()
            assert posted(f"http://{place}/oauth/token", form) == status
        secrets = {value for app in apps.values() for key, value in app.items() if key != "id"}
        assert len(apps) == 4 and not secrets & {*DEMO_TOKENS, DEMO_WEBHOOK_SECRET}
        process.terminate()
        process.wait(LIMIT)


def posted(url: str, form: bytes) -> int:
    try:
        with urllib.request.urlopen(url, form, timeout=LIMIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
