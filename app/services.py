"""The composition root of the web side: it makes the services of requests."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from app import number_plans
from app.accounts import importing
from app.accounts.files import Standing, stamp, standing
from app.accounts.model import Accounts
from app.accounts.store import AccountStore, read_accounts
from app.cdr.services import CallReports
from app.cdr.store import CdrStore
from app.console.services import Console
from app.health.gauges import RedisGauges
from app.health.parts import ApiHealth, RedisProbe, impatient_store
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
from app.store.maintenance import Maintenance
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

    Imports the accounts file into Redis if it is newer, at once or when Redis is available, but not
    in a worker, which serves requests ``of_jobs``. Raises SettingsError.
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
        check_demo(settings)
        then = partial(_begin, store, auditor, settings)
        check_at_start(redis, keys, then, replicas=settings.wait_replicas)
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
        Maintenance(redis, keys),
        *watching(settings, store),
    ]


def watching(
    settings: Settings, accounts: AccountStore | None = None
) -> tuple[ApiHealth, RedisGauges]:
    """The services of the pages of health and metrics, on connections of their own."""
    store = impatient_store(settings)
    if accounts is None:
        # Both pages look at these alone. All rows of many extensions would take memory twice.
        kinds = ("organizations", "apps")
        accounts = AccountStore(store.redis, store.keys, max_age=_ACCOUNTS_AGE, kinds=kinds)
    return (
        ApiHealth(
            store,
            accounts,
            Reserve(store.redis, store.keys, settings),
            RedisProbe.of(settings),
        ),
        RedisGauges(store, accounts, settings.metrics_organizations, settings.retention),
    )


def _begin(store: AccountStore, auditor: Auditor, settings: Settings) -> None:
    """Import the accounts file if it is newer, and read the accounts."""
    path, demo = _file(settings)
    if path is None and not demo:
        importing.check_serves(store, may_demo=is_loopback(settings.http_address[0]))
    elif importing.import_at_start(settings, store, path, demo=settings.accounts is None):
        auditor.write(Entry(Who("operator", "@api"), "import_accounts"))


def _file(settings: Settings) -> tuple[Path | None, bool]:
    """The accounts file, and whether the accounts are the demo's with known tokens."""
    if settings.accounts is not None:
        return settings.accounts, False
    if settings.demo is None or settings.demo == KNOWN:
        return None, settings.demo is not None
    return Path(settings.demo), False


def check_demo(settings: Settings) -> None:
    """Raise SettingsError if the API would serve the demo's accounts, whose tokens everybody knows,
    at an address that is not loopback: calls cost money."""
    demo = settings.accounts is None and settings.demo == KNOWN
    if demo and not is_loopback(settings.http_address[0]):
        raise SettingsError(
            "RINGBACK_ACCOUNTS is not set. Everybody knows the tokens of the demo accounts, so "
            f"RINGBACK_HTTP must be a loopback address, not {settings.http}."
        )


def prepare_accounts(settings: Settings) -> None:
    """What an API does before its server processes start: it names what is wrong with a file, and
    imports a large one. Raises SettingsError."""
    check_demo(settings)
    path, _ = _file(settings)
    if path is None or not importing.is_large(path):
        checked_accounts(settings)
        return
    redis = connect(settings.require_redis(), timeout=1.0, retries=1)
    with suppress(RedisError):
        # Each server process tries again.
        file, keys = stamp(path), Keys(settings.key_prefix)
        if standing(redis, keys, file) is Standing.NEW:
            importing.import_apart(settings, path, demo=settings.accounts is None)


def checked_accounts(settings: Settings) -> Accounts | None:
    """The accounts of the file; None without one: then the API serves those in Redis. Raises
    SettingsError."""
    check_demo(settings)
    path, demo = _file(settings)
    return read_accounts(path) if path is not None or demo else None
