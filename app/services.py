"""The composition root of the web side: what a request is served with."""

import ipaddress
from dataclasses import dataclass

from app.accounts.model import Accounts
from app.accounts.store import AccountStore, read_accounts
from app.calls.queue import JobQueue
from app.calls.store import CallStore, Keys
from app.phone_calls.services import PhoneCalls
from app.redis_client import connect
from app.settings import Settings, SettingsError


@dataclass(frozen=True)
class Services:
    accounts: AccountStore
    phone_calls: PhoneCalls

    @classmethod
    def create(cls, settings: Settings) -> "Services":
        """Read the accounts into Redis and put all together. Raises SettingsError."""
        accounts = checked_accounts(settings)
        # A client that waits is better told soon that Redis is away.
        redis = connect(settings.require_redis(), timeout=1.0, retries=1)
        keys = Keys(settings.key_prefix)
        store = AccountStore(redis, keys)
        store.replace(accounts, demo=settings.accounts is None)
        calls = CallStore(redis, keys, settings.wait_replicas)
        return cls(store, PhoneCalls(settings, calls, JobQueue(redis)))


def checked_accounts(settings: Settings) -> Accounts:
    """The accounts to serve. Raises SettingsError, also for the demo's anywhere but on a loopback
    address: their tokens are known to everybody, and calls cost money."""
    if settings.accounts is None and not _is_loopback(settings.http_address[0]):
        raise SettingsError(
            "RINGBACK_ACCOUNTS is not set: the demo accounts, whose tokens everybody knows, are "
            f"served on a loopback address alone, not on {settings.http}."
        )
    return read_accounts(settings.accounts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
