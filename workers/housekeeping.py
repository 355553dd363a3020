"""What an API process does now and then beside its requests: it erases calls that were live when
their person was erased, and deletes recordings that are too old."""

import logging
import time

import gevent
from redis.exceptions import RedisError

from app.accounts.store import AccountStore
from app.privacy.erasing import finish
from app.recording_files import RecordingFiles
from app.records.errors import RecordsUnavailable
from app.records.opening import LONG, open_archive
from app.settings import Settings
from app.store.audit import Who
from app.store.client import connect
from app.store.keys import Keys

log = logging.getLogger(__name__)

# Seconds between two looks for calls that have ended, and for old recordings.
_LOOK, _RECORDINGS = 20.0, 3_600.0


def keep_house(settings: Settings, accounts: AccountStore) -> None:
    """Run until the process ends. An error of Redis or of the files is logged, and tried again."""
    redis = connect(settings.require_redis(), connections=2)
    keys = Keys(settings.key_prefix)
    archive = open_archive(settings, timeout=LONG)
    files = RecordingFiles(settings.recordings, settings.recordings_root)
    looked = -_RECORDINGS
    while True:
        gevent.sleep(_LOOK)
        try:
            if redis.exists(keys.erasing):
                who = Who("operator", "@api")
                if done := finish(redis, keys, accounts.current(), files, who, archive):
                    log.info("erased %d calls that have ended", done)
        except (RedisError, RecordsUnavailable) as error:
            log.error("cannot erase calls that have ended: %s", error)
        if settings.recordings_retention and time.monotonic() - looked >= _RECORDINGS:
            looked = time.monotonic()
            _expire(files, settings.recordings_retention)


def _expire(files: RecordingFiles, retention: int) -> None:
    try:
        # Another thread, because a walk through many folders takes long.
        pool = gevent.get_hub().threadpool
        if gone := pool.apply(files.expire, (time.time() - retention,)):
            log.info("deleted %d recordings that are older than %d s", gone, retention)
    except OSError as error:
        log.error("cannot delete old recordings: %s", error)
