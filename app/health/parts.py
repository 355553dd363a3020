"""The parts that a process needs, and the state of each.

Anybody who can reach the page can read the sentences. They contain no addresses, no numbers and
only the names of switches.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.accounts.store import AccountStore
from app.settings import Settings
from app.store.calls import CallStore
from app.store.client import connect, is_unavailable
from app.store.keys import Keys
from app.store.maintenance import Maintenance
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
# Seconds for which a Redis that answers no probe in time counts as slow. If it answers nothing in
# these, it is down. A patient probe waits so long, and begins again after a pause.
_SLOW_LIMIT = 6.0
_PATIENCE, _PAUSE = 5.0, 0.5


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


def impatient_store(settings: Settings, timeout: float = _PROBE_TIMEOUT) -> CallStore:
    """A store with its own connections, for probes that must learn soon that Redis is
    unavailable."""
    url = settings.require_redis()
    redis = connect(url, timeout=timeout, retries=0, connections=_PROBES)
    return CallStore(redis, Keys(settings.key_prefix))


class RedisProbe:
    """The part Redis: whether Redis answers and accepts writes.

    All processes see a slow Redis, so a process that is not ready for it would help nobody: a load
    balancer would have no API left that says when to retry. So a Redis that answers late is
    ``degraded``, and one that answers nothing for _SLOW_LIMIT seconds ``not ready``.
    """

    def __init__(self, store: CallStore, patient: CallStore) -> None:
        """``store`` gives up soon. The connections of ``patient`` wait for a late answer."""
        self._store = store
        self._patient = patient
        # When Redis last answered a probe, and since when it has been late (both monotonic).
        self._heard = float("-inf")
        self._late_since: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> "RedisProbe":
        return cls(impatient_store(settings), impatient_store(settings, _PATIENCE))

    def __call__(self) -> Part:
        try:
            _probe(self._store)
        except OutOfMemoryError:
            # All processes see this, and none can do without those that still hang up calls.
            return Part(Readiness.DEGRADED, "Redis is full: no call is accepted or dialled.")
        except RedisError as error:
            return self.judge(error)
        self._heard, self._late_since = time.monotonic(), None
        return Part()

    def judge(self, error: RedisError) -> Part:
        """The part after an error of a command that did not wait for a late answer."""
        now = time.monotonic()
        if not isinstance(error, RedisTimeoutError):
            return Part(Readiness.NOT_READY, _why(error))
        if self._late_since is None:
            self._late_since = now
            # The page must answer soon, and the probe needs longer than that.
            threading.Thread(target=self._wait, daemon=True).start()
        is_known = self._heard > float("-inf")
        if is_known and now - max(self._heard, self._late_since) < _SLOW_LIMIT:
            return Part(Readiness.DEGRADED, "Redis answers late: requests may get 503.")
        return Part(Readiness.NOT_READY, _why(error))

    def _wait(self) -> None:
        """Ask patiently until Redis answers in time again."""
        while self._late_since is not None:
            try:
                _probe(self._patient)
                self._heard = time.monotonic()
            except RedisError:
                pass
            time.sleep(_PAUSE)


def _probe(store: CallStore) -> None:
    store.redis.set(f"{store.keys.prefix}probe", 1, ex=_PROBE_TTL)


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

    def __init__(
        self, store: CallStore, accounts: AccountStore, reserve: Reserve, probe: RedisProbe
    ) -> None:
        self._store = store
        self._probe = probe
        self._maintenance = Maintenance(store.redis, store.keys)
        self._reserve = reserve
        self._accounts = accounts
        self._switches = SwitchStore(store.redis, store.keys)

    def __call__(self) -> Parts:
        parts = {"redis": self._probe()}
        if parts["redis"].level is Readiness.READY and self._reserve.room() is Room.NONE:
            why = "Redis is nearly full: no new call is accepted."
            parts["redis"] = Part(Readiness.DEGRADED, why)
        if is_ready(parts):
            try:
                parts |= self._others()
            except RedisError as error:
                parts["redis"] = self._probe.judge(error)
        return parts

    def _others(self) -> Iterator[tuple[str, Part]]:
        if self._maintenance.state() is not None:
            # The API answers what it refuses better than a load balancer does.
            why = "An operator has switched maintenance on: requests that change something get 503."
            yield "maintenance", Part(Readiness.DEGRADED, why)
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
        for worker in workers(store.redis, store.keys)
        for queue in worker["queues"].split(",")
        if now - (worker["heartbeat"] or 0.0) < WORKER_LIMIT
    }
    if store.keys.queue(CALLS) not in alive:
        return Part(Readiness.DEGRADED, "No worker is alive: calls wait, and none is dialled.")
    if store.keys.queue(ACTIONS) not in alive:
        return Part(Readiness.DEGRADED, "No worker takes actions: no call is hung up or moved.")
    if store.keys.queue(REQUESTS) not in alive:
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


def listener_parts(
    hears: Mapping[str, bool], heard_by_others: Callable[[Iterable[str]], Container[str]]
) -> Parts:
    """The parts of a listener, by the switches that it hears, whether it leads or not. It is ready
    once it hears all switches that any listener hears: then a rolling update may stop another one.
    A switch that nobody hears keeps no update from going on.

    ``heard_by_others`` returns those of some switches that other listeners hear.
    """
    if not hears:
        return _NO_SWITCH
    deaf = [name for name, up in hears.items() if not up]
    others = heard_by_others(deaf) if deaf else ()
    why = "This listener does not hear the switch, and {} does."
    missing = Part(Readiness.NOT_READY, why.format("another"))
    away = Part(Readiness.DEGRADED, why.format("no other"))
    return {
        f"switch {name}": Part() if up else missing if name in others else away
        for name, up in hears.items()
    }


class OtherListeners:
    """What the other listeners hear."""

    def __init__(self, store: CallStore, own: str) -> None:
        """``own`` is the name of this listener."""
        self._switches = SwitchStore(store.redis, store.keys)
        self._own = own

    def __call__(self, switches: Iterable[str]) -> Container[str]:
        """The switches that another listener hears; all of them where Redis does not say."""
        names = list(switches)
        try:
            return {
                name
                for name in names
                if any(each != self._own for each in self._switches.listeners(name))
            }
        except RedisError:
            return names
