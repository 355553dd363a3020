"""Finds calls by what they are, and calls that have ended.

A search reads an index of what the caller's account may see, never all calls: with metadata the
index of calls that have it, without metadata the live calls and, for ended calls, the records. For
one page it looks at MOST calls, from the cursor on. The service then leaves out the calls that the
app may not see.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from app.accounts.caller import Scope
from app.accounts.model import Level
from app.calls.model import Call, State
from app.store import index, metadata_index
from app.store.index import ALL, Place, Span
from app.store.keys import Keys
from app.store.reading import CallReader
from app.web.metadata import has_pairs

# The most calls that a search looks at for one page.
MOST = 5000


@dataclass(frozen=True)
class Search:
    """The calls that a list is asked for beside its filter."""

    # Keys and values of metadata, all of which a call must have.
    pairs: list[tuple[str, str]] = field(default_factory=list)
    # Whether calls that have ended are asked for.
    ended: bool = False
    # The states that a call may have; empty for all.
    states: frozenset[State] = frozenset()
    # The number that a party of the call must have, and the nonce of the create request.
    number: str | None = None
    nonce: str | None = None
    # When the call was accepted.
    span: Span = ALL

    @property
    def is_needed(self) -> bool:
        """Whether the indexes of live calls do not tell the calls by themselves."""
        asked = self.pairs or self.ended or self.states
        return bool(asked) or self.number is not None or self.nonce is not None

    def matches(self, call: Call) -> bool:
        """Whether the call is one of these, but for the number."""
        metadata = json.loads(call.metadata) if call.metadata and self.pairs else None
        return (
            has_pairs(metadata, self.pairs)
            and (not self.states or call.state in self.states)
            and self.nonce in (None, call.nonce)
            and self.span.low <= call.accepted < self.span.high
        )


def window(
    store: CallReader,
    scope: Scope,
    search: Search,
    since: float,
    *,
    newest_first: bool,
    after: Place | None,
) -> tuple[list[Place], bool]:
    """The places of the next MOST calls of the indexes, among them calls that the scope does not
    show, and whether there are more. ``since`` is an acceptance (epoch seconds) before which no
    call is kept."""
    span = search.span.cut(Span(low=since))
    if after is not None:
        span = span.from_place(after, newest_first=newest_first)
    places = sorted(
        ((i.decode(), at) for i, at in _read(store, scope, search, span, newest_first).items()),
        key=index.in_order,
        reverse=newest_first,
    )
    if after is not None:
        places = index.beyond(places, after, newest_first=newest_first)
    return places[:MOST], len(places) > MOST


def _read(
    store: CallReader, scope: Scope, search: Search, span: Span, newest_first: bool
) -> dict[bytes, float]:
    """Ids of calls with their times: at least the next MOST of the span, and one more if there is
    one."""
    live, keys = scope.indexes(store.keys), store.keys
    of_pair = _by_metadata(keys, scope, search) if search.pairs else ()
    with store.redis.pipeline(transaction=False) as pipe:
        if search.pairs and not search.ended:
            for both in product(of_pair, live):
                pipe.zinter(both, aggregate="MAX", withscores=True)
        else:
            ended = (_records(keys, scope),) if search.ended else ()
            for key in of_pair or (*live, *ended):
                index.read(pipe, key, span, MOST + index.CHUNK, newest_first=newest_first)
        replies: Any = pipe.execute()
    found = {call_id: at for reply in replies for call_id, at in reply}
    return {call_id: at for call_id, at in found.items() if span.low <= at < span.high}


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
