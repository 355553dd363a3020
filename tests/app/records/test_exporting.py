"""The exporter: what ended is in the database once, and leaves Redis only then."""

import time
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import text

from app.calls import transitions
from app.calls.model import Call
from app.calls.transitions import LegReport
from app.cdr.store import CdrStore
from app.records import archive as archive_module
from app.records import tables
from app.records.archive import Archive
from app.records.errors import RecordsRefused, RecordsUnavailable
from app.records.exporting import Exporter
from app.records.model import Holder, Narrow, Record, number_term
from app.records.opening import open_archive
from app.settings import Settings, SettingsError
from app.store import index
from app.store.calls import CallStore
from app.store.index import ALL, Span
from app.store.keys import Keys
from tests.app.conftest import Ask
from tests.app.records.conftest import AT_ONCE, ONE, export, move
from tests.app.test_cdr import NOTE, cancelled, make, talked
from tests.app.test_phone_calls import is_error

DAY = 86_400


def all_of(archive: Archive) -> list[Record]:
    return list(archive.each())


def ids(archive: Archive) -> list[str]:
    return [record["id"] for record in all_of(archive)]


def in_redis(redis: Redis, call_id: str) -> Record:
    found: Any = redis.get(Keys().record(call_id))
    return dict(orjson.loads(found))


def lost(call: Call) -> Call:
    return transitions.end(call, transitions.EVENTS_LOST, at=call.accepted + 100)


def test_what_ends_is_exported_once_and_so_is_what_changes(
    store: CallStore, redis: Redis, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = float(int(store.now()))
    # Nothing is noted for an exporter that never ran.
    before = make(store, cancelled, now - 500)
    assert not redis.exists(store.keys.unexported)
    exporter = Exporter(redis, store.keys, archive, AT_ONCE)
    exporter.prepare()
    after = make(store, lost, now - 400)
    export(exporter)
    assert ids(archive) == [before.id, after.id]
    assert redis.xlen(store.keys.unexported) == 0
    late = LegReport(after.legs[0].uuid, answered=now - 390)
    store.change(after, lambda call: transitions.report_leg(call, late), NOTE)
    export(exporter)
    assert ids(archive) == [before.id, after.id]
    assert all_of(archive)[1] == in_redis(redis, after.id) and all_of(archive)[1]["duration"]

    # The process dies after the database has the records, and before Redis is told so.
    last = make(store, cancelled, now - 300)

    def die(*_: object) -> None:
        raise RedisConnectionError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(redis, "xdel", die)
        with pytest.raises(RedisConnectionError):
            exporter.step()
    assert redis.xlen(store.keys.unexported) == 1
    export(Exporter(redis, store.keys, archive, AT_ONCE))
    assert ids(archive) == [before.id, after.id, last.id]
    with archive.reading() as view:
        assert view.count(Holder(), ALL) == view.count(Holder("0003"), ALL) == 3

    # An older state that comes late replaces nothing.
    newer = all_of(archive)[2]
    older = {**newer, "saved": newer["saved"] - 1, "disposition": 4}
    archive.write([(older, orjson.dumps(older).decode())])
    assert all_of(archive)[2] == newer


def test_redis_keeps_what_the_database_does_not_have(
    store: CallStore, redis: Redis, archive: Archive, exporter: Exporter
) -> None:
    keys, now = store.keys, store.now()
    export(exporter)
    gone, changed, missed = (make(store, cancelled, now - 1000 + n) for n in range(3))
    # A version that knows no stream wrote this one.
    entries: Any = redis.xrange(keys.unexported)
    redis.xdel(keys.unexported, *(i for i, entry in entries if entry[b"id"] == missed.id.encode()))
    export(exporter)
    assert set(ids(archive)) == {gone.id, changed.id}
    exporter.trim(pause=0.0)
    take_out = exporter._take_out

    def change_first(rows: Any) -> int:
        """A late event comes after the record was compared."""
        record = {**in_redis(redis, changed.id), "disposition": 5}
        redis.set(keys.record(changed.id), orjson.dumps(record), keepttl=True)
        return take_out(rows)

    exporter._take_out = change_first  # type: ignore[method-assign]
    assert exporter.trim(pause=0.0) == 2
    exporter._take_out = take_out  # type: ignore[method-assign]
    for key in (keys.records, keys.organization_records("0003"), keys.user_records("12")):
        assert redis.zrange(key, 0, -1) == [changed.id.encode()]
    assert set(ids(archive)) == {gone.id, changed.id, missed.id}
    # A reader that has just read the index still finds it.
    assert 0 < redis.ttl(keys.record(gone.id)) <= 60
    assert in_redis(redis, changed.id)["disposition"] == 5


@ONE
def test_what_has_just_ended_or_is_young_stays_in_redis(
    store: CallStore, redis: Redis, archive: Archive
) -> None:
    now = store.now()
    kept = replace(AT_ONCE, in_redis=3600.0, of_call=600.0)
    young = make(store, cancelled, now - 3000)
    old = make(store, cancelled, now - 4000)
    # It talked for so long that Redis keeps the call.
    long = make(store, lambda call: talked(call, talk=3500.0), now - 4000)
    exporter = Exporter(redis, store.keys, archive, kept)
    exporter.prepare()
    export(exporter)
    exporter.trim(pause=0.0)
    # A reader may have looked at the boundary before it moved.
    assert exporter.trim() == 0
    assert exporter.trim(pause=0.0) == 1
    found: Any = redis.zrange(store.keys.records, 0, -1)
    assert sorted(found) == sorted([young.id.encode(), long.id.encode()])
    records = CdrStore(redis, store.keys, archive)
    page = records.page(Holder(), ALL, 0, 10, newest_first=True)
    assert {record["id"] for record in page.rows} == {young.id, old.id, long.id}
    assert page.total == 3
    # A program without the database, as one that came back to an older version, finds the rest.
    assert CdrStore(redis, store.keys).count(Holder(), ALL) == 2


@ONE
def test_the_database_is_away_and_comes_back(
    store: CallStore, redis: Redis, archive: Archive, exporter: Exporter, kind: str
) -> None:
    made = [make(store, cancelled, store.now() - 1000 + n) for n in range(3)]

    def away(*_: object) -> int:
        raise RecordsUnavailable("away")

    write, archive.write = archive.write, away  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(RecordsUnavailable):
            exporter.step()
    exporter.trim(pause=0.0)
    with pytest.raises(RecordsUnavailable):
        exporter.trim(pause=0.0)
    assert redis.zcard(store.keys.records) == 3
    # A record that the database refuses keeps out no other.
    bad = made[1].id

    def picky(batch: Any) -> int:
        if any(record["id"] == bad for record, _ in batch):
            raise RecordsRefused("bad")
        return write(batch)

    archive.write = picky  # type: ignore[method-assign]
    export(exporter)
    exporter.trim(pause=0.0)
    assert set(ids(archive)) == {made[0].id, made[2].id}
    assert redis.zrange(store.keys.records, 0, -1) == [bad.encode()]
    archive.write = write  # type: ignore[method-assign]
    exporter.trim(pause=0.0)
    assert len(ids(archive)) == 3 and not redis.exists(store.keys.records)


def test_what_is_too_old_goes_from_the_database(
    store: CallStore, redis: Redis, archive: Archive, exporter: Exporter
) -> None:
    now = store.now()
    call = make(store, cancelled, now - 10)
    export(exporter)
    record = {**in_redis(redis, call.id), "id": "0" * 20, "published": now - 105 * DAY}
    archive.write([(record, orjson.dumps(record).decode())])
    move(exporter)
    assert len(ids(archive)) == 2
    assert exporter.expire() == 1
    assert ids(archive) == [call.id]
    with archive.reading() as view:
        assert view.count(Holder(), ALL) == 1
        left = view.connection.execute(text("SELECT count(*) FROM record_terms")).scalar()
        assert left == len(archive_module.terms_of(record))


def test_tables_of_another_version(
    archive: Archive, settings: Settings, store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordsUnavailable, match="ringback records export"), archive.reading():
        pass
    assert archive.migrate() == 0
    assert archive.migrate() == 1
    added = text("ALTER TABLE record_counts ADD COLUMN more TEXT")

    def step(connection: Any) -> None:
        connection.execute(added)

    def fails(connection: Any) -> None:
        connection.execute(added)
        raise RuntimeError("in the middle")

    for steps in ((fails,), (step,)):
        monkeypatch.setattr(tables, "STEPS", steps)
        if steps == (fails,):
            # Nothing of a step that fails stays.
            with pytest.raises(RuntimeError):
                archive.migrate()
            assert archive.version() == 1
    assert archive.migrate() == 1
    assert archive.version() == 2
    monkeypatch.setattr(tables, "STEPS", ())
    with pytest.raises(SettingsError, match="has version 2 of its tables"):
        archive.migrate()
    newer = Archive(archive.engine)
    with pytest.raises(SettingsError, match="Run the version of Ringback"), newer.reading():
        pass


@ONE
def test_a_request_without_the_database(ask: Ask, store: CallStore, redis: Redis) -> None:
    call = make(store, cancelled, store.now() - 1000)
    # Redis has all until the boundary is set.
    assert list(ask("GET", "/uapi/cdr/@me").json["entry"]) == [call.id]
    redis.set(store.keys.exported_before, str(store.now() - 2000))
    answer = ask("GET", "/uapi/cdr/@me")
    is_error(answer, 503, "service_unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "database of records" in answer.json["error"]["message"]
    # What Redis has needs no database.
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(store.now() - 1500))
    assert list(ask("GET", "/uapi/cdr/@me", startDate=since).json["entry"]) == [call.id]


@ONE
@pytest.mark.parametrize("url", ["mysql://x:secret@y/z", "sqlite:///relative", "sqlite://", "?"])
def test_a_url_that_is_none(settings: Settings, url: str) -> None:
    with pytest.raises(SettingsError, match="RINGBACK_RECORDS_URL must be") as caught:
        open_archive(replace(settings, records_url=url))
    assert "secret" not in str(caught.value)


@ONE
def test_without_the_extra(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "app.records.archive")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(SettingsError, match=r"ringback-server\[records\]"):
        open_archive(settings)


# Lists of records that are anywhere, compared with the same list in memory

NUMBERS = st.sampled_from(["0003*210", "0003*211", "15500", "+15501"])
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            # Several calls may have the same time, and days have edges.
            "at": st.sampled_from([0.0, 1.0, DAY - 0.5, DAY, 2.5 * DAY, 3 * DAY, 3.2 * DAY]),
            "organization": st.sampled_from(["0003", "0004"]),
            "user": st.sampled_from(["12", "13"]),
            "source": st.lists(NUMBERS, min_size=1, max_size=2, unique=True),
            "disposition": st.integers(0, 2),
            "where": st.sampled_from(["redis", "database", "both", "young"]),
        }
    ),
    max_size=9,
)


@ONE
@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=RECORDS,
    low=st.sampled_from([0.0, 1.0, DAY + 1, 5 * DAY]),
    high=st.sampled_from([DAY, 3 * DAY, 9 * DAY]),
    start=st.integers(0, 8),
    count=st.integers(0, 4),
    newest_first=st.booleans(),
    organization=st.sampled_from([None, "0003"]),
    user=st.sampled_from([None, "12"]),
    number=NUMBERS,
)
def test_any_page_of_any_records(
    redis: Redis,
    archive: Archive,
    made: list[dict[str, Any]],
    low: float,
    high: float,
    start: int,
    count: int,
    newest_first: bool,
    organization: str | None,
    user: str | None,
    number: str,
) -> None:
    archive.migrate()
    with archive._writing() as connection:
        for table in (tables.records, tables.terms, tables.counts):
            connection.execute(table.delete())
    keys, zero, boundary = Keys(), 1_700_000_000.0 // DAY * DAY, 4 * DAY
    redis.flushall()
    redis.set(keys.exported_before, str(zero + boundary))
    known: list[Record] = []
    for number_, each in enumerate(made):
        young = each["where"] == "young"
        record = {
            "id": f"{number_:020x}",
            "published": zero + each["at"] + (boundary if young else 0),
            "ended": zero + 99,
            "saved": zero + 99,
            "extension": f"{each['organization']}*210",
            "user": each["user"],
            "source": each["source"],
            "destination": ["15509"],
            "disposition": each["disposition"],
            "flow": 2,
        }
        if each["where"] in ("database", "both"):
            # What both have is older there.
            stale = {**record, "disposition": 5} if each["where"] == "both" else record
            archive.write([(stale, orjson.dumps(stale).decode())])
        if each["where"] != "database":
            redis.set(keys.record(record["id"]), orjson.dumps(record))
            for of in (Holder(), Holder(each["organization"]), Holder(user=each["user"])):
                redis.zadd(of.index(keys), {record["id"]: record["published"]})
        known.append(record)
    holder = Holder(user=user) if user else Holder(organization)
    span = Span(zero + low, zero + high)

    def is_in(record: Record) -> bool:
        owned = holder.user in (None, record["user"])
        own = holder.organization in (None, record["extension"][:4])
        return owned and own and span.low <= record["published"] < span.high

    wanted = sorted(
        filter(is_in, known), key=lambda r: (r["published"], r["id"]), reverse=newest_first
    )
    store = CdrStore(redis, keys, archive)
    page = store.page(holder, span, start, count, newest_first=newest_first)
    assert page.rows == wanted[start : start + count]
    assert page.total == len(wanted) == store.count(holder, span)
    after = None
    found: list[Record] = []
    for _ in range(len(wanted) + 1):
        page = store.page(holder, span, len(found), 2, newest_first=newest_first, after=after)
        found += page.rows
        if (after := page.last) is None:
            break
    assert found == wanted
    chunk, index.CHUNK = index.CHUNK, 2
    try:
        walked = [r for some in store.walk(holder, span, newest_first=newest_first) for r in some]
        assert walked == wanted
        narrow = Narrow((frozenset({number_term("source", number)}),), disposition=1)
        walk = store.walk(holder, span, newest_first=newest_first, narrow=narrow)
        narrowed = [r for some in walk for r in some]
    finally:
        index.CHUNK = chunk
    hits = [r for r in wanted if number in r["source"] and r["disposition"] == 1]
    assert [r for r in narrowed if number in r["source"] and r["disposition"] == 1] == hits
