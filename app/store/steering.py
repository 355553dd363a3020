"""What the leader of each switch says of it, by which pace.lua chooses the switch of a call."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis

from app.store.keys import Keys

# Seconds for which an entry counts. The leader writes more often.
LASTS = 3.0
# Why a switch gets no call: an operator has told it so by `fsctl`, or its leader cannot reach it.
PAUSED, SHUTDOWN = "paused by fsctl", "shut down by fsctl"
UNREACHABLE = "unreachable"
# The weight of a switch whose operator has set none.
WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Steer:
    """What the leader says of its switch. It counts ``until`` then, in epoch seconds.

    ``weight`` is the share of calls beside that of other switches. ``room`` is how many legs of
    Ringback fit beside the sessions of other programs, and ``window`` how many calls may be set up
    at a time, None for any number. ``closed`` says why the switch gets no call, "" if it gets some.
    ``gateways`` are those that the switch has, None for all. The switch counts as new from
    ``since`` on (epoch seconds), in its run ``core``. ``idle`` is its idle CPU in percent.
    """

    until: float
    weight: float = WEIGHT
    window: int | None = None
    room: int | None = None
    closed: str = ""
    tags: tuple[str, ...] = ()
    gateways: tuple[str, ...] | None = None
    since: float = 0.0
    core: str = ""
    idle: float | None = None
    sessions_of_others: int | None = None

    @property
    def by_fsctl(self) -> bool:
        """Whether an operator has told the switch itself to take no calls."""
        return self.closed in (PAUSED, SHUTDOWN)

    @property
    def ends(self) -> bool:
        """Whether the switch ends once its calls have ended."""
        return self.closed == SHUTDOWN

    def dumps(self) -> str:
        """The entry as Redis keeps it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def loads(cls, text: bytes | None) -> "Steer | None":
        """The entry that Redis keeps; None if there is none, or none that can be read."""
        if text is None:
            return None
        with suppress(ValueError, TypeError):
            fields: dict[str, Any] = json.loads(text)
            known = {name: fields[name] for name in cls.__slots__ if name in fields}
            for name in ("tags", "gateways"):
                if isinstance(known.get(name), list):
                    known[name] = tuple(known[name])
            return cls(**known)
        return None


@dataclass(frozen=True, slots=True)
class Told:
    """What a leader learns when it writes its entry: the legs of Ringback on the switch, the
    switch as an operator has registered it ({} if nobody has), and the calls that are being set up,
    with the times of their claims (epoch seconds)."""

    legs: int
    spec: Mapping[str, Any]
    setups: Mapping[str, float]


class SteerStore:
    """The entries of all switches, in one hash."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def tell(self, name: str, steer: Steer) -> Told:
        """Write the entry of a switch. Only its leader does. The calls that are being set up are
        read where there is a window."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hset(self._keys.steer, name, steer.dumps())
            pipe.scard(self._keys.taken(f"switch:{name}"))
            pipe.hget(self._keys.switches, name)
            if steer.window is not None:
                pipe.zrange(self._keys.setup(name), 0, -1, withscores=True)
            _, legs, spec, *setups = pipe.execute()
        claimed = {i.decode(): at / 1e6 for i, at in (setups[0] if setups else ())}
        return Told(legs or 0, _object(spec), claimed)

    def set_up(self, name: str, ids: Iterable[str]) -> None:
        """Take calls out that are no longer being set up."""
        if found := list(ids):
            self._redis.zrem(self._keys.setup(name), *found)

    def past_setup(self, ids: Sequence[str]) -> list[str]:
        """Those of the calls that are no longer being set up, by their hashes."""
        with self._redis.pipeline(transaction=False) as pipe:
            for call_id in ids:
                pipe.hget(self._keys.call(call_id), "state")
            states = pipe.execute()
        return [i for i, state in zip(ids, states, strict=True) if state != b"dialing"]

    def spec(self, name: str) -> Mapping[str, Any]:
        """The switch as an operator has registered it; {} if nobody has."""
        found: Any = self._redis.hget(self._keys.switches, name)
        return _object(found)

    def get(self, name: str) -> Steer | None:
        return Steer.loads(self._redis.hget(self._keys.steer, name))  # type: ignore[arg-type]

    def get_many(self, names: Iterable[str]) -> dict[str, Steer | None]:
        wanted = list(names)
        if not wanted:
            return {}
        found: Any = self._redis.hmget(self._keys.steer, wanted)
        return {name: Steer.loads(text) for name, text in zip(wanted, found, strict=True)}


def _object(text: bytes | None) -> Mapping[str, Any]:
    with suppress(ValueError):
        found = json.loads(text or b"{}")
        if isinstance(found, dict):
            return found
    return {}
