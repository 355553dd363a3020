"""Looks at all that Ringback needs. ringback_cli/checks.py judges what was seen."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import gevent
from gevent.event import AsyncResult
from redis.exceptions import RedisError, ResponseError

from app.accounts.files import Standing, stamp, standing
from app.accounts.model import Accounts
from app.accounts.store import read_accounts
from app.calls.model import job_uuid
from app.records.errors import RecordsUnavailable
from app.records.opening import open_archive
from app.services import checked_accounts
from app.settings import Settings, SettingsError, load_settings
from app.store.client import connect
from app.store.fitness import faults
from app.store.keys import Keys
from app.store.queue import QUEUES, workers
from app.web.proxies import UnknownProxies
from freeswitch import commands
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.errors import CommandRefused, EventSocketError
from freeswitch.event_socket import CORE_UUID, EventSocket, Reply
from freeswitch.events import Event
from ringback_cli import checks
from ringback_cli.checks import Check, SwitchFacts, failure, ok, skipped, warning
from ringback_cli.session import Session
from ringback_cli.up import serves
from workers import following
from workers.runtime import switch_addresses

# Seconds for a switch to answer.
_LIMIT = 5.0
# A section of the report and what was found.
Found = tuple[str, Check]


def look() -> Iterator[Found]:
    """All checks, one at a time."""
    try:
        settings = load_settings()
    except SettingsError as error:
        yield "Settings", failure("RINGBACK_*", str(error), "See docs/settings.md.")
        return
    session = None
    for check in _settings(settings):
        yield "Settings", check
    try:
        for check in checks.fitness_checks(_faults(settings)):
            yield "Redis", check
        session = Session.open()
        for check in _redis(session):
            yield "Redis", check
        for check in _processes(session):
            yield "Processes", check
        for check in _records(session):
            yield "Records", check
        for check in _accounts(session):
            yield "Accounts", check
    except SettingsError as error:
        yield "Redis", failure("RINGBACK_REDIS_URL", str(error), "See docs/settings.md.")
        session = None
    except RedisError as error:
        yield (
            "Redis",
            failure(
                "Redis",
                f"{error}".partition("\n")[0],
                "Check that it runs, and check host, port and password of RINGBACK_REDIS_URL.",
            ),
        )
        session = None
    for check in _switches(settings, session):
        yield "Switches", check


def _faults(settings: Settings) -> list[str]:
    """Why Ringback cannot work on this Redis: before the first look at its data, which may fail for
    the same reason."""
    redis = connect(settings.require_redis(), timeout=3.0, retries=1, counted=False)
    return list(faults(redis, Keys(settings.key_prefix), settings.wait_replicas))


def _settings(settings: Settings) -> Iterator[Check]:
    try:
        if settings.accounts is None and settings.demo is None:
            yield skipped("accounts", "RINGBACK_ACCOUNTS is not set here: Redis has the API's")
        else:
            checked_accounts(settings)
            yield ok("accounts", str(settings.accounts or settings.demo))
    except SettingsError as error:
        yield failure("accounts", str(error), "Run `ringback accounts check FILE`.")
    if serves(settings.http_address):
        yield ok("API", f"answers at http://{settings.http}")
    else:
        yield warning(
            "API",
            f"nothing answers at {settings.http} (RINGBACK_HTTP)",
            "Start `ringback api`, or set RINGBACK_HTTP here to the address of the API.",
        )
    yield _recordings(settings)


def _recordings(settings: Settings) -> Check:
    root = settings.recordings_root
    if root is None:
        text = f"{settings.recordings} is on the switch's host, where Ringback cannot check it"
        return skipped("recordings", text)
    if not os.path.isdir(root):
        advice = "Mount it, or set RINGBACK_RECORDINGS_ROOT to a folder of the API's host."
        return warning("recordings", f"there is no folder {root} here", advice)
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        advice = "The API's user needs it to send and to delete recordings."
        return warning("recordings", f"this user may not read and write {root}", advice)
    return ok("recordings", f"{root} is there")


def _redis(session: Session) -> Iterator[Check]:
    info = session.redis.info()
    yield ok("address", f"answers, {info.get('connected_clients', '?')} clients")
    try:
        found: Any = session.redis.config_get("appendfsync")
        fsync = found.get("appendfsync")
    except ResponseError:
        # A hosted Redis may not allow the command.
        fsync = None
    yield from checks.redis_checks(info, fsync, session.settings)
    asked = time.time()
    now = session.now()
    ahead = (asked + time.time()) / 2 - now
    why = "the log of this machine shows other times than Redis has"
    yield checks.clock_check("clock of this machine", ahead, checks.HERE_CLOCK_LIMIT, why)


def _processes(session: Session) -> Iterator[Check]:
    now = session.now()
    heard: dict[str, list[float]] = {session.keys.queue(name): [] for name in QUEUES}
    for worker in workers(session.redis, session.keys):
        for name in heard.keys() & worker["queues"].split(","):
            if worker["heartbeat"] is not None:
                heard[name].append(now - worker["heartbeat"])
    yield from checks.worker_checks(heard)
    for switch in session.switches.get_many(_names(session)):
        yield checks.listener_check(switch)
    yield from checks.proxies_checks(
        UnknownProxies(session.redis, session.keys).known(), session.settings
    )
    hooked: Any = session.redis.scard(session.keys.hooked)
    first: Any = session.redis.xrange(session.keys.outbox, count=1)
    oldest = now - int(first[0][0].partition(b"-")[0]) / 1000 if first else None
    yield checks.webhooks_check(hooked, oldest)


def _records(session: Session) -> Iterator[Check]:
    keys, redis = session.keys, session.redis
    waiting: Any = redis.xlen(keys.unexported) if redis.exists(keys.unexported) else None
    oldest = None
    if waiting:
        first: Any = redis.xrange(keys.unexported, count=1)
        oldest = session.now() - int(first[0][0].partition(b"-")[0]) / 1000 if first else None
    version, error = None, None
    try:
        archive = open_archive(session.settings)
        if archive is not None:
            version = archive.version()
    except (SettingsError, RecordsUnavailable) as found:
        error = str(found)
    is_set = bool(session.settings.records_url)
    yield from checks.records_checks(is_set, version, error, waiting, oldest)


def _accounts(session: Session) -> Iterator[Check]:
    file = None
    if session.settings.accounts is not None:
        # The check of the settings names the error.
        with suppress(SettingsError):
            stamped = stamp(session.settings.accounts)
            if standing(session.redis, session.keys, stamped) is not Standing.SAME:
                file = read_accounts(session.settings.accounts)
    is_demo = session.redis.hget(session.keys.accounts, "demo") == b"1"
    yield from checks.accounts_checks(session.accounts, file, is_demo)


def _addresses(
    settings: Settings, session: Session | None
) -> tuple[list[SwitchAddress], dict[str, str]]:
    """The addresses of all switches, and why some have none here, by name. Raises SettingsError."""
    known = session.registry.all() if session else {}
    own = switch_addresses(settings) if settings.switches or not known else []
    if not known:
        return [each for each in own if each.found_by is None], {}
    return following.addresses(known, {each.name: each for each in own})


def _switches(settings: Settings, session: Session | None) -> Iterator[Check]:
    try:
        addresses, unusable = _addresses(settings, session)
    except SettingsError as error:
        yield failure(
            "RINGBACK_SWITCHES",
            str(error),
            "Register a switch by `ringback switch add`, or set it here to the value that the "
            "processes have.",
        )
        return
    for name, text in unusable.items():
        yield warning(name, text, "Run the doctor where workers and listeners find its password.")
    accounts = session.accounts if session else Accounts()
    # All at once, since a switch that does not answer takes until its timeout.
    asking = [gevent.spawn(_ask, address, checks.gateways_of(accounts)) for address in addresses]
    known = {
        switch.name: switch
        for switch in (session.switches.get_many(a.name for a in addresses) if session else ())
    }
    for address, each in zip(addresses, asking, strict=True):
        facts, clock, heard = each.get()
        yield from checks.switch_checks(facts, known.get(address.name), accounts, settings)
        if session is not None and clock is not None:
            ahead = clock + (time.monotonic() - heard) - session.now()
            why = "calls show wrong times for ringing and answers"
            limit = checks.SWITCH_CLOCK_LIMIT
            yield checks.clock_check(f"{address.name} clock", ahead, limit, why)


def _names(session: Session) -> list[str]:
    try:
        addresses, unusable = _addresses(session.settings, session)
    except SettingsError:
        return []
    return [*(each.name for each in addresses), *unusable]


class _Socket(EventSocket):
    """An event socket that keeps the reply to its login, which lists what the user may do."""

    login: Reply | None = None

    def _exchange(self, data: bytes, timeout: float | None, verb: str) -> Reply:
        reply = super()._exchange(data, timeout, verb)
        if verb == "login":
            self.login = reply
        return reply


def _ask(address: SwitchAddress, gateways: list[str]) -> tuple[SwitchFacts, float | None, float]:
    """The facts about a switch, its clock (epoch seconds), and when (monotonic) it told that."""
    event = AsyncResult()
    connection = _Socket(
        address.host,
        address.port,
        address.password,
        user=address.user,
        tls=address.tls,
        timeout=_LIMIT,
        on_event=event.set,
    )
    facts = SwitchFacts(address)
    try:
        connection.connect()
    except EventSocketError as error:
        return replace(facts, error=str(error)), None, 0.0
    try:
        facts = _facts(connection, facts, gateways)
        clock = _clock(connection, event)
        return facts, clock, time.monotonic()
    except EventSocketError as error:
        return replace(facts, error=f"{address.host} port {address.port}: {error}"), None, 0.0
    finally:
        connection.close()


def _facts(connection: _Socket, facts: SwitchFacts, gateways: list[str]) -> SwitchFacts:
    said = connection.login.headers if connection.login else {}
    status = _allowed(connection, "status") or ""
    modules = _rows(_allowed(connection, "show modules as json"))
    codecs = _rows(_allowed(connection, "show codec as json"))
    answers = {name: _allowed(connection, f"sofia status gateway {name}") for name in gateways}
    return replace(
        facts,
        core_uuid=(_allowed(connection, CORE_UUID) or "").strip(),
        simulated=" simulator) is ready" in status,
        commands=_listed(said.get("Allowed-API")),
        events=_listed(said.get("Allowed-Events")),
        # `capacity` only uses `api`, which this connection has too.
        capacity=commands.capacity(cast(SwitchConnection, connection)) if status else None,
        modules=None if modules is None else frozenset(row["ikey"] for row in modules),
        codecs=None if codecs is None else tuple(row["name"] for row in codecs),
        gateways=words if (words := {n: t for n, t in answers.items() if t is not None}) else None,
    )


def _allowed(connection: EventSocket, line: str) -> str | None:
    """The reply of the switch; None if this login may not use the command."""
    try:
        return connection.api(line)
    except CommandRefused:
        return None


def _rows(text: str | None) -> list[dict[str, str]] | None:
    try:
        rows: list[dict[str, str]] = json.loads(text or "")["rows"]
    except (KeyError, ValueError):
        return None
    return rows


def _listed(text: str | None) -> list[str] | None:
    """The words of a list of what a login may do; None if it may do all."""
    return None if text is None or text.strip() == "all" else text.replace(",", " ").split()


def _clock(connection: EventSocket, event: AsyncResult) -> float | None:
    """The switch's clock, read from the end of a command: not every login may use `strepoch`."""
    try:
        connection.command("event json BACKGROUND_JOB")
        connection.bgapi(CORE_UUID, job_uuid("0" * 20))
        told: Event = event.get(timeout=_LIMIT)
        return int(told.headers["Event-Date-Timestamp"]) / 1e6
    except (CommandRefused, KeyError, ValueError, gevent.Timeout):
        return None
