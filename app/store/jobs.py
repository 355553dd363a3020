"""The failed jobs of the queues: ours, those of other programs, and some that nobody can read.

Any program that may write to Redis can leave anything here, so nothing that is read is taken for
what RQ writes.
"""

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq import Queue
from rq.exceptions import InvalidJobOperation
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer

from app.store import replies
from app.store.queue import (
    ACT,
    ACT_REQUEST,
    END_MANY,
    HANG_UP,
    HANG_UP_REQUEST,
    PLACE_CALL,
    PLACE_REQUEST,
    seconds,
)

# Jobs that are read in one round trip.
_AT_ONCE = 500
# A second run of these is harmless: a call is accepted and claimed once, and a leg that was hung up
# is gone.
_AGAIN = (PLACE_CALL, HANG_UP, END_MANY, PLACE_REQUEST, HANG_UP_REQUEST)


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A failed job, as far as it can be read."""

    # Its id as the registry holds it. RQ's ids are text, those of others may be any bytes.
    member: bytes
    queue: Queue
    # None for a job that cannot be read.
    job: Job | None
    function: str
    arguments: Sequence[Any]
    # Epoch seconds.
    ended: float | None
    # The last line of its error.
    why: str
    # A sentence that says why it cannot be retried; empty for a job that can.
    refusal: str

    @property
    def id(self) -> str:
        return text(self.member)


def text(value: bytes) -> str:
    """The text of any bytes. What is no UTF-8 stands as ``\\xff``."""
    return value.decode(errors="backslashreplace")


def failed_jobs(redis: Redis, queues: Iterable[Queue]) -> list[FailedJob]:
    """The failed jobs of the queues. Those that Redis no longer has are removed from the list that
    RQ keeps."""
    found = []
    for queue in queues:
        key = queue.failed_job_registry.key
        members: Any = redis.zrange(key, 0, -1)
        for start in range(0, len(members), _AT_ONCE):
            some = members[start : start + _AT_ONCE]
            records = read_records(redis, some)
            if gone := [m for m, record in zip(some, records, strict=True) if record == {}]:
                redis.zrem(key, *gone)
            with redis.pipeline(transaction=False) as pipe:
                for member in some:
                    pipe.xrevrange(Result.get_key(text(member)), count=1)  # type: ignore[no-untyped-call]
                results = replies.of_its_type(pipe.execute(raise_on_error=False))
            found += [
                _failed(redis, queue, member, record, result)
                for member, record, result in zip(some, records, results, strict=True)
                if record != {}
            ]
    return found


def enqueued(queue: Queue) -> float | None:
    """When the first job of the queue was enqueued, in epoch seconds; None without one that says
    so."""
    redis: Any = queue.connection
    if (first := redis.lindex(queue.key, 0)) is None:
        return None
    (record,) = read_records(redis, [first])
    return seconds(text((record or {}).get(b"enqueued_at", b"")))


def read_records(redis: Redis, ids: Sequence[bytes]) -> list[dict[bytes, bytes] | None]:
    """The hashes of jobs: empty for a job that Redis does not have, None for a key of another
    type."""
    with redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hgetall(Job.redis_job_namespace_prefix.encode() + job_id)
        return replies.of_its_type(pipe.execute(raise_on_error=False))


def restored(redis: Redis, job_id: bytes, record: dict[bytes, bytes] | None) -> Job:
    """The job of a hash. Raises any error for what RQ cannot read."""
    if record is None:
        raise ValueError("its key holds no hash")
    job = Job(job_id.decode(), connection=redis, serializer=JSONSerializer)
    job.restore(record)
    # RQ reads these only when they are asked for.
    if not isinstance(job.func_name, str):
        raise ValueError("its function has no name")
    tuple(job.args), dict(job.kwargs)
    return job


def retry(job: FailedJob) -> bool:
    """Enqueue the job again. Returns False if somebody else has done so, or dropped it."""
    assert job.job is not None and not job.refusal
    try:
        job.queue.failed_job_registry.requeue(job.job)
    except InvalidJobOperation:
        return False
    return True


def drop(redis: Redis, job: FailedJob) -> None:
    """Remove the job from the failed jobs, and its hash if that belongs to this queue."""
    with redis.pipeline() as pipe:
        pipe.zrem(job.queue.failed_job_registry.key, job.member)
        if job.job is not None and job.job.origin == job.queue.name:
            results = Result.get_key(job.job.id)  # type: ignore[no-untyped-call]
            pipe.delete(job.job.key, job.job.dependents_key, job.job.dependencies_key, results)
        pipe.execute()


def _failed(
    redis: Redis, queue: Queue, member: bytes, record: dict[bytes, bytes] | None, result: Any
) -> FailedJob:
    try:
        job = restored(redis, member, record)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        refusal = f"it cannot be read: {reason}"
        why = _last_line(result) if result else refusal
        return FailedJob(member, queue, None, "", (), None, why, f"{refusal}.")
    ended = job.ended_at.timestamp() if job.ended_at else None
    function = str(job.func_name)
    refusal = _refusal(job, function, queue)
    return FailedJob(member, queue, job, function, job.args, ended, _last_line(result), refusal)


def _refusal(job: Job, function: str, queue: Queue) -> str:
    if function in (ACT, ACT_REQUEST):
        return "an action may have been done. Request it again."
    if function == HANG_UP_REQUEST and not job.kwargs.get("id"):
        return "it would hang up the calls that were placed since. Request it again."
    if function not in _AGAIN:
        return f"{function} is no job of Ringback."
    if job.origin != queue.name:
        return f"it belongs to the queue {job.origin}."
    return ""


def _last_line(result: Any) -> str:
    """The last line of the error that RQ keeps as a job's result."""
    lost = "the worker was lost"
    try:
        ((_, fields),) = result
        error = zlib.decompress(base64.b64decode(fields[b"exc_string"])).decode(errors="replace")
    except (KeyError, TypeError, ValueError, zlib.error):
        # No result, or none of RQ's.
        return lost
    return (error.strip().splitlines() or [lost])[-1]
