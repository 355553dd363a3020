"""Where calls are kept: one hash per call, written by change.lua alone."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import WatchError

from app.calls.model import Call, changed_fields, from_hash
from app.redis_client import BLOCK_LIMIT

_CHANGE = files("app.calls").joinpath("change.lua").read_text()
# Entries kept in the stream of every call's changes.
_EVENTS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Note:
    """What a timeline entry says: a ``command``, ``reply``, ``event`` or ``request``."""

    kind: str
    name: str
    leg: str | None = None
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The calls of one create request; ``new`` is false where its nonce was seen before."""

    calls: tuple[Call, ...]
    new: bool


class Keys:
    """The names of Redis keys. Those of one call share a hash tag."""

    def __init__(self, prefix: str = "ringback:") -> None:
        self.prefix = prefix
        self.events = f"{prefix}events"
        self.deadlines = f"{prefix}calls:deadline"
        self.accounts = f"{prefix}accounts"

    def call(self, call_id: str) -> str:
        return f"{self.prefix}call:{{{call_id}}}"

    def timeline(self, call_id: str) -> str:
        return f"{self.call(call_id)}:timeline"

    def nonce(self, app: str, nonce: str) -> str:
        return f"{self.prefix}nonce:{app}:{nonce}"

    def user_calls(self, user: str) -> str:
        return f"{self.prefix}calls:user:{user}"

    def extension_calls(self, extension: str) -> str:
        return f"{self.prefix}calls:extension:{extension}"

    def switch_calls(self, switch: str) -> str:
        return f"{self.prefix}calls:switch:{switch}"

    def switch(self, name: str) -> str:
        return f"{self.prefix}switch:{name}"

    def switch_lease(self, name: str) -> str:
        return f"{self.prefix}switch:{name}:lease"


class CallStore:
    """Reads calls, and changes them through the script."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys
        self._change = redis.register_script(_CHANGE)

    def get(self, call_id: str) -> Call | None:
        """The call, or None where there is none or it is no longer kept."""
        return self.get_many([call_id])[0]

    def get_many(self, call_ids: Iterable[str]) -> list[Call | None]:
        with self.redis.pipeline(transaction=False) as pipe:
            for call_id in call_ids:
                pipe.hgetall(self.keys.call(call_id))
            return [_from_reply(flat) for flat in pipe.execute()]

    def change(self, call: Call, transition: Callable[[Call], Call], note: Note) -> Call:
        """Apply a pure transition to the call as it stands, and return the call after it.

        ``call`` may be old: where another change came first, the transition is applied
        again to what Redis holds. Nothing is written where it changes nothing.
        Raises KeyError where the call is no longer kept.
        """
        while True:
            changed = transition(call)
            if changed == call:
                return call
            changed = replace(changed, version=call.version + 1)
            reply = self._change(*self._arguments(call, changed, note))
            if reply == 1:
                return changed
            current = _from_reply(_pairs(reply))
            if current is None:
                raise KeyError(call.id)
            call = current

    def accept(
        self,
        calls: Sequence[Call],
        enqueue: Callable[[Call, Pipeline], None],
        *,
        nonce_app: str | None = None,
    ) -> Accepted:
        """Write new calls with their jobs in one transaction: all or none.

        With ``nonce_app`` the calls' nonce makes the request idempotent among that app's:
        where it was seen, nothing is written and the calls made with it are returned.
        """
        nonce = calls[0].nonce
        key = self.keys.nonce(nonce_app, nonce) if nonce_app and nonce else None
        accepted = [replace(call, version=1) for call in calls]
        while True:
            with self.redis.pipeline() as pipe:
                try:
                    if key is not None:
                        pipe.watch(key)  # type: ignore[no-untyped-call]
                        if (seen := self._of_nonce(pipe.get(key))) is not None:
                            return Accepted(seen, new=False)
                    pipe.multi()
                    for call in accepted:
                        keys, args = self._arguments(None, call, Note("request", "accepted"))
                        # The text, not its digest: after NOSCRIPT the rest would be done alone.
                        pipe.eval(_CHANGE, len(keys), *keys, *args)
                    if key is not None:
                        pipe.set(key, ",".join(call.id for call in accepted))
                    for call in accepted:
                        enqueue(call, pipe)
                    pipe.execute()
                    return Accepted(tuple(accepted), new=True)
                except WatchError:
                    continue

    def by_nonce(self, app: str, nonce: str) -> tuple[Call, ...]:
        return self._of_nonce(self.redis.get(self.keys.nonce(app, nonce))) or ()

    def _of_nonce(self, value: Any) -> tuple[Call, ...] | None:
        """The calls a nonce stands for; None where it is new or they are no longer kept."""
        if value is None:
            return None
        calls = self.get_many(value.decode().split(","))
        return tuple(call for call in calls if call is not None) or None

    def live_of(self, extensions: Iterable[str], user: str | None = None) -> list[str]:
        """Ids of the live calls that one of the extensions is in or that are the user's,
        newest first."""
        keys = [self.keys.extension_calls(extension) for extension in extensions]
        if user is not None:
            keys.append(self.keys.user_calls(user))
        scored: Any = self.redis.zunion(keys, aggregate="MAX", withscores=True) if keys else []
        return [call_id.decode() for call_id, _ in reversed(scored)]

    def live_of_switch(self, switch: str) -> list[str]:
        """Ids of the live calls that were claimed for the switch."""
        ids: Any = self.redis.zrange(self.keys.switch_calls(switch), 0, -1)
        return [call_id.decode() for call_id in ids]

    def due(self, now: float, limit: int = 100) -> list[str]:
        """Ids of calls whose deadline has passed."""
        ids: Any = self.redis.zrange(
            self.keys.deadlines, "-inf", now, byscore=True, offset=0, num=limit
        )
        return [call_id.decode() for call_id in ids]

    def postpone(self, call_id: str, until: float) -> None:
        """Have the watchdog look at the call again later."""
        self.redis.zadd(self.keys.deadlines, {call_id: until}, xx=True)

    def forget_deadline(self, call_id: str) -> None:
        self.redis.zrem(self.keys.deadlines, call_id)

    def note(self, call_id: str, note: Note) -> None:
        """Add to the timeline what changes nothing in the call."""
        entry: Any = _entry(note, f"{time.time():.6f}")
        self.redis.xadd(self.keys.timeline(call_id), entry, maxlen=1000, approximate=True)

    def timeline(self, call_id: str) -> list[dict[str, str]]:
        """Every command, reply, event and change of the call, oldest first."""
        entries: Any = self.redis.xrange(self.keys.timeline(call_id))
        return [
            {"id": entry_id.decode(), **{k.decode(): v.decode() for k, v in fields.items()}}
            for entry_id, fields in entries
        ]

    def wait(self, call_id: str, until: Callable[[Call], bool], timeout: float) -> Call | None:
        """The call once ``until`` holds of it, or as it stands after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        last = "$"
        while True:
            # Where to go on reading is found before the call is read: no change falls between.
            if last == "$":
                newest: Any = self.redis.xrevrange(self.keys.timeline(call_id), count=1)
                last = newest[0][0] if newest else "0"
            call = self.get(call_id)
            left = end - time.monotonic()
            if call is None or until(call) or left <= 0:
                return call
            reply: Any = self.redis.xread(
                {self.keys.timeline(call_id): last},
                block=max(1, int(min(left, BLOCK_LIMIT) * 1000)),
            )
            if reply:
                last = reply[0][1][-1][0]

    def _arguments(
        self, old: Call | None, new: Call, note: Note
    ) -> tuple[list[str], list[str | float]]:
        fields = changed_fields(old, new)
        now = f"{time.time():.6f}"
        timeline = [_entry(note, now)]
        if old is None or old.state is not new.state:
            timeline.append({"at": now, "kind": "change", "name": new.state.value})
        event = {
            "call": new.id,
            "version": str(new.version),
            "at": now,
            "state": new.state.value,
            "user": new.user,
            "organization": new.organization,
            "extension": new.extension,
            "app": new.app,
            "changed": json.dumps(fields),
        }
        keys = self.keys
        deadline = new.deadline
        # The indexes change when a call begins, is claimed and ends.
        moves = old is None or old.switch != new.switch or deadline is None
        indexes = self._indexes(new) if moves else []
        kept = [keys.nonce(new.app, new.nonce)] if new.nonce else []
        return (
            [
                *(keys.call(new.id), keys.timeline(new.id), keys.events, keys.deadlines),
                *indexes,
                *kept,
            ],
            [
                str(old.version if old else 0),
                new.id,
                new.accepted,
                "" if deadline is None else deadline,
                str(new.retention),
                str(len(indexes)),
                json.dumps(_flat(fields)),
                json.dumps([_flat(entry) for entry in timeline]),
                json.dumps(_flat(event)),
                str(_EVENTS_KEPT),
            ],
        )

    def _indexes(self, call: Call) -> list[str]:
        keys = self.keys
        indexes = [keys.user_calls(call.user), *map(keys.extension_calls, call.extensions)]
        return [*indexes, keys.switch_calls(call.switch)] if call.switch else indexes


def _entry(note: Note, at: str) -> dict[str, str]:
    entry = {"at": at, "kind": note.kind, "name": note.name, "leg": note.leg, "data": note.data}
    return {name: text for name, text in entry.items() if text}


def _flat(fields: dict[str, str]) -> list[str]:
    return [text for item in fields.items() for text in item]


def _pairs(reply: list[Any]) -> dict[Any, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _from_reply(flat: dict[bytes, bytes]) -> Call | None:
    if not flat:
        return None
    return from_hash({name.decode(): value.decode() for name, value in flat.items()})
