"""The objects that the jobs and the listener of one process share."""

import os
import socket
from dataclasses import dataclass

from redis import Redis

from app.settings import Settings, SettingsError
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.pace import Claims, Pacer
from app.store.queue import JobQueue
from app.telemetry import counting
from freeswitch.address import SwitchAddress, parse_list

# The channel variable that carries the call's id on every leg.
CALL_VARIABLE = "ringback_call"


@dataclass(frozen=True)
class Runtime:
    settings: Settings
    redis: Redis
    keys: Keys
    store: CallStore
    queue: JobQueue
    pacer: Pacer
    claims: Claims
    # Host and process, as RQ and the timelines show it.
    name: str

    @classmethod
    def create(cls, settings: Settings) -> "Runtime":
        """Raises SettingsError where Redis is not set or its URL cannot be used."""
        redis = connect(settings.require_redis())
        keys = Keys(settings.key_prefix)
        counting.tell_apart(settings.metrics_organizations)
        store = CallStore(redis, keys, settings.wait_replicas)
        name = f"{socket.gethostname()}-{os.getpid()}"
        pacer, claims = Pacer(redis, keys), Claims(store, name)
        return cls(settings, redis, keys, store, JobQueue(redis), pacer, claims, name)


def switch_addresses(settings: Settings) -> list[SwitchAddress]:
    """The switches of RINGBACK_SWITCHES. Raises SettingsError."""
    try:
        return parse_list(settings.require_switches())
    except ValueError as error:
        raise SettingsError(f"RINGBACK_SWITCHES cannot be used: {error}") from error
