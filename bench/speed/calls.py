"""Ringback end to end: from the POST of a call to its bridge on the switch, and in Redis."""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import gevent
from gevent.lock import Semaphore

from app.calls.model import Role, call_id_of, leg_uuid
from app.store.client import connect
from app.store.keys import Keys
from bench.speed.bare import NUMBER
from bench.speed.load import Generator, Posted, request
from bench.speed.meter import Meter, Reading
from bench.speed.switch import Parties, Switch
from bench.speed.wire import Wire
from ringback_cli.up import Stack

PATH = "/uapi/phoneCalls/@me/simple"
BODY = {"extension": "210", "phoneCallView": [{"source": [NUMBER], "destination": [NUMBER]}]}

# Seconds before each window, longer than a call lasts: as many end in it as begin.
LEAD = 1.5
# Seconds until every call must be bridged.
_DRAIN = 15.0
# Calls on their way to their bridge while the maximum is estimated.
_UNDER_WAY = 40
# Of the calls asked for, how many must be bridged within the window, in Redis too: it is no steady
# state if ever more are under way.
_HELD = 0.95
# From one rate to the next, while all are held or none; how near a rate that is held must be to one
# that is not; and how many are tried at most.
_STEP = 1.4
_NEAR = 1.12
_STEPS = 6


@dataclass(frozen=True)
class Level:
    """What went on in one window at one rate."""

    offered: float
    bridged: float
    # Why calls were not bridged, and how many: refused, failed or not heard of.
    failed: Counter[str]
    # Seconds from the POST, for each call that was asked for; infinite where it never came.
    answered: list[float]
    originated: list[float]
    bridged_on_switch: list[float]
    bridged_in_redis: list[float]
    used: Reading
    # Calls bridged in the window: what was used is divided among these.
    calls: int
    lag: float
    held: bool = field(default=False)

    @property
    def rate(self) -> float:
        """Calls/s that were asked for and bridged: those left from before the window add none."""
        return min(self.offered, self.bridged)

    def per_call(self, amount: float) -> float:
        return amount / max(1, self.calls)

    def cpu_ms(self, *names: str) -> float:
        """CPU milliseconds per call of these processes."""
        return self.per_call(sum(self.used.cpu[name] for name in names)) * 1e3


@dataclass(frozen=True)
class Memory:
    """Bytes in Redis."""

    used: int
    # Of the stream of changes, which is trimmed, and of RQ's keys: a job's own record is kept for
    # a minute.
    stream: int
    rq: int

    @property
    def calls(self) -> int:
        return self.used - self.stream - self.rq


class EndToEnd:
    """Loads a running stack, and looks what becomes of the calls."""

    def __init__(self, stack: Stack, switch: Switch) -> None:
        self.stack = stack
        self.switch = switch
        self.keys = Keys(stack.settings.key_prefix)
        self.redis = connect(stack.settings.require_redis())
        self.parties = Parties(switch)
        body = json.dumps(BODY).encode()
        self.generator = Generator(stack.settings.http_address, request("POST", PATH, body))
        self._last = b"0"
        # Why calls failed that are no longer looked at.
        self.dropped: Counter[str] = Counter()

    def close(self) -> None:
        self.generator.close()
        self.parties.close()

    def meter(self) -> Meter:
        pids = {name: process.pid for name, process in self.stack.processes.items()}
        if self.switch.pid is not None:
            pids["switch"] = self.switch.pid
        return Meter({**pids, "load": os.getpid()}, self.redis)

    def maximum(self, seconds: float) -> tuple[Level, list[Level]]:
        """The highest rate that is held, and all that were tried."""
        tried: list[Level] = []
        rate, low, high = self.estimate(seconds), 0.0, math.inf
        while len(tried) < _STEPS and high / max(low, 1e-9) > _NEAR:
            tried.append(level := self.level(rate, seconds))
            if level.held:
                low = max(low, rate)
            else:
                high = min(high, rate)
            rate = low * _STEP if high == math.inf else high / _STEP
            if low and high < math.inf:
                rate = math.sqrt(low * high)
        held = [level for level in tried if level.held] or tried
        return max(held, key=lambda level: level.rate), tried

    def estimate(self, seconds: float) -> float:
        """Calls/s with a bounded number on their way to the bridge."""
        free = Semaphore(_UNDER_WAY)
        begun = time.monotonic()
        self._begin()

        def answered(posted: Posted) -> None:
            if posted.call_id is None:
                free.release()

        self.generator.on_answer = answered
        self.parties.on_over = lambda _: free.release()
        counted = None
        while (at := time.monotonic()) < begun + LEAD + seconds:
            if counted is None and at >= begun + LEAD:
                counted = at, len(self.parties.bridged)
            if free.acquire(timeout=1.0):
                self.generator.fire()
        assert counted is not None
        rate = (len(self.parties.bridged) - counted[1]) / (time.monotonic() - counted[0])
        self.generator.on_answer = self.parties.on_over = id
        self._settle()
        return max(1.0, rate)

    def place_lasting(self, count: int, rate: float) -> list[str]:
        """Have so many more calls, whose parties talk until :meth:`hang_up`; their ids."""
        self._begin()
        self.parties.talk = False
        for _ in range(count):
            self.generator.fire()
            gevent.sleep(1 / rate)
        self._settle()
        self.parties.talk = True
        placed = list(self.parties.bridged)
        if len(placed) < count:
            raise RuntimeError(f"only {len(placed)} of {count} calls were bridged")
        return placed

    def hang_up(self, ids: Sequence[str]) -> None:
        """Have the parties of these calls hang up, and wait until they have ended in Redis."""
        for call_id in ids:
            self.parties.hang_up(leg_uuid(call_id, Role.SOURCE, 1, 1))
        end = time.monotonic() + _DRAIN
        while time.monotonic() < end and self._live(ids):
            gevent.sleep(0.1)

    def _live(self, ids: Sequence[str]) -> bool:
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in ids:
                pipe.hget(self.keys.call(call_id), "state")
            return any(state != b"ended" for state in pipe.execute())

    def bytes_of(self, ids: Sequence[str]) -> float:
        """What Redis takes for one of these calls on average, its hash and its timeline."""
        of_call, timeline = self.keys.call, self.keys.timeline
        return self._bytes([key for i in ids for key in (of_call(i), timeline(i))]) / len(ids)

    def bytes_of_jobs(self, ids: Sequence[str]) -> float:
        """The same for RQ's own records of the jobs that placed them."""
        return self._bytes([f"rq:job:{call_id}" for call_id in ids]) / len(ids)

    def _bytes(self, keys: Sequence[Any]) -> int:
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.memory_usage(key, samples=0)
            return sum(filter(None, pipe.execute()))

    def memory(self) -> Memory:
        """What Redis holds now."""
        info: Any = self.redis.info("memory")
        of_rq = 0
        names = iter(self.redis.scan_iter("rq:*", count=1000))
        while some := list(islice(names, 500)):
            of_rq += self._bytes(some)
        stream: Any = self.redis.memory_usage(self.keys.events, samples=0)
        return Memory(info["used_memory"], stream or 0, of_rq)

    def level(self, rate: float, seconds: float) -> Level:
        """One window of so many seconds at this rate."""
        self._begin()
        self._skip()
        meter = self.meter()
        work = gevent.spawn(self.generator.open_loop, rate, LEAD + seconds)
        gevent.sleep(LEAD)
        before = meter.read()
        # Those behind it are late for a moment.
        lags_before = len(self.generator.lags) + 1
        gevent.sleep(seconds)
        after = meter.read()
        lags = sorted(self.generator.lags[lags_before:])
        work.join()
        self._settle()
        posted = [each for each in self.generator.posted if before.at <= each.at < after.at]
        in_redis = self._bridged_in_redis()
        ids = [each.call_id for each in posted if each.call_id]
        originated = self._originated(ids)
        bridged = self.parties.bridged
        count = sum(before.at <= at < after.at for at in bridged.values())
        count_in_redis = sum(before.at <= at < after.at for at in in_redis.values())
        used = after - before
        failed = Counter(reason for each in posted if (reason := self._failure(each)))
        return Level(
            offered=len(posted) / used.at,
            bridged=count / used.at,
            failed=failed,
            answered=[each.answered - each.at if each.call_id else math.inf for each in posted],
            originated=_since(posted, originated),
            bridged_on_switch=_since(posted, bridged),
            bridged_in_redis=_since(posted, in_redis),
            used=used,
            calls=count,
            lag=lags[int(0.99 * len(lags))] if lags else 0.0,
            held=min(count, count_in_redis) >= _HELD * len(posted) and not failed,
        )

    def _begin(self) -> None:
        self.generator.posted.clear()
        self.generator.lags.clear()
        self.parties.forget()

    def _settle(self) -> None:
        """Wait until every call is answered and bridged, and hung up."""
        end = time.monotonic() + _DRAIN
        bridged, refused = self.parties.bridged, self.parties.refused
        while time.monotonic() < end and not all(
            each.answered
            and (each.call_id is None or each.call_id in bridged or each.call_id in refused)
            for each in self.generator.posted
        ):
            gevent.sleep(0.1)
        gevent.sleep(LEAD)

    def drop_settled(self) -> None:
        """Forget what is old enough to be over, but for its failures."""
        old = time.time() - _DRAIN
        posted = self.generator.posted
        while posted and posted[0].at < old:
            over = posted.pop(0)
            if (reason := self._failure(over)) is not None:
                self.dropped[reason] += 1
            self.parties.bridged.pop(over.call_id or "", None)
            self.parties.refused.pop(over.call_id or "", None)
        self.generator.lags.clear()

    def _failure(self, posted: Posted) -> str | None:
        if posted.call_id is None:
            return f"HTTP {posted.status}" if posted.status else "no answer"
        if posted.call_id in self.parties.bridged:
            return None
        return self.parties.refused.get(posted.call_id, "never bridged")

    def _skip(self) -> None:
        """The stream's entries so far are of no window."""
        newest: Any = self.redis.xrevrange(self.keys.events, count=1)
        self._last = newest[0][0] if newest else b"0"

    def _bridged_in_redis(self) -> dict[str, float]:
        """When Redis had each bridge: the ids of its entries are milliseconds of its clock."""
        found: dict[str, float] = {}
        while True:
            reply: Any = self.redis.xread({self.keys.events: self._last}, count=5_000)
            if not reply:
                return found
            for self._last, entry in reply[0][1]:
                if entry[b"state"] == b"bridged" or b'"bridged":' in entry[b"changed"]:
                    # Half a millisecond: ids are rounded down.
                    at = int(self._last.partition(b"-")[0]) / 1000 + 0.0005
                    found.setdefault(entry[b"call"].decode(), at)

    def _originated(self, ids: Sequence[str]) -> dict[str, float]:
        """When the simulator had each originate, by its own record. A real switch keeps none:
        there, when the command was sent."""
        if self.switch.simulated:
            wire = Wire(self.switch.address)
            records = json.loads(wire.ask("api simulator originates"))
            wire.close()
            return {call_id_of(each["job_uuid"] or ""): each["time"] for each in records}
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in ids:
                pipe.xrange(self.keys.timeline(call_id))
            found = zip(ids, pipe.execute(), strict=True)
        return {
            call_id: float(entry[b"at"])
            for call_id, timeline in found
            for _, entry in timeline
            if (entry[b"kind"], entry[b"name"]) == (b"command", b"originate")
        }


def _since(posted: Sequence[Posted], times: dict[str, float]) -> list[float]:
    return [times.get(each.call_id or "", math.inf) - each.at for each in posted]
