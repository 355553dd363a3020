"""Each fault done to real processes under load, and the switch's own word on what became of the
calls."""

import pytest

from bench.faults.faults import FAULTS
from bench.faults.suite import Suite
from tests.integration.fault_suite.conftest import LAYOUT, RATE, sound, under_load

SEED = 1
# Clients ask more of their calls than to end.
ASKS = True
# Seconds that a fault lasts here: those stopped are long enough for every time limit of Ringback's
# but the longest, the others for a new process to be needed.
LASTS = {"stop": 6.0, "mute": 6.0, "slow": 6.0, "delay": 4.0, "overflow": 4.0, "step": 4.0}
USUALLY = 1.5
# Left to the long runs: other tests here do as much, or more.
ELSEWHERE = {
    *("rolling_restart", "redis_full", "redis_readonly", "redis_kill", "worker_kill"),
    *("switch_hang", "switch_refuse", "switch_pause", "events_delay", "events_double", "api_stop"),
}


@pytest.mark.parametrize(
    "name", [name for name, each in FAULTS.items() if not each.sentinel and name not in ELSEWHERE]
)
def test_a_fault(name: str, suite: Suite) -> None:
    if not FAULTS[name].fits(LAYOUT):
        pytest.skip("a real switch does not do it to order")
    lasts = LASTS.get(name.partition("_")[2], USUALLY)
    sound(suite.round(under_load(lambda: suite.do(name, lasts)), RATE))
