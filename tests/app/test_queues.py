"""The queues of RQ follow RINGBACK_KEY_PREFIX, so that installations share a Redis."""

from typing import Any

from redis import Redis

from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.pace import Pacer
from app.store.queue import QUEUES, JobQueue, workers
from tests.ringback_cli.test_commands import placed


def test_names_follow_the_prefix() -> None:
    assert [Keys().queue(name) for name in QUEUES] == list(QUEUES)
    assert Keys("acme:").queue("ringback-requests") == "acme-requests"
    # Each prefix has names of its own.
    assert Keys("acme").queue("ringback-calls") != Keys("acme:").queue("ringback-calls")


def test_each_installation_has_its_own_jobs_and_workers(redis: Redis) -> None:
    for prefix in ("ringback:", "acme:"):
        keys = Keys(prefix)
        Pacer(redis, keys).set_limits({})
        placed(CallStore(redis, keys), prefix[0])
        alive: Any = {"queues": keys.queue("ringback-calls"), "last_heartbeat": "2099-01-01"}
        redis.hset(f"rq:worker:{prefix}", mapping=alive)
        redis.sadd(f"rq:workers:{keys.queue('ringback-calls')}", f"rq:worker:{prefix}")
    ours, acme = Keys(), Keys("acme:")
    assert JobQueue(redis, ours).calls.job_ids == ["r" * 20]
    assert JobQueue(redis, acme).calls.job_ids == ["a" * 20]
    assert JobQueue(redis, acme).calls.jobs[0].origin == "acme-calls"
    assert [each["name"] for each in workers(redis, acme)] == ["acme:"]
    assert [each["name"] for each in workers(redis, ours)] == ["ringback:"]
