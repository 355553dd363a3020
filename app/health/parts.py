"""The parts that a process needs, and the state of each.

Anybody who can reach the page can read the sentences. They contain no addresses, no numbers and
only the names of switches.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from app.accounts.store import AccountStore
from app.settings import Settings
from app.store.calls import CallStore
from app.store.client import connect, is_unavailable
from app.store.keys import Keys
from app.store.pace import Pacer
from app.store.queue import ACTIONS, CALLS, REQUESTS, workers
from app.store.reserve import Reserve, Room
from app.store.switches import Switch, SwitchStore

log = logging.getLogger(__name__)

# Seconds for which a worker may be silent. RQ's workers send a heartbeat every 30 s.
WORKER_LIMIT = 90.0
# Seconds within which Redis must answer a probe, and for which it keeps the probe's key.
_PROBE_TIMEOUT = 0.5
_PROBE_TTL = 60
# Connections for probes, which is the number of probes at one time.
_PROBES = 4


class Readiness(StrEnum):
    READY = "ready"
    # The part has a fault, but this process can still do its work.
    DEGRADED = "degraded"
    NOT_READY = "not ready"


@dataclass(frozen=True, slots=True)
class Part:
    """A part and its state; ``why`` is a sentence for an operator."""

    level: Readiness = Readiness.READY
    why: str = ""


Parts = Mapping[str, Part]


def is_ready(parts: Parts) -> bool:
    return all(part.level is not Readiness.NOT_READY for part in parts.values())


def document(parts: Parts) -> dict[str, Any]:
    return {
        "status": Readiness.READY if is_ready(parts) else Readiness.NOT_READY,
        "parts": {
            name: {"status": part.level, **({"why": part.why} if part.why else {})}
            for name, part in parts.items()
        },
    }


def impatient_store(settings: Settings) -> CallStore:
    """A store with its own connections, for probes that must learn soon that Redis is
    unavailable."""
    url = settings.require_redis()
    redis = connect(url, timeout=_PROBE_TIMEOUT, retries=0, connections=_PROBES)
    return CallStore(redis, Keys(settings.key_prefix))


def redis_part(store: CallStore) -> Part:
    """The part Redis: whether Redis answers and accepts writes."""
    try:
        store.redis.set(f"{store.keys.prefix}probe", 1, ex=_PROBE_TTL)
    except OutOfMemoryError:
        # All processes see this, and none can do without those that still hang up calls.
        return Part(Readiness.DEGRADED, "Redis is full: no call is accepted or dialled.")
    except RedisError as error:
        return Part(Readiness.NOT_READY, _why(error))
    return Part()


def _why(error: RedisError) -> str:
    # The error's own text may contain the address of Redis.
    name = type(error).__name__
    if not is_unavailable(error):
        return f"Redis refuses writes: {name}."
    if name in ("ConnectionError", "TimeoutError"):
        return "Redis does not answer."
    word = str(error).split(" ", 1)[0]
    return f"Redis accepts no commands now: {word if word.isupper() else name}."


class ApiHealth:
    """The health of an API, which is ready with Redis and the accounts. Missing workers and
    switches only degrade it. They are missing for all APIs, and calls wait for them. A load
    balancer that took out all APIs would only make it worse."""

    def __init__(self, store: CallStore, accounts: AccountStore, reserve: Reserve) -> None:
        self._store = store
        self._reserve = reserve
        self._accounts = accounts
        self._switches = SwitchStore(store.redis, store.keys)

    def __call__(self) -> Parts:
        parts = {"redis": redis_part(self._store)}
        if parts["redis"].level is Readiness.READY and self._reserve.room() is Room.NONE:
            why = "Redis is nearly full: no new call is accepted."
            parts["redis"] = Part(Readiness.DEGRADED, why)
        if is_ready(parts):
            try:
                parts |= self._others()
            except RedisError as error:
                parts["redis"] = Part(Readiness.NOT_READY, _why(error))
        return parts

    def _others(self) -> Iterator[tuple[str, Part]]:
        loaded = bool(self._accounts.current().apps)
        why = "Redis has no accounts yet, so the API refuses every request."
        yield "accounts", Part() if loaded else Part(Readiness.NOT_READY, why)
        why = "Redis has no limits of calls, so no call is accepted or dialled."
        has_limits = Pacer(self._store.redis, self._store.keys).has_limits()
        yield "limits", Part() if has_limits else Part(Readiness.NOT_READY, why)
        try:
            yield "workers", _workers_part(self._store)
            yield from switch_parts(self._switches.get_many(self._switches.names()))
        except RedisError:
            raise
        except Exception as error:
            # All APIs see this fault, and none of them needs these parts to be ready.
            log.error("the workers and switches in Redis cannot be read: %r", error)
            why = "The workers and switches in Redis cannot be read."
            yield "others", Part(Readiness.DEGRADED, why)


def _workers_part(store: CallStore) -> Part:
    now = store.now()
    alive = {
        queue
        for worker in workers(store.redis)
        for queue in worker["queues"].split(",")
        if now - (worker["heartbeat"] or 0.0) < WORKER_LIMIT
    }
    if CALLS not in alive:
        return Part(Readiness.DEGRADED, "No worker is alive: calls wait, and none is dialled.")
    if ACTIONS not in alive:
        return Part(Readiness.DEGRADED, "No worker takes actions: no call is hung up or moved.")
    if REQUESTS not in alive:
        return Part(Readiness.DEGRADED, "No worker takes requests: jobs of other programs wait.")
    return Part()


def is_followed(switch: Switch) -> bool:
    """Whether a listener hears the switch."""
    return switch.state not in ("unknown", "unreachable")


def switch_parts(switches: Iterable[Switch]) -> Iterator[tuple[str, Part]]:
    """The parts for all switches, as Redis records them."""
    known = False
    for switch in switches:
        known = True
        name = f"switch {switch.name}"
        if switch.state == "unreachable":
            yield name, Part(Readiness.DEGRADED, "The listener cannot reach the switch.")
        elif not is_followed(switch):
            yield name, Part(Readiness.DEGRADED, "No listener hears the switch.")
        elif switch.paused is not None:
            yield name, Part(why="An operator has paused the switch: it gets no new calls.")
        elif switch.closed:
            yield name, Part(why=f"The switch is {switch.closed}: it gets no new calls.")
        else:
            yield name, Part()
    if not known:
        yield "switches", Part(Readiness.DEGRADED, "No switch is registered.")


# The parts of a process that follows an empty registry. It is ready: the first switch that is added
# finds it there.
_NO_SWITCH = {"switches": Part(Readiness.DEGRADED, "No switch is registered.")}


def worker_parts(connected: Mapping[str, bool]) -> Parts:
    """The parts of a worker, by its connections to switches: one is enough to dial on."""
    if not connected:
        return _NO_SWITCH
    level = Readiness.DEGRADED if any(connected.values()) else Readiness.NOT_READY
    why = "This worker is not connected to the switch."
    return {f"switch {name}": Part() if up else Part(level, why) for name, up in connected.items()}


def listener_parts(hears: Mapping[str, bool]) -> Parts:
    """The parts of a listener, by the switches that it hears, whether it leads or not. A rolling
    update may stop another listener only once this one hears all switches."""
    if not hears:
        return _NO_SWITCH
    deaf = Part(Readiness.NOT_READY, "This listener does not hear the switch.")
    return {f"switch {name}": Part() if up else deaf for name, up in hears.items()}
