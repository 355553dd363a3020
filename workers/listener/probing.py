"""Probing: looks whether what is ejected works again, without a customer's call."""

import logging
import time

import gevent
from redis.exceptions import RedisError

from app.calls.outcomes import NO_GATEWAY
from app.store.ejection import NO_REPLY, REFUSED, Ejected
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds between two probes, and that one command of a probe may take.
INTERVAL, _LIMIT = 2.0, 1.0
# A channel that reaches nobody: no SIP, no media, and the switch hangs it up at once.
_NOBODY = "originate {origination_caller_id_number=0,originate_timeout=2}null/probe &hangup"
# What a probe can tell: the switch refused without a channel, or its gateway was down or missing.
# Of other failures a probe that works says nothing.
_TOLD_BY_CHANNEL = frozenset({NO_REPLY, REFUSED, "DESTINATION_OUT_OF_ORDER"})
_TOLD_BY_STATUS = frozenset({"GATEWAY_DOWN", "INVALID_GATEWAY"})


class Prober:
    """The prober of one switch, run by its leader."""

    def __init__(self, runtime: Runtime, link: SwitchConnection) -> None:
        self._outcomes = runtime.outcomes
        self._link = link
        self._name = link.address.name
        self._next = 0.0
        self._probing: gevent.Greenlet | None = None

    def look(self) -> None:
        """Probe what is ejected, in a greenlet of its own. May raise an error of Redis."""
        if time.monotonic() < self._next or not self._outcomes.has_others(self._name):
            return
        self._next = time.monotonic() + INTERVAL
        if self._probing is not None and not self._probing.dead:
            return
        found = [each for each in self._outcomes.ejected() if each.switch == self._name]
        if found:
            self._probing = gevent.spawn(self._probe, found)

    def _probe(self, found: list[Ejected]) -> None:
        for each in found:
            if each.probing:
                continue
            works = self._works(each)
            told = _TOLD_BY_STATUS if each.gateway else _TOLD_BY_CHANNEL
            if works is False or (works and each.why in told):
                try:
                    self._outcomes.probed(each.switch, each.gateway, works=works)
                except RedisError as error:
                    log.warning("what a probe of %s says is lost: %s", self._name, error)

    def _works(self, of: Ejected) -> bool | None:
        """Whether a probe works; None if it cannot tell."""
        if of.gateway == NO_GATEWAY:
            return None
        try:
            if of.gateway:
                return commands.gateway_is_up(self._link, of.gateway)
            result = self._link.probe(_NOBODY, timeout=_LIMIT)
        except (EventSocketError, ValueError):
            return False
        # The switch may have no endpoint `null` (mod_loopback).
        return None if "CHAN_NOT_IMPLEMENTED" in result else result.startswith("+OK")
