"""Erases a person from RQ: the jobs that hold the number, with their results.

A job that waits or runs is carried out: it becomes a call. Any other is removed whole, for a job
without its number would do something else.
"""

import base64
import binascii
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import orjson
from redis import Redis
from rq.job import Job
from rq.queue import Queue
from rq.results import Result

from app.privacy.person import Person
from app.store.jobs import text
from app.store.keys import Keys
from app.store.queue import QUEUES
from app.store.replies import of_its_type

_AT_ONCE = 500
# The states of jobs that are still to be carried out.
_UNDER_WAY = (b"queued", b"started", b"deferred", b"scheduled", b"created")
_REGISTRIES = ("finished", "failed", "canceled")
# What a compressed text and JSON begin with.
_BEGINS = (b"x", b"{", b"[", b'"')
# The fields of a request that hold numbers, short ones of extensions too.
_NUMBERS = frozenset({"source", "destination", "extension", "number", "sendCallTo", "phoneNumber"})


def erase(redis: Redis, keys: Keys, person: Person, *, write: bool) -> tuple[int, int]:
    """Remove the jobs that hold the person, and results that do. Returns their number, and how many
    jobs that hold the person are still to be carried out."""
    count = waiting = 0
    begins = Job.redis_job_namespace_prefix
    for names in _scan(redis, f"{begins}*"):
        for name, record in zip(names, _records(redis, names), strict=True):
            if not record or not _holds(person, record):
                continue
            if record.get(b"status", b"") in _UNDER_WAY:
                waiting += 1
                continue
            count += 1
            if write:
                _remove(redis, keys, name.decode().removeprefix(begins))
    results = Result.get_key("")  # type: ignore[no-untyped-call]
    for names in _scan(redis, f"{results}*"):
        with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.xrevrange(name, count=1)
            found = of_its_type(pipe.execute(raise_on_error=False))
        for name, entries in zip(names, found, strict=True):
            if any(_holds(person, entry) for _, entry in entries or ()):
                count += 1
                if write:
                    redis.delete(name)
    return count, waiting


def _scan(redis: Redis, match: str) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    names: Any = redis.scan_iter(match=match, count=1000)
    for name in names:
        some.append(name)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _records(redis: Redis, names: list[bytes]) -> list[Any]:
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(name)
        return of_its_type(pipe.execute(raise_on_error=False))


def _holds(person: Person, record: Mapping[bytes, bytes]) -> bool:
    return any(_has(person, value) for value in map(_value, record.values()))


def _has(person: Person, value: Any, of: str = "") -> bool:
    if isinstance(value, str):
        return person.hides(value) or (of in _NUMBERS and person.is_number(value))
    if isinstance(value, Mapping):
        return any(_has(person, n) or _has(person, each, n) for n, each in value.items())
    if isinstance(value, list):
        return any(_has(person, each, of) for each in value)
    return False


def _value(data: bytes) -> Any:
    """What RQ keeps in a field: JSON or a text, compressed or not. Results are in Base64 too."""
    with suppress(binascii.Error):
        inner = base64.b64decode(data, validate=True)
        if inner[:1] in _BEGINS:
            data = inner
    with suppress(zlib.error):
        data = zlib.decompress(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return text(data)


def _remove(redis: Redis, keys: Keys, job_id: str) -> None:
    with redis.pipeline() as pipe:
        for name in map(keys.queue, QUEUES):
            pipe.lrem(f"{Queue.redis_queue_namespace_prefix}{name}", 0, job_id)
            for registry in _REGISTRIES:
                pipe.zrem(f"rq:{registry}:{name}", job_id)
        results = Result.get_key(job_id)  # type: ignore[no-untyped-call]
        key = Job.key_for(job_id)
        pipe.delete(key, f"{key}:dependents", f"{key}:dependencies", results)
        # Whose job it was, with a digest of what it asked.
        pipe.delete(keys.request(job_id))
        pipe.execute()
