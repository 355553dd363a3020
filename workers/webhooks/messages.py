"""The messages to be sent, in Redis: their leases, their due times and their results.

lanes.lua says how they lie there. Every method is one script, so that a process may die at any
moment, and may raise a RedisError.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from typing import Any

import orjson
from redis import Redis

from app.phone_call_events.store import RESULT_KEPT, events_key, test_result_key
from app.store.audit import place
from app.store.keys import Keys
from app.web.urls import app_of

# The most entries of the outbox, or messages, that one script takes; and the number of
# PhoneCallEvents after which it begins no other entry.
_ENTRIES_AT_ONCE = 100
_MESSAGES_AT_ONCE = 50
_EVENTS_AT_ONCE = 200
# The most messages of one app that wait. Those beyond become dead letters.
_MOST_WAITING = 100_000
# The most dead letters of one app, the most bytes of them, and the seconds for which they are kept.
# The oldest of the same app are removed, since Redis needs its memory for calls.
_MOST_DEAD = 10_000
_MOST_DEAD_BYTES = 32 * 1024 * 1024
_DEAD_KEPT = 30 * 86_400
# The most dead letters that one step removes for their age.
_SWEPT_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that this process may send until its lease ends."""

    target: str
    lane: str
    lease: str
    # Of each message the id and the attempts. Of a call event also its extension, holder, event and
    # parameters, the user that owned the extension, and whether it is a test; of a status callback
    # its callback and status.
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
    # The stream that has it.
    key: str

    @property
    def app(self) -> str:
        return app_of(self.target)

    @property
    def at(self) -> float:
        """When it was given up, in epoch seconds."""
        return int(self.id.partition("-")[0]) / 1000


class Messages:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._prefix = keys.webhooks
        shared, *scripts = (
            files("workers.webhooks").joinpath(f"{name}.lua").read_text()
            for name in ("lanes", "route", "claim", "finish", "replay", "sweep")
        )
        self._route, self._claim, self._finish, self._replay, self._sweep = (
            redis.register_script(shared + script) for script in scripts
        )
        # With which organization, and with which app, the next step begins.
        self._organizations, self._apps = count(), count()

    def route(self) -> int:
        """Turn entries of the outbox into messages, those of each organization in turn. Returns the
        number of entries."""
        entries: int = self._route(
            keys=[self._keys.outbox],
            args=[
                *(events_key(self._keys, ""), self._prefix, _ENTRIES_AT_ONCE),
                *(_MOST_WAITING, _MOST_DEAD, _MOST_DEAD_BYTES, _EVENTS_AT_ONCE),
                next(self._organizations),
            ],
        )
        return entries

    def claim(
        self,
        *,
        lease: float,
        most: int,
        most_of_target: int,
        in_hand: Mapping[str, int],
        part: int,
        of_app: Mapping[str, int],
    ) -> list[Taken]:
        """Take due messages for ``lease`` seconds, and up to ``most`` of them.

        There are no more for one target than its limit leaves, and no more for one app than one
        ``part`` of what is free. ``in_hand`` and ``of_app`` count those that it has already. Apps
        take turns.
        """
        found: list[list[bytes]] = self._claim(
            keys=[self._keys.webhook_apps, self._keys.webhook_targets],
            args=[
                *(events_key(self._keys, ""), self._prefix, lease, min(most, _MESSAGES_AT_ONCE)),
                *(most_of_target, orjson.dumps(in_hand), most, part, orjson.dumps(of_app)),
                next(self._apps),
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
                keys=[due, lane],
                args=[
                    *(taken.target, taken.lane, taken.lease, what),
                    *(orjson.dumps(message), delay, reason, self._prefix),
                    *(_MOST_DEAD, _MOST_DEAD_BYTES),
                ],
            )
        )

    def sweep(self) -> None:
        """Remove dead letters that are too old."""
        args: list[str | int] = [self._prefix, _DEAD_KEPT, _SWEPT_AT_ONCE]
        while self._sweep(keys=[self._keys.dead_letters], args=args) == _SWEPT_AT_ONCE:
            pass

    def tell(self, taken: Taken, reason: str | None) -> None:
        """Write for the API how a test went: why it failed, or None if the receiver took it."""
        key = test_result_key(self._keys, taken.message["id"])
        self._redis.set(key, reason or "", ex=RESULT_KEPT)

    def dead_letters(self, app: str | None = None) -> Iterator[DeadLetter]:
        """All dead letters, or those of an app, the oldest first."""
        streams = [self._letters_of(key) for key in self._streams(app)]
        for letter in heapq.merge(*streams, key=lambda letter: place(letter.id.encode())):
            if app in (None, letter.app):
                yield letter

    def _streams(self, app: str | None = None) -> list[str]:
        """The streams with dead letters; with an app, those that may have some of it. An older
        version has those of all apps in one."""
        apps: Any = self._redis.hkeys(f"{self._prefix}sizes") if app is None else [app.encode()]
        of_apps = [self._keys.dead_letters_of(each.decode()) for each in apps]
        return [self._keys.dead_letters, *of_apps]

    def _letters_of(self, key: str) -> Iterator[DeadLetter]:
        start = "-"
        while True:
            found: Any = self._redis.xrange(key, min=start, count=500)
            if not found:
                return
            yield from (_letter(letter_id, fields, key) for letter_id, fields in found)
            start = f"({found[-1][0].decode()}"

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        for key in self._streams():
            found: Any = self._redis.xrange(key, min=letter_id, max=letter_id)
            for entry_id, fields in found:
                return _letter(entry_id, fields, key)
        return None

    def replay(self, letter: DeadLetter) -> bool:
        """Send a dead letter again, after its call's other messages; False if it is gone."""
        return self._taken_out(letter, "again")

    def drop(self, letter: DeadLetter) -> bool:
        """Remove a dead letter; False if it is gone."""
        return self._taken_out(letter, "drop")

    def _taken_out(self, letter: DeadLetter, what: str) -> bool:
        return bool(self._replay(keys=[letter.key], args=[letter.id, self._prefix, what]))


def _letter(letter_id: bytes, fields: dict[bytes, bytes], key: str) -> DeadLetter:
    return DeadLetter(
        letter_id.decode(),
        fields[b"target"].decode(),
        orjson.loads(fields[b"message"]),
        fields[b"reason"].decode(),
        key,
    )
