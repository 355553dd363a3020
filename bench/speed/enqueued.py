"""A burst of calls that a program enqueues, and POSTs that come meanwhile."""

import itertools
import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import gevent
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from app.store.queue import PLACE_REQUEST, REQUESTS
from bench.speed.calls import PATH, EndToEnd
from bench.speed.load import Generator, request

# A busy number ends a call as soon as it is dialled.
_BODY = {"extension": "210", "phoneCallView": [{"source": ["15509"], "destination": ["15500"]}]}
# POSTs per second beside the burst, and without it.
_POSTS = 20.0
_LOOK = 0.05
_LIMIT = 300.0
_BATCH = 500


@dataclass(frozen=True)
class Burst:
    jobs_per_second: float
    refused: int
    # Calls that were accepted before one whose job was enqueued earlier.
    out_of_order: int
    worker_cpu: float
    # Seconds from a POST to its answer, without the burst and beside it.
    quiet: list[float]
    beside: list[float]


def measure(calls: EndToEnd, count: int, seconds: float) -> Burst:
    """Enqueue ``count`` calls at once, and wait until all are accepted."""
    redis: Any = calls.redis
    queue = Queue(REQUESTS, connection=redis, serializer=JSONSerializer)
    words = {"app": "demo-user", "token": "demo-user-token", "kind": "simple", "body": _BODY}
    ids = [uuid4().hex for _ in range(count)]
    jobs = [Queue.prepare_data(PLACE_REQUEST, kwargs=words, job_id=each) for each in ids]
    generator = Generator(
        calls.stack.settings.http_address,
        request("POST", PATH, json.dumps(_BODY).encode()),
    )
    quiet = _posts(generator, seconds)
    for start in range(0, count, _BATCH):
        queue.enqueue_many(jobs[start : start + _BATCH])
    meter = calls.meter()
    before, end = meter.read(), time.monotonic() + _LIMIT
    beside = gevent.spawn(generator.open_loop, _POSTS, _LIMIT)
    while queue.finished_job_registry.get_job_count(cleanup=False) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{queue.count} of {count} requests still wait")
        gevent.sleep(_LOOK)
    used = meter.read() - before
    beside.kill()
    latencies = [each.answered - each.at for each in generator.posted if each.answered]
    generator.close()
    answers = [
        job.return_value() if job else None
        for start in range(0, count, _BATCH)
        for job in Job.fetch_many(ids[start : start + _BATCH], redis, JSONSerializer)
    ]
    placed = [each["body"][0]["id"] for each in answers if each and each["status"] == 202]
    with redis.pipeline(transaction=False) as pipe:
        for call_id in placed:
            pipe.hget(calls.keys.call(call_id), "accepted")
        accepted = [float(at) for at in pipe.execute()]
    later = sum(b < a for a, b in itertools.pairwise(accepted))
    return Burst(
        count / used.at, count - len(placed), later, used.cpu["worker"] / count, quiet, latencies
    )


def _posts(generator: Generator, seconds: float) -> list[float]:
    generator.open_loop(_POSTS, seconds)
    gevent.sleep(_LOOK)
    found = [each.answered - each.at for each in generator.posted if each.answered]
    generator.posted.clear()
    return found
