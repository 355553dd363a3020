"""RQ's own cost: a job that does nothing, enqueued and worked off by a stock worker."""

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from app.store.client import connect
from bench.speed.meter import Meter

_LOOK = 0.05
_LIMIT = 120.0


@dataclass(frozen=True)
class EmptyJob:
    jobs_per_second: float
    # Per job, of enqueueing it and of working it off.
    commands: float
    reads: float
    # Seconds of CPU per job.
    worker_cpu: float
    redis_cpu: float


def measure(url: str, redis_pid: int, worker_class: str, count: int) -> EmptyJob:
    """Enqueue ``count`` jobs one by one, then have a worker do them."""
    # The server has only just been started.
    redis = connect(url, retries=10)
    redis.flushall()
    queue = Queue("bench", connection=redis, serializer=JSONSerializer)
    meter = Meter({"redis": redis_pid}, redis)
    before = meter.read()
    jobs = [queue.enqueue("time.time").id for _ in range(count)]
    enqueued = meter.read() - before
    command = ["-m", "rq.cli", "worker", "--url", url, "-w", worker_class, "--quiet"]
    worker = subprocess.Popen(
        [sys.executable, *command, "--serializer", "rq.serializers.JSONSerializer", "bench"],
        stdin=subprocess.DEVNULL,
    )
    try:
        # What it takes to start is left out.
        meter = Meter({"redis": redis_pid, "worker": worker.pid}, redis)
        first, _ = _done(redis, queue, count // 10)
        before = meter.read()
        last, looks = _done(redis, queue, count)
        worked = meter.read() - before
    finally:
        worker.terminate()
        worker.wait()
    took = _ended_at(redis, jobs[-1]) - _ended_at(redis, jobs[first - 1])
    done = last - first
    return EmptyJob(
        done / took,
        # Each reading is a command of ours, and each look.
        (enqueued.commands - 1) / count + (worked.commands - 1 - looks) / done,
        (enqueued.reads - 1) / count + (worked.reads - 1 - looks) / done,
        worked.cpu["worker"] / done,
        worked.cpu["redis"] / done,
    )


def _done(redis: Redis, queue: Queue, count: int) -> tuple[int, int]:
    """Wait until so many are done; how many are, and how often Redis was asked."""
    key, looks = queue.finished_job_registry.key, 0
    end = time.monotonic() + _LIMIT
    while True:
        looks += 1
        finished: Any = redis.zcard(key)
        if finished >= count:
            return finished, looks
        if time.monotonic() > end:
            raise TimeoutError(f"only {finished} of {count} jobs are done")
        time.sleep(_LOOK)


def _ended_at(redis: Redis, job_id: str) -> float:
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    assert job.ended_at is not None
    return job.ended_at.timestamp()
