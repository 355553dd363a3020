"""A fast simulator, and a client that gets all its events."""

import logging
from collections.abc import Iterator

import pytest
from blocking_client import Client

from freeswitch.simulator import Simulator


@pytest.fixture(autouse=True)
def no_defect(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The simulator logs its own failures; a test that causes one fails."""
    yield
    logged = [*caplog.get_records("setup"), *caplog.get_records("call")]
    ours = [each for each in logged if each.name.startswith("freeswitch")]
    assert [each for each in ours if each.levelno >= logging.ERROR] == []


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=50) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Client]:
    client = Client(simulator.port)
    assert client.command("event json ALL") == "+OK event listener enabled json"
    yield client
    client.close()
