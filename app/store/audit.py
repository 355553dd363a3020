"""The audit: who asked for what, with which result, in two streams of Redis.

``audit:calls`` has what is as frequent as calls: their placing and hanging up, where it was
accepted. It is kept as long as the calls. ``audit`` has everything else, refused requests too, and
is kept for RINGBACK_AUDIT_RETENTION. Both are trimmed by time. An entry never holds a token, a
secret or a PIN.
"""

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis

from app.store.keys import Keys

ACCEPTED = "accepted"
PLACE, HANG_UP = "place", "hang_up"
# The most characters of a text in an entry.
_LONGEST = 200
# Entries read at once.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Who:
    """The one that asked: ``kind`` is ``app``, ``user`` (an app of one user), ``session`` (of the
    console) or ``operator`` (of the command line). ``request_id`` is the id of the HTTP request. A
    text is None where it is not known."""

    kind: str
    app: str | None = None
    user: str | None = None
    address: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``on`` is what it concerns: a call, an extension, a switch. ``count`` says how
    many like it the entry stands for."""

    who: Who
    what: str
    on: str | None = None
    organization: str | None = None
    result: str = ACCEPTED
    data: str | None = None
    count: int | None = None


def fields(entry: Entry, at: str) -> dict[str, str]:
    """The fields of an entry in the stream. ``at`` is epoch seconds as text."""
    values = {"at": at, **asdict(entry.who), **{n: getattr(entry, n) for n in _FIELDS}}
    return {n: str(value)[:_LONGEST] for n, value in values.items() if value is not None}


_FIELDS = ("what", "on", "organization", "result", "data", "count")


def command(keys: Keys, entry: Entry, now: float, kept: float) -> tuple[str, ...]:
    """The command that adds an entry at ``now`` (epoch seconds), and drops what is older than
    ``kept`` seconds from the stream."""
    accepted = entry.result == ACCEPTED
    of_calls = accepted and entry.what in (PLACE, HANG_UP)
    key = keys.audit_calls if of_calls else keys.audit
    # Redis drops whole nodes of the stream, which costs nothing.
    oldest = max(0, int((now - kept) * 1000))
    words = [word for item in fields(entry, f"{now:.6f}").items() for word in item]
    return ("XADD", key, "MINID", "~", str(oldest), "*", *words)


def read(
    redis: Redis,
    keys: Keys,
    *,
    since: float = 0.0,
    until: float | None = None,
    newest: bool = False,
) -> Iterator[tuple[str, dict[str, str]]]:
    """The entries of both streams, each with the stream's key, in order of time, from ``since`` on
    and before ``until`` (epoch seconds). With ``newest`` the newest come first."""
    low = f"{int(since * 1000)}"
    # An id without a number is the last one of its millisecond.
    high = "+" if until is None else f"{max(0, math.ceil(until * 1000) - 1)}"
    streams = [_walk(redis, key, low, high, newest) for key in (keys.audit, keys.audit_calls)]
    for _, key, entry in heapq.merge(*streams, key=lambda item: item[0], reverse=newest):
        yield key, entry


def follow(
    redis: Redis, places: Mapping[str, str], block: float
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The entries after ``places`` (an id by the key of a stream), and the places after these. It
    waits ``block`` seconds at most."""
    asked: Any = dict(places)
    reply: Any = redis.xread(asked, block=max(1, int(block * 1000)))
    found = []
    after = dict(places)
    for key, entries in reply or ():
        for entry_id, flat in entries:
            after[key.decode()] = entry_id.decode()
            found.append((place(entry_id), _entry(entry_id, flat)))
    return after, [entry for _, entry in sorted(found, key=lambda item: item[0])]


def ends(redis: Redis, keys: Keys) -> dict[str, str]:
    """The id of the last entry by the key of its stream."""
    places = {}
    for key in (keys.audit, keys.audit_calls):
        newest: Any = redis.xrevrange(key, count=1)
        places[key] = newest[0][0].decode() if newest else "0"
    return places


def matches(entry: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    """Whether the entry has each wanted value. ``result`` also takes ``refused``: any code."""
    for name, value in wanted.items():
        if value is None:
            continue
        found = entry.get(name)
        if name == "result" and value == "refused":
            if found == ACCEPTED:
                return False
        elif found != value:
            return False
    return True


Place = tuple[int, int]


def place(entry_id: bytes) -> Place:
    """The place of an entry's id in the order of a stream."""
    at, _, number = entry_id.partition(b"-")
    return int(at), int(number or 0)


def _walk(
    redis: Redis, key: str, low: str, high: str, newest: bool
) -> Iterator[tuple[Place, str, dict[str, str]]]:
    while True:
        found: Any
        if newest:
            found = redis.xrevrange(key, high, low, count=_CHUNK)
        else:
            found = redis.xrange(key, low, high, count=_CHUNK)
        for entry_id, flat in found:
            yield place(entry_id), key, _entry(entry_id, flat)
        if len(found) < _CHUNK:
            return
        last = f"({found[-1][0].decode()}"
        low, high = (low, last) if newest else (last, high)


def _entry(entry_id: bytes, flat: Mapping[bytes, bytes]) -> dict[str, str]:
    found = {name.decode(): text.decode(errors="replace") for name, text in flat.items()}
    return {"id": entry_id.decode(), **found}


# Characters that would move the cursor of a terminal, or end a line of the output; and halves of
# surrogate pairs, which Redis does not take.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160), *range(0xD800, 0xE000)], "�")


def plain(text: str, longest: int = _LONGEST) -> str:
    """Words of a client on one line, and no longer than ``longest``."""
    # Redis takes no half of a surrogate pair.
    return text.encode(errors="replace").decode().translate(_CONTROLS)[:longest]
