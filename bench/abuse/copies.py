"""Calls of the hostile organization in great number: copies in Redis of one that was placed."""

import time
from typing import Any

from app.store.clock import RedisClock
from bench.abuse.harness import Stack
from bench.speed import growth

# The ids of copies, as bench.speed.growth makes them.
_ENDED = "eeee{:016x}"
_AT_ONCE = 500
_LIMIT = 60.0


def add_changes(stack: Stack, count: int) -> str:
    """Write so many more changes to the stream, those of a call again and again, each time with the
    id of a copy. Returns the place before them."""
    model = ended_call(stack)
    written: Any = stack.redis.xrange(stack.keys.events)
    of_model = [fields for _, fields in written if fields[b"call"] == model.encode()]
    copies = -(-count // len(of_model))
    growth.copy_ended(stack.redis, stack.keys, model, copies)
    newest: Any = stack.redis.xrevrange(stack.keys.events, count=1)
    left = count
    for first in range(0, copies, _AT_ONCE):
        with stack.redis.pipeline(transaction=False) as pipe:
            for number in range(first, min(copies, first + _AT_ONCE)):
                for fields in of_model[:left]:
                    own = {**fields, b"call": _ENDED.format(number).encode()}
                    pipe.xadd(stack.keys.events, own)
                    left -= 1
            pipe.execute()
    return str(newest[0][0].decode())


def add_live(stack: Stack, count: int) -> None:
    """Have so many live calls, of a switch that nobody follows."""
    growth.copy_live(stack.redis, stack.keys, stack.place(), count)


def add_records(stack: Stack, count: int) -> None:
    """Keep so many call reports, like that of a call that was placed."""
    model, keys = ended_call(stack), stack.keys
    text: Any = stack.redis.get(keys.record(model))
    begun = RedisClock(stack.redis).now() - 3600
    indexes = (keys.records, keys.organization_records("0001"), keys.user_records("11"))
    for first in range(0, count, _AT_ONCE):
        # No two calls are accepted in the same microsecond.
        numbers = range(first, min(count, first + _AT_ONCE))
        ids = {_ENDED.format(number): begun + number / 1000 for number in numbers}
        with stack.redis.pipeline(transaction=False) as pipe:
            for call_id in ids:
                own = text.replace(model.encode(), call_id.encode())
                pipe.set(keys.record(call_id), own, ex=86_400)
            for key in indexes:
                pipe.zadd(key, ids)
            pipe.execute()


def ended_call(stack: Stack) -> str:
    """Place a call, and wait for its end; its id."""
    model, end = stack.place(seconds=1), time.monotonic() + _LIMIT
    while stack.redis.hget(stack.keys.call(model), "state") != b"ended":
        if time.monotonic() > end:
            raise RuntimeError(f"call {model} did not end within {_LIMIT:g} seconds")
        time.sleep(0.05)
    return model
