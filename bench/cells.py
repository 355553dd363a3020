"""What a call costs one Redis, with ever more switches and live calls.

    python -m bench.cells [--rate N] [--seconds N] [--seed N] [--full]

The real scripts run against a Redis with an append-only file and one replica: acceptance with its
job, claims, what workers note, a listener's changes by the events of a FreeSWITCH
(bench/speed/bridged.jsonl), and what the leaders of all switches write while nothing happens.
Organizations, switches and the moments of the calls come from the seed. One process does all of
that, so it says nothing of workers and listeners. CPU is that of the two Redis processes, as the
kernel counts it.
"""

import argparse
import heapq
import json
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gevent.event import Event as Flag

from app.calls import transitions
from app.calls.model import Call, Role, State, evolve, job_uuid, leg_uuid
from app.settings import load_settings
from app.store.accepting import Acceptor
from app.store.pace import Limit
from app.store.steering import LASTS, Steer, SteerStore
from app.store.writes import Note
from bench.speed.bare import NUMBER, call_to
from bench.speed.growth import copy_live
from bench.speed.meter import Meter, Reading, resident
from bench.speed.table import heads, row, title
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.events import Event
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port
from workers.listener.folding import Folding
from workers.listener.leading import LEASE
from workers.listener.steering import SAID_EACH
from workers.listener.switch_record import SwitchRecord
from workers.runtime import Runtime

# Switches and live calls: the second is the end of one call controller, the last that of a cell.
LEVELS = ((1, 0), (1, 1_000), (20, 1_000), (20, 10_000))
FULL = (*LEVELS, (100, 10_000), (100, 100_000))
ORGANIZATIONS = 200
# The share of one core up to which a Redis answers without delay.
BUSY = 0.7
# The most calls that are claimed together, and the seconds of one step: a listener's batches.
BATCH, STEP = 32, 0.04
_RECORDED = Path(__file__).parent / "speed" / "bridged.jsonl"
_SOURCE = "21421a59-c600-441c-9d31-e2c696f67bc5"
_DESTINATION = "5b532d11-9c65-401d-86a3-264162f81633"
_JOB = "af385f1a-2e0a-4c41-82f8-a13e77a7e7a2"
_CALL = '"variable_ringback_call":"c02"'


@dataclass(frozen=True)
class Level:
    """What so many switches and live calls cost in so many seconds."""

    switches: int
    live: int
    ended: int
    # Calls that ended otherwise than bridged.
    wrong: int
    seconds: float
    used: Reading
    idle: Reading
    memory: int


class Simulation:
    """The part of all processes that Redis sees, in one process."""

    def __init__(self, runtime: Runtime, switches: int, seed: int) -> None:
        self._runtime = runtime
        self._random = random.Random(seed)
        self._acceptor = Acceptor(runtime.store)
        self._steers = SteerStore(runtime.redis, runtime.keys)
        self._never = Flag()
        self.names = [f"s{number}" for number in range(1, switches + 1)]
        self._foldings: dict[str, Folding] = {}
        self._records: dict[str, SwitchRecord] = {}
        self._lines = [
            (line, int(json.loads(line)["Event-Date-Timestamp"]) / 1e6)
            for line in _RECORDED.read_text().splitlines()
            if '"Event-Name":"CHANNEL_DESTROY"' not in line
        ]
        # The events to come: when, a number that keeps their order, the switch, the event.
        self._due: list[tuple[float, int, str, Event]] = []
        self._numbers = 0
        self._said = 0.0
        self.placed: list[str] = []
        for name in self.names:
            address = SwitchAddress(name, "127.0.0.1", password="")
            link = SwitchConnection(address)
            record = SwitchRecord(runtime, link, self._never)
            folding = Folding(runtime, link, record, self._never)
            folding.take_over((), time.monotonic())
            self._foldings[name], self._records[name] = folding, record
            runtime.pacer.set_switch_limit(name, Limit())
        self.lead()

    def lead(self) -> None:
        """Write what the leaders of all switches write, if it is time."""
        if time.monotonic() < self._said + SAID_EACH:
            return
        self._said = time.monotonic()
        until = self._runtime.store.now() + LASTS
        for name in self.names:
            self._runtime.redis.set(self._runtime.keys.switch_lease(name), "bench", px=3_000)
            self._records[name].sign(hears=True, lasts=LEASE)
            self._steers.tell(name, Steer(until))

    def step(self, accepted: int) -> None:
        """Accept so many calls, dial what may be dialled, and apply the events that are due."""
        for _ in range(accepted):
            number = self._random.randrange(ORGANIZATIONS)
            call = evolve(call_to(NUMBER), organization=str(number), user=f"u{number}")
            self._acceptor.accept([call], self._runtime.queue.place_call)
            self.placed.append(call.id)
        if accepted:
            turn = self._runtime.claims.next(dict.fromkeys(self.names, "run"), BATCH)
            self._dial(turn.calls)
        now = time.time()
        of_switch: dict[str, list[Event]] = {}
        while self._due and self._due[0][0] <= now:
            _, _, name, event = heapq.heappop(self._due)
            of_switch.setdefault(name, []).append(event)
        for name, events in of_switch.items():
            self._foldings[name].hear(events)
        for folding in self._foldings.values():
            if folding.some_wait.is_set():
                folding.write_due()
        self.lead()

    @property
    def is_over(self) -> bool:
        """Whether no event is to come."""
        return not self._due

    def finish(self) -> None:
        """Write what listeners hold back."""
        for folding in self._foldings.values():
            folding.write_all()

    def _dial(self, calls: Sequence[Call]) -> None:
        store = self._runtime.store
        notes = [(call.id, Note("command", "originate", data="…"), store.now()) for call in calls]
        if notes:
            store.note_sent(notes)
        for call in calls:
            begins = time.time() + self._random.uniform(0.01, 0.1)
            first = self._lines[0][1]
            for line, at in self._lines:
                text = (
                    line.replace(_CALL, f'"variable_ringback_call":"{call.id}"')
                    .replace(_SOURCE, leg_uuid(call.id, Role.SOURCE, 1, 1))
                    .replace(_DESTINATION, leg_uuid(call.id, Role.DESTINATION, 1, 1))
                    .replace(_JOB, job_uuid(call.id))
                )
                self._numbers += 1
                event = Event.from_json(text.encode())
                entry = begins + at - first, self._numbers, call.switch or "", event
                heapq.heappush(self._due, entry)


def measure(switches: int, live: int, rate: float, seconds: float, seed: int) -> Level:
    """Run so many calls a second beside so many live calls, and read what Redis uses."""
    with ExitStack() as exits:
        server = EmbeddedRedis(free_port(), password="")
        exits.callback(server.stop)
        copy = EmbeddedRedis(free_port(), password="")
        exits.callback(copy.stop)
        settings = replace(
            load_settings(), redis_url=server.url, switches=None, wait_replicas=0, retention=600
        )
        runtime = Runtime.create(settings)
        exits.callback(runtime.redis.close)
        redis = runtime.redis
        redis.config_set("appendonly", "yes")
        replica = Runtime.create(replace(settings, redis_url=copy.url)).redis
        replica.config_set("appendonly", "yes")
        replica.replicaof("127.0.0.1", server.url.rpartition(":")[2].partition("/")[0])
        runtime.pacer.set_limits({})
        simulation = Simulation(runtime, switches, seed)
        if live:
            _fill(runtime, live)
        meter = Meter({"redis": server.process.pid, "replica": copy.process.pid}, redis)
        _caught_up(runtime)
        before = meter.read()
        _run(simulation, 0.0, seconds / 2)
        idle = meter.read() - before
        before, begun = meter.read(), time.monotonic()
        _run(simulation, rate, seconds)
        while not simulation.is_over:
            simulation.step(0)
        simulation.finish()
        lasted = time.monotonic() - begun
        _caught_up(runtime)
        used = meter.read() - before
        calls = runtime.store.get_many(simulation.placed)
        right = sum(c is not None and c.state is State.ENDED and bool(c.bridged) for c in calls)
        memory = resident([server.process.pid])
    return Level(switches, live, right, len(calls) - right, lasted, used, idle, memory)


def _run(simulation: Simulation, rate: float, seconds: float) -> None:
    end, owed = time.monotonic() + seconds, 0.0
    at = time.monotonic()
    while at < end:
        simulation.step(int(owed))
        owed -= int(owed)
        time.sleep(max(0.0, STEP - (time.monotonic() - at)))
        owed += (time.monotonic() - at) * rate
        at = time.monotonic()


def _fill(runtime: Runtime, live: int) -> None:
    """Keep so many bridged calls: copies of one that the real scripts have made."""
    call = call_to(NUMBER)
    Acceptor(runtime.store).accept([call], lambda *_: None)

    def bridge(call: Call) -> Call:
        at = runtime.store.now()
        call = transitions.claim(call, worker="bench", switch="s1", core_uuid="run", at=at)
        return evolve(call, state=State.BRIDGED, bridged=at)

    runtime.store.change(replace(call, version=1), bridge, Note("command", "claim"))
    copy_live(runtime.redis, runtime.keys, call.id, live)


def _caught_up(runtime: Runtime) -> None:
    """Wait until the replica has all."""
    runtime.redis.set(f"{runtime.keys.prefix}bench", 1)
    runtime.redis.wait(1, 60_000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cells", description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="calls a second (20)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each level (10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="100 switches and 100,000 live calls")
    given = parser.parse_args()
    run = partial(measure, rate=given.rate, seconds=given.seconds, seed=given.seed)
    levels = [run(*level) for level in (FULL if given.full else LEVELS)]
    title(f"One Redis with append-only file and a replica, {given.rate:g} calls/s offered")
    heads(*(f"{each.switches}/{each.live:,}" for each in levels))
    row("calls that ended as they should", *(each.ended for each in levels))
    row("calls that did not", *(each.wrong for each in levels))
    row("calls/s of this run", *(each.ended / each.seconds for each in levels))
    row("CPU % with no call: Redis", *(_idle(each) * 100 for each in levels))
    for name in ("redis", "replica"):
        row(f"CPU ms per call: {name}", *(_per_call(each, name) * 1e3 for each in levels))
    row("commands per call", *(each.used.commands / max(1, each.ended) for each in levels))
    row("MB of memory", *(each.memory / 1e6 for each in levels))
    row(
        f"calls/s at {BUSY:.0%} of a core, estimated",
        *((BUSY - _idle(each)) / _per_call(each, "redis") for each in levels),
    )


def _idle(level: Level) -> float:
    return level.idle.cpu["redis"] / level.idle.at


def _per_call(level: Level, name: str) -> float:
    """Seconds of CPU of one call, without what the switches cost while nothing happens."""
    idle = level.idle.cpu[name] / level.idle.at * level.used.at
    return max(1e-6, level.used.cpu[name] - idle) / max(1, level.ended)


if __name__ == "__main__":
    main()
