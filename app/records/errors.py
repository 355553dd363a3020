"""The errors of the database of records."""


class RecordsUnavailable(Exception):
    """The database of records does not answer, or not in time. A retry may help."""


class RecordsRefused(Exception):
    """The database of records refuses what is written."""
