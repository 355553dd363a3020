"""A real Redis for every test that wants one, and the settings to go with it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from app.settings import Settings, load_settings
from app.store.client import connect
from workers.embedded_redis import EmbeddedRedis
from workers.up import free_port


@retry(
    retry=retry_if_exception_type(RedisConnectionError),
    wait=wait_fixed(0.02),
    stop=stop_after_delay(10),
)
def await_ready(url: str) -> None:
    connect(url).ping()


def eventually(holds: Callable[[], bool], limit: float = 30.0) -> None:
    """Wait until a condition holds that nothing announces; fail after ``limit`` seconds."""
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


@contextmanager
def redis_running() -> Iterator[str]:
    """A Redis server of its own, and its URL."""
    server = EmbeddedRedis(free_port())
    try:
        await_ready(server.url)
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_running() as url:
        yield url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """An empty database."""
    client = connect(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def settings(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The defaults, whatever the environment of the test run says."""
    for name in [name for name in os.environ if name.startswith("RINGBACK_")]:
        monkeypatch.delenv(name)
    return replace(load_settings(), redis_url=redis_url, log_level="WARNING")


@pytest.fixture
def accounts_file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.toml"
