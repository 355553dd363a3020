"""A switch that fails everything, as processes: it costs no call, and comes back by itself.

`python -m bench.fleet` does the same with all faults and for longer.
"""

import time
from collections.abc import Callable

import pytest

from app.calls.model import Call
from bench.fleet.harness import Fleet, fleet, is_lost

RATE = 15.0


def wait(until: Callable[[], bool], limit: float = 45.0) -> None:
    end = time.monotonic() + limit
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def failing(running: Fleet, begin: str, over: str) -> list[Call]:
    """The calls that are placed while s1 fails and until it is back."""
    since = time.monotonic()
    with running.load(RATE):
        wait(lambda: len(running.placed) > 15)
        running.order("s1", begin)
        wait(lambda: "" in running.ejected("s1"))
        had = len(running.switches["s1"].originates)
        wait(lambda: time.monotonic() > since + 2.0)
        # Its probes are no calls of customers. What was claimed before may still come.
        since_then = running.switches["s1"].originates[had:]
        assert sum("ringback_call" in each.command for each in since_then) < 5
        running.order("s1", over)
        wait(lambda: not running.ejected("s1"))
        had = len(running.switches["s1"].originates)
        wait(lambda: len(running.switches["s1"].originates) > had)
    return running.ended(since, time.monotonic())


@pytest.mark.stack
def test_a_switch_that_refuses_everything_costs_no_call() -> None:
    with fleet(3, log_level="WARNING") as running:
        calls = failing(running, "refuse DESTINATION_OUT_OF_ORDER", "refuse off")
        refused = [call for call in calls if call.refused_by is not None]
        assert refused and {call.refused_by for call in refused} == {"s1"}
        assert not [call for call in calls if is_lost(call)]
        calls = failing(running, "reject on", "reject off")
        assert not [call for call in calls if is_lost(call)]
        assert running.dialled_twice() == []
