"""Ejection: a switch, or a gateway on it, that fails what works on the others gets no call.

Each process batches what it sees of switches in :class:`Outcomes`. ejection.lua counts that, and
writes what is ejected. pace.lua passes over it.
"""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.calls.model import Call
from app.calls.outcomes import outcomes
from app.store import scripts
from app.store.keys import Keys
from app.telemetry import counting

log = logging.getLogger(__name__)

# The most fields that are gathered while Redis is unavailable.
_MOST = 10_000
# Why a switch is ejected that did not answer a command, and one that refused it.
NO_REPLY, REFUSED = "no reply", "refused"


@dataclass(frozen=True, slots=True)
class Ejected:
    """A switch (``gateway`` is "") or a gateway on it that gets no call until ``until``, in epoch
    seconds. Then, or while ``probing``, it gets one call at a time."""

    switch: str
    gateway: str
    until: float
    since: float
    why: str
    times: int
    probing: bool


class _Seen:
    """What was seen of one switch or gateway since the last report."""

    __slots__ = ("bad", "good", "run", "why")

    def __init__(self) -> None:
        self.good = self.bad = self.run = 0
        self.why = ""

    def add(self, fault: str | None) -> None:
        if fault is None:
            self.good, self.run = self.good + 1, 0
        else:
            self.bad, self.run, self.why = self.bad + 1, self.run + 1, fault


class Outcomes:
    """What one process has seen of its switches, reported in batches."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._names: list[str] = []
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._owing: set[str] = set()
        # Told of each failure, which is to be reported at once.
        self.on_fault: Callable[[], object] = lambda: None

    def follow(self, names: Iterable[str]) -> None:
        """Set the names of all switches."""
        self._names = sorted(names)

    def has_others(self, switch: str) -> bool:
        """Whether there is another switch."""
        return any(name != switch for name in self._names)

    def changed(self, old: Call, new: Call) -> None:
        """Count what a change of a call says of its switch."""
        if old.switch is None:
            return
        for each in outcomes(old, new):
            if each.gateway is not None:
                self.add(old.switch, each.gateway, each.fault)
            if each.whole:
                self.add(old.switch, "", each.fault)

    def add(self, switch: str, gateway: str, fault: str | None) -> None:
        """Count one outcome; ``fault`` is a hang-up cause, None for what worked."""
        if len(self._names) < 2:
            # With one switch nothing is ejected.
            return
        self._of(switch, gateway).add(fault)
        if fault is not None:
            self.on_fault()

    def owes(self, switch: str) -> None:
        """Report that a command to the switch has no reply."""
        if len(self._names) > 1:
            self._owing.add(switch)
            self.on_fault()

    def report(self) -> None:
        """Report what was seen since the last report."""
        seen, self._seen = self._seen, {}
        owing, self._owing = self._owing, set()
        reports: list[list[Any]] = [["owes", name, "", 0, 0, 0, NO_REPLY] for name in sorted(owing)]
        reports += [
            ["outcome", *of, each.good, each.bad, each.run, each.why] for of, each in seen.items()
        ]
        if not reports:
            return
        try:
            self._run(reports)
        except RedisError as error:
            log.warning("what was seen of switches is lost: %s", error)

    def probed(self, switch: str, gateway: str, *, works: bool) -> None:
        """Report what a probe says of something that is ejected. May raise an error of Redis."""
        self._run([["probe", switch, gateway, int(works), int(not works), 0, ""]])

    def ejected(self) -> list[Ejected]:
        """What is ejected. May raise an error of Redis."""
        return read(self._redis, self._keys)

    def _of(self, switch: str, gateway: str) -> _Seen:
        of = switch, gateway
        if of not in self._seen and len(self._seen) < _MOST:
            self._seen[of] = _Seen()
        return self._seen.get(of) or _Seen()

    def _run(self, reports: list[list[Any]]) -> None:
        keys = self._keys.ejected, self._keys.outcomes
        words = (2, *keys, json.dumps(reports), json.dumps(self._names))
        found = json.loads(scripts.run(self._redis, scripts.EJECTION, words))
        for field, what, why in found or ():
            switch, _, gateway = field.partition(" ")
            counting.ejection(switch, gateway, what)
            about = {"switch": switch, "gateway": gateway or None}
            of = f"gateway {gateway} on switch {switch}" if gateway else f"switch {switch}"
            if what == "ejected":
                log.warning("%s gets no calls for now: %s", of, why, extra=about)
            elif what == "carrier":
                log.warning("%s gets calls: all switches fail (%s)", of, why, extra=about)
            else:
                log.info("%s: %s", of, what, extra=about)


def read(redis: Redis, keys: Keys) -> list[Ejected]:
    """What is ejected. May raise an error of Redis."""
    found = []
    flat: Any = redis.hgetall(keys.ejected)
    for field, text in flat.items():
        switch, _, gateway = field.decode().partition(" ")
        try:
            of = json.loads(text)
            times, probing = int(of["times"]), bool(of["probing"])
            of = float(of["until"]), float(of["since"]), str(of["why"]), times, probing
        except (KeyError, TypeError, ValueError):
            # Another program wrote it.
            continue
        found.append(Ejected(switch, gateway, *of))
    return found
