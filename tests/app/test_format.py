"""What is started on data of another format refuses to."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from redis import Redis

from app import create_app
from app.accounts.store import AccountStore, read_accounts
from app.settings import KNOWN, Settings
from app.store.client import connect
from app.store.format import FORMAT, WrongFormat, check, check_at_start
from app.store.keys import Keys
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.main import main
from ringback_cli.up import free_port
from tests.conftest import LIMIT, await_ready, eventually

KEYS = Keys()


@pytest.fixture
def newer(redis: Redis) -> Redis:
    """A Redis with data of a format that is still to come."""
    redis.set(KEYS.format, FORMAT + 1)
    return redis


def test_an_empty_redis_is_given_the_number(redis: Redis) -> None:
    check(redis, KEYS)
    assert redis.get(KEYS.format) == b"2"
    # Data of this format are as welcome.
    AccountStore(redis, KEYS).replace(read_accounts(None), demo=True)
    check(redis, KEYS)


def test_data_without_a_number_are_refused_and_stay_as_they_are(redis: Redis) -> None:
    AccountStore(redis, KEYS).replace(read_accounts(None), demo=True)
    redis.delete(KEYS.format)
    with pytest.raises(WrongFormat, match="ringback:format is not there, with accounts"):
        check(redis, KEYS)
    assert redis.get(KEYS.format) is None


def test_data_of_another_format_are_refused_with_what_to_do(newer: Redis) -> None:
    with pytest.raises(WrongFormat) as raised:
        check_at_start(newer, KEYS)
    assert str(raised.value) == (
        "Redis holds data that this Ringback cannot read: ringback:format is '3', and must be "
        "'2'. A newer Ringback wrote them. Run the version of Ringback that wrote the data, or set "
        "RINGBACK_REDIS_URL to an empty database."
    )
    assert {*newer.keys()} == {b"ringback:format", b"ringback:limits"}


def test_the_api_is_not_made_on_another_format(newer: Redis, settings: Settings) -> None:
    with pytest.raises(WrongFormat):
        create_app(settings)
    assert {*newer.keys()} == {b"ringback:format", b"ringback:limits"}


@pytest.mark.parametrize("name", ["api", "worker", "listener", "webhooks"])
def test_a_process_does_not_start_on_another_format(
    newer: Redis, redis_url: str, name: str
) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RINGBACK_")},
        "RINGBACK_REDIS_URL": redis_url,
        "RINGBACK_SWITCHES": "main=esl://:ClueCon@127.0.0.1:1",
        "RINGBACK_HTTP": f"127.0.0.1:{free_port()}",
        "RINGBACK_DEMO": KNOWN,
    }
    command = [sys.executable, "-m", "ringback_cli", name]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert ended.returncode != 0
    assert "ringback:format is '3', and must be '2'" in ended.stderr + ended.stdout
    assert {*newer.keys()} == {b"ringback:format", b"ringback:limits"}


@pytest.mark.parametrize(
    "words", [["calls", "list"], ["accounts", "show"], ["cdr", "export"], ["deadletter", "list"]]
)
def test_a_command_says_so(
    newer: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("RINGBACK_REDIS_URL", redis_url)
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code != 0
    assert "ringback:format is '3', and must be '2'" in ended.output


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(free_port())
    await_ready(server.url)
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.stop()


def test_a_process_that_starts_without_redis_checks_once_it_is_there(
    server: EmbeddedRedis,
) -> None:
    redis, done = connect(server.url, timeout=0.1, retries=0), []
    server.process.send_signal(signal.SIGSTOP)
    check_at_start(redis, KEYS, lambda: done.append(connect(server.url).get(KEYS.format)))
    assert not done
    server.process.send_signal(signal.SIGCONT)
    eventually(lambda: bool(done))
    assert done == [b"2"]


def test_a_process_that_finds_another_format_later_stops(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    connect(server.url).set(KEYS.format, FORMAT + 1)
    server.process.send_signal(signal.SIGSTOP)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RINGBACK_")},
        "RINGBACK_REDIS_URL": server.url,
        "RINGBACK_HTTP": f"127.0.0.1:{free_port()}",
        "RINGBACK_DEMO": KNOWN,
    }
    log = tmp_path / "api.log"
    with log.open("wb") as out:
        api = subprocess.Popen(
            [sys.executable, "-m", "ringback_cli", "api"], env=environment, stdout=out, stderr=out
        )
    try:
        eventually(lambda: "Redis is unavailable" in log.read_text())
        server.process.send_signal(signal.SIGCONT)
        # It asks itself to stop; the one that gunicorn starts in its place is refused.
        assert api.wait(LIMIT) != 0
    finally:
        api.kill()
        api.wait()
    assert "ringback:format is '3', and must be '2'" in log.read_text()
    assert connect(server.url).keys() == [b"ringback:format"]
