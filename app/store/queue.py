"""RQ jobs, enqueued by dotted name: this side never imports what carries them out."""

import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq import Queue, Worker
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from app.calls.actions import Request
from app.calls.ending_many import EndMany
from app.calls.model import Call
from app.numbers import is_digits
from app.store import once, replies
from app.store.audit import Who
from app.store.client import BLOCK_LIMIT
from app.store.keys import Keys

# The queues by their names with the default RINGBACK_KEY_PREFIX; Keys.queue() has the others.
# Calls to place, and what is done to calls: the second never waits behind the first.
CALLS = "ringback-calls"
ACTIONS = "ringback-actions"
# What programs ask for by a job of their own: docs/guide/enqueue.md.
REQUESTS = "ringback-requests"
# The queues that a worker takes jobs from.
QUEUES = (CALLS, ACTIONS, REQUESTS)

PLACE_CALL = "workers.jobs.place_call"
HANG_UP = "workers.jobs.hang_up"
END_MANY = "workers.jobs.end_many"
ACT = "workers.jobs.act"
ADOPT = "workers.jobs.adopt"
HANG_UP_CHANNEL = "workers.jobs.hang_up_channel"
# The jobs of other programs (docs/guide/enqueue.md).
PLACE_REQUEST = "ringback.place"
HANG_UP_REQUEST = "ringback.hang_up"
ACT_REQUEST = "ringback.act"

# Seconds a job's own record stays in RQ; what became of the call stands in the call.
_RESULT_TTL = 60
_FAILURE_TTL = 86_400
# Workers that are shown at most.
_MOST = 200
# The calls that one job hangs up, and those that one job marks first.
_TOGETHER, _MARKED_TOGETHER = 20, 200
# Seconds beyond the time a call may wait for a switch.
_JOB_MARGIN = 30


class JobQueue:
    """The queues as the API sees them. Jobs are JSON: a program that can write to Redis runs no
    code in a worker."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self.calls, self.actions, self.requests = self.all = (
            Queue(keys.queue(CALLS), connection=redis, serializer=JSONSerializer),
            Queue(keys.queue(ACTIONS), connection=redis, serializer=JSONSerializer),
            Queue(keys.queue(REQUESTS), connection=redis, serializer=JSONSerializer),
        )
        job = self.calls.create_job(
            PLACE_CALL, result_ttl=_RESULT_TTL, failure_ttl=_FAILURE_TTL, status=JobStatus.QUEUED
        )
        job.origin = self.calls.name
        # What the records of all these jobs have in common.
        self._record = job.to_dict()

    def place_call(self, call: Call, pipeline: Pipeline) -> None:
        """Add the job that places the call to a transaction; its id is the call's.

        As RQ's own enqueue_job writes it, at a third of the time: the jobs differ in little.
        """
        at = utcformat(now())
        data = JSONSerializer.dumps((PLACE_CALL, None, (call.id,), {}))  # type: ignore[no-untyped-call]
        record = {
            **self._record,
            "created_at": at,
            "data": zlib.compress(data),
            "description": f"place call {call.id}",
            "enqueued_at": at,
            "timeout": call.queue_timeout + _JOB_MARGIN,
        }
        pipeline.sadd(Queue.redis_queues_keys, self.calls.key)
        pipeline.hset(Job.key_for(call.id), mapping=record)
        self.calls.push_job_id(call.id, pipeline=pipeline)

    def hang_up(self, *calls: Call) -> None:
        """Have workers hang up what the calls' marks ask for."""
        ids = [call.id for call in calls]
        some = (ids[at : at + _TOGETHER] for at in range(0, len(ids), _TOGETHER))
        self._enqueue_all(HANG_UP, list(some))

    def end_many(self, wanted: EndMany) -> None:
        """Have workers mark calls and hang them up."""
        calls, jobs = list(wanted.calls.items()), []
        for at in range(0, len(calls), _MARKED_TOGETHER):
            some = replace(wanted, calls=dict(calls[at : at + _MARKED_TOGETHER]))
            jobs.append([some.dumps()])
        self._enqueue_all(END_MANY, jobs)

    def _enqueue_all(self, job: str, each: Sequence[list[str]]) -> None:
        """Write a job for the arguments of each, in one step."""
        if not each:
            return
        pipe = self._redis.pipeline()
        for args in each:
            self.actions.enqueue_call(
                job,
                args=args,
                result_ttl=_RESULT_TTL,
                failure_ttl=_FAILURE_TTL,
                pipeline=pipe,
                timeout=_JOB_MARGIN,
            )
        once.run(self._redis, self._keys, once.new_mark(), once.gathered(pipe))

    def act(
        self,
        call: Call,
        request: Request,
        also: Sequence[Sequence[Any]] = (),
        attempt: int = 0,
    ) -> Job:
        """Have a worker carry out a request; the job's result is why it was refused, or ''. Redis
        carries out the commands ``also`` together with it.

        Each further ``attempt`` at a request that found no room is a job of its own.
        """
        return self._enqueue(
            *(self.actions, ACT, call.id, request.dumps()),
            also=also,
            job_id=f"{request.id}_{attempt}" if attempt else request.id,
            timeout=_JOB_MARGIN,
        )

    def adopt(self, switch: str, uuid: str, extension: str, who: Who) -> Job:
        """Have a worker make a call of an unknown channel. The job's result is JSON: the ``call``,
        or why it was ``refused``."""
        told = json.dumps(asdict(who))
        return self._enqueue(
            self.actions, ADOPT, switch, uuid, extension, told, timeout=_JOB_MARGIN
        )

    def hang_up_channel(self, switch: str, uuid: str) -> Job:
        """Have a worker hang up an unknown channel. The job's result is JSON: what the switch
        ``said``, or why it was ``refused``."""
        return self._enqueue(self.actions, HANG_UP_CHANNEL, switch, uuid, timeout=_JOB_MARGIN)

    def _enqueue(
        self,
        queue: Queue,
        job: str,
        *args: str,
        also: Sequence[Sequence[Any]] = (),
        **options: Any,
    ) -> Job:
        """Write what RQ writes to enqueue a job, once: RQ's own RPUSH, sent again, is another."""
        # RQ writes its commands into a pipeline that is never executed.
        pipe = self._redis.pipeline()
        enqueued = queue.enqueue_call(
            job,
            args=args,
            result_ttl=_RESULT_TTL,
            failure_ttl=_FAILURE_TTL,
            pipeline=pipe,
            **options,
        )
        once.run(self._redis, self._keys, once.new_mark(), [*also, *once.gathered(pipe)])
        return enqueued

    def outcome(self, job: Job, limit: float) -> str | None:
        """What became of a request within ``limit`` seconds; None where that is not known yet."""
        end = time.monotonic() + limit
        while (left := end - time.monotonic()) > 0:
            # RQ's own waiting takes whole seconds, longer than the connection may be silent.
            block = max(1, int(min(left, BLOCK_LIMIT) * 1000))
            results = Result.get_key(job.id)  # type: ignore[no-untyped-call]
            if job.connection.xread({results: "0-0"}, block=block):
                result = job.latest_result()
                value = result.return_value if result is not None else None
                return value if isinstance(value, str) else None
        return None


def queues(redis: Redis, queue: JobQueue) -> list[dict[str, Any]]:
    """How many jobs of each queue wait, are under way and have failed."""
    found = []
    for each in queue.all:
        found.append(
            {
                "name": each.name,
                "waiting": redis.llen(each.key),
                # Without the clean-up that RQ does when it counts.
                "started": each.started_job_registry.get_job_count(cleanup=False),
                "failed": each.failed_job_registry.get_job_count(cleanup=False),
            }
        )
    return found


def workers(redis: Redis, keys: Keys) -> list[dict[str, Any]]:
    """What RQ knows of the workers of our queues, by name. Read as they are kept: RQ's own objects
    rename the connection, and stop at what they cannot read."""
    names = [WORKERS_BY_QUEUE_KEY % keys.queue(name) for name in QUEUES]
    prefix = Worker.redis_worker_namespace_prefix.encode()
    members: Any = redis.sunion(names)
    known = [key for key in sorted(members) if key.startswith(prefix)][:_MOST]
    with redis.pipeline(transaction=False) as pipe:
        for key in known:
            pipe.hmget(key, "queues", "state", "birth", "last_heartbeat", *_COUNTS)
        rows = replies.of_its_type(pipe.execute(raise_on_error=False))
    found = []
    for key, row in zip(known, rows, strict=True):
        # RQ forgets a worker that is silent for minutes, and leaves its name.
        if row is None or not any(row):
            continue
        queues, state, birth, heartbeat, done, failed = (
            (value or b"").decode(errors="replace") for value in row
        )
        found.append(
            {
                "name": key.removeprefix(prefix).decode(errors="replace"),
                "queues": queues,
                "state": state,
                "born": seconds(birth),
                "heartbeat": seconds(heartbeat),
                "done": int(done) if is_digits(done) else 0,
                "failed": int(failed) if is_digits(failed) else 0,
            }
        )
    return found


_COUNTS = ("successful_job_count", "failed_job_count")


def seconds(text: str) -> float | None:
    """Epoch seconds of a time as RQ writes it; None for any other text."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
