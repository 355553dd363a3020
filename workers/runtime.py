"""The objects that the jobs and the listener of one process share."""

import os
import socket
from dataclasses import dataclass

from redis import Redis

from app import number_plans
from app.accounts.store import AccountStore
from app.settings import Settings, SettingsError
from app.store.calls import CallStore
from app.store.client import connect
from app.store.ejection import Outcomes
from app.store.format import check_at_start
from app.store.keys import Keys
from app.store.pace import Claims, Pacer
from app.store.queue import JobQueue
from app.telemetry import counting
from freeswitch.address import SwitchAddress, parse_list

# The environment variable with the file descriptor by which a process tells `ringback up` that it
# is ready.
READY_FD = "RINGBACK_READY_FD"
# Seconds after which a process sees a change of the accounts at the latest.
ACCOUNTS_AGE = 0.1
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
    # The host and the process, as RQ and the timelines show them.
    name: str
    accounts: AccountStore
    # What this process sees of its switches.
    outcomes: Outcomes

    @classmethod
    def create(cls, settings: Settings) -> "Runtime":
        """The runtime for these settings. Raises SettingsError if RINGBACK_REDIS_URL is missing or
        cannot be used, or if Redis holds data of another format."""
        redis = connect(settings.require_redis())
        keys = Keys(settings.key_prefix)
        check_at_start(redis, keys, replicas=settings.wait_replicas)
        counting.tell_apart(settings.metrics_organizations)
        store = CallStore(redis, keys, settings.wait_replicas)
        name = f"{socket.gethostname()}-{os.getpid()}"
        pacer, claims = Pacer(redis, keys), Claims(store, name)
        queue = JobQueue(redis, keys)
        accounts = AccountStore(redis, keys, max_age=ACCOUNTS_AGE)
        number_plans.load()
        outcomes = Outcomes(redis, keys)
        return cls(settings, redis, keys, store, queue, pacer, claims, name, accounts, outcomes)


def tell_ready() -> None:
    """Tell `ringback up` that this process is ready, if `ringback up` started it."""
    if number := os.environ.pop(READY_FD, None):
        with open(int(number), "wb") as file:
            file.write(b"\n")


def switch_addresses(settings: Settings) -> list[SwitchAddress]:
    """The switches of RINGBACK_SWITCHES. Raises SettingsError, also for a file of certificates
    that cannot be used."""
    try:
        addresses = parse_list(settings.require_switches())
        for address in addresses:
            if address.tls is not None:
                address.tls.context()
    except (ValueError, OSError) as error:
        raise SettingsError(f"RINGBACK_SWITCHES cannot be used: {error}") from error
    return addresses
