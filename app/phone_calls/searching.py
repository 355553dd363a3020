"""Finds calls by their metadata, and calls that have ended.

A search reads an index of what the caller's account may see, never all calls: with metadata the
index of calls that have it, without metadata the live calls and the records. It looks at the newest
MOST calls of each index. The service then leaves out the calls that the app may not see.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from app.accounts.caller import Scope
from app.accounts.model import Level
from app.calls.model import Call, State
from app.store import index, metadata_index
from app.store.keys import Keys
from app.store.reading import CallReader
from app.web.metadata import has_pairs

# The most calls that a search looks at.
MOST = 5000


@dataclass(frozen=True)
class Search:
    """The calls that a list is asked for beside its filter."""

    # Keys and values of metadata, all of which a call must have.
    pairs: list[tuple[str, str]] = field(default_factory=list)
    # Whether calls that have ended are asked for.
    ended: bool = False

    @property
    def is_needed(self) -> bool:
        return bool(self.pairs) or self.ended

    def matches(self, call: Call) -> bool:
        metadata = json.loads(call.metadata) if call.metadata else None
        return has_pairs(metadata, self.pairs)


def found(store: CallReader, scope: Scope, search: Search, since: float) -> Iterator[list[Call]]:
    """The calls of the indexes, newest first, some hundreds at a time; among them calls that the
    scope does not show. ``since`` is an acceptance (epoch seconds) before which no call is kept."""
    ids = _ids(store, scope, search, since)
    for first in range(0, len(ids), index.CHUNK):
        some = store.get_many(ids[first : first + index.CHUNK])
        yield [c for c in some if c and (search.ended or c.state is not State.ENDED)]


def _ids(store: CallReader, scope: Scope, search: Search, since: float) -> list[str]:
    live, keys = scope.indexes(store.keys), store.keys
    with store.redis.pipeline(transaction=False) as pipe:
        if search.pairs and not search.ended:
            for both in product(_by_metadata(keys, scope, search), live):
                pipe.zinter(both, aggregate="MAX", withscores=True)
        else:
            of_pair = _by_metadata(keys, scope, search) if search.pairs else ()
            for key in of_pair or (*live, _records(keys, scope)):
                pipe.zrevrangebyscore(key, "inf", since, start=0, num=MOST, withscores=True)
        replies: Any = pipe.execute()
    times = {call_id: at for reply in replies for call_id, at in reply}
    ids = sorted(times, key=lambda call_id: times[call_id], reverse=True)
    return [call_id.decode() for call_id in ids[:MOST]]


def _by_metadata(keys: Keys, scope: Scope, search: Search) -> Sequence[str]:
    """The indexes of the first pair, of the organizations whose calls the app may see."""
    caller = scope.caller
    own = caller.organization
    numbers = [own.number] if own is not None else list(caller.accounts.organizations)
    return [metadata_index.key(keys, number, *search.pairs[0]) for number in numbers]


def _records(keys: Keys, scope: Scope) -> str:
    """The index of the records of the calls that the scope pays for."""
    caller = scope.caller
    user = scope.user.id if scope.user is not None else None
    if scope.extension is not None:
        user = scope.extension.owner
    elif caller.app.level is Level.USER:
        user = caller.app.user
    if user is not None:
        return keys.user_records(user)
    own = caller.organization
    return keys.organization_records(own.number) if own is not None else keys.records
