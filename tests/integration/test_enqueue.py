"""Calls that a program of its own places, changes and ends by RQ jobs."""

from typing import Any

from rq import Queue, Retry
from rq.job import Job
from rq.serializers import JSONSerializer

from app.calls.model import State
from tests.conftest import eventually
from tests.integration.conftest import Ringback

WHO = {"app": "demo-user", "token": "demo-user-token"}


def ask(ringback: Ringback, function: str, **words: Any) -> Any:
    """The answer to a job."""
    redis = ringback.store.redis
    queue = Queue("ringback-requests", connection=redis, serializer=JSONSerializer)
    job: Job = queue.enqueue(function, **{**WHO, **words})
    # A job that ran before has a result from then.
    eventually(lambda: job.get_status() in ("finished", "failed"))
    assert job.return_value(refresh=True) is not None, job.latest_result()
    return job.return_value()


def test_a_call_from_its_first_job_to_its_last(ringback: Ringback) -> None:
    body = {"extension": "210", "phoneCallView": [{"source": "15500", "destination": "15500"}]}
    placed = ask(ringback, "ringback.place", kind="simple", body=body, retry=Retry(max=2))
    assert placed["status"] == 202
    call_id = placed["body"][0]["id"]
    ringback.wait_state(call_id, State.BRIDGED)
    hold = {"action": "OnHold", "phoneCallViewId": "00"}
    assert ask(ringback, "ringback.act", id=call_id, body=hold)["status"] == 200
    call = ringback.store.get(call_id)
    assert call is not None and call.sources[0].on_hold
    ended = ask(ringback, "ringback.hang_up", id=call_id)
    assert (ended["status"], ended["body"][0]["endedBy"]) == (200, "api")
    assert ringback.ended(call_id).state is State.ENDED


def test_an_action_that_rings_a_phone_is_done_once(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15500")
    ringback.wait_state(call_id, State.BRIDGED)
    monitor = {"action": "Monitor", "phoneCallViewId": "00", "sendCallTo": "210"}
    words = {"id": call_id, "body": monitor, "job_id": "monitor-1"}
    first = ask(ringback, "ringback.act", **words)
    again = ask(ringback, "ringback.act", **words)
    assert (first["status"], again["status"]) == (200, 200)
    call = ringback.store.get(call_id)
    assert call is not None and len(call.thirds) == 1
    ringback.request("DELETE", f"@me/@self/{call_id}")
    ringback.ended(call_id)
