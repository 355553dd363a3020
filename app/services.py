"""The composition root of the web side: it makes the services of requests."""

from functools import partial
from pathlib import Path
from typing import Any

from app import number_plans
from app.accounts.model import Accounts
from app.accounts.store import AccountStore, read_accounts
from app.cdr.services import CallReports
from app.cdr.store import CdrStore
from app.console.services import Console
from app.health.gauges import RedisGauges
from app.health.parts import ApiHealth, impatient_store
from app.oauth.services import Tokens
from app.phone_call_events.services import PhoneCallEvents
from app.phone_calls.actions import PhoneCallActions
from app.phone_calls.services import PhoneCalls
from app.presence.services import PresenceService
from app.recording_files import RecordingFiles
from app.recordings.services import Recordings
from app.records.opening import open_archive
from app.settings import KNOWN, Settings, SettingsError, parse_networks
from app.store.audit import Entry, Who
from app.store.calls import CallStore
from app.store.client import connect
from app.store.format import check_at_start
from app.store.keys import Keys
from app.store.pace import Pacer
from app.store.queue import JobQueue
from app.store.reserve import Reserve
from app.stream.services import CallStream
from app.telemetry import counting
from app.web.auditing import Auditor
from app.web.auth import Authenticator
from app.web.proxies import UnknownProxies
from app.web.rates import RateLimits
from app.web.sites import is_loopback

# Seconds after which a change of the accounts counts at the latest.
_ACCOUNTS_AGE = 0.1
# The most connections to Redis of one process. With one connection for each of hundreds of
# requests, a turn of the event loop would take longer than the timeout of a reply, and the process
# would drop and make all connections again.
_CONNECTIONS = 64


def create_services(settings: Settings, *, of_jobs: bool = False) -> list[Any]:
    """The services of the API, each of a class of its own, by which views ask for it.

    Reads the accounts into Redis, at once or when Redis is available, but not in a worker, which
    serves requests ``of_jobs``. Raises SettingsError.
    """
    number_plans.load()
    # A waiting client should learn soon that Redis is unavailable.
    redis = connect(settings.require_redis(), timeout=1.0, retries=1, connections=_CONNECTIONS)
    keys = Keys(settings.key_prefix)
    store = AccountStore(redis, keys, max_age=_ACCOUNTS_AGE)
    # While Redis is unavailable the API answers requests with an error.
    calls = CallStore(redis, keys, settings.wait_replicas)
    auditor = Auditor(calls, settings.audit_retention)
    if not of_jobs:
        accounts, demo = checked_accounts(settings), settings.accounts is None
        check_at_start(redis, keys, then=partial(_import, store, auditor, accounts, demo=demo))
    queue = JobQueue(redis, keys)
    phone_calls = PhoneCalls(settings, calls, queue, Pacer(redis, keys))
    records = CdrStore(redis, keys, open_archive(settings))
    tokens = Tokens(redis, keys, settings.token_lifetime, calls.now)
    counting.tell_apart(settings.metrics_organizations)
    # Jobs wait in their queue for a worker: the queue is their limit.
    limits = RateLimits({}) if of_jobs else RateLimits.of(settings, redis, keys)
    return [
        store,
        phone_calls,
        tokens,
        Authenticator(store, tokens.app_of, tokens.is_issued, limits, calls.now),
        limits,
        PhoneCallEvents(
            calls, parse_networks(settings.webhook_allow or ""), settings.action_timeout
        ),
        CallReports(settings, records, calls.now),
        PresenceService(calls),
        PhoneCallActions(settings, phone_calls, calls, queue),
        Recordings(calls, RecordingFiles(settings.recordings, settings.recordings_root)),
        Console.create(calls, queue, phone_calls, records),
        CallStream(calls),
        auditor,
        UnknownProxies(redis, keys),
        *watching(settings, store),
    ]


def watching(
    settings: Settings, accounts: AccountStore | None = None
) -> tuple[ApiHealth, RedisGauges]:
    """The services of the pages of health and metrics, on connections of their own."""
    store = impatient_store(settings)
    if accounts is None:
        accounts = AccountStore(store.redis, store.keys, max_age=_ACCOUNTS_AGE)
    return (
        ApiHealth(store, accounts, Reserve(store.redis, store.keys, settings)),
        RedisGauges(store, accounts, settings.metrics_organizations, settings.retention),
    )


def _import(store: AccountStore, auditor: Auditor, accounts: Accounts, *, demo: bool) -> None:
    if store.replace(accounts, demo=demo):
        auditor.write(Entry(Who("operator", "@api"), "import_accounts"))


def checked_accounts(settings: Settings) -> Accounts:
    """The accounts to serve. Raises SettingsError, also if there are none but the demo's: everybody
    knows their tokens, and calls cost money. They are for the simulator of `ringback up`, and for
    an address that is loopback."""
    if settings.accounts is not None:
        return read_accounts(settings.accounts)
    if settings.demo is None:
        raise SettingsError(
            "RINGBACK_ACCOUNTS is not set: give the accounts file, or run `ringback up`, which "
            "makes accounts."
        )
    if settings.demo != KNOWN:
        return read_accounts(Path(settings.demo))
    if not is_loopback(settings.http_address[0]):
        raise SettingsError(
            "RINGBACK_ACCOUNTS is not set. Everybody knows the tokens of the demo accounts, so "
            f"RINGBACK_HTTP must be a loopback address, not {settings.http}."
        )
    return read_accounts(None)
