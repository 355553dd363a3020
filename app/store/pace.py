"""How fast calls are dialled: a line for each organization, and limits for what sells legs.

A leg is a channel on the switch. A switch (its ``sessions-per-second``), a gateway and an
organization may have a number of legs per second; a switch and a gateway a number of legs at a
time, an organization and a user a number of calls. What exceeds one waits in line, with its call
``queued``. pace.lua decides, in one step for all workers, and claims what may be dialled.
"""

import json
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from app.calls import watch
from app.calls.model import Call
from app.store import writes
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.replies import from_reply, pairs
from app.store.scripts import lua

log = logging.getLogger(__name__)

PACE = lua("pace")
"""Lua: ``pace(keys, argv, new)``."""
_PACE = f"{PACE}return pace(KEYS, ARGV, cjson.decode(ARGV[14]))\n"
# Seconds for which a switch that refused a call is passed over where there is another.
_REFUSING = 3
# Seconds within which calls are claimed by who asks, or not: later he could not send them.
_CLAIM_WITHIN = watch.SEND_WITHIN / 2


@dataclass(frozen=True, slots=True)
class Limit:
    """``legs_per_second`` to begin and ``most`` at a time; 0 for no limit."""

    legs_per_second: float = 0.0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What was claimed, in order, by a request that was first made at ``asked`` (monotonic); which
    calls have waited too long; and the seconds after which to ask again, None where nothing
    waits."""

    calls: tuple[Call, ...]
    late: tuple[str, ...]
    again: float | None
    asked: float


class Asking:
    """A request for calls to dial. It may be made again where its answer was lost: what it has
    claimed is told again, and nothing else is claimed."""

    def __init__(self, token: str) -> None:
        """``token`` is this request's alone."""
        self.token = token
        # Of its claims.
        self.stamp = writes.stamp()
        self.at = time.monotonic()
        # When nothing is claimed any more, by Redis' clock in microseconds; None before Redis was
        # asked.
        self.last: float | None = None

    @property
    def made(self) -> bool:
        """Whether Redis may have been asked."""
        return self.last is not None


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """How many calls are dialled before a waiting one, and the seconds that is expected to take."""

    ahead: int
    seconds: float


class Pacer:
    """Lets calls wait for their turn."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def waiting(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of the calls wait in line."""
        if not ids:
            return frozenset()
        found: Any = self._redis.hmget(self._keys.waiting, list(ids))
        return frozenset(name for name, value in zip(ids, found, strict=True) if value is not None)

    def places(self, calls: Sequence[Call]) -> dict[str, QueuePosition]:
        """Where those of the calls stand that wait in line, by id."""
        keys = self._keys
        with self._redis.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.zrank(keys.line(call.organization), call.id)
            pipe.zrange(keys.turns, 0, -1)
            pipe.hget(keys.pace, "seconds")
            *ranks, organizations, seconds = pipe.execute()
            found = {
                call.id: (rank, call.organization)
                for call, rank in zip(calls, ranks, strict=True)
                if rank is not None
            }
            if not found:
                return {}
            names = [name.decode() for name in organizations]
            for name in names:
                pipe.zcard(keys.line(name))
            lengths = dict(zip(names, pipe.execute(), strict=True))
        each = float(seconds or 0)
        places = {}
        for call_id, (rank, own) in found.items():
            # Each of the others has as many turns before it, or as many as it needs.
            others = sum(min(n, rank + 1) for name, n in lengths.items() if name != own)
            places[call_id] = QueuePosition(rank + others, (rank + others) * each)
        return places

    def set_limits(self, kind: str, limits: dict[str, Limit]) -> None:
        """Set those of a kind (``organization``, ``user``, ``gateway``), and no others of it."""
        known: Any = self._redis.hkeys(self._keys.limits)
        ours = {
            f"{kind}:{name}": _text(limit) for name, limit in limits.items() if limit != Limit()
        }
        gone = [name for name in known if name.decode().startswith(f"{kind}:")]
        with self._redis.pipeline() as pipe:
            if gone:
                pipe.hdel(self._keys.limits, *gone)
            if ours:
                pipe.hset(self._keys.limits, mapping=ours)  # type: ignore[arg-type]
            pipe.execute()

    def set_switch_limit(self, name: str, limit: Limit) -> None:
        self._redis.hset(self._keys.limits, f"switch:{name}", _text(limit))

    def refused(self, switch: str) -> None:
        """The switch refused a call, being full or paused: others come first for a while."""
        self._redis.set(self._keys.refusing(switch), 1, ex=_REFUSING)


class Claims:
    """Claims for one worker the calls whose turn it is."""

    def __init__(self, store: CallStore, worker: str) -> None:
        self._store = store
        self._keys = store.keys
        self._worker = worker
        self._script = store.redis.register_script(_PACE)
        # Requests whose answers were lost.
        self._lost: list[Asking] = []

    def next(self, new: Sequence[str], switches: Mapping[str, str], most: int) -> Turn:
        """Put the new calls in line, as far as they are queued, then claim up to ``most`` calls,
        these or others, that may be dialled on one of the switches, given with their runs. Whoever
        takes them dials them, within SEND_WITHIN from ``asked`` on. May raise an error of Redis:
        what was claimed then, the next request tells of.
        """
        asking = self._lost.pop() if self._lost else Asking(secrets.token_hex(16))
        arguments = [*self.arguments(asking, switches, most), json.dumps(list(new))]
        try:
            return self.turn(asking, self._script(self.keys(asking), arguments))
        except BaseException:
            self.lost(asking)
            raise

    def lost(self, asking: Asking) -> None:
        """Its answer is: the next request asks for it again."""
        self._lost.append(asking)

    @property
    def some_lost(self) -> bool:
        """Whether there are such."""
        return bool(self._lost)

    def keys(self, asking: Asking) -> list[str]:
        """Those of pace.lua."""
        keys = self._keys
        answered = keys.turn(asking.token)
        return [
            *(keys.waiting, keys.turns, keys.limits, keys.pace, answered),
            *(keys.events, keys.deadlines),
        ]

    def arguments(self, asking: Asking, switches: Mapping[str, str], most: int) -> list[Any]:
        """Those of pace.lua. May raise an error of Redis."""
        keys = self._keys
        if asking.last is None:
            asking.last = self._store.clock.moment(asking.at + _CLAIM_WITHIN)
        return [
            *(keys.line(""), keys.taken(""), keys.prefix + "call:", keys.refusing("")),
            *(keys.switch(""), keys.switch_calls(""), most, json.dumps(list(switches.items()))),
            *(self._worker, asking.stamp, watch.UNSENT_LOOK, writes.EVENTS_KEPT),
            f"{asking.last:.0f}",
        ]

    def turn(self, asking: Asking, reply: Any) -> Turn:
        """What pace.lua answered."""
        clock, again, late, wrong, *claimed = reply
        self._store.clock.set(asking.at, float(clock))
        for text in wrong:
            # It ends in its time, and takes no other with it.
            call_id, _, why = text.decode(errors="replace").partition(": ")
            log.error("call %s cannot be claimed: %s", call_id, why, extra={"call": call_id})
        calls = []
        for flat in claimed:
            try:
                call = from_reply(pairs(flat))
            except (KeyError, TypeError, ValueError):
                # The same.
                call_id = pairs(flat).get(b"id", b"").decode(errors="replace")
                log.exception("a call cannot be read", extra={"call": call_id})
                continue
            if call is not None and call.stamp == asking.stamp:
                self._store.tell_claimed(call)
                calls.append(call)
        if float(clock) > (asking.last or 0.0):
            # It came too late, or the clock was stepped, which is known now: again, at once.
            again = 0
        return Turn(
            tuple(calls),
            tuple(call_id.decode() for call_id in late),
            None if again == -1 else again / 1e6,
            asking.at,
        )


def _text(limit: Limit) -> str:
    return f"{limit.legs_per_second:.6f}:{limit.most}"
