"""A planned failover of Redis under load loses no call. test_tls.py has a master that hangs."""

import pytest

from bench.fleet.redis_failover import exercise, running
from tests.integration.conftest import REAL


@pytest.mark.skipif(REAL is not None, reason="it has a simulator of its own")
def test_a_planned_failover_loses_no_call() -> None:
    told: list[str] = []
    with running(1, "1", sentinels=1) as fleet:
        _, wrong = exercise(fleet, "maintenance", 1, 10.0, told.append)
        answers = dict(fleet.answers.count)
    assert not wrong, (wrong, told)
    assert answers["202"] > 2, answers
    # No client is left without an answer of Ringback, and none without the time to retry.
    assert all(key == "202" or key.endswith("Retry-After") for key in answers), answers
