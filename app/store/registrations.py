"""Where phones are registered: written by the leading listener of each switch, read at acceptance.

For each phone there is a hash, and for each switch a sorted set of all its registrations, by which
a new leader finds what has gone. Both say until when a registration counts.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from app.store.keys import Keys

# Seconds for which the hash of a phone is kept after its last registration was to end.
_KEPT = 86_400
# Registrations that are written or read at once.
_TOGETHER = 1_000


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration of a phone, ``210@example.com``, by the Call-ID of its REGISTER."""

    phone: str
    call_id: str

    def __str__(self) -> str:
        return f"{self.phone} {self.call_id}"

    @classmethod
    def loads(cls, text: str) -> "Registration":
        return cls(*text.split(" ", 1))


class Registrations:
    """The registrations in Redis. Times are in epoch seconds of Redis' clock."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def known(self, switch: str) -> set[Registration]:
        """The registrations at a switch, as they were written."""
        found = self._redis.zscan_iter(self._keys.registrations(switch), count=_TOGETHER)
        return {Registration.loads(text.decode()) for text, _ in found}

    def write(
        self,
        switch: str,
        begun: Mapping[Registration, float],
        over: Collection[Registration] = (),
    ) -> None:
        """Write registrations that have begun, with the time at which each ends, and take out those
        that are over."""
        index, rows = self._keys.registrations(switch), list(begun.items())
        for first in range(0, len(rows), _TOGETHER):
            some = rows[first : first + _TOGETHER]
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.zadd(index, {str(each): until for each, until in some})
                for each, until in some:
                    key = self._keys.registered(each.phone)
                    pipe.hset(key, f"{switch} {each.call_id}", f"{until:.0f}")
                    pipe.expireat(key, int(until) + _KEPT)
                pipe.execute()
        gone = list(over)
        for first in range(0, len(gone), _TOGETHER):
            with self._redis.pipeline(transaction=False) as pipe:
                for each in gone[first : first + _TOGETHER]:
                    pipe.zrem(index, str(each))
                    pipe.hdel(self._keys.registered(each.phone), f"{switch} {each.call_id}")
                pipe.execute()

    def expire(self, switch: str, now: float) -> None:
        """Take out the registrations that ended without a word."""
        index = self._keys.registrations(switch)
        found: Any = self._redis.zrangebyscore(index, "-inf", now, start=0, num=_TOGETHER)
        if found:
            self.write(switch, {}, [Registration.loads(text.decode()) for text in found])

    def switches(self, phones: Sequence[str], now: float) -> dict[str, tuple[str, ...]]:
        """The switches at which these phones are registered now."""
        with self._redis.pipeline(transaction=False) as pipe:
            for phone in phones:
                pipe.hgetall(self._keys.registered(phone))
            rows = pipe.execute()
        return {phone: _counting(row, now) for phone, row in zip(phones, rows, strict=True)}

    def has_several_switches(self) -> bool:
        """Whether there are several switches that a phone may be registered at."""
        return self._redis.hlen(self._keys.switches) > 1


def _counting(row: Mapping[bytes, bytes], now: float) -> tuple[str, ...]:
    """The switches of the registrations that count, the last ones first: a phone that has moved may
    not have said so."""
    found = [(float(until), name.decode().partition(" ")[0]) for name, until in row.items()]
    counting = sorted((each for each in found if each[0] > now), reverse=True)
    return tuple(dict.fromkeys(name for _, name in counting))
