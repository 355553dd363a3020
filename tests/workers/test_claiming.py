"""Jobs are taken and calls claimed in one round trip, and neither loses the other."""

from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from rq import Queue
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from app.store.pace import Asking, Limit
from app.store.queue import CALLS
from tests.app.test_pace import Line
from workers import jobs
from workers.claiming import ClaimingWorker


class Dialled:
    """The dispatcher's part: it asks, and keeps what was claimed instead of dialling it."""

    def __init__(self, line: Line) -> None:
        self._claims = line.claims
        self._asking: dict[str, Asking] = {}
        self.token = ""
        self.tokens: list[str] = []
        self.calls: list[str] = []
        self.errors: list[Exception] = []
        self.ready = True

    def ask(self, token: str) -> list[Any] | None:
        self.token = token
        self.tokens.append(token)
        asking = self._asking.setdefault(token, Asking(token))
        return self._claims.words(asking, {"s": "s"}, 32) if self.ready else None

    def dial(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.errors.append(reply)
            return
        turn = self._claims.turn(self._asking[self.token], reply)
        self.calls += [call.id for call in turn.calls]

    def wait_sent(self) -> None:
        """All calls are with the switch that this test has not."""


@pytest.fixture
def line(redis: Redis) -> Line:
    line = Line(redis)
    line.pacer.set_switch_limit("s", Limit())
    line.lead("s")
    return line


@pytest.fixture
def dialled(line: Line, monkeypatch: pytest.MonkeyPatch) -> Dialled:
    dialled: Any = Dialled(line)
    monkeypatch.setattr(jobs, "_context", jobs.JobContext(None, None, dialled))  # type: ignore[arg-type]
    return dialled  # type: ignore[no-any-return]


def worker(line: Line, dialled: Any) -> ClaimingWorker:
    queue = Queue(CALLS, connection=line.redis, serializer=JSONSerializer)
    return ClaimingWorker(dialled, [queue], connection=line.redis, serializer=JSONSerializer)


def test_what_is_claimed_with_jobs_is_dialled(line: Line, dialled: Dialled) -> None:
    calls = [call.id for call in line.calls(3)]
    line.redis.script_flush()
    worker(line, dialled).work(burst=True)
    assert dialled.calls == calls
    assert all(line.job(call_id).get_status() == JobStatus.FINISHED for call_id in calls)


def test_jobs_are_taken_where_a_switch_has_to_be_waited_for(line: Line, dialled: Dialled) -> None:
    dialled.ready = False
    call = line.call()
    worker(line, dialled).work(burst=True)
    assert (dialled.calls, line.job(call.id).get_status()) == ([], JobStatus.FINISHED)


def test_a_claim_that_fails_loses_no_job(line: Line, dialled: Dialled) -> None:
    call = line.call()
    line.redis.set(line.keys.limits, "no hash")
    worker(line, dialled).work(burst=True)
    assert isinstance(dialled.errors[0], ResponseError)
    assert line.job(call.id).get_status() == JobStatus.FINISHED
    line.redis.delete(line.keys.limits)
    line.pacer.set_limits({})
    assert line.next() == [call.id]


def test_jobs_that_cannot_be_taken_lose_no_claim(line: Line, dialled: Dialled) -> None:
    call = line.call()
    made = worker(line, dialled)
    with pytest.raises(ResponseError):
        made.start_jobs(
            made._start, [*[line.keys.waiting] * 5, "none", "none"], ["token", "", 1, *("1" * 9)]
        )
    assert dialled.calls == [call.id]


def test_a_lost_reply_is_asked_for_again(
    line: Line, dialled: Dialled, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [call.id for call in line.calls(3)]
    made, lost = worker(line, dialled), [True]
    dial = dialled.dial

    def lose(reply: Any) -> None:
        if lost:
            lost.clear()
            raise RedisConnectionError("the answer is lost")
        dial(reply)

    monkeypatch.setattr(dialled, "dial", lose)
    made.work(burst=True)
    assert dialled.tokens[0] == dialled.tokens[1]
    assert dialled.calls == calls
