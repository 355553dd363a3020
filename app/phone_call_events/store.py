"""The store of PhoneCallEvents: a hash for each holder (app.phone_call_events.holders), by id."""

import secrets
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import orjson
from redis import Redis

from app.calls.call_events import sample
from app.calls.sight import organization_of
from app.phone_call_events.model import PhoneCallEvent
from app.store.keys import Keys
from app.web.urls import target

# The most events of one holder.
MOST = 100
# Seconds for which the result of a test is kept.
RESULT_KEPT = 60

# Replace one event if it still has its old value, and maintain the set of holders with events.
# The set decides whether a change of a call makes call events.
# KEYS  1 the holder's hash  2 the set of holders
# ARGV  1 the holder  2 the event's id  3 its old value  4 its new value; '' stands for none
#       5 how many events the holder may have
# Returns 1, or 0 if another change came first or the holder has too many events.
_REPLACE = """
local now = redis.call('HGET', KEYS[1], ARGV[2]) or ''
-- It has the new value: the client of Redis sent this again because the first answer was lost.
if now ~= ARGV[3] and now ~= ARGV[4] then return 0 end
if now == '' and ARGV[4] ~= '' and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  return 0
end
if ARGV[4] == '' then redis.call('HDEL', KEYS[1], ARGV[2])
else redis.call('HSET', KEYS[1], ARGV[2], ARGV[4]) end
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('SADD', KEYS[2], ARGV[1])
else redis.call('SREM', KEYS[2], ARGV[1]) end
return 1
"""


class EventStore:
    """The store that reads and replaces PhoneCallEvents."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._replace = redis.register_script(_REPLACE)

    def of(self, holder: str) -> list[PhoneCallEvent]:
        """All events of a holder, in the order of their URLs."""
        found: Iterable[bytes] = self._redis.hvals(events_key(self._keys, holder))  # type: ignore[assignment]
        return sorted(map(_load, found), key=lambda event: (event.url, event.id))

    def get(self, holder: str, event_id: str) -> PhoneCallEvent | None:
        found = self._redis.hget(events_key(self._keys, holder), event_id)
        return _load(found) if found is not None else None  # type: ignore[arg-type]

    def replace(self, holder: str, old: PhoneCallEvent | None, new: PhoneCallEvent | None) -> bool:
        """Add (``old`` None), change or delete (``new`` None) an event. False if it is not
        ``old`` any more, or if the holder has MOST events."""
        event = old or new
        assert event is not None
        key, text = events_key(self._keys, holder), b""
        if old is not None:
            # The stored text, because the form of a target may have changed since.
            found: bytes | None = self._redis.hget(key, event.id)  # type: ignore[assignment]
            if found is None or _load(found) != old:
                return False
            text = found
        return bool(
            self._replace(
                keys=[key, self._keys.hooked],
                args=[holder, event.id, text, _dump(new), MOST],
            )
        )

    def test(self, holder: str, event: PhoneCallEvent, extension: str, now: float) -> str:
        """Have the webhooks process send a test of an event. Returns the message's id."""
        # As long as the id of a call.
        call_id = f"test{secrets.token_hex(8)}"
        told = {
            "type": str(event.type),
            "extension": extension,
            "organization": organization_of(extension),
            "for": holder,
            "test": event.id,
            **sample(event.type, extension, call_id, now),
        }
        self._redis.xadd(self._keys.outbox, told)  # type: ignore[arg-type]
        # As route.lua makes it.
        return f"{call_id}-{event.type}-{extension}-{event.id}"

    def test_result(self, message_id: str) -> str | None:
        """Why a test has failed, empty if the receiver took it; None while nobody knows."""
        found: Any = self._redis.get(test_result_key(self._keys, message_id))
        return None if found is None else found.decode()


def test_result_key(keys: Keys, message_id: str) -> str:
    return f"{keys.webhooks}result:{message_id}"


def events_key(keys: Keys, holder: str) -> str:
    return f"{keys.prefix}phoneCallEvents:{holder}"


def _dump(event: PhoneCallEvent | None) -> bytes:
    if event is None:
        return b""
    # The script that makes messages reads the target.
    return orjson.dumps({**asdict(event), "target": target(event.url, event.app)})


def _load(text: bytes) -> PhoneCallEvent:
    values = orjson.loads(text)
    del values["target"]
    return PhoneCallEvent(**values)
