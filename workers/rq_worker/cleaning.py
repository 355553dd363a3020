"""What RQ's maintenance cannot pass: jobs without a hash, and jobs that cannot be read.

RQ's own cleaning stops at the first job that it cannot read, and the worker ends with it. It counts
a failed job without a hash until the job would have expired, which may be never.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from rq import Queue
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.job import Job

from app.store.jobs import read_records, restored, text

log = logging.getLogger(__name__)

# Jobs that are looked for in one round trip.
_AT_ONCE = 500


def set_aside(queue: Queue) -> None:
    """Forget the jobs of the queue's registries that have no hash, and move those that cannot be
    read to the failed jobs, where `ringback queue failed` shows them.

    Raises errors of Redis.
    """
    redis: Any = queue.connection
    for registry in (
        queue.started_job_registry,
        queue.deferred_job_registry,
        queue.ready_job_registry,
    ):
        for member in _bad(queue, redis.zrange(registry.key, 0, -1)):
            redis.zrem(registry.key, member)
    intermediate = queue.intermediate_queue_key
    for member in _bad(queue, redis.lrange(intermediate, 0, -1)):
        redis.lrem(intermediate, 1, member)
    failed = queue.failed_job_registry.key
    members = redis.zrange(failed, 0, -1)
    for start in range(0, len(members), _AT_ONCE):
        some = members[start : start + _AT_ONCE]
        with redis.pipeline(transaction=False) as pipe:
            for member in some:
                pipe.exists(Job.redis_job_namespace_prefix.encode() + member)
            there = pipe.execute()
        if gone := [member for member, is_there in zip(some, there, strict=True) if not is_there]:
            redis.zrem(failed, *gone)


def _bad(queue: Queue, members: Sequence[bytes]) -> list[bytes]:
    """The members whose job has no hash, or one that cannot be read. The latter stand among the
    failed jobs then."""
    redis, failed = queue.connection, queue.failed_job_registry.key
    # A member of the started jobs is the id of the job and of the execution.
    ids = [member.partition(b":")[0] for member in members]
    bad = []
    for member, job_id, record in zip(members, ids, read_records(redis, ids), strict=True):
        if record != {}:
            try:
                restored(redis, job_id, record)
                continue
            except Exception as error:
                log.warning("job %s cannot be read: %s", text(job_id), error)
            redis.zadd(failed, {job_id: time.time() + DEFAULT_FAILURE_TTL})
        bad.append(member)
    return bad
