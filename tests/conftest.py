"""A real Redis for every test that wants one, the settings to go with it, and running stacks.

A stack is the whole of Ringback as processes. Each process of pytest-xdist starts one Redis, and
one stack of each kind that its tests ask for.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from app.settings import KNOWN, Settings, load_settings
from app.store.client import connect
from app.store.keys import Keys
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port
from tests.integration.conftest import Ringback, started

# Seconds after which a test gives up what was to come. No test waits for less, so that none fails
# on a busy machine; only a limit that is meant to strike is shorter.
LIMIT = 60.0
TESTS = Path(__file__).parent
# Folders and files whose tests need running processes of Ringback.
STACK = ("integration", "docs/test_pages.py", "workers/test_webhooks.py")
# What takes longest, first: what is left for the end is short, and ends in all processes at once.
# Files that share a stack stand side by side.
ORDER = (
    *("integration/fault_suite", "integration/test_faults.py", "integration/test_pacing.py"),
    *("docs/test_pages.py", *STACK, "app/claims"),
    *("app/test_openapi.py", "app/test_format.py", "app/test_store.py"),
    *("conformance", "ringback", "workers/test_rq_worker.py"),
)

# What an example takes, and how long it is to be found, is the machine's.
hypothesis.settings.register_profile(
    "ringback", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ringback")


def _place(path: Path, among: tuple[str, ...]) -> int:
    """The place of the first of these that is the path or holds it, or one after the last."""
    return next((n for n, each in enumerate(among) if path.is_relative_to(each)), len(among))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a stack, and put the longest first."""
    for item in items:
        if _place(item.path.relative_to(TESTS), STACK) < len(STACK):
            item.add_marker(pytest.mark.stack)
    items.sort(key=lambda item: _place(item.path.relative_to(TESTS), ORDER))


@retry(
    retry=retry_if_exception_type(RedisConnectionError),
    wait=wait_fixed(0.02),
    stop=stop_after_delay(LIMIT),
)
def await_ready(url: str) -> None:
    connect(url).ping()


def eventually(holds: Callable[[], bool], limit: float = LIMIT) -> None:
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
    # As the accounts were written, without any limit.
    client.hset(Keys().limits, "mark", "test")
    yield client
    client.close()


@pytest.fixture
def settings(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The defaults, whatever the environment of the test run says."""
    for name in [name for name in os.environ if name.startswith("RINGBACK_")]:
        monkeypatch.delenv(name)
    return replace(load_settings(), redis_url=redis_url, demo=KNOWN, log_level="WARNING")


class Stacks(Protocol):
    def __call__(self, switches: str | None, **changes: Any) -> Ringback: ...


# The running stacks by their settings, each with what ends it.
_STACKS: dict[tuple[object, ...], tuple[Ringback, ExitStack]] = {}


def _end_stacks() -> None:
    """End all stacks at once. No test looks at how these end."""
    while _STACKS:
        _, (ringback, exits) = _STACKS.popitem()
        for name, process in ringback.stack.processes.items():
            if name not in ("redis", "guard"):
                process.kill()
        exits.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """End the stacks before the first test that needs none: a process of pytest-xdist is given the
    files in their order, and idle stacks take some of the machine."""
    if hasattr(item.config, "workerinput") and item.get_closest_marker("stack") is None:
        _end_stacks()


@pytest.fixture(scope="session")
def stacks() -> Iterator[Stacks]:
    """Start a stack with these settings, once for all tests that ask for the same."""

    def stack(switches: str | None, **changes: Any) -> Ringback:
        key = switches, *sorted(changes.items())
        if key not in _STACKS:
            exits = ExitStack()
            _STACKS[key] = exits.enter_context(started(switches, **changes)), exits
        return _STACKS[key][0]

    yield stack
    _end_stacks()


@pytest.fixture
def accounts_file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.toml"
