"""RQ jobs, enqueued by dotted name: this side never imports what carries them out."""

import secrets
import time
import zlib

from redis import Redis
from redis.client import Pipeline
from rq import Queue
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from app.calls.actions import Request
from app.calls.model import Call
from app.redis_client import BLOCK_LIMIT

# Calls to place, and what is done to calls: the second never waits behind the first.
CALLS = "calls"
ACTIONS = "actions"

PLACE_CALL = "workers.jobs.place_call"
HANG_UP = "workers.jobs.hang_up"
ACT = "workers.jobs.act"

# Seconds a job's own record stays in RQ; what became of the call stands in the call.
_RESULT_TTL = 60
_FAILURE_TTL = 86_400
# Seconds beyond the time a call may wait for a switch.
_JOB_MARGIN = 30


class JobQueue:
    """The queues as the API sees them. JSON only: who can write to Redis runs no code."""

    def __init__(self, redis: Redis) -> None:
        self.calls = Queue(CALLS, connection=redis, serializer=JSONSerializer)
        self.actions = Queue(ACTIONS, connection=redis, serializer=JSONSerializer)
        job = self.calls.create_job(
            PLACE_CALL, result_ttl=_RESULT_TTL, failure_ttl=_FAILURE_TTL, status=JobStatus.QUEUED
        )
        job.origin = CALLS
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

    def place_again(self, call: Call) -> None:
        """Give back the job of a call that was not claimed, ahead of all others.

        A job too many does no harm: the call is claimed once.
        """
        self.calls.enqueue_call(
            PLACE_CALL,
            args=(call.id,),
            # Another id: the first job may still be under way, and takes its record with it.
            job_id=f"{call.id}_{secrets.token_hex(4)}",
            at_front=True,
            timeout=call.queue_timeout + _JOB_MARGIN,
            result_ttl=_RESULT_TTL,
            failure_ttl=_FAILURE_TTL,
        )

    def waiting(self) -> frozenset[str]:
        """Ids of the calls that a job waits for to be placed."""
        return frozenset(job_id.partition("_")[0] for job_id in self.calls.get_job_ids())

    def hang_up(self, call: Call) -> None:
        """Have a worker hang up what the call's marks ask for."""
        self.actions.enqueue_call(
            HANG_UP,
            args=(call.id,),
            timeout=_JOB_MARGIN,
            result_ttl=_RESULT_TTL,
            failure_ttl=_FAILURE_TTL,
        )

    def act(self, call: Call, request: Request) -> Job:
        """Have a worker carry out a request; the job's result is why it was refused, or ''."""
        return self.actions.enqueue_call(
            ACT,
            args=(call.id, request.dumps()),
            job_id=request.id,
            timeout=_JOB_MARGIN,
            result_ttl=_RESULT_TTL,
            failure_ttl=_FAILURE_TTL,
        )

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
