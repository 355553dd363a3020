"""What it costs to export records, beside the rate at which calls end, in the same run.

    python -m bench.records [--calls 20000] [--url postgresql://…]

Accepts and ends calls by the real scripts, in a Redis of its own and in one process, as fast as
that goes: no listener is as fast. Then one exporter writes their records, and takes them out of
Redis. Without --url the database is a SQLite file that is deleted at the end. The tables of a
PostgreSQL must not be there yet, and stay.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from sqlalchemy import text

from app.calls import transitions
from app.calls.model import evolve
from app.cdr.store import CdrStore
from app.records.archive import Archive
from app.records.exporting import BATCH, Exporter, Kept
from app.records.model import Holder, Narrow, number_term
from app.store import writes
from app.store.calls import CallStore
from app.store.client import connect
from app.store.index import ALL
from app.store.keys import Keys
from bench.speed.bare import NUMBER, call_to
from bench.speed.table import quantile
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port

DAYS, ORGANIZATIONS = 10, 100
PAGES = 50


def end_calls(store: CallStore, count: int) -> None:
    """Accept and end calls of the last days, some at a time."""
    now, chance = store.now(), random.Random(7)
    for first in range(0, count, 100):
        scripts = []
        for n in range(first, min(first + 100, count)):
            number = f"{NUMBER[:-4]}{chance.randrange(10_000):04}"
            at = round(now - 100 - chance.random() * DAYS * 86_400, 6)
            organization = n % ORGANIZATIONS
            accepted = evolve(
                call_to(number),
                extension=f"{organization:04}*210",
                organization=str(organization),
                user=f"user-{organization}-{n % 7}",
                accepted=at,
                version=1,
                stamp=writes.stamp(),
            )
            ended = transitions.end(accepted, transitions.EVENTS_LOST, at=at + 60)
            ended = evolve(ended, version=2, stamp=writes.stamp())
            scripts.append(writes.arguments(store.keys, None, accepted, (), at))
            scripts.append(writes.arguments(store.keys, accepted, ended, (), now))
        store._run(scripts, False)


@contextmanager
def database(url: str | None) -> Iterator[Archive]:
    with tempfile.TemporaryDirectory(prefix="ringback-records-") as folder:
        archive = Archive.open(url or f"sqlite:///{folder}/records.sqlite", 300.0)
        yield archive
        archive.engine.dispose()


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and seconds of CPU of this process."""
    begun, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - used


def used_memory(redis: Redis) -> int:
    found: Any = redis.info("memory")
    return int(found["used_memory"])


def size(archive: Archive) -> int:
    """The bytes of all tables with their indexes."""
    asked = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    if archive.is_postgresql:
        asked = "SELECT pg_database_size(current_database())"
    with archive.reading() as view:
        return int(view.connection.execute(text(asked)).scalar_one())


def measure(redis: Redis, archive: Archive, count: int) -> None:
    store = CallStore(redis, Keys())
    kept = Kept(in_redis=0.0, of_call=0.0, altogether=365 * 86_400.0)
    exporter = Exporter(redis, store.keys, archive, kept)
    exporter.prepare()
    empty = size(archive)
    while exporter.step():
        pass
    ending, ending_cpu = timed(lambda: end_calls(store, count))
    batches: list[float] = []

    def export() -> None:
        more = True
        while more:
            begun = time.perf_counter()
            more = exporter.step()
            batches.append(time.perf_counter() - begun)

    exporting, exporting_cpu = timed(export)
    full = used_memory(redis)
    calls = [key for key in redis.scan_iter(f"{store.keys.prefix}call:*", count=1000)]
    for first in range(0, len(calls), 1000):
        redis.delete(*calls[first : first + 1000])
    alone = used_memory(redis)
    exporter.trim(pause=0.0)
    trimming, _ = timed(lambda: exporter.trim(pause=0.0))
    for key in redis.scan_iter(f"{store.keys.prefix}cdr:{{*", count=1000):
        redis.delete(key)
    left = used_memory(redis)
    batches = [each for each in batches[:-1]] or batches
    print(f"{archive.engine.dialect.name}, {count:,} calls of {DAYS} days")
    print(f"   calls that end in one process            {count / ending:8.0f} /s")
    print(f"   records that the exporter writes         {count / exporting:8.0f} /s")
    print(f"   ratio: records written per call ended    {ending / exporting:8.2f}")
    print(f"   CPU of the exporter, to that of ending   {exporting_cpu / ending_cpu:8.2f}")
    half, most = quantile(batches, 0.5) * 1e3, quantile(batches, 0.99) * 1e3
    print(f"   a batch of {BATCH}, milliseconds            p50 {half:6.0f}   p99 {most:6.0f}")
    print(f"   records compared and taken out of Redis  {count / trimming:8.0f} /s")
    print(f"   bytes of a record in the database        {(size(archive) - empty) / count:8.0f}")
    print(f"   bytes of a record in Redis               {(alone - left) / count:8.0f}")
    print(f"   megabytes of Redis, with the calls       {full / 1e6:8.0f}")
    records = CdrStore(redis, store.keys, archive)
    number = f"{NUMBER[:-4]}0007"
    narrow = Narrow((frozenset({number_term("destination", number)}),))
    own = Holder("0042")

    def search() -> None:
        for _ in records.walk(own, ALL, newest_first=True, narrow=narrow):
            pass

    ways: dict[str, Callable[[], Any]] = {
        "the first page of an organization": lambda: records.page(
            own, ALL, 0, 20, newest_first=True
        ),
        "the first page of all": lambda: records.page(Holder(), ALL, 0, 20, newest_first=True),
        "the number of all": lambda: records.count(Holder(), ALL),
        "all records of one number": search,
    }
    for name, way in ways.items():
        took = sorted(timed(way)[0] * 1e3 for _ in range(PAGES))
        print(f"   {name:38} p50 {quantile(took, 0.5):6.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--url")
    asked = parser.parse_args()
    server = EmbeddedRedis(free_port())
    try:
        redis = connect(server.url, timeout=60.0)
        while True:
            try:
                redis.ping()
                break
            except ConnectionError:
                time.sleep(0.05)
        with database(asked.url) as archive:
            measure(redis, archive, asked.calls)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
