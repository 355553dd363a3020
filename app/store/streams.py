"""Changes entries of streams, which Redis itself cannot."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError, WatchError

# Entries that are read or written in one round trip.
_AT_ONCE = 500
# Seconds after which the copy of a process that died is gone.
_COPY_KEPT = 3_600
# Seconds for which others leave the stream alone after a sign of the one that writes it anew, and
# between two looks of those.
_LOCKED, _PAUSE = 60, 0.1

# The entry in place of one, or None if that stays.
Change = Callable[[Mapping[bytes, bytes]], Mapping[bytes, bytes] | None]


def rewrite(redis: Redis, key: str, change: Change, *, write: bool = True, since: str = "-") -> int:
    """Change entries of a stream that keep their ids. Returns the number of entries that change, or
    that would without ``write``. Entries before the id ``since`` are not looked at.

    The new stream is written beside the old one and takes its place in one step, with its consumer
    groups and what these have in hand. Readers notice nothing. A key of another type has no
    entries.
    """
    count = sum(change(entry) is not None for entry in walk(redis, key, since))
    if not count or not write:
        return count
    # Two that write one stream anew would undo each other's changes.
    lock, mine = f"{key}:lock", secrets.token_hex(8)
    while not redis.set(lock, mine, nx=True, ex=_LOCKED):
        time.sleep(_PAUSE)
    while not _rewrite(redis, key, change, lock, mine):
        pass
    redis.delete(lock)
    return count


def _rewrite(redis: Redis, key: str, change: Change, lock: str, mine: str) -> bool:
    """Write the stream anew. Returns False if that has to begin again."""
    copy = f"{key}:copy"
    redis.set(lock, mine, ex=_LOCKED)
    redis.delete(copy)
    last = "-"
    while True:
        entries: Any = redis.xrange(key, last, "+", count=_AT_ONCE)
        if not entries:
            break
        last = _after(entries)
        with redis.pipeline(transaction=False) as pipe:
            _add(pipe, copy, entries, change)
            pipe.expire(copy, _COPY_KEPT)
            pipe.expire(lock, _LOCKED)
            pipe.execute()
    while not _replace(redis, key, copy, last, change):
        # A stream that changes all the time is copied in ever smaller parts.
        if redis.get(lock) != mine.encode():
            return False
    return True


def walk(redis: Redis, key: str, since: str = "-") -> Iterator[Mapping[bytes, bytes]]:
    """The entries of a stream from an id on. A key of another type has none."""
    while True:
        try:
            entries: Any = redis.xrange(key, since, "+", count=_AT_ONCE)
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return
            raise
        if not entries:
            return
        # Redis gives no fields of an entry that was deleted.
        yield from (entry for _, entry in entries if entry)
        since = _after(entries)


def _replace(redis: Redis, key: str, copy: str, last: str, change: Change) -> bool:
    """Put the copy in the place of the stream, with what came after ``last``. Returns False if the
    stream changed meanwhile."""
    pipe: Any
    with redis.pipeline() as pipe:
        pipe.watch(key)
        if not pipe.exists(key):
            # It was no longer kept.
            pipe.unwatch()
            redis.delete(copy)
            return True
        rest: Any = pipe.xrange(key, last, "+")
        left: Any = pipe.pttl(key)
        newest: Any = pipe.xinfo_stream(key)["last-generated-id"]
        groups = [(group, _in_hand(pipe, key, group)) for group in pipe.xinfo_groups(key)]
        pipe.multi()
        _add(pipe, copy, rest, change)
        pipe.execute_command("XSETID", copy, newest)
        for group, pending in groups:
            name = group["name"]
            pipe.xgroup_create(copy, name, group["last-delivered-id"])
            for entry in pending:
                # No consumer of the new group has it, so it is taken by force.
                pipe.xclaim(
                    *(copy, name, entry["consumer"], 0, [entry["message_id"]]),
                    idle=entry["time_since_delivered"],
                    retrycount=entry["times_delivered"],
                    force=True,
                    justid=True,
                )
        pipe.persist(copy)
        if left > 0:
            pipe.pexpire(copy, left)
        pipe.rename(copy, key)
        try:
            pipe.execute()
        except WatchError:
            return False
        return True


def _in_hand(pipe: Any, key: str, group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries that the consumers of a group have in hand. The pipeline watches, so that it
    answers at once."""
    if not group["pending"]:
        return []
    found: Any = pipe.xpending_range(key, group["name"], "-", "+", group["pending"])
    return list(found)


def _add(pipe: Any, copy: str, entries: Any, change: Change) -> None:
    for entry_id, entry in entries:
        if entry:
            pipe.xadd(copy, change(entry) or entry, id=entry_id)


def _after(entries: Any) -> str:
    return f"({entries[-1][0].decode()}"
