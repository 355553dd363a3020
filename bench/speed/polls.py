"""How often the state of a call can be asked for: over HTTP, and straight from Redis."""

import time
from dataclasses import dataclass

import gevent

from bench.speed.calls import EndToEnd
from bench.speed.load import Generator, request

# Who poll at the same time.
_POLLERS = 4


@dataclass(frozen=True)
class Polls:
    per_second: float
    failed: int
    latencies: list[float]
    # Seconds of CPU per poll.
    api_cpu: float
    redis_cpu: float
    hgetall_per_second: float
    hgetall_redis_cpu: float


def measure(calls: EndToEnd, seconds: float) -> Polls:
    """Poll one call that is bridged."""
    [call_id] = calls.place_lasting(1, rate=1)
    path = f"/uapi/phoneCalls/@me/210/{call_id}"
    generator = Generator(calls.stack.settings.http_address, request("GET", path))
    meter = calls.meter()
    pollers = [gevent.spawn(generator.closed_loop, seconds) for _ in range(_POLLERS)]
    before = meter.read()
    gevent.joinall(pollers)
    used = meter.read() - before
    generator.close()
    count = len(generator.posted)
    key, asked = calls.keys.call(call_id), 0
    begun = meter.read()
    end = time.monotonic() + seconds / 2
    while time.monotonic() < end:
        calls.redis.hgetall(key)
        asked += 1
    straight = meter.read() - begun
    calls.hang_up([call_id])
    good = [each.answered - each.at for each in generator.posted if each.call_id == call_id]
    return Polls(
        count / used.at,
        count - len(good),
        good,
        used.cpu["api"] / count,
        used.cpu["redis"] / count,
        asked / straight.at,
        straight.cpu["redis"] / asked,
    )
