"""The databases of records: SQLite and PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis
from sqlalchemy import text

from app.records.archive import Archive
from app.records.exporting import Exporter, Kept
from app.records.model import Holder, organization_of
from app.settings import Settings
from app.store.keys import Keys
from tests.postgres import Postgres, postgres_running

# All is as old as what the database is to have.
AT_ONCE = Kept(in_redis=0.0, of_call=0.0, altogether=100 * 86_400.0)
# What is the same with any database.
ONE = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def records_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/records.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    archive = Archive.open(server.url, 20.0)
    with archive.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    archive.engine.dispose()
    return server.url


@pytest.fixture
def archive(records_url: str) -> Iterator[Archive]:
    archive = Archive.open(records_url, 20.0)
    yield archive
    archive.engine.dispose()


@pytest.fixture
def exporter(archive: Archive, redis: Redis) -> Exporter:
    found = Exporter(redis, Keys(), archive, AT_ONCE)
    found.prepare()
    return found


@pytest.fixture
def settings(settings: Settings, records_url: str) -> Settings:
    return replace(settings, records_url=records_url)


def export(exporter: Exporter) -> None:
    while exporter.step():
        pass


def move(exporter: Exporter) -> None:
    """Export all, set the boundary after all, and take all out of Redis."""
    export(exporter)
    exporter.trim(pause=0.0)
    exporter.trim(pause=0.0)


def spread(exporter: Exporter, redis: Redis) -> None:
    """Have a third of the records in the database alone, a third in both, a third in Redis alone;
    all of them are older than the boundary."""
    keys = Keys()
    found: Any = redis.zrange(keys.records, 0, -1, withscores=True)
    texts: Any = {i: redis.get(keys.record(i.decode())) for i, _ in found}
    kept = [(i.decode(), at, texts[i]) for i, at in found if texts[i] is not None]
    hidden = {i for i, _, _ in kept if int(i, 16) % 3 == 2}
    if hidden:
        redis.zrem(keys.records, *hidden)
    entries: Any = redis.xrange(keys.unexported)
    for entry_id, entry in entries:
        if entry.get(b"id", b"").decode() in hidden:
            redis.xdel(keys.unexported, entry_id)
    move(exporter)
    for call_id, at, record in kept:
        if int(call_id, 16) % 3:
            restore(redis, call_id, at, record)


def restore(redis: Redis, call_id: str, at: float, record: bytes) -> None:
    keys, known = Keys(), orjson.loads(record)
    redis.set(keys.record(call_id), record)
    for holder in (Holder(), Holder(organization_of(known)), Holder(user=known["user"])):
        redis.zadd(holder.index(keys), {call_id: at})
