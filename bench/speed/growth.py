"""Calls that are kept: many that have ended, and many that live on."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from redis import Redis

from app.calls.model import Call, Role, evolve, job_uuid, leg_uuid
from app.store import writes
from app.store.calls import CallStore
from app.store.keys import Keys

# The switch of the copies that live: nobody follows it, so nobody misses their channels.
ELSEWHERE = "elsewhere"
_AT_ONCE = 500
# KEYS: of each copy its hash and its timeline. ARGV: the two as DUMP has them, the milliseconds to
# keep them, 0 for ever, how many fields are its own; then for each copy these fields and values.
_COPY = """
local own = tonumber(ARGV[4]) * 2
for i = 1, #KEYS, 2 do
  redis.call('RESTORE', KEYS[i], ARGV[3], ARGV[1])
  local first = 5 + (i - 1) / 2 * own
  redis.call('HSET', KEYS[i], unpack(ARGV, first, first + own - 1))
  redis.call('RESTORE', KEYS[i + 1], ARGV[3], ARGV[2])
end
"""


def copy_ended(redis: Redis, keys: Keys, model: str, count: int) -> None:
    """Keep so many more calls like this one, which has ended."""
    _copy(redis, keys, model, [f"eeee{number:016x}" for number in range(count)], {})


def copy_live(redis: Redis, keys: Keys, model: str, count: int) -> None:
    """Have so many more calls like this one, which is bridged, on a switch of their own."""
    call = CallStore(redis, keys).get(model)
    assert call is not None
    ids = [f"ffff{number:016x}" for number in range(count)]
    _copy(redis, keys, model, ids, {"switch": ELSEWHERE})
    at = time.time()
    indexes = writes.indexes(keys, evolve(call, switch=ELSEWHERE))
    for some in _parts(iter(ids)):
        with redis.pipeline(transaction=False) as pipe:
            for index in indexes:
                pipe.zadd(index, dict.fromkeys(some, at))
            # Long after the end of this.
            pipe.zadd(keys.old_deadlines, dict.fromkeys(some, at + 86_400))
            pipe.execute()


def _copy(redis: Redis, keys: Keys, model: str, ids: list[str], more: dict[str, str]) -> None:
    call = CallStore(redis, keys).get(model)
    assert call is not None
    dumps: list[Any] = [redis.dump(keys.call(model)), redis.dump(keys.timeline(model))]
    ttl = max(0, redis.pttl(keys.call(model)))
    copy = redis.register_script(_COPY)
    for some in _parts(iter(ids)):
        names = [name for i in some for name in (keys.call(i), keys.timeline(i))]
        own = [{**_own(call, i), **more} for i in some]
        words = [text for fields in own for item in fields.items() for text in item]
        copy(names, [*dumps, ttl, len(own[0]), *words])


def _own(call: Call, call_id: str) -> dict[str, str]:
    """What no two calls have in common."""
    legs = {
        f"leg:{leg.id}:uuid": leg_uuid(call_id, Role(leg.role), number, 1)
        for number, leg in enumerate(call.legs, start=1)
    }
    return {"id": call_id, "job_uuid": job_uuid(call_id), **legs}


def _parts(ids: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(ids, _AT_ONCE)):
        yield some
