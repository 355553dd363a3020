"""Hanging up with a Redis that is full, and many calls at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.calls.model import State
from tests.conftest import Stacks, eventually
from tests.integration.conftest import REAL, SWITCHES, Ringback


@pytest.fixture
def real_time(stacks: Stacks) -> Ringback:
    # The stack of test_caps.py.
    return stacks(SWITCHES, simulator_speed=1.0, reconcile_interval=0.5, action_timeout=3.0)


@contextmanager
def full(ringback: Ringback) -> Iterator[None]:
    ringback.store.redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        ringback.store.redis.config_set("maxmemory", 0)


def test_a_call_is_hung_up_though_redis_is_full(real_time: Ringback) -> None:
    call = real_time.wait_state(real_time.place("15500", "15501"), State.BRIDGED)
    with full(real_time):
        status, answer = real_time.request("DELETE", f"@me/@self/{call.id}")
        assert (status, answer[0]["id"]) == (202, call.id)
        eventually(lambda: call.legs[0].uuid not in real_time.api("show channels"))
    ended = real_time.ended(call.id)
    assert (ended.hangup_cause, all(leg.ended for leg in ended.legs)) == ("NORMAL_CLEARING", True)


@pytest.mark.skipif(REAL is not None, reason="a real switch may allow fewer calls at a time")
def test_all_of_many_calls_are_hung_up(real_time: Ringback) -> None:
    view = {"source": ["15500"], "destination": ["15501"]}
    body = {"extension": "210", "phoneCallView": [view] * 20}
    ids = []
    for _ in range(6):
        status, answer = real_time.request("POST", "@me/simple", body)
        assert status == 202
        ids += [each["id"] for each in answer]
    real_time.wait_state(ids[0], State.ANSWERED)
    status, answer = real_time.request("DELETE", "@me/@self")
    assert status == 202
    assert {each["id"] for each in answer} >= set(ids)
    for call_id in ids:
        call = real_time.ended(call_id)
        assert (call.ended_by, call.actions[-1].action) == ("api", "HangUp")
    assert real_time.api("show channels").splitlines()[-1] == "0 total."
