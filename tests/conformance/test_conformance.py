"""The simulator, or a real switch, against what a real FreeSWITCH said.

With FREESWITCH_URL (esl://:ClueCon@127.0.0.1:8021) the traces are replayed on that switch, which
must be the lab's: gateway `pstn` reaches the lab's far end, and nobody answers behind `pstn2`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_compare import differences
from trace_replay import Address, load, replay

from freeswitch.simulator import Simulator

# The throttle is last: its limit of two sessions a second holds until the second is over.
TRACES = sorted(
    (Path(__file__).parent / "traces").glob("*.jsonl"),
    key=lambda path: (path.stem == "paused-and-throttled", path.stem),
)
SPEED = 5.0
ATTEMPTS = 3
"""Runs in which a trace must be met once. A source that sends no media makes a real switch stand
still at moments that differ, and a limit per second depends on when the second ends."""


@pytest.fixture(scope="module")
def switch() -> Iterator[Address]:
    url = os.environ.get("FREESWITCH_URL")
    if url:
        yield Address.from_url(url)
        return
    with Simulator(speed=SPEED) as simulator:
        yield Address(simulator.host, simulator.port, simulator.password, SPEED)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_says_what_freeswitch_said(path: Path, switch: Address) -> None:
    trace = load(path)
    for _ in range(ATTEMPTS):
        found = differences(trace, replay(trace, switch))
        if not found:
            break
    assert found == []
