"""The number of the format that Redis holds data in: a process refuses data of another format."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError

from app.settings import SettingsError
from app.store.client import is_unavailable
from app.store.keys import Keys

if TYPE_CHECKING:
    from app.store.fitness import Probe

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
    text = None if found is None else found.decode(errors="replace")
    said = "not there, with accounts" if text is None else repr(text)
    age = ""
    if text is not None and text.isdecimal():
        age = f"A {'newer' if int(text) > FORMAT else 'older'} Ringback wrote them. "
    return (
        f"Redis holds data that this Ringback cannot read: {keys.format} is {said}, and must be "
        f"'{FORMAT}'. {age}Run the version of Ringback that wrote the data, or set "
        "RINGBACK_REDIS_URL to an empty database."
    )


def check_at_start(
    redis: Redis,
    keys: Keys,
    then: Callable[[], None] = lambda: None,
    *,
    replicas: int = 0,
    more: "Iterable[Probe]" = (),
) -> None:
    """Check the format, and that Redis can do what Ringback needs (app/store/fitness.py, with
    ``replicas`` and ``more``), and call ``then``: now, or once Redis is available.

    Raises WrongFormat, Unfit and SettingsError, and errors of Redis except those that say that
    Redis is unavailable. A process that finds another format or an unfit Redis later logs it and
    sends itself SIGTERM. Its next start fails.
    """

    # Imported here: most commands look at the format alone, and start sooner without the scripts.
    from app.store import fitness

    def begin() -> None:
        fitness.check(redis, keys, replicas, more)
        check(redis, keys)
        then()

    try:
        begin()
    except RedisError as error:
        if not is_unavailable(error):
            raise
        log.error("Redis is unavailable: %s", error)
        threading.Thread(
            target=_check_later, args=(begin, (WrongFormat, fitness.Unfit)), daemon=True
        ).start()


def _check_later(begin: Callable[[], None], fatal: tuple[type[SettingsError], ...]) -> None:
    while True:
        time.sleep(_PAUSE)
        try:
            begin()
            return
        except fatal as error:
            log.critical("%s", error)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        except SettingsError as error:
            log.critical("%s", error)
            return
        except RedisError as error:
            if not is_unavailable(error):
                raise
