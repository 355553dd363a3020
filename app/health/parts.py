"""What a process needs, part by part, and how it stands.

What is said is for anybody who can reach the page: no addresses, no numbers, nobody's names but
those of the switches.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import RedisError

from app.accounts.store import AccountStore
from app.settings import Settings
from app.store.calls import CallStore
from app.store.client import connect, is_unavailable
from app.store.keys import Keys
from app.store.queue import ACTIONS, CALLS, workers
from app.store.switches import Switch, SwitchStore

log = logging.getLogger(__name__)

# Seconds for which a worker may be silent: RQ's tell every half a minute that they are there.
WORKER_LIMIT = 90.0
# Seconds that Redis is given to answer whoever asks, and for which what is written is kept.
_PROBE_TIMEOUT = 0.5
_PROBE_TTL = 60
# Who ask at a time.
_PROBES = 4


class Readiness(StrEnum):
    READY = "ready"
    # Not as it should be, and no reason to give this process nothing to do.
    DEGRADED = "degraded"
    NOT_READY = "not ready"


@dataclass(frozen=True, slots=True)
class Part:
    """``why`` is a sentence for an operator."""

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
    """With connections of its own, for those who would rather know soon that Redis is away."""
    url = settings.require_redis()
    redis = connect(url, timeout=_PROBE_TIMEOUT, retries=0, connections=_PROBES)
    return CallStore(redis, Keys(settings.key_prefix))


def redis_part(store: CallStore) -> Part:
    """Whether Redis answers and takes what is written."""
    try:
        store.redis.set(f"{store.keys.prefix}probe", 1, ex=_PROBE_TTL)
    except RedisError as error:
        return Part(Readiness.NOT_READY, _why(error))
    return Part()


def _why(error: RedisError) -> str:
    # Its own text may have the address.
    name = type(error).__name__
    if not is_unavailable(error):
        return f"Redis refuses what is written to it: {name}."
    if name in ("ConnectionError", "TimeoutError"):
        return "Redis does not answer."
    word = str(error).split(" ", 1)[0]
    return f"Redis takes nothing now: {word if word.isupper() else name}."


class ApiHealth:
    """The API is ready with Redis and the accounts. Workers and switches that are missing are
    missing for all APIs: calls wait, and taking the APIs away as well would help nobody."""

    def __init__(self, store: CallStore, accounts: AccountStore) -> None:
        self._store = store
        self._accounts = accounts
        self._switches = SwitchStore(store.redis, store.keys)

    def __call__(self) -> Parts:
        parts = {"redis": redis_part(self._store)}
        if is_ready(parts):
            try:
                parts |= self._others()
            except RedisError as error:
                parts["redis"] = Part(Readiness.NOT_READY, _why(error))
        return parts

    def _others(self) -> Iterator[tuple[str, Part]]:
        loaded = bool(self._accounts.current().apps)
        why = "Redis holds no accounts yet: nobody can ask for anything."
        yield "accounts", Part() if loaded else Part(Readiness.NOT_READY, why)
        try:
            yield "workers", _workers_part(self._store)
            yield from switch_parts(self._switches.get_many(self._switches.names()))
        except RedisError:
            raise
        except Exception as error:
            # It is the same for all APIs, and none of them needs it.
            log.error("what Redis has of workers and switches cannot be read: %r", error)
            why = "What Redis has of workers and switches cannot be read."
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
        return Part(Readiness.DEGRADED, "No worker is alive: calls wait, and nothing is dialled.")
    if ACTIONS not in alive:
        return Part(Readiness.DEGRADED, "No worker takes actions: nothing is hung up or moved.")
    return Part()


def is_followed(switch: Switch) -> bool:
    """Whether a listener hears it."""
    return switch.state not in ("unknown", "unreachable")


def switch_parts(switches: Iterable[Switch]) -> Iterator[tuple[str, Part]]:
    """Of all switches, as Redis has them."""
    known = False
    for switch in switches:
        known = True
        name = f"switch {switch.name}"
        if switch.state == "unreachable":
            yield name, Part(Readiness.DEGRADED, "It is out of its listener's reach.")
        elif not is_followed(switch):
            yield name, Part(Readiness.DEGRADED, "No listener hears it.")
        elif switch.paused is not None:
            yield name, Part(why="An operator has it given no new call.")
        else:
            yield name, Part()
    if not known:
        yield "switches", Part(Readiness.DEGRADED, "No listener has followed a switch yet.")


def worker_parts(connected: Mapping[str, bool]) -> Parts:
    """By the switches that a worker is connected to: one is enough to dial on."""
    level = Readiness.DEGRADED if any(connected.values()) else Readiness.NOT_READY
    why = "This worker is not connected to it."
    return {f"switch {name}": Part() if up else Part(level, why) for name, up in connected.items()}


def listener_parts(hears: Mapping[str, bool]) -> Parts:
    """By the switches that a listener hears, whoever leads there: not before it hears all of them
    may another one be stopped in its favour."""
    deaf = Part(Readiness.NOT_READY, "This listener does not hear it.")
    return {f"switch {name}": Part() if up else deaf for name, up in hears.items()}
