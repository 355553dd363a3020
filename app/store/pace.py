"""Pace: the limits of calls, and claims of the calls that may be dialled.

A leg is a channel on the switch. A switch (its ``sessions-per-second``), a gateway and an
organization may have a limit of legs per second; a switch and a gateway a limit of legs at a time,
an organization and a user a limit of calls at a time. A call that exceeds one waits, ``queued``.
pace.lua decides, in one step for all workers, and claims what may be dialled.
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
from app.store import scripts, writes
from app.store.calls import CallStore
from app.store.format import FORMAT
from app.store.keys import Keys
from app.store.replies import from_reply, pairs

log = logging.getLogger(__name__)

# The limits that are read at once.
_PART = 1000
# Microseconds after which to ask again if Redis answered too late.
_TOO_LATE = 100_000
# What suspends RQ's workers (rq.suspension). No call is claimed meanwhile.
SUSPENDED = "rq:suspended"
# Up to so many organizations with waiting calls a position is counted. Beyond that it is an upper
# bound.
_COUNTED = 50
# Seconds after a worker's request within which Redis claims calls: later the worker could not send.
_CLAIM_WITHIN = watch.SEND_WITHIN / 2


@dataclass(frozen=True, slots=True)
class Limit:
    """``legs_per_second`` to begin and ``most`` at a time; 0 for no limit."""

    legs_per_second: float = 0.0
    most: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to a request for calls that was first made at ``asked`` (monotonic): the claimed
    calls, in order; the ids of calls that have waited too long; and the seconds after which to ask
    again, None if nothing waits."""

    calls: tuple[Call, ...]
    late: tuple[str, ...]
    again: float | None
    asked: float


class Asking:
    """A request for calls to dial. If its answer was lost, the same request gets the same claims,
    and nothing else is claimed."""

    def __init__(self, token: str) -> None:
        """``token`` names this request alone."""
        self.token = token
        # The stamp of its claims.
        self.stamp = writes.stamp()
        self.at = time.monotonic()
        # The last moment at which Redis claims, in microseconds of its clock; None until the first
        # attempt.
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
    """The limits of calls, and the places of calls in line."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def places(self, calls: Sequence[Call]) -> dict[str, QueuePosition]:
        """The places in line of those of the calls that wait, by id."""
        keys = self._keys
        with self._redis.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.zrank(keys.line(call.organization), call.id)
            pipe.zrange(keys.turns, 0, _COUNTED)
            pipe.zcard(keys.turns)
            pipe.hlen(keys.waiting)
            pipe.hget(keys.pace, "seconds")
            *ranks, organizations, count, total, seconds = pipe.execute()
            found = {
                call.id: (rank, call.organization)
                for call, rank in zip(calls, ranks, strict=True)
                if rank is not None
            }
            if not found:
                return {}
            own = {organization for _, organization in found.values()}
            names = sorted(own.union(name.decode() for name in organizations))
            for name in names:
                pipe.zcard(keys.line(name))
            lengths = dict(zip(names, pipe.execute(), strict=True))
        each = float(seconds or 0)
        places = {}
        for call_id, (rank, name) in found.items():
            # Each of the others has as many turns before it, or as many as it needs.
            if count <= _COUNTED:
                others = sum(min(n, rank + 1) for other, n in lengths.items() if other != name)
            else:
                others = min(total - lengths[name], (rank + 1) * (count - 1))
            places[call_id] = QueuePosition(rank + others, (rank + others) * each)
        return places

    def set_limits(
        self,
        limits: Mapping[str, Limit],
        *,
        caps: Mapping[str, Mapping[str, int | str]] | None = None,
        only_missing: bool = False,
        accounts: Sequence[Any] = (),
    ) -> bool | None:
        """Set the limits of all but switches, by names such as ``organization:3``, and with them a
        change of the accounts (the words 5 to 9 of limits.lua), in one step. Returns whether it
        wrote; None if the accounts have changed since. ``caps`` are those that workers and
        listeners look at, by holder.

        A new mark stands beside the limits. Where a Redis that came back empty has none, no call is
        accepted or claimed; ``only_missing`` writes nothing where it has one.
        """
        keys = self._keys
        texts = {name: _text(limit) for name, limit in limits.items() if limit != Limit()}
        texts |= {f"caps:{name}": json.dumps(of) for name, of in (caps or {}).items()}
        # In parts, and only what changes: one script for all limits of 100,000 accounts would keep
        # Redis from everything else.
        for found, text in self._redis.hscan_iter(keys.limits, count=_PART):
            name = found.decode()
            if texts.get(name) == text.decode():
                del texts[name]
            elif name not in texts and name != "mark" and not name.startswith("switch:"):
                texts[name] = ""
        words: tuple[Any, ...] = (
            *(6, keys.limits, keys.room, keys.format),
            *(keys.accounts, keys.account_history, keys.account_files),
            *(int(only_missing), secrets.token_hex(8), FORMAT, json.dumps(texts), *accounts),
        )
        wrote = scripts.run(self._redis, scripts.LIMITS, words)
        return None if wrote == -1 else bool(wrote)

    def set_switch_limit(self, name: str, limit: Limit) -> None:
        """Set the limit of a switch. A switch without one gets no call."""
        self._redis.hset(self._keys.limits, f"switch:{name}", _text(limit))

    def keep_switch_limit(self, name: str, limit: Limit) -> bool:
        """Set the limit of a switch if it has none: then Redis came back empty. Returns whether."""
        return bool(self._redis.hsetnx(self._keys.limits, f"switch:{name}", _text(limit)))

    def has_limits(self) -> bool:
        """Whether the limits are there."""
        return bool(self._redis.hexists(self._keys.limits, "mark"))


class Claims:
    """The claims of one worker."""

    def __init__(self, store: CallStore, worker: str) -> None:
        self._store = store
        self._keys = store.keys
        self._worker = worker
        # Requests whose answers were lost.
        self._lost: list[Asking] = []

    def next(self, switches: Mapping[str, str], most: int) -> Turn:
        """Claim up to ``most`` calls that may be dialled on one of the switches, given with their
        runs.

        The caller dials them within SEND_WITHIN from ``asked`` on. May raise an error of Redis: the
        next request tells what was claimed then.
        """
        asking = self._lost.pop() if self._lost else Asking(secrets.token_hex(16))
        words = self.words(asking, switches, most)
        try:
            return self.turn(asking, scripts.run(self._store.redis, scripts.PACE, words))
        except BaseException:
            self.lost(asking)
            raise

    def lost(self, asking: Asking) -> None:
        """Keep a request whose answer was lost: the next request repeats it."""
        self._lost.append(asking)

    @property
    def some_lost(self) -> bool:
        """Whether a request is kept whose answer was lost."""
        return bool(self._lost)

    def words(self, asking: Asking, switches: Mapping[str, str], most: int) -> list[Any]:
        """The number of keys, KEYS and ARGV of pace.lua. May raise an error of Redis."""
        keys = self._keys
        if asking.last is None:
            asking.last = self._store.clock.moment(asking.at + _CLAIM_WITHIN)
        answered = keys.turn(asking.token)
        return [
            *(5, keys.waiting, keys.limits, keys.pace, answered, SUSPENDED),
            *(keys.taken(""), keys.prefix + "call:", keys.ejected, keys.switch("")),
            *(most, json.dumps(list(switches.items())), self._worker, asking.stamp),
            f"{asking.last:.0f}",
        ]

    def turn(self, asking: Asking, reply: Any) -> Turn:
        """The turn that pace.lua answered."""
        clock, again, late, wrong, *claimed = reply
        self._store.clock.set(asking.at, float(clock))
        for text in wrong:
            # The call ends when it has waited too long. It does not affect the others.
            call_id, _, why = text.decode(errors="replace").partition(": ")
            log.error("call %s cannot be claimed: %s", call_id, why, extra={"call": call_id})
        calls = []
        for flat in claimed:
            try:
                call = from_reply(pairs(flat))
            except (KeyError, TypeError, ValueError):
                # Nobody can dial it. It does not affect the others.
                call_id = pairs(flat).get(b"id", b"").decode(errors="replace")
                log.exception("a call cannot be read", extra={"call": call_id})
                continue
            if call is not None and call.stamp == asking.stamp:
                self._store.tell_claimed(call)
                calls.append(call)
        if float(clock) > (asking.last or 0.0):
            # The request came too late, or Redis' clock was stepped, which is known now. To ask
            # again without a pause would load a slow Redis more.
            again = _TOO_LATE
        return Turn(
            tuple(calls),
            tuple(call_id.decode() for call_id in late),
            None if again == -1 else again / 1e6,
            asking.at,
        )


def _text(limit: Limit) -> str:
    # A rate is a rate however small it is.
    return f"{float(limit.legs_per_second)!r}:{limit.most}"
