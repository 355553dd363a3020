"""The tables of the database of records, and the steps from one version of them to the next."""

from collections.abc import Callable

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    func,
    select,
)

from app.settings import SettingsError

_metadata = MetaData()
# Ids sort as in Redis, by their bytes.
_ID = String().with_variant(String(collation="C"), "postgresql")
# PostgreSQL keeps both tables in a partition for each day.
_BY_DAY = "RANGE (published)"

# Times are epoch seconds. ``published`` is the acceptance of the call and never changes.
records = Table(
    "records",
    _metadata,
    Column("published", Float(53), nullable=False),
    Column("id", _ID, nullable=False),
    Column("saved", Float(53), nullable=False),
    Column("organization", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("disposition", SmallInteger),
    Column("flow", SmallInteger),
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("published", "id"),
    Index("records_organization", "organization", "published", "id"),
    Index("records_user", "user_id", "published", "id"),
    Index("records_saved", "saved"),
    postgresql_partition_by=_BY_DAY,
)
# What finds a record by a number or by metadata: app.records.model.terms_of.
terms = Table(
    "record_terms",
    _metadata,
    Column("term", Text, nullable=False),
    Column("published", Float(53), nullable=False),
    Column("id", _ID, nullable=False),
    PrimaryKeyConstraint("term", "published", "id"),
    postgresql_partition_by=_BY_DAY,
)
# How many records there are of a day (UTC, counted from 1970), so that a list need not count them.
counts = Table(
    "record_counts",
    _metadata,
    Column("day", Integer, nullable=False),
    Column("organization", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("records", Integer, nullable=False),
    PrimaryKeyConstraint("day", "organization", "user_id"),
    Index("record_counts_organization", "organization", "day"),
    Index("record_counts_user", "user_id", "day"),
)
schema_version = Table("schema_version", _metadata, Column("version", Integer, nullable=False))

partitioned = (records, terms)


# The step from version 1 to 2, from 2 to 3 and so on. A step never changes once it is released: it
# names its tables and columns by itself.
STEPS: tuple[Callable[[Connection], None], ...] = ()


def newest() -> int:
    """The version of the tables above."""
    return 1 + len(STEPS)


def version_of(connection: Connection) -> int:
    """The version of the tables; 0 if there are none. Raises SettingsError if it is newer than
    this program knows."""
    if not connection.dialect.has_table(connection, schema_version.name):
        return 0
    found = connection.execute(select(func.max(schema_version.c.version))).scalar() or 0
    if found > newest():
        raise SettingsError(
            f"The database of records has version {found} of its tables, and this Ringback knows "
            f"version {newest()}. Run the version of Ringback that made them, or a newer one."
        )
    return int(found)


def migrate(connection: Connection) -> int:
    """Bring the tables to the newest version, in the connection's transaction. Returns the version
    that they had. Raises SettingsError if that is newer than this program knows."""
    found = version_of(connection)
    if not found:
        _metadata.create_all(connection)
    for step in STEPS[found - 1 :] if found else ():
        step(connection)
    if found != newest():
        connection.execute(schema_version.delete())
        connection.execute(schema_version.insert().values(version=newest()))
    return found
