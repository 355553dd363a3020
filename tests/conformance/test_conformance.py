"""The simulator, or a real switch, against what a real FreeSWITCH said.

With FREESWITCH_URL (esl://:ClueCon@127.0.0.1:8021) the traces are replayed on that switch, which
must be the lab's: gateway `pstn` reaches the lab's far end, and nobody answers behind `pstn2`.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent import Greenlet
from gevent.lock import BoundedSemaphore
from trace_compare import Item, differences
from trace_replay import Address, load, replay

from freeswitch.simulator import Simulator

REAL = os.environ.get("FREESWITCH_URL")
TRACES = sorted((Path(__file__).parent / "traces").glob("*.jsonl"))
# Runs last and alone: its limit of two sessions a second holds for the whole switch, until the
# second is over.
THROTTLED = "paused-and-throttled"
TRACES.sort(key=lambda path: path.stem == THROTTLED)
SPEED = 2.0
ATTEMPTS = 3
"""Runs in which a trace must be met once. A source that sends no media makes a real switch stand
still at moments that differ, and a limit per second depends on when the second ends."""
TOGETHER = 12
"""Traces that run on the simulator at a time: most of a trace is waiting."""
SHARED = ("nosuch", "conference", "valet")
"""Two traces with the same of these words never run at a time, because each would see the other's
events: the channel of an unknown gateway has no name, and conferences and parking lots belong to
the whole switch."""


@pytest.fixture(scope="module")
def switch() -> Iterator[Address]:
    if REAL:
        yield Address.from_url(REAL)
        return
    with Simulator(speed=SPEED) as simulator:
        yield Address(simulator.host, simulator.port, simulator.password, SPEED)


@pytest.fixture(scope="module")
def first_runs(switch: Address, request: pytest.FixtureRequest) -> dict[Path, Greenlet]:
    """The first run of each trace that may have others beside it. A real switch plays one trace
    at a time."""
    items = (item for item in request.session.items if item.path == request.path)
    paths = [item.callspec.params["path"] for item in items]  # type: ignore[attr-defined]
    # Read before the first begins: nothing else may hold up what is sent in time.
    texts = {path: path.read_text() for path in paths if not REAL and path.stem != THROTTLED}
    traces = {path: load(path) for path in texts}
    together = BoundedSemaphore(TOGETHER)
    shared: dict[str, BoundedSemaphore] = defaultdict(BoundedSemaphore)

    def run(path: Path) -> list[Item]:
        word = next((word for word in SHARED if word in texts[path]), None)
        with shared[word] if word else together:
            return replay(traces[path], switch)

    return {path: gevent.spawn(run, path) for path in traces}


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_says_what_freeswitch_said(
    path: Path, switch: Address, first_runs: dict[Path, Greenlet]
) -> None:
    trace, first = load(path), first_runs.get(path)
    if first is not None:
        # All of them, so that comparing holds up none.
        gevent.joinall(first_runs.values())
        found = differences(trace, first.get())
    else:
        found = differences(trace, replay(trace, switch))
    for _ in range(ATTEMPTS - 1):
        if not found:
            break
        found = differences(trace, replay(trace, switch))
    assert found == []
