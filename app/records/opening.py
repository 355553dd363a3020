"""Opens the database of RINGBACK_RECORDS_URL, without loading SQLAlchemy where none is set."""

from typing import TYPE_CHECKING

from app.settings import Settings, SettingsError

if TYPE_CHECKING:
    from app.records.archive import Archive

# Seconds for an answer to a request, and for a batch or a deletion of the exporter.
_TIMEOUT, LONG = 20.0, 300.0


def open_archive(settings: Settings, *, timeout: float = _TIMEOUT) -> "Archive | None":
    """The database of records; None if RINGBACK_RECORDS_URL is not set. It opens no connection.

    ``timeout`` is in seconds, for one statement. Raises SettingsError.
    """
    if not settings.records_url:
        return None
    try:
        from app.records.archive import Archive
    except ModuleNotFoundError as error:
        raise SettingsError(
            "RINGBACK_RECORDS_URL is set, and the extra `records` is not installed: run "
            "`pip install 'ringback-server[records]'`."
        ) from error
    return Archive.open(settings.records_url, timeout)
