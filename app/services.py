"""The composition root of the web side: what a request is served with."""

from dataclasses import dataclass

from app.accounts.store import AccountStore, read_accounts
from app.calls.queue import JobQueue
from app.calls.store import CallStore, Keys
from app.phone_calls.services import PhoneCalls
from app.redis_client import connect
from app.settings import Settings


@dataclass(frozen=True)
class Services:
    accounts: AccountStore
    phone_calls: PhoneCalls

    @classmethod
    def create(cls, settings: Settings) -> "Services":
        """Read the accounts into Redis and put all together. Raises SettingsError."""
        accounts = read_accounts(settings.accounts)
        redis = connect(settings.require_redis())
        keys = Keys(settings.key_prefix)
        store = AccountStore(redis, keys)
        store.replace(accounts)
        return cls(store, PhoneCalls(settings, CallStore(redis, keys), JobQueue(redis)))
