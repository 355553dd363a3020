"""Hangs up the calls whose hang-up Redis could not write (app.store.unwritten)."""

import logging
from collections.abc import Mapping

import gevent
from redis.exceptions import RedisError

from app.store.unwritten import HangUp
from app.telemetry import logs
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from workers.runtime import CALL_VARIABLE, Runtime

log = logging.getLogger(__name__)

# Seconds between two attempts to reach Redis.
_PAUSE = 1.0


def listen(runtime: Runtime, links: Mapping[str, SwitchConnection]) -> None:
    """Hear the messages, and hang up at the switches of ``links``, until the greenlet is killed.

    Every listener does so, whether it leads or not: the lease is in the Redis that refuses writes,
    and to hang up twice does no harm.
    """
    while True:
        try:
            with runtime.redis.pubsub(ignore_subscribe_messages=True) as hears:  # type: ignore[no-untyped-call]
                hears.subscribe(runtime.keys.hangups)
                while True:
                    # Less than the timeout of the connection.
                    message = hears.get_message(timeout=_PAUSE)
                    if message is not None:
                        gevent.spawn(_hang_up, links, message["data"])
        except RedisError as error:
            log.debug("cannot listen for hang-ups: %s", error)
            gevent.sleep(_PAUSE)


def _hang_up(links: Mapping[str, SwitchConnection], text: bytes) -> None:
    try:
        wanted = HangUp.loads(text)
        link = links.get(wanted.switch)
    except (ValueError, TypeError) as error:
        log.error("a message about a hang-up cannot be read: %r", error)
        return
    if link is None or not link.up:
        return
    with logs.about(call=wanted.call, switch=wanted.switch):
        try:
            if wanted.uuids:
                replies = [commands.kill(link, uuid, "NORMAL_CLEARING") for uuid in wanted.uuids]
            else:
                replies = [
                    commands.hang_up_all(link, CALL_VARIABLE, wanted.call, "NORMAL_CLEARING")
                ]
            log.warning("hung up what Redis could not write: %s", ", ".join(replies))
        except EventSocketError as error:
            log.error("cannot hang up what Redis could not write: %s", error)
