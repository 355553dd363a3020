"""The database of records: writes batches, finds pages, changes and deletes.

A writer takes a lock of the whole database for its transaction, so that exporters and erasures come
one after the other. Readers never wait for it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Select,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    make_url,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from app.records.errors import RecordsRefused, RecordsUnavailable
from app.records.model import Holder, Narrow, Record, organization_of, terms_of
from app.records.tables import counts, migrate, newest, partitioned, records, terms, version_of
from app.settings import SettingsError
from app.store.index import Place, Span

# Seconds to connect, and to wait for one of the few connections of a process.
_CONNECT = 5
_CONNECTIONS = 4
# Records that are looked at in one step when all are, and values in one statement.
_AT_ONCE = 500
_DAY = 86_400
# Any number: the key of the lock that writers take in PostgreSQL.
_LOCK = 0x52494E47
# Seconds for which a new partition, or one that goes, waits for readers.
_LOCK_TIMEOUT = 5

# A row of the database: the place of the record, and the record as JSON.
Row = tuple[Place, str]


class Archive:
    """The database of records. Its methods raise RecordsUnavailable, and SettingsError if the
    tables are of a newer version."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._checked = False
        # The days that have a partition.
        self._days: set[int] = set()

    @classmethod
    def open(cls, url: str, timeout: float) -> "Archive":
        """The database of a URL, ``timeout`` seconds for one statement. Raises SettingsError."""
        try:
            made = make_url(url)
        except ArgumentError as error:
            raise SettingsError(_URL) from error
        if made.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
            return cls(_postgresql(made, timeout))
        if made.drivername == "sqlite" and (made.database or "").startswith("/"):
            return cls(_sqlite(made))
        raise SettingsError(_URL)

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    def migrate(self) -> int:
        """Make the tables, or bring them to this version. Returns the version that they had."""
        with self._writing() as connection:
            return migrate(connection)

    def version(self) -> int:
        """The version of the tables; 0 if there are none."""
        with _explained(), self.engine.connect() as connection, connection.begin():
            return version_of(connection)

    @contextmanager
    def reading(self) -> Iterator["View"]:
        """The records as they stand at one moment."""
        with _explained(), self.engine.connect() as connection, connection.begin():
            self._check(connection)
            yield View(connection)

    def _check(self, connection: Connection) -> None:
        if self._checked:
            return
        found = version_of(connection)
        if found < newest():
            raise RecordsUnavailable(
                f"the tables have version {found}, and {newest()} is needed: "
                "`ringback records export` makes it"
            )
        self._checked = True

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        options: dict[str, Any] = {"writes": True}
        if self.is_postgresql:
            # It must see what the last holder of the lock has written.
            options["isolation_level"] = "READ COMMITTED"
        with (
            _explained(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            if self.is_postgresql:
                # The lock is gone with the transaction, also if this process is.
                connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    # Writing

    def write(self, batch: Sequence[tuple[Record, str]]) -> int:
        """Write records, each with its JSON, in one transaction. A record that the database has in
        a version saved later stays. Returns how many are new.

        Raises RecordsRefused too.
        """
        rows = {record["id"]: (record, document) for record, document in batch}
        self.make_room({int(record["published"] // _DAY) for record, _ in rows.values()})
        with self._writing() as connection:
            known = _known(connection, [_place(record) for record, _ in rows.values()])
            new = [row for call_id, row in rows.items() if call_id not in known]
            changed = []
            for call_id, (saved, document) in known.items():
                record, text_ = rows[call_id]
                if saved <= _saved(record) and document != text_:
                    changed.append((orjson.loads(document), record, text_))
            if new:
                connection.execute(insert(records), [_row(record, text_) for record, text_ in new])
                _add_terms(connection, [(record, terms_of(record)) for record, _ in new])
                _count(connection, ((record, 1) for record, _ in new))
            self._change(connection, changed)
        return len(new)

    def _change(
        self, connection: Connection, changed: Sequence[tuple[Record, Record, str]]
    ) -> None:
        """Replace records: each as it was, as it is to be, and its JSON."""
        for was, record, document in changed:
            place = _place(record)
            connection.execute(
                update(records).where(_is(records, place)).values(**_row(record, document))
            )
            had, has = terms_of(was), terms_of(record)
            for gone in had - has:
                connection.execute(delete(terms).where(terms.c.term == gone, _is(terms, place)))
            _add_terms(connection, [(record, has - had)])
            if _owner(was) != _owner(record):
                _count(connection, [(was, -1), (record, 1)])

    def make_room(self, days: Iterable[int]) -> None:
        """Make the partitions of days (counted from 1970) that have none. Only PostgreSQL has
        partitions."""
        if not self.is_postgresql or not (lacking := set(days) - self._days):
            return
        with self._writing() as connection:
            _impatient(connection)
            for day in sorted(lacking):
                low, high = day * _DAY, (day + 1) * _DAY
                for table in partitioned:
                    connection.execute(
                        text(
                            f"CREATE TABLE IF NOT EXISTS {_partition(table.name, day)} PARTITION OF"
                            f" {table.name} FOR VALUES FROM ({low}) TO ({high})"
                        )
                    )
        self._days |= lacking

    def saved(self, places: Sequence[Place]) -> dict[str, float]:
        """The time of the last write of each of the records that the database has, by id."""
        with self.reading() as view:
            return view.saved(places)

    def rewrite(
        self,
        change: Callable[[Record], Record | None],
        ids: Sequence[Place] | None = None,
    ) -> Iterator[tuple[Record, Record]]:
        """Change records one after the other, all or those at the places. ``change`` returns the
        new record, or None to leave it. Yields each as it was and as it is then.

        A record that an exporter writes meanwhile is changed as it is then.
        """
        for places in self._parts(ids):
            with self.reading() as view:
                found = _known(view.connection, places)
            some = [place for place in places if place[0] in found]
            if not any(change(orjson.loads(found[place[0]][1])) for place in some):
                continue
            done = []
            with self._writing() as connection:
                for _, document in _known(connection, some).values():
                    was = orjson.loads(document)
                    if (new := change(was)) is not None:
                        done.append((was, new, orjson.dumps(new).decode()))
                self._change(connection, done)
            yield from ((was, new) for was, new, _ in done)

    def each(self) -> Iterator[Record]:
        """All records, oldest first."""
        for places in self._parts(None):
            with self.reading() as view:
                found = _known(view.connection, places)
            yield from (orjson.loads(found[i][1]) for i, _ in places if i in found)

    def at(self, places: Sequence[Place]) -> list[Record]:
        """The records at these places, those that there are."""
        with self.reading() as view:
            return [orjson.loads(text_) for _, text_ in _known(view.connection, places).values()]

    def _parts(self, places: Sequence[Place] | None) -> Iterator[list[Place]]:
        if places is not None:
            for first in range(0, len(places), _AT_ONCE):
                yield list(places[first : first + _AT_ONCE])
            return
        after: Place | None = None
        while True:
            with self.reading() as view:
                some = view.places(Holder(), Span(), _AT_ONCE, newest_first=False, after=after)
            if not some:
                return
            yield some
            after = some[-1]

    def expire(self, before: float) -> int:
        """Delete the days that ended before a time (epoch seconds). Returns how many records went:
        in PostgreSQL those of whole partitions, at once."""
        day = int(before // _DAY)
        gone = 0
        if self.is_postgresql:
            for old in self._partitions():
                if old < day:
                    gone += self._drop(old)
            return gone
        with self._writing() as connection:
            for table in (terms, records):
                found = connection.execute(delete(table).where(table.c.published < day * _DAY))
                gone = found.rowcount
            connection.execute(delete(counts).where(counts.c.day < day))
        return gone

    def _partitions(self) -> list[int]:
        """The days that have a partition."""
        names = select(text("c.relname")).select_from(
            text(
                "pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'records'::regclass ORDER BY 1"
            )
        )
        with self.reading() as view:
            found = view.connection.execute(names).scalars().all()
        return [_day_of(name) for name in found]

    def _drop(self, day: int) -> int:
        with self._writing() as connection:
            _impatient(connection)
            number = select(func.sum(counts.c.records)).where(counts.c.day == day)
            gone = connection.execute(number).scalar() or 0
            for table in partitioned:
                name = _partition(table.name, day)
                connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
            connection.execute(delete(counts).where(counts.c.day == day))
        self._days.discard(day)
        return int(gone)


class View:
    """The records as they stand at one moment. Archive.reading makes it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def count(self, holder: Holder, span: Span) -> int:
        """How many records were accepted within the span. Whole days are counted already."""
        if span.low >= span.high:
            return 0
        first, last = _up(span.low), _down(span.high)
        if first >= last:
            return self._counted(holder, span)
        days = select(func.coalesce(func.sum(counts.c.records), 0)).where(*_of(counts, holder))
        if math.isfinite(first):
            days = days.where(counts.c.day >= int(first))
        if math.isfinite(last):
            days = days.where(counts.c.day < int(last))
        total = int(self.connection.execute(days).scalar_one())
        for edge in (Span(span.low, first * _DAY), Span(last * _DAY, span.high)):
            if edge.low < edge.high:
                total += self._counted(holder, edge)
        return total

    def _counted(self, holder: Holder, span: Span) -> int:
        asked = select(func.count()).select_from(records).where(*_within(holder, span))
        return int(self.connection.execute(asked).scalar_one())

    def saved(self, places: Sequence[Place]) -> dict[str, float]:
        """When each of the records that the database has was saved, by id."""
        found: dict[str, float] = {}
        for first in range(0, len(places), _AT_ONCE):
            wanted = dict(places[first : first + _AT_ONCE])
            asked = select(records.c.id, records.c.saved).where(
                records.c.published.in_(list(wanted.values()))
            )
            rows: Any = self.connection.execute(asked)
            found |= {call_id: saved for call_id, saved in rows if call_id in wanted}
        return found

    def places(
        self,
        holder: Holder,
        span: Span,
        count: int,
        *,
        newest_first: bool,
        start: int = 0,
        after: Place | None = None,
        without: Iterable[str] = (),
    ) -> list[Place]:
        """At most ``count`` places, from number ``start`` on or after a place, in that order.
        Those of the ids ``without`` do not count."""
        asked = select(records.c.published, records.c.id).where(*_within(holder, span))
        if leave := list(without):
            asked = asked.where(records.c.id.not_in(leave))
        asked = _in_order(asked, count, newest_first, after).offset(start)
        rows: Any = self.connection.execute(asked)
        return [(call_id, at) for at, call_id in rows]

    def documents(self, places: Sequence[Place]) -> dict[str, str]:
        """The records at these places as JSON, by id."""
        found = _known(self.connection, places)
        return {call_id: document for call_id, (_, document) in found.items()}

    def rows(
        self,
        holder: Holder,
        span: Span,
        count: int,
        *,
        newest_first: bool,
        after: Place | None = None,
        narrow: Narrow | None = None,
    ) -> list[Row]:
        """At most ``count`` records after a place, those that ``narrow`` lets through."""
        asked = select(records.c.published, records.c.id, records.c.document)
        conditions = list(_within(holder, span))
        if narrow is not None:
            conditions += _narrowed(narrow)
        asked = asked.where(*conditions)
        asked = _in_order(asked, count, newest_first, after)
        rows: Any = self.connection.execute(asked)
        return [((i, at), document) for at, i, document in rows]


_URL = (
    "RINGBACK_RECORDS_URL must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or "
    "sqlite:////PATH with the absolute path of a file."
)


def _postgresql(url: URL, timeout: float) -> Engine:
    more: dict[str, Any] = {}
    if "options" not in url.query:
        more["options"] = f"-c statement_timeout={int(timeout * 1000)}"
    if "application_name" not in url.query:
        more["application_name"] = "ringback"
    if "connect_timeout" not in url.query:
        more["connect_timeout"] = _CONNECT
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        # All queries of a page see the records of one moment.
        isolation_level="REPEATABLE READ",
        connect_args=more,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_CONNECT,
        pool_pre_ping=True,
    )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": _CONNECT, "check_same_thread": False},
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_CONNECT,
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: Any) -> None:
        # The driver begins no transaction by itself then: it would begin none for a SELECT.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _explained() -> Iterator[None]:
    """Raise the errors of this package in place of SQLAlchemy's."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise RecordsRefused(_first_line(error)) from error
    except SQLAlchemyError as error:
        raise RecordsUnavailable(_first_line(error)) from error


def _first_line(error: SQLAlchemyError) -> str:
    # The rest has the statement and its values, which are numbers of persons.
    told = getattr(error, "orig", None) or error
    return str(told).strip().partition("\n")[0] or type(told).__name__


def _impatient(connection: Connection) -> None:
    """Wait no longer for readers: all others would wait behind this transaction."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}s'"))


def _partition(table: str, day: int) -> str:
    return f"{table}_{datetime.fromtimestamp(day * _DAY, UTC):%Y%m%d}"


def _day_of(partition: str) -> int:
    made = datetime.strptime(partition.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC)
    return int(made.timestamp()) // _DAY


def _place(record: Record) -> Place:
    return record["id"], record["published"]


def _saved(record: Record) -> float:
    # A record without ``saved`` was last written at the end of its call.
    return float(record.get("saved") or record["ended"])


def _owner(record: Record) -> tuple[str, str]:
    return _plain(organization_of(record)), _plain(record["user"])


def _plain(value: str) -> str:
    """A text that PostgreSQL takes."""
    return value.replace("\0", "")


def _row(record: Record, document: str) -> dict[str, Any]:
    organization, user = _owner(record)
    return {
        "published": record["published"],
        "id": record["id"],
        "saved": _saved(record),
        "organization": organization,
        "user_id": user,
        "disposition": record.get("disposition"),
        "flow": record.get("flow"),
        "document": document,
    }


def _is(table: Any, place: Place) -> Any:
    call_id, at = place
    return and_(table.c.published == at, table.c.id == call_id)


def _known(connection: Connection, places: Sequence[Place]) -> dict[str, tuple[float, str]]:
    """When each record was saved, and its JSON, by id: those that there are."""
    # PostgreSQL looks up times by the index, and pairs one partition after the other. Hardly two
    # records have the same time.
    found: dict[str, tuple[float, str]] = {}
    columns = (records.c.id, records.c.saved, records.c.document)
    for first in range(0, len(places), _AT_ONCE):
        wanted = dict(places[first : first + _AT_ONCE])
        asked = select(*columns).where(records.c.published.in_(list(wanted.values())))
        for call_id, saved, document in connection.execute(asked):
            if call_id in wanted:
                found[call_id] = saved, document
    return found


def _add_terms(connection: Connection, of: Iterable[tuple[Record, Iterable[str]]]) -> None:
    rows = [
        {"term": _plain(term), "published": record["published"], "id": record["id"]}
        for record, found in of
        for term in found
    ]
    if rows:
        # An operator may have deleted a record and left these.
        connection.execute(_insert(connection)(terms).on_conflict_do_nothing(), rows)


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _count(connection: Connection, of: Iterable[tuple[Record, int]]) -> None:
    numbers: Counter[tuple[int, str, str]] = Counter()
    for record, number in of:
        numbers[int(record["published"] // _DAY), *_owner(record)] += number
    asked = _insert(connection)(counts)
    asked = asked.on_conflict_do_update(
        index_elements=["day", "organization", "user_id"],
        set_={"records": counts.c.records + asked.excluded.records},
    )
    rows = [
        {"day": day, "organization": organization, "user_id": user, "records": number}
        for (day, organization, user), number in numbers.items()
    ]
    if rows:
        connection.execute(asked, rows)


def _of(table: Any, holder: Holder) -> Iterator[Any]:
    if holder.organization is not None:
        yield table.c.organization == holder.organization
    if holder.user is not None:
        yield table.c.user_id == holder.user


def _within(holder: Holder, span: Span) -> Iterator[Any]:
    yield from _of(records, holder)
    if math.isfinite(span.low):
        yield records.c.published >= span.low
    if math.isfinite(span.high):
        yield records.c.published < span.high


def _narrowed(narrow: Narrow) -> Iterator[Any]:
    for some in narrow.terms:
        yield tuple_(records.c.published, records.c.id).in_(
            select(terms.c.published, terms.c.id).where(terms.c.term.in_(sorted(some)))
        )
    if narrow.disposition is not None:
        yield records.c.disposition == narrow.disposition
    if narrow.flow is not None:
        yield records.c.flow == narrow.flow
    if narrow.saved is not None:
        first, last = narrow.saved
        if math.isfinite(first):
            yield records.c.saved >= math.ceil(first)
        if math.isfinite(last):
            yield records.c.saved < math.floor(last) + 1


def _in_order(
    asked: Select[Any], count: int, newest_first: bool, after: Place | None
) -> Select[Any]:
    at, call_id = records.c.published, records.c.id
    if after is not None:
        after_id, after_at = after
        # The first condition alone tells PostgreSQL which partitions it may leave out.
        if newest_first:
            asked = asked.where(at <= after_at, or_(at < after_at, call_id < after_id))
        else:
            asked = asked.where(at >= after_at, or_(at > after_at, call_id > after_id))
    order = (at.desc(), call_id.desc()) if newest_first else (at, call_id)
    return asked.order_by(*order).limit(count)


def _up(at: float) -> float:
    """The first whole day from a time on."""
    return math.ceil(at / _DAY) if math.isfinite(at) else at


def _down(at: float) -> float:
    """The day that a time is in."""
    return math.floor(at / _DAY) if math.isfinite(at) else at
