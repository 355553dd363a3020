"""What commands do if their output takes no sign, is closed, or has no reader."""

import codecs
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.calls.model import State
from app.settings import Settings
from app.store import format
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.queue import JobQueue
from ringback_cli import output
from ringback_cli.timeline import SIGNS
from tests.app.test_call_events import CALLED, DESK, call

LIMIT = 60
ID = "1" * 20
NAME = "Łukasz “é” 🙂 <1>"


def ringback(
    *words: str, shell: str = "", **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    """`ringback` with these words; ``shell`` redirects its files."""
    command = f'exec "$0" -m ringback_cli "$@" {shell}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, *words],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.fixture
def redis_env(redis: Redis, settings: Settings) -> dict[str, str]:
    format.check(redis, Keys())
    store = CallStore(redis, Keys())
    new = replace(call([DESK], [CALLED]), id=ID, state=State.QUEUED, accepted=store.now())
    new = replace(new, caller_id=NAME)
    Acceptor(store).accept([new], JobQueue(redis, store.keys).place_call)
    return {"RINGBACK_REDIS_URL": settings.require_redis()}


COMMANDS = [("doctor",), ("calls", "show", ID), ("cdr", "export"), ("--help",)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_encoding_without_our_signs(redis_env: dict[str, str], words: tuple[str, ...]) -> None:
    done = ringback(*words, PYTHONIOENCODING="latin-1", **redis_env)
    assert b"Traceback" not in done.stderr and done.stdout.decode("latin-1").strip()


def test_json_stays_json(redis_env: dict[str, str]) -> None:
    done = ringback("calls", "show", ID, "--json", PYTHONIOENCODING="ascii", **redis_env)
    assert json.loads(done.stdout.decode("ascii"))["caller_id"] == NAME


def test_what_stands_for_a_sign() -> None:
    codecs.register_error("test_signs", output.without_sign)
    drawn = "".join(sign for sign, _ in SIGNS.values())
    assert len(set(drawn.encode("ascii", "test_signs"))) == len(SIGNS)
    data = json.dumps(NAME, ensure_ascii=False).encode("ascii", "test_signs")
    assert json.loads(data) == NAME
    # Of an argument that is no UTF-8.
    assert "a\udcff".encode("utf-8", "test_signs") == b"a\\udcff"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_closed_output(redis_env: dict[str, str], words: tuple[str, ...]) -> None:
    done = ringback(*words, shell=">&-", **redis_env)
    assert done.returncode == 1
    assert done.stderr.endswith(b"ringback: standard output: Bad file descriptor\n")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("shell", "status", "error"),
    [
        (">/dev/full", 1, b"ringback: standard output: No space left on device\n"),
        (">&- 2>&-", 1, b""),
        ("2>&- <&-", 0, b""),
    ],
)
def test_other_files(redis_env: dict[str, str], shell: str, status: int, error: bytes) -> None:
    done = ringback("calls", "list", shell=shell, **redis_env)
    assert (done.returncode, done.stderr) == (status, error)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone(redis_env: dict[str, str], words: tuple[str, ...]) -> None:
    """The process ends by SIGPIPE, as other programs do, and says nothing."""
    heard, told = os.pipe()
    os.close(heard)
    with os.fdopen(told) as file:
        done: Any = subprocess.run(
            [sys.executable, "-m", "ringback_cli", *words],
            env={**os.environ, "PYTHONUNBUFFERED": "1" * (words == ("--help",)), **redis_env},
            stdout=file,
            stderr=subprocess.PIPE,
            timeout=LIMIT,
            check=False,
        )
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_an_error_of_a_command_keeps_its_words(tmp_path: Path) -> None:
    missing = tmp_path / "accounts.toml"
    done = ringback("accounts", "check", str(missing))
    assert done.returncode == 1 and b"accounts.toml" in done.stderr
