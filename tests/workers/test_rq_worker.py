"""The worker class, on a real Redis; RQ's own tests run against it by rq_suite.py."""

import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import gevent
import pytest
from redis import Redis
from rq import Callback, Queue, Repeat, Retry, SimpleWorker, Worker, get_current_job
from rq.command import send_stop_job_command
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from app.store.client import connect
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port
from tests.conftest import await_ready, eventually
from workers.rq_worker import CallWorker
from workers.rq_worker.batch import BatchWorker

WORKER = """
import sys
from gevent import monkey
monkey.patch_all()
from app.store.client import connect
from workers.rq_worker.batch import BatchWorker
name, url, interval = sys.argv[1:]
BatchWorker(["q"], name, connection=connect(url), job_monitoring_interval=int(interval)).work(
    logging_level="WARNING"
)
"""

RUNNER = """
import sys
from dataclasses import replace
from gevent import monkey
monkey.patch_all()
from app.settings import load_settings
from workers.rq_worker import QueueRunner
functions = {"tests.workers.test_rq_worker.nothing": lambda: None}
QueueRunner(replace(load_settings(), redis_url=sys.argv[1]), "q", "p", functions).run()
"""


class InThisProcess(BatchWorker):
    def _install_signal_handlers(self) -> None:
        """They are the test run's."""


def nothing() -> None:
    pass


def give(value: Any) -> Any:
    return value


def fail(text: str) -> None:
    raise ValueError(text)


def hold() -> None:
    """Run until another word is given."""
    job = get_current_job()
    assert job is not None
    job.connection.blpop(["go"], 30)


def hold_and_fail() -> None:
    hold()
    raise ValueError("stopped or not")


def sleep(seconds: float) -> None:
    gevent.sleep(seconds)


def fail_once() -> None:
    job = get_current_job()
    assert job is not None
    if job.connection.incr("tries") == 1:
        raise ValueError("not yet")


def note(*_: Any) -> None:
    job = get_current_job()
    (job or _[0]).connection.incr("notes")


calls: list[list[tuple[Any, ...]]] = []  # of the jobs of one_of_many


def one_of_many(what: str, **_: Any) -> None:
    calls.append([("alone", what)])


def all_of_many(arguments: list[tuple[Any, ...]]) -> list[BaseException | None]:
    calls.append(arguments)
    if ("raise",) in arguments:
        raise RuntimeError("for all")
    if ("short",) in arguments:
        return []
    return [ValueError(what) if what == "bad" else None for (what,) in arguments]


one_of_many.many = all_of_many  # type: ignore[attr-defined]


@pytest.fixture
def queue(redis: Redis) -> Queue:
    calls.clear()
    return Queue("q", connection=redis)


def burst(queue: Queue, worker_class: type[SimpleWorker] = InThisProcess, **options: Any) -> Any:
    worker = worker_class([queue], connection=queue.connection, **options)
    worker.work(burst=True, logging_level="CRITICAL")
    return worker


class Process:
    """A worker in a process of its own."""

    def __init__(self, *arguments: str, script: str = WORKER) -> None:
        self._popen = subprocess.Popen([sys.executable, "-c", script, *arguments])

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def wait(self) -> int:
        return self._popen.wait(60)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


@pytest.fixture
def process(queue: Queue, redis_url: str) -> Iterator[Process]:
    process = Process("w", redis_url, "30")
    yield process
    process.kill()


def keyspace(redis: Redis) -> dict[str, Any]:
    """All that Redis holds, without what differs between two runs, and for how many minutes."""
    volatile = re.compile(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z|\b1\d{9}(\.\d+)?\b|\d+\.\d+(e-\d+)?\b"
        r"|[0-9a-f]{32}\d*|File \".*|~*\^+~*|eJ[\w+/=]{20,}"
    )
    found: dict[str, Any] = {}
    for key in sorted(redis.keys("*")):
        kind = redis.type(key)
        value: Any = {
            b"hash": lambda key: dict(sorted(redis.hgetall(key).items())),
            b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
            b"stream": lambda key: [fields for _, fields in redis.xrange(key)],
            b"set": lambda key: sorted(redis.smembers(key)),
            b"string": redis.get,
            b"list": lambda key: redis.lrange(key, 0, -1),
        }[kind](key)
        if b":worker:" in key:
            value = {k: v for k, v in value.items() if k not in (b"ip_address", b"batch")}
        ttl = redis.ttl(key)
        found[volatile.sub("*", key.decode())] = volatile.sub("*", repr(value)), math.ceil(ttl / 60)
    return found


@pytest.mark.parametrize(
    ("function", "arguments", "options"),
    [
        (nothing, (), {}),
        (give, ("a value",), {"result_ttl": 60, "failure_ttl": 90, "job_timeout": 40}),
        (give, ({1, 2},), {"result_ttl": -1, "job_timeout": -1}),
        (give, ("a value",), {"result_ttl": 0}),
        (give, ("a value",), {"ttl": 30, "meta": {"a": 1}, "at_front": True}),
        (fail, ("what",), {}),
        (fail, ("what",), {"failure_ttl": 60}),
        (fail, ("what",), {"failure_ttl": -1}),
        (fail, ("what",), {"failure_ttl": 0}),
        ("no.such.function", (), {}),
    ],
)
def test_it_writes_what_rq_writes(
    queue: Queue, function: Any, arguments: Any, options: dict[str, Any]
) -> None:
    redis = queue.connection
    written = []
    for worker_class in (SimpleWorker, InThisProcess):
        redis.flushdb()
        for name in ("a", "b"):
            queue.enqueue(function, *arguments, job_id=name, description="it", **options)
        burst(queue, worker_class, name="w")
        written.append(keyspace(redis))
    assert written[0] == written[1]


def test_a_thousand_jobs_leave_nothing_behind(queue: Queue) -> None:
    jobs = queue.enqueue_many([Queue.prepare_data(nothing) for _ in range(1000)])
    worker = burst(queue)
    worker.refresh()
    assert (worker.successful_job_count, worker.failed_job_count) == (1000, 0)
    assert {job.get_status() for job in jobs} == {JobStatus.FINISHED}
    assert queue.finished_job_registry.count == 1000
    assert not queue.started_job_registry.get_job_ids() and not queue.count
    left = queue.connection.keys("rq:execution*") + queue.connection.keys("*:intermediate*")
    assert left == []


def test_a_job_that_fails_is_alone_in_it(queue: Queue) -> None:
    jobs = [queue.enqueue(*call) for call in [(nothing,), (fail, "broken"), (nothing,)]]
    worker = burst(queue)
    assert [job.get_status() for job in jobs] == ["finished", "failed", "finished"]
    result = jobs[1].latest_result()
    assert result is not None
    assert "ValueError: broken" in (result.exc_string or "")
    assert result.worker_name == worker.name == Job.fetch(jobs[1].id, queue.connection).worker_name
    assert queue.failed_job_registry.get_job_ids() == [jobs[1].id]


def test_a_job_over_its_time_fails_and_others_do_not(queue: Queue) -> None:
    over = queue.enqueue(sleep, 60, job_timeout=1)
    within = queue.enqueue(sleep, 0, job_timeout=60)
    burst(queue)
    assert (over.get_status(), within.get_status()) == ("failed", "finished")
    result = over.latest_result()
    assert result is not None
    assert "JobTimeoutException" in (result.exc_string or "")


def test_jobs_of_one_function_are_one_call_of_many(queue: Queue) -> None:
    jobs = [queue.enqueue(one_of_many, what) for what in ("a", "bad", "b")]
    other = queue.enqueue(one_of_many, "c", extra=True)
    burst(queue)
    assert sorted(calls) == [[("a",), ("bad",), ("b",)], [("alone", "c")]]
    assert [job.get_status() for job in (*jobs, other)] == [
        "finished", "failed", "finished", "finished"
    ]  # fmt: skip


@pytest.mark.parametrize(("what", "text"), [("raise", "for all"), ("short", "zip()")])
def test_what_many_itself_raises_all_its_jobs_raise(queue: Queue, what: str, text: str) -> None:
    jobs = [queue.enqueue(one_of_many, word) for word in ("a", what)]
    burst(queue)
    for job in jobs:
        result = job.latest_result()
        assert result is not None and text in (result.exc_string or "")


def test_what_jobs_ask_for_beyond_is_done_by_rq(queue: Queue) -> None:
    redis = queue.connection
    first = queue.enqueue(nothing, on_success=Callback(note))
    dependent = queue.enqueue(note, depends_on=first)
    late = queue.enqueue(nothing, repeat=Repeat(times=2))
    retried = queue.enqueue(fail_once, retry=Retry(max=1))
    lost = queue.enqueue(nothing)
    redis.delete(lost.key)
    burst(queue)
    assert redis.get("notes") == b"2"
    assert {job.get_status() for job in (first, dependent, late, retried)} == {"finished"}
    assert redis.get("tries") == b"2" and len(late.results()) == 3
    assert not redis.exists(queue.intermediate_queue_key)


def test_dependents_of_a_running_job_follow_it(queue: Queue, process: Process) -> None:
    job = queue.enqueue(hold)
    eventually(lambda: job.get_status() == "started")
    dependent = queue.enqueue(nothing, depends_on=job)
    queue.connection.rpush("go", 1)
    eventually(lambda: dependent.get_status() == "finished")
    assert job.get_status() == "finished"


def test_a_running_job_is_seen_and_kept_alive(queue: Queue, redis_url: str) -> None:
    process = Process("w", redis_url, "1")
    try:
        job = queue.enqueue(hold, job_timeout=100)
        eventually(lambda: job.get_status() == "started")
        registry = queue.started_job_registry
        (worker,) = Worker.all(connection=queue.connection)
        assert (worker.get_state(), worker.get_current_job_id()) == ("busy", job.id)
        (execution,) = job.get_executions()
        first = queue.connection.zscore(registry.key, execution.composite_key) or 0
        assert 155 < first - time.time() <= 160
        eventually(
            lambda: (queue.connection.zscore(registry.key, execution.composite_key) or 0) > first
        )
        queue.connection.rpush("go", 1)
        eventually(lambda: job.get_status() == "finished")
        worker.refresh()
        assert worker.get_state() == "idle"
    finally:
        process.kill()


def test_stop_finishes_what_was_taken(queue: Queue, process: Process) -> None:
    jobs = [queue.enqueue(hold) for _ in range(3)]
    eventually(lambda: all(job.get_status() == "started" for job in jobs))
    process.send(signal.SIGTERM)
    worker = Worker.find_by_key("rq:worker:w", queue.connection)
    assert worker is not None
    eventually(lambda: worker.shutdown_requested_date is not None)
    queue.connection.rpush("go", *range(3))
    assert process.wait() == 0
    assert {job.get_status() for job in jobs} == {"finished"}
    assert Worker.count(queue.connection) == 0


def test_jobs_of_a_killed_worker_are_found_abandoned(queue: Queue, process: Process) -> None:
    jobs = [queue.enqueue(hold) for _ in range(40)]
    again = queue.enqueue(hold, retry=Retry(max=1))
    registry = queue.started_job_registry
    eventually(lambda: len(registry.get_job_ids()) == 41 and again.get_status() == "started")
    process.kill()
    assert {job.get_status() for job in jobs} == {"started"}
    registry.cleanup(int(time.time()) + 1000)
    assert {job.get_status() for job in jobs} == {"failed"}
    assert (again.get_status(), queue.get_job_ids()) == ("queued", [again.id])


def test_no_job_is_taken_twice_or_lost_with_the_answer(queue: Queue) -> None:
    """What the client sends again is answered as it was."""
    for _ in range(3):
        queue.enqueue(nothing)
    queue.enqueue(nothing, on_success=Callback(note))
    worker = InThisProcess([queue], connection=queue.connection)
    sent = worker._batch_id
    worker._take(blocking=False, limit=1)
    first, worker._batch, worker._batch_id = worker._batch, [], sent
    queue.enqueue(nothing)
    worker._take(blocking=False, limit=1)
    assert [(t.job.id, t.execution) for t in first] == [
        (t.job.id, t.execution) for t in worker._batch
    ]
    assert len(first) == 4 and queue.count == 1


def test_a_suspended_worker_takes_nothing(queue: Queue, process: Process) -> None:
    suspend(queue.connection)
    worker = Worker.find_by_key("rq:worker:w", queue.connection)
    while worker is None or worker.get_state() != "suspended":
        worker = Worker.find_by_key("rq:worker:w", queue.connection)
    job = queue.enqueue(nothing)
    burst(queue)
    assert job.get_status() == "queued"
    resume(queue.connection)
    eventually(lambda: job.get_status() == "finished")


def test_one_of_several_jobs_can_be_marked_stopped(queue: Queue, process: Process) -> None:
    """No process is there to be killed: it is stopped once it ends, as with SimpleWorker."""
    jobs = [queue.enqueue(hold_and_fail) for _ in range(3)]
    eventually(lambda: all(job.get_status() == "started" for job in jobs))
    send_stop_job_command(queue.connection, jobs[1].id)
    queue.connection.rpush("go", *range(3))
    eventually(lambda: not queue.started_job_registry.get_job_ids())
    assert [job.get_status() for job in jobs] == ["failed", "stopped", "failed"]


def test_a_worker_that_redis_has_forgotten_registers_again(queue: Queue, process: Process) -> None:
    redis = queue.connection
    eventually(lambda: [each.get_state() for each in Worker.all(queue=queue)] == ["started"])
    redis.delete("rq:workers", "rq:workers:q", "rq:worker:w")
    eventually(lambda: Worker.count(queue=queue) == Worker.count(redis) == 1)
    (worker,) = Worker.all(queue=queue)
    assert (worker.queue_names(), worker.get_state()) == (["q"], "started")
    assert worker.birth_date is not None and worker.last_heartbeat is not None
    assert 0 < redis.ttl(worker.key) <= worker.worker_ttl + 60


def test_a_busy_worker_registers_again(queue: Queue) -> None:
    worker = InThisProcess([queue], connection=queue.connection, job_monitoring_interval=0)

    queue.enqueue(nothing)
    worker.register_birth()
    queue.connection.delete("rq:workers", "rq:workers:q", worker.key)
    worker._take(blocking=False, limit=1)
    worker.heartbeat()
    assert Worker.count(queue=queue) == 1 and queue.connection.hexists(worker.key, "birth")


def test_what_is_no_job_costs_the_jobs_beside_it_nothing(queue: Queue) -> None:
    job = queue.enqueue(nothing)
    queue.connection.set("rq:job:text", "x")
    queue.connection.lpush(queue.key, b"\xff", "text", "a:b", "gone")
    queue.connection.rpush(queue.key, b"\xfe")
    burst(queue)
    assert job.get_status() == "finished" and not queue.count
    worker = InThisProcess([queue], connection=queue.connection)
    for member in (b"\xff", "text"):
        queue.connection.lpush(queue.key, member)
        worker._more = False
        assert not worker._take(blocking=True, limit=1)
    assert not queue.connection.exists(queue.key, queue.intermediate_queue_key)


def test_maintenance_passes_jobs_that_cannot_be_read(redis: Redis) -> None:
    """RQ's own would stop at the first, and the worker with it."""
    queue = Queue("q", connection=redis, serializer=JSONSerializer)
    lost = queue.enqueue(nothing)
    for name in (b"status", b"bytes\xff", b"text", b"gone", lost.id.encode()):
        redis.zadd("rq:wip:q", {name + b":1": 1})
        redis.rpush("rq:queue:q:intermediate", name)
    redis.delete("rq:queue:q")
    redis.hset("rq:job:status", mapping={"data": "x", "status": "no such", "origin": "q"})
    redis.hset(b"rq:job:bytes\xff", "data", b"\xff")
    redis.set("rq:job:text", "x")
    redis.zadd("rq:failed:q", {"never": "+inf"})
    lost.set_status(JobStatus.STARTED)
    worker = CallWorker([queue], connection=redis, serializer=JSONSerializer)
    worker.clean_registries()
    failed: Any = redis.zrange("rq:failed:q", 0, -1)
    assert set(failed) == {b"status", b"bytes\xff", b"text", lost.id.encode()}
    assert not redis.exists("rq:wip:q")
    assert redis.lrange("rq:queue:q:intermediate", 0, -1) == [lost.id.encode()]
    assert lost.get_status() == "failed"


def finish_a_job(url: str) -> None:
    await_ready(url)
    queue = Queue("q", connection=connect(url), serializer=JSONSerializer)
    job = queue.enqueue(nothing)
    eventually(lambda: job.get_status() == "finished")


def test_it_works_on_when_redis_was_away() -> None:
    redis = EmbeddedRedis(free_port())
    process = Process(redis.url, script=RUNNER)
    try:
        finish_a_job(redis.url)
        redis.stop()
        url = urlsplit(redis.url)
        redis = EmbeddedRedis(url.port or 0, password=url.password)
        finish_a_job(redis.url)
    finally:
        process.kill()
        redis.stop()
