"""What a look for calls to dial costs Redis, with none, 1,000 and 100,000 calls waiting.

    python -m bench.waiting [CALLS ...]

Fills a Redis of its own with waiting calls of 1,000 organizations whose common gateway is full, and
runs the real scripts. All times are microseconds that Redis itself counts for a script (INFO
commandstats), so nothing else on the machine counts. It takes some two minutes with 100,000 calls.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from redis import Redis

from app.calls import transitions
from app.calls.model import Call, State, evolve
from app.store import writes
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.pace import Claims, Limit, Pacer
from app.store.steering import Steer, SteerStore
from app.store.writes import Note
from bench.speed.bare import NUMBER, call_to
from bench.speed.table import quantile
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port

ORGANIZATIONS = 1_000
GATEWAY = "full"
# Looks of each kind; workers that look, each so often per second.
LOOKS, CLAIMING = 500, 50
WORKERS, PER_SECOND = 8, 10
BATCH = 32


class Bench:
    """A Redis with waiting calls."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.keys = Keys()
        self.store = CallStore(redis, self.keys)
        self.pacer = Pacer(redis, self.keys)
        self.claims = Claims(self.store, "bench")

    def fill(self, count: int) -> None:
        """Accept calls as accept.lua writes them, in the organizations in turn."""
        for first in range(0, count, 500):
            numbers = range(first, min(first + 500, count))
            self.store._run([self._accepted(n % ORGANIZATIONS, GATEWAY) for n in numbers], False)

    def _accepted(self, organization: int, gateway: str) -> tuple[list[str], list[str]]:
        call = call_to(NUMBER)
        call = evolve(
            call,
            organization=str(organization),
            user=f"user-{organization}",
            accepted=self.store.now(),
            queue_timeout=86_400,
            version=1,
            stamp=writes.stamp(),
            legs=tuple(replace(leg, gateway=gateway) for leg in call.legs),
        )
        return writes.arguments(self.keys, None, call, (), self.store.now())

    def accept_free(self) -> None:
        """Accept a call that nothing holds back."""
        self.store._run([self._accepted(ORGANIZATIONS + 1, "free")], False)

    def look(self) -> int:
        """Look for calls to dial, and return how many were claimed."""
        return len(self.claims.next({"switch": "run"}, BATCH).calls)

    def spent(self, work: Callable[[], Any]) -> float:
        """The microseconds that Redis spends on the scripts of the work."""
        before = self._script_time()
        work()
        return self._script_time() - before

    def _script_time(self) -> float:
        stats: Any = self.redis.info("commandstats")
        return float(stats.get("cmdstat_evalsha", {}).get("usec", 0))

    def live(self) -> Iterator[Call]:
        for call_id in self.store.live_of_switch("switch"):
            if (call := self.store.get(call_id)) is not None and call.state is State.DIALING:
                yield call

    def end_live(self, count: int) -> None:
        """End calls, so that the gateway has room again."""
        for _, call in zip(range(count), self.live(), strict=False):
            self.store.change(
                call,
                lambda c: transitions.end(c, "events_lost", at=self.store.now()),
                Note("event", "end"),
            )


def measure(redis: Redis, count: int) -> None:
    bench = Bench(redis)
    bench.pacer.set_limits({f"gateway:{GATEWAY}": Limit(most=2 * BATCH)})
    bench.pacer.set_switch_limit("switch", Limit())
    SteerStore(redis, bench.keys).tell("switch", Steer(until=1e12))
    bench.fill(count)
    # Until all that cannot be dialled is held.
    while bench.claims.next({"switch": "run"}, BATCH).again == 0.0:
        pass
    rows = {"a look that claims nothing": [bench.spent(bench.look) for _ in range(LOOKS)]}
    claiming, claims = [], 0
    for _ in range(CLAIMING if count else 0):
        bench.end_live(BATCH)

        def claim() -> None:
            nonlocal claims
            claims += bench.look()

        claiming.append(bench.spent(claim))
    if claiming:
        rows["a look that claims"] = claiming
    free = []
    for _ in range(LOOKS):
        bench.accept_free()
        free.append(bench.spent(bench.look))
    rows["a look that claims one call that nothing holds"] = free
    rows["a look of the watchdog at queued calls"] = [
        bench.spent(bench.store.due_queued) for _ in range(LOOKS)
    ]
    print(
        f"\n{count:,} calls wait                                      p50      p99   microseconds"
    )
    for name, times in rows.items():
        print(f"   {name:48}{quantile(times, 0.5):8.0f}{quantile(times, 0.99):9.0f}")
    if claiming:
        print(f"   one claim of those{'':30}{sum(claiming) / claims:8.0f}   ({claims} claims)")
    empty = rows["a look that claims nothing"]
    share = sum(empty) / len(empty) * WORKERS * PER_SECOND / 1e6
    print(f"   share of Redis that {WORKERS} workers' looks take{'':14}{share:8.2%}")


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [0, 1_000, 100_000]
    for count in counts:
        server = EmbeddedRedis(free_port())
        try:
            redis = connect(server.url)
            while True:
                try:
                    redis.ping()
                    break
                except ConnectionError:
                    continue
            measure(redis, count)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
