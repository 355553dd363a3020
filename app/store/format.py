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

# Add one with each change of a key or field that older code cannot read, or after which this code
# cannot read older data.
FORMAT = 2
# Seconds between two attempts to reach Redis.
_PAUSE = 1.0


class WrongFormat(SettingsError):
    """Redis holds data of another format; the text is a sentence for an operator."""


def check(redis: Redis, keys: Keys) -> None:
    """Compare the format number of Redis with FORMAT, and set it where Redis holds no accounts.

    Raises WrongFormat, or an error of Redis.
    """
    with redis.pipeline() as pipe:
        # Read both in one step: another process that starts now sets the number, then the accounts.
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
    """Check the format and call ``then``: now, or once Redis is available.

    Raises WrongFormat and SettingsError, and errors of Redis except those that say that Redis is
    unavailable. A process that finds another format later logs it and sends itself SIGTERM. Its
    next start fails.
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
