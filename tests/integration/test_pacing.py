"""Calls wait for their turn: all of them, in order, and no faster than allowed."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from app.calls.model import State
from app.store.client import connect
from app.store.pace import SUSPENDED, Limit, Pacer
from tests.integration.conftest import Ringback

CALLS = 60
LEGS_PER_SECOND = 50
# Seconds between two looks of a worker at the line.
LOOK = 0.1
LEGS = 2


@pytest.fixture
def paced(mortal: Ringback) -> Iterator[Ringback]:
    """A stack whose record of originates and whose keys are not another test's at that time."""
    yield mortal
    mortal.store.redis.delete(SUSPENDED)
    Pacer(mortal.store.redis, mortal.store.keys).set_limits({})
    mortal.heal()


def test_what_is_posted_at_once_is_dialled_at_the_rate_and_in_order(paced: Ringback) -> None:
    redis = connect(paced.stack.settings.require_redis())
    pacer = Pacer(redis, paced.store.keys)
    pacer.set_limits({"organization:3": Limit(legs_per_second=LEGS_PER_SECOND)})
    # Nothing is claimed before all are posted: a busy machine may dial faster than it posts.
    redis.set(SUSPENDED, 1)
    # Busy at once: none of them lasts.
    calls = [paced.place("15509", "15500") for _ in range(CALLS)]
    last = paced.store.get(calls[-1])
    assert last is not None and last.state is State.QUEUED
    place = pacer.places([last])[last.id]
    assert 0 < place.ahead < CALLS
    # Cancelled while it waits, the last is never dialled.
    status, answer = paced.request("DELETE", f"@me/@self/{last.id}")
    assert status == 200, answer
    redis.delete(SUSPENDED)
    assert [paced.ended(call_id).hangup_cause for call_id in calls[:-1]] == ["USER_BUSY"] * (
        CALLS - 1
    )
    of_job = {originate["job_uuid"]: originate["time"] for originate in paced.originates()}
    kept = [call for call in paced.store.get_many(calls) if call is not None]
    assert last.job_uuid not in of_job
    times = [of_job[call.job_uuid] for call in kept[:-1]]
    # Two looks at the line may overlap, and send what they have claimed at the same moment.
    in_order = all(later >= earlier - LOOK for earlier, later in pairwise(times))
    assert in_order, "they are dialled in the order in which they were accepted"
    for first in times:
        in_a_second = sum(first <= time < first + 1.0 for time in times)
        assert in_a_second * LEGS <= LEGS_PER_SECOND + 2 * LEGS
    assert redis.keys("ringback:live:*") == redis.keys("ringback:waiting*") == []
