"""The number of the format that Redis holds data in: a process refuses data of another format."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.settings import SettingsError
from app.store.client import is_unavailable
from app.store.keys import Keys

log = logging.getLogger(__name__)

# One more with each change of a key or field that the code of before could not read, or that the
# code of now cannot read as it was.
FORMAT = 1
# Seconds between two looks whether Redis is available.
_PAUSE = 1.0


class WrongFormat(SettingsError):
    """Redis holds data of another format; the text is a sentence for an operator."""


def check(redis: Redis, keys: Keys) -> None:
    """Compare the format number of Redis with FORMAT, and set it where Redis holds no accounts.

    Raises WrongFormat, or an error of Redis.
    """
    with redis.pipeline() as pipe:
        # In one step: a process that starts beside this one sets the number, then the accounts.
        pipe.get(keys.format)
        pipe.exists(keys.accounts)
        found, has_accounts = pipe.execute()
    if found is None and not has_accounts:
        redis.set(keys.format, FORMAT, nx=True)
        found = redis.get(keys.format)
    if found != str(FORMAT).encode():
        raise WrongFormat(_sentence(found, keys))


def _sentence(found: Any, keys: Keys) -> str:
    said = repr(found.decode(errors="replace")) if found is not None else "not there, with accounts"
    return (
        f"Redis holds data that this Ringback cannot read: {keys.format} is {said}, and must be "
        f"'{FORMAT}'. Run the version of Ringback that wrote the data, or set RINGBACK_REDIS_URL "
        "to an empty database."
    )


def check_at_start(redis: Redis, keys: Keys, then: Callable[[], None] = lambda: None) -> None:
    """Check the format and do what comes ``then``: now, or once Redis is available.

    Raises WrongFormat and SettingsError, and errors of Redis but those that say that Redis is
    unavailable. A process that finds another format later logs it and asks itself to stop, by
    SIGTERM; its next start is refused.
    """
    try:
        check(redis, keys)
        then()
    except RedisError as error:
        if not is_unavailable(error):
            raise
        log.error("Redis is unavailable: %s", error)
        threading.Thread(target=_check_later, args=(redis, keys, then), daemon=True).start()


def _check_later(redis: Redis, keys: Keys, then: Callable[[], None]) -> None:
    while True:
        time.sleep(_PAUSE)
        try:
            check(redis, keys)
            then()
            return
        except WrongFormat as error:
            log.critical("%s", error)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        except SettingsError as error:
            log.critical("%s", error)
            return
        except RedisError as error:
            if not is_unavailable(error):
                raise
