"""Errors of the listener: it logs them and goes on, or it retries."""

import logging
from collections.abc import Callable
from typing import TypeVar

from gevent.event import Event as Flag
from redis.exceptions import RedisError
from tenacity import Retrying, before_sleep_log, retry_if_exception, wait_exponential

from app.store.client import is_unavailable
from app.telemetry import logs
from freeswitch.errors import EventSocketError, NotConnected

log = logging.getLogger(__name__)

_T = TypeVar("_T")


def guarded(
    switch: str, work: Callable[[], object], call_id: str | None = None, leg_id: str | None = None
) -> None:
    """Do the work; log what it raises, with the switch, the call and the leg that it is about."""
    try:
        work()
    except NotConnected as error:
        # The connection itself tells that the switch is down, and once.
        with logs.about(switch=switch, call=call_id, leg=leg_id):
            log.debug("switch %s: %s", switch, error)
    except (EventSocketError, RedisError) as error:
        with logs.about(switch=switch, call=call_id, leg=leg_id):
            log.warning("switch %s: %s", switch, error)
    except Exception:
        with logs.about(switch=switch, call=call_id, leg=leg_id):
            log.exception("switch %s: the listener met an unexpected error", switch)


def patiently(stopping: Flag, work: Callable[[], _T]) -> _T:
    """Do the work, and retry while Redis is unavailable, unless this process is to stop.

    Raises what the work raises otherwise, and Redis' error once ``stopping`` is set.
    """
    try:
        return work()
    except RedisError as error:
        if not is_unavailable(error):
            raise
    # Make this only after a first failure: it costs a tenth of the time that an event takes.
    retrying = Retrying(
        retry=retry_if_exception(is_unavailable),
        stop=lambda _: stopping.is_set(),
        reraise=True,
        wait=wait_exponential(multiplier=0.05, max=2.0),
        before_sleep=before_sleep_log(log, logging.WARNING),
    )
    return retrying(work)
