"""How fast calls are dialled: a line for each organization, and limits for what sells legs.

A leg is a channel on the switch. A switch (its ``sessions-per-second``), a gateway and an
organization may have a number of legs per second; a switch and a gateway a number of legs at a
time, an organization and a user a number of calls. What exceeds one waits in line, with its call
``queued``. pace.lua decides, in one step for all workers.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis import Redis

from app.calls.model import Call
from app.calls.store import Keys, from_reply, pairs

log = logging.getLogger(__name__)

_PACE = files("app.calls").joinpath("pace.lua").read_text()
# Seconds for which a switch that refused a call is passed over where there is another.
_REFUSING = 3


@dataclass(frozen=True, slots=True)
class Limit:
    """``legs_per_second`` to begin and ``most`` at a time; 0 for no limit."""

    legs_per_second: float = 0.0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What may be dialled now, each call with its switch, in order; and the seconds after which to
    ask again, None where nothing waits."""

    calls: tuple[tuple[Call, str], ...]
    again: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """How many calls are dialled before a waiting one, and the seconds that is expected to take."""

    ahead: int
    seconds: float


class Pacer:
    """Lets calls wait for their turn."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._script = redis.register_script(_PACE)

    def next(self, new: Sequence[str], switches: Sequence[str], most: int) -> Turn:
        """Put the new calls in line, as far as they are queued, then take up to ``most`` calls,
        these or others, that may be dialled on one of the switches. Whoever takes them dials them.
        """
        keys = self._keys
        reply: Any = self._script(
            [keys.waiting, keys.turns, keys.limits, keys.pace],
            [
                *(keys.line(""), keys.taken(""), keys.prefix + "call:", keys.refusing("")),
                *(most, json.dumps(switches), json.dumps(new), keys.reserved(""), keys.switch("")),
            ],
        )
        again, *allowed = reply
        calls = []
        for switch, flat in allowed:
            try:
                call = from_reply(pairs(flat))
            except (KeyError, TypeError, ValueError):
                # It ends in its time, and takes no other with it.
                call_id = pairs(flat).get(b"id", b"").decode(errors="replace")
                log.exception("a call cannot be read", extra={"call": call_id})
                continue
            if call is not None:
                calls.append((call, switch.decode()))
        return Turn(tuple(calls), None if again == -1 else again / 1e6)

    def waiting(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of the calls wait in line."""
        if not ids:
            return frozenset()
        found: Any = self._redis.hmget(self._keys.waiting, list(ids))
        return frozenset(name for name, value in zip(ids, found, strict=True) if value is not None)

    def places(self, calls: Sequence[Call]) -> dict[str, Place]:
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
            places[call_id] = Place(rank + others, (rank + others) * each)
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


def _text(limit: Limit) -> str:
    return f"{limit.legs_per_second:.6f}:{limit.most}"
