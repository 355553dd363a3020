"""The process that exports records into the database of RINGBACK_RECORDS_URL."""

import logging
import time
from collections.abc import Callable

from gevent.event import Event as Flag
from redis import Redis
from redis.exceptions import RedisError

from app.records.archive import Archive
from app.records.errors import RecordsRefused, RecordsUnavailable
from app.records.exporting import MINUTE, Exporter, Kept
from app.settings import Settings
from app.store.keys import Keys
from app.telemetry import counting

log = logging.getLogger(__name__)

# Seconds between two looks for records, and between two deletions of what is too old.
_LOOK, _EXPIRE = 1.0, 3_600.0


class Export:
    """Exports until it is told to stop. Any number of processes may do so: what two of them export
    is in the database once."""

    def __init__(self, settings: Settings, redis: Redis, keys: Keys, archive: Archive) -> None:
        kept = Kept(settings.records_in_redis, settings.retention, settings.cdr_retention)
        self._exporter = Exporter(redis, keys, archive, kept)
        self._stopping = Flag()
        self._is_prepared = self._is_out = False
        # When each was done last, on the monotonic clock.
        self._trimmed = self._expired = -_EXPIRE

    def stop(self) -> None:
        self._stopping.set()

    def prepare(self) -> None:
        """Make the tables, if the database can be reached. Raises SettingsError."""
        self._tried(self._prepare)

    def run(self) -> None:
        while not self._stopping.is_set():
            if not self._tried(self._look if self._is_prepared else self._prepare):
                self._stopping.wait(_LOOK)

    def once(self) -> None:
        """Export all that is there now. Raises errors of Redis, and RecordsUnavailable."""
        self._exporter.prepare()
        while self._exporter.step():
            pass
        self._exporter.trim(pause=0.0)

    def _prepare(self) -> bool:
        self._exporter.prepare()
        self._is_prepared = True
        return True

    def _look(self) -> bool:
        """Export some records. Returns whether there may be more."""
        asked = time.time()
        if not (has_more := self._exporter.step()):
            counting.exported_all(asked)
        if time.monotonic() - self._trimmed >= MINUTE:
            self._trimmed = time.monotonic()
            if gone := self._exporter.trim():
                log.debug("took %d records out of Redis", gone)
        if time.monotonic() - self._expired >= _EXPIRE:
            self._expired = time.monotonic()
            if gone := self._exporter.expire():
                log.info("deleted %d records that are too old", gone)
        if self._is_out:
            self._is_out = False
            log.info("exports records again")
        return has_more

    def _tried(self, do: Callable[[], bool]) -> bool | None:
        try:
            return do()
        except (RecordsUnavailable, RecordsRefused, RedisError) as error:
            counting.export_failed()
            # Once for each outage: it may last for hours.
            if not self._is_out:
                self._is_out = True
                log.error("cannot export records, and goes on trying: %s", error)
            return None
