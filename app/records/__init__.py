"""The database of records: PostgreSQL or SQLite, for the records of calls that ended some time ago.

Redis has the records of the last hours, and those that are not in the database yet. app.cdr.store
reads both. Only `archive` and `tables` need SQLAlchemy, which the extra `records` brings.
"""
