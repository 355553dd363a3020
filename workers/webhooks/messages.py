"""The messages to be sent, in Redis: their leases, their due times and their results.

lanes.lua says how they lie there. Every method is one script, so that a process may die at any
moment, and may raise a RedisError.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import orjson
from redis import Redis

from app.phone_call_events.store import RESULT_KEPT, events_key, test_result_key
from app.store.keys import Keys

# The most entries of the outbox, or messages, that one script takes; and the number of
# PhoneCallEvents after which it begins no other entry.
_ENTRIES_AT_ONCE = 100
_MESSAGES_AT_ONCE = 50
_EVENTS_AT_ONCE = 200
# The most calls that wait for one target, and the most dead letters of all. Messages beyond the
# first number become dead letters. Dead letters beyond the second are removed, the oldest first,
# since Redis needs its memory for calls.
_MOST_LANES = 100_000
_MOST_DEAD = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that this process may send until its lease ends."""

    target: str
    lane: str
    lease: str
    # Of each message the id and the attempts. Of a call event also its extension, holder, event and
    # parameters, and whether it is a test; of a status callback its callback and status.
    message: dict[str, Any]
    # The PhoneCallEvent's fields; None if a client deleted it, and of a status callback.
    event: dict[str, Any] | None

    @property
    def call_id(self) -> str:
        return self.lane.partition("|")[0]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up."""

    id: str
    target: str
    message: dict[str, Any]
    reason: str

    @property
    def at(self) -> float:
        """When it was given up, in epoch seconds."""
        return int(self.id.partition("-")[0]) / 1000


class Messages:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._prefix = keys.webhooks
        self._targets = keys.webhook_targets
        self._dead = keys.dead_letters
        shared, *scripts = (
            files("workers.webhooks").joinpath(f"{name}.lua").read_text()
            for name in ("lanes", "route", "claim", "finish", "replay")
        )
        self._route, self._claim, self._finish, self._replay = (
            redis.register_script(shared + script) for script in scripts
        )

    def route(self) -> int:
        """Turn the oldest entries of the outbox into messages. Returns the number of entries."""
        count: int = self._route(
            keys=[self._keys.outbox, self._targets, self._dead],
            args=[
                *(events_key(self._keys, ""), self._prefix, _ENTRIES_AT_ONCE),
                *(_MOST_LANES, _MOST_DEAD, _EVENTS_AT_ONCE),
            ],
        )
        return count

    def claim(
        self,
        *,
        lease: float,
        most: int,
        most_of_target: int,
        in_hand: Mapping[str, int],
        most_of_app: int,
        of_app: Mapping[str, int],
    ) -> list[Taken]:
        """Take up to ``most`` due messages for ``lease`` seconds, and no more for one target or one
        app than its limit leaves. ``in_hand`` and ``of_app`` count those that it has already."""
        found: list[list[bytes]] = self._claim(
            keys=[self._targets],
            args=[
                events_key(self._keys, ""),
                self._prefix,
                lease,
                min(most, _MESSAGES_AT_ONCE),
                most_of_target,
                orjson.dumps(in_hand),
                most_of_app,
                orjson.dumps(of_app),
            ],
        )
        return [
            Taken(
                target.decode(),
                lane.decode(),
                until.decode(),
                orjson.loads(message),
                orjson.loads(event) if event else None,
            )
            for target, lane, until, message, event in found
        ]

    def done(self, taken: Taken) -> bool:
        """Remove a message that needs no sending; False if this process lost the lease."""
        return self._finished(taken, "done")

    def later(self, taken: Taken, delay: float) -> bool:
        """Retry a failed message in ``delay`` seconds; False if this process lost the lease."""
        return self._finished(taken, "later", delay=delay)

    def bury(self, taken: Taken, reason: str) -> bool:
        """Give a message up as a dead letter; False if this process lost the lease."""
        return self._finished(taken, "dead", reason=reason)

    def _finished(self, taken: Taken, what: str, *, delay: float = 0.0, reason: str = "") -> bool:
        message = {**taken.message, "attempts": taken.message["attempts"] + 1}
        due, lane = f"{self._prefix}due:{taken.target}", f"{self._prefix}lane:{taken.lane}"
        return bool(
            self._finish(
                keys=[self._targets, due, lane, self._dead],
                args=[
                    *(taken.target, taken.lane, taken.lease, what),
                    *(orjson.dumps(message), delay, reason, _MOST_DEAD),
                ],
            )
        )

    def tell(self, taken: Taken, reason: str | None) -> None:
        """Write for the API how a test went: why it failed, or None if the receiver took it."""
        key = test_result_key(self._keys, taken.message["id"])
        self._redis.set(key, reason or "", ex=RESULT_KEPT)

    def dead_letters(self) -> Iterator[DeadLetter]:
        """All dead letters, the oldest first."""
        start = "-"
        while True:
            found: Any = self._redis.xrange(self._dead, min=start, count=500)
            if not found:
                return
            yield from (_letter(letter_id, fields) for letter_id, fields in found)
            start = f"({found[-1][0].decode()}"

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        found: Any = self._redis.xrange(self._dead, min=letter_id, max=letter_id)
        return _letter(*found[0]) if found else None

    def replay(self, letter_id: str) -> bool:
        """Send a dead letter again, after its call's other messages; False if it is gone."""
        return bool(self._replay(keys=[self._dead, self._targets], args=[letter_id, self._prefix]))

    def drop(self, letter_id: str) -> bool:
        return bool(self._redis.xdel(self._dead, letter_id))


def _letter(letter_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        letter_id.decode(),
        fields[b"target"].decode(),
        orjson.loads(fields[b"message"]),
        fields[b"reason"].decode(),
    )
