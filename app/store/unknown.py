"""The unknown channels in Redis: channels of ours on a switch whose call Redis does not know."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from redis import Redis

from app.store.keys import Keys


@dataclass(frozen=True, slots=True)
class Unknown:
    """One channel that Ringback dialled, or that came of one that it dialled, and that belongs to
    no live call in Redis. Times are in epoch seconds, ``created`` and ``answered`` by the switch's
    clock; ``since`` is when a listener saw it first."""

    uuid: str
    switch: str
    # The id of its call, as the channel says.
    call: str
    since: float
    number: str = ""
    caller: str = ""
    state: str = ""
    created: float | None = None
    answered: float | None = None


_FIELDS = frozenset(field.name for field in fields(Unknown))


class UnknownChannels:
    """The list of unknown channels, which the leading listener of each switch keeps."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def tell(self, switch: str, found: Sequence[Unknown], kept: int) -> None:
        """Write the unknown channels of the switch in place of those before, for so many
        seconds."""
        key = self._keys.unknown(switch)
        with self._redis.pipeline() as pipe:
            pipe.delete(key)
            if found:
                pipe.hset(key, mapping={each.uuid: json.dumps(asdict(each)) for each in found})
                pipe.expire(key, kept)
            pipe.execute()

    def forget(self, switch: str, uuids: Iterable[str]) -> None:
        """Take channels off the list: they belong to a call, or were hung up."""
        self._redis.hdel(self._keys.unknown(switch), *uuids)

    def all(self, switches: Iterable[str]) -> list[Unknown]:
        """The unknown channels of these switches."""
        with self._redis.pipeline(transaction=False) as pipe:
            for name in switches:
                pipe.hvals(self._keys.unknown(name))
            found = [_loaded(text) for texts in pipe.execute() for text in texts]
        return sorted(found, key=lambda each: (each.switch, each.call, each.uuid))


def _loaded(text: bytes) -> Unknown:
    # A newer version may have written fields that this one does not know.
    row: dict[str, Any] = json.loads(text)
    return Unknown(**{name: value for name, value in row.items() if name in _FIELDS})
