"""Suspended organizations and disabled apps in Redis, beside the accounts.

They stay there whatever accounts are imported. A change also changes the version of the accounts,
so that all processes see it as they see a change of the accounts.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from redis import Redis

from app.accounts.model import Suspension
from app.calls.model import Call, State
from app.calls.sight import organization_of
from app.store import index
from app.store.keys import Keys
from app.store.reading import CallReader

# Seconds after which every process knows of a suspension, with some time to spare. A process that
# did not know of it yet may have accepted a call until then. A worker that is about to dial a call
# knows of it.
SEEN_BY_ALL = 0.3

# The field that says that Redis has not lost the others.
_MARK = "mark"

# KEYS  1 the suspended ones  2 the accounts
# ARGV  1 a mark and 2 a version: words that no others had
#       3 the name  4 its text, '' to remove it
# Returns whether the name was there.
_CHANGE = """
redis.call('HSETNX', KEYS[1], 'mark', ARGV[1])
local was = redis.call('HEXISTS', KEYS[1], ARGV[3])
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], ARGV[3])
else
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
end
-- Accounts with nothing but a version would hide that Redis has none.
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'version', ARGV[2]) end
return was
"""
# KEYS  as above
# ARGV  1 a version, 2.. the fields with their texts
_RESTORE = """
if redis.call('HEXISTS', KEYS[1], 'mark') == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'version', ARGV[1]) end
return 1
"""


class Suspensions:
    """The store of suspended organizations and disabled apps. Their names are those of
    Accounts.suspended."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = [keys.suspended, keys.accounts]
        self._change = redis.register_script(_CHANGE)
        self._restore = redis.register_script(_RESTORE)

    def add(self, name: str, suspension: Suspension) -> bool:
        """Suspend. Returns whether that is new; the time and the reason are replaced."""
        return not self._changed(name, json.dumps(asdict(suspension)))

    def remove(self, name: str) -> bool:
        """End a suspension. Returns whether there was one."""
        return self._changed(name, "")

    def restore(self, known: Mapping[str, str]) -> None:
        """Write the hash again that a Redis that came back empty has lost."""
        words = [word for item in known.items() for word in item]
        self._restore(keys=self._keys, args=[secrets.token_hex(8), *words])

    def _changed(self, name: str, text: str) -> bool:
        words = [secrets.token_hex(8), secrets.token_hex(8), name, text]
        return bool(self._change(keys=self._keys, args=words))


def calls_of(store: CallReader, kind: str, name: str) -> Iterator[Call]:
    """The live calls that an app placed, or that an organization pays. ``kind`` and ``name`` are
    the halves of a name in Accounts.suspended."""
    keys = store.keys
    key = keys.calls if kind == "app" else keys.organization_calls(name)
    for some in index.walk(store.redis, key):
        for call in store.get_many([call_id for call_id, _ in some]):
            if call is None or call.state is State.ENDED:
                continue
            if name == (call.app if kind == "app" else organization_of(call.extension)):
                yield call


def is_lost(known: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether Redis has lost the hash that a process knows."""
    return _MARK in known and _MARK not in found


def parsed(flat: Mapping[str, str]) -> dict[str, Suspension]:
    found = {}
    for name, text in flat.items():
        if name != _MARK:
            row: Any = json.loads(text)
            found[name] = Suspension(row["by"], row["at"], row.get("why", ""))
    return found
