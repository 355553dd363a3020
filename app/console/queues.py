"""RQ's queues and workers, and the lines that calls wait in."""

from datetime import datetime
from typing import Any

from redis import Redis
from rq import Worker

from app.accounts.model import Accounts
from app.calls.queue import JobQueue
from app.calls.store import Keys

# Workers and lines that are shown.
_MOST = 200


def queues(redis: Redis, queue: JobQueue) -> list[dict[str, Any]]:
    """How many jobs of each queue wait, are under way and have failed."""
    found = []
    for each in (queue.calls, queue.actions):
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


def workers(redis: Redis) -> list[dict[str, Any]]:
    """What RQ knows of its workers. Read as they are kept: RQ's own objects rename the
    connection."""
    keys = sorted(Worker.all_keys(connection=redis))[:_MOST]
    with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hmget(key, "queues", "state", "birth", "last_heartbeat", *_COUNTS)
        rows: Any = pipe.execute()
    found = []
    for key, row in zip(keys, rows, strict=True):
        queues, state, birth, heartbeat, done, failed = (
            value.decode() if value is not None else "" for value in row
        )
        found.append(
            {
                "name": key.removeprefix(Worker.redis_worker_namespace_prefix),
                "queues": queues,
                "state": state,
                "born": _seconds(birth),
                "heartbeat": _seconds(heartbeat),
                "done": int(done or 0),
                "failed": int(failed or 0),
            }
        )
    return found


_COUNTS = ("successful_job_count", "failed_job_count")


def _seconds(text: str) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def lines(redis: Redis, keys: Keys, accounts: Accounts) -> list[dict[str, Any]]:
    """How many calls of each organization wait for their turn, and since when the first does."""
    names = {o.id: o.name for o in accounts.organizations.values()}
    ids = [one.decode() for one in redis.zrange(keys.turns, 0, _MOST - 1)]  # type: ignore[union-attr]
    with redis.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.zcard(keys.line(one))
            pipe.zrange(keys.line(one), 0, 0, withscores=True)
        replies = pipe.execute()
    return [
        {
            "organization": names.get(one, one),
            "waiting": count,
            "since": first[0][1] if first else None,
        }
        for one, count, first in zip(ids, replies[0::2], replies[1::2], strict=True)
        if count
    ]
