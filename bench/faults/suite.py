"""One round: load, faults meanwhile, then healing, draining and checking."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from bench.faults.check import Verdict, check
from bench.faults.cluster import Cluster, Layout, NotReady, running, wait_until
from bench.faults.faults import FAULTS
from bench.faults.load import CALLS, Load, Placed, Plan, exchange, plans
from bench.faults.record import Record, SimulatorRecord, witnessed
from freeswitch.address import parse_list
from freeswitch.errors import EventSocketError

# Seconds until every call has ended that was told to, and until nothing is left of it. The first
# is longer than the longest time that a lost call may take to be given up.
END_LIMIT = 60.0
REST_LIMIT = 60.0
# Seconds after which a call that has not ended is told so again.
_AGAIN = 5.0


class Suite:
    """Rounds on one cluster, all from one seed."""

    def __init__(self, cluster: Cluster, record: Record, seed: int, *, asks: bool = False) -> None:
        self.cluster = cluster
        self.plans = plans(seed, asks=asks)
        # Whether nothing was ever wrong: what is left of it would be found again.
        self.sound = True
        # Whether Redis refused commands since the last check.
        self._redis_refused = False
        # Whether the switch has thrown events away since then.
        self._events_lost = False
        self._random = Random(f"faults {seed}")
        self.record = record

    def do(self, name: str, lasts: float) -> None:
        """Do one fault, by its name, for about so many seconds, and heal it."""
        self.cluster.journal.say(f"{name} for {lasts:.1f} s")
        self._redis_refused |= FAULTS[name].redis_refuses
        self._events_lost |= FAULTS[name].loses_events
        FAULTS[name].do(self.cluster, self._random, lasts)
        self.cluster.journal.say(f"{name} is over")
        self.cluster.check_parts()

    def round(
        self,
        what_happens: Callable[[], None],
        rate: float,
        plans: Iterable[Plan] | None = None,
    ) -> Verdict:
        """Place calls, these or endlessly, while something happens, and see what became of them."""
        self.sound = False
        cluster = self.cluster
        ports = list(cluster.api_ports.values())
        path = cluster.folder / "answers.jsonl"
        with Load(ports, plans or self.plans, rate, path, all=plans is not None) as load:
            what_happens()
        return self.judge(load.placed)

    def judge(self, placed: Sequence[Placed]) -> Verdict:
        """Heal everything, end what lives on, and check what became of these calls."""
        self.sound = False
        self.cluster.heal()
        self.cluster.journal.say(f"healed; {len(placed)} calls were asked for")
        drain(self.cluster)
        self.record.read_on()
        verdict = check(
            self.cluster,
            placed,
            self.record,
            self.cluster.folder,
            redis_refused=self._redis_refused,
            events_lost=self._events_lost,
        )
        self._redis_refused = self._events_lost = False
        self.sound = not verdict.violations
        return verdict


@contextlib.contextmanager
def opened(
    layout: Layout, folder: Path, seed: int, tell: Callable[[str], None], *, asks: bool = False
) -> Iterator[Suite]:
    """A suite on a cluster of its own, which ends on leaving. With ``asks`` its clients ask more of
    their calls. Raises NotReady."""
    with running(layout, folder, tell) as cluster:
        if layout.switch and layout.far_end:
            (far_end,) = parse_list(f"far-end={layout.far_end}")
            with witnessed(cluster.switches[0], far_end) as record:
                yield Suite(cluster, record, seed, asks=asks)
        else:
            yield Suite(cluster, SimulatorRecord(folder), seed, asks=asks)


def drain(cluster: Cluster) -> None:
    """Hang up what lives on and wait for its end; what does not end is for the check to tell."""
    redis, keys = cluster.redis(), cluster.keys
    asked: dict[str, float] = {}
    start = time.monotonic()

    def over() -> bool:
        live = {call.decode() for call in redis.zrange(keys.user_calls("12"), 0, -1)}
        due = [i for i in live if time.monotonic() - asked.get(i, -_AGAIN) >= _AGAIN]
        asked.update(dict.fromkeys(due, time.monotonic()))
        port = next(iter(cluster.api_ports.values()))
        asyncio.run(_hang_up(port, due))
        return not live

    def at_rest() -> bool:
        try:
            channels = [uuid for s in cluster.switches for uuid in cluster.channels(s.name)]
        except EventSocketError:
            return False
        return not channels and not any(
            map(redis.llen, ("rq:queue:ringback-calls", "rq:queue:ringback-actions"))
        )

    with contextlib.suppress(NotReady):
        wait_until("calls do not end", over, END_LIMIT)
    with contextlib.suppress(NotReady):
        wait_until("something is left of them", at_rest, REST_LIMIT)
    cluster.journal.say(
        f"drained after {time.monotonic() - start:.1f} s, {len(asked)} calls were still live"
    )


async def _hang_up(port: int, call_ids: list[str]) -> None:
    paths = (f"{CALLS}/@self/{call_id}" for call_id in call_ids)
    requests = (exchange(port, "DELETE", path) for path in paths)
    await asyncio.gather(*requests, return_exceptions=True)
