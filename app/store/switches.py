"""The switches in Redis: what their listeners write, and an operator's pause."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from redis import Redis

from app.store.keys import Keys
from app.store.steering import Steer

if TYPE_CHECKING:
    from app.store.pace import Limit


@dataclass(frozen=True, slots=True)
class Pause:
    """An operator's pause of a switch: by whom, when (epoch seconds), and why. The switch gets no
    new calls. A drained switch is about to be removed."""

    by: str
    at: float
    why: str = ""
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch. Times are in epoch seconds. A field is None until a listener has written it."""

    name: str
    core_uuid: str | None
    up_since: float | None
    unreachable_since: float | None
    listener: str | None
    # The number of listeners that hear the switch and could lead.
    listeners: int
    # From the switch's last HEARTBEAT.
    heartbeat: float | None
    sessions: int | None
    max_sessions: int | None
    sessions_per_second: int | None
    limit: "Limit"
    # Live calls of Ringback, and the legs that count towards the limit.
    calls: int
    legs: int
    paused: Pause | None
    # What its leader says of it.
    steer: Steer | None = None
    # Channels of Ringback that belong to no known call.
    unknown: int = 0

    @property
    def closed(self) -> str:
        """Why the switch gets no new calls by its own word: what an operator told it by `fsctl`. ""
        if it gets some."""
        return self.steer.closed if self.steer is not None and self.steer.by_fsctl else ""

    @property
    def state(self) -> str:
        """The state: ``up``, ``unreachable`` or (no listener follows it) ``unknown``; ``paused`` or
        ``draining`` if the switch is up and gets no new calls."""
        if self.unreachable_since is not None:
            return "unreachable"
        if not self.listeners or self.up_since is None:
            return "unknown"
        if self.paused is not None:
            return "draining" if self.paused.drain else "paused"
        if self.steer is None or not self.steer.by_fsctl:
            return "up"
        return "draining" if self.steer.ends else "paused"


class SwitchStore:
    """The store that reads and pauses switches. From then on pace.lua gives a paused switch no new
    call. The calls of the switch, and actions on them, go on."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def names(self) -> list[str]:
        """The names of the switches that are registered, or that a listener has followed."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hkeys(self._keys.limits)
            pipe.hgetall(self._keys.switches)
            limits, registered = pipe.execute()
        kinds = (name.decode().partition(":") for name in limits)
        names = {name for kind, _, name in kinds if kind == "switch"}
        return sorted(names | {name.decode() for name in registered if _is_one(registered[name])})

    def get_many(self, names: Iterable[str]) -> list[Switch]:
        wanted = list(names)
        keys = self._keys
        with self._redis.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.hgetall(keys.switch(name))
                pipe.zcard(keys.switch_listeners(name))
                pipe.hget(keys.limits, f"switch:{name}")
                pipe.zcard(keys.switch_calls(name))
                pipe.scard(keys.taken(f"switch:{name}"))
                pipe.hget(keys.steer, name)
                pipe.hlen(keys.unknown(name))
            found = iter(pipe.execute())
        return [_switch(name, *(next(found) for _ in range(7))) for name in wanted]

    def pause(self, name: str, pause: Pause) -> None:
        self._redis.hset(self._keys.switch(name), "paused", json.dumps(asdict(pause)))

    def resume(self, name: str) -> bool:
        """Give the switch new calls again. Returns whether it was paused."""
        return bool(self._redis.hdel(self._keys.switch(name), "paused"))

    def sign(self, name: str, listener: str, *, hears: bool, at: float, lasts: float) -> None:
        """Put a listener on the list of those that hear the switch, or take it off.

        ``at`` is now, in epoch seconds. An entry counts for ``lasts`` seconds.
        """
        key = self._keys.switch_listeners(name)
        with self._redis.pipeline() as pipe:
            pipe.zremrangebyscore(key, "-inf", at - lasts)
            if hears:
                pipe.zadd(key, {listener: at})
            else:
                pipe.zrem(key, listener)
            pipe.expire(key, int(lasts) + 1)
            pipe.execute()

    def listeners(self, name: str) -> list[str]:
        """The names of the listeners that hear the switch."""
        names: Any = self._redis.zrange(self._keys.switch_listeners(name), 0, -1)
        return [listener.decode() for listener in names]

    def led(self, names: Iterable[str]) -> dict[str, bool]:
        """Of each switch whether a listener holds its lease."""
        wanted = list(names)
        with self._redis.pipeline(transaction=False) as pipe:
            for name in wanted:
                pipe.exists(self._keys.switch_lease(name))
            return dict(zip(wanted, map(bool, pipe.execute()), strict=True))

    def dead(self) -> dict[str, dict[str, Any]]:
        """The switches that an operator has declared dead in the registry: by whom (``by``), when
        (``at``, epoch seconds), and why."""
        found: Any = self._redis.hgetall(self._keys.switches)
        entries = {name.decode(): _entry(text) for name, text in found.items()}
        return {name: entry["dead"] for name, entry in entries.items() if entry.get("dead")}

    def note(self, name: str, fields: dict[str, str | float]) -> None:
        """Write fields of the switch's hash. Only the leader does."""
        mapping: Any = fields
        self._redis.hset(self._keys.switch(name), mapping=mapping)

    def mark_unreachable(self, name: str, since: float) -> bool:
        """Note since when (epoch seconds) the switch is unreachable; False if a time is there."""
        key = self._keys.switch(name)
        return bool(self._redis.hsetnx(key, "unreachable_since", f"{since:.6f}"))

    def mark_reachable(self, name: str) -> None:
        """Note that the switch is reachable again."""
        self._redis.hdel(self._keys.switch(name), "unreachable_since")

    def forget(self, name: str) -> None:
        """Remove the switch from Redis, until a listener follows it again."""
        with self._redis.pipeline() as pipe:
            pipe.hdel(self._keys.limits, f"switch:{name}")
            pipe.hdel(self._keys.steer, name)
            pipe.delete(self._keys.switch(name))
            pipe.execute()


def _is_one(registered: bytes) -> bool:
    """Whether an entry of the registry (app.store.registered) is a switch, and no DNS name."""
    try:
        return "+" not in json.loads(registered)["url"].partition("://")[0]
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _entry(text: bytes) -> dict[str, Any]:
    """An entry of the registry, of which other fields may be newer than this version."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError):
        return {}


def _switch(
    name: str,
    reply: Mapping[bytes, bytes],
    listeners: int,
    limit: bytes | None,
    calls: int,
    legs: int,
    steer: bytes | None,
    unknown: int,
) -> Switch:
    # Imported here: the shell completes names of switches sooner without it.
    from app.store.pace import Limit

    flat = {key.decode(): value.decode() for key, value in reply.items()}
    rate, _, most = (limit or b"0:0").decode().partition(":")
    return Switch(
        name=name,
        core_uuid=flat.get("core_uuid"),
        up_since=_time(flat, "up_since"),
        unreachable_since=_time(flat, "unreachable_since"),
        listener=flat.get("listener"),
        listeners=listeners,
        heartbeat=_time(flat, "heartbeat"),
        sessions=_count(flat, "sessions"),
        max_sessions=_count(flat, "max_sessions"),
        sessions_per_second=_count(flat, "sessions_per_second"),
        limit=Limit(float(rate), int(most)),
        calls=calls,
        legs=legs,
        paused=_pause(flat.get("paused")),
        steer=Steer.loads(steer),
        unknown=unknown,
    )


def _time(flat: Mapping[str, str], name: str) -> float | None:
    return float(flat[name]) if flat.get(name) else None


def _count(flat: Mapping[str, str], name: str) -> int | None:
    return int(flat[name]) if flat.get(name) else None


def _pause(text: str | None) -> Pause | None:
    if text is None:
        return None
    try:
        return Pause(**json.loads(text))
    except (TypeError, ValueError):
        # Another program wrote the field. The switch is paused all the same.
        return Pause(by="", at=0.0, why=text)
