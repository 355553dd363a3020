"""Accounts: a process reads them from the file at start, stores them in Redis, and looks them up
in memory."""

import json
import logging
import math
import re
import threading
import time
import tomllib
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from marshmallow import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from app.accounts import caps
from app.accounts.credential_schemas import moment_text
from app.accounts.model import Accounts, App
from app.accounts.schemas import AccountsSchema, without_unknown
from app.accounts.suspension import Suspensions, is_lost, parsed
from app.settings import SettingsError
from app.store.keys import Keys
from app.store.pace import Limit, Pacer
from app.telemetry import counting

log = logging.getLogger(__name__)

# A key that TOML needs no quotes for.
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read_accounts(path: Path | None) -> Accounts:
    """Read a TOML file, or the demo accounts if ``path`` is None.

    Raises SettingsError; its text names the bad line or keys.
    """
    if path is None:
        demo = tomllib.loads(files("app.accounts").joinpath("demo.toml").read_text())
        return _load(demo, "the demo accounts", demo=True)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"RINGBACK_ACCOUNTS: {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"RINGBACK_ACCOUNTS: {path}: {error}.") from error
    except RecursionError:
        raise SettingsError(
            f"RINGBACK_ACCOUNTS: {path}: its values are nested too deeply."
        ) from None
    return _load(document, str(path), demo=False)


def _load(document: dict[str, Any], name: str, *, demo: bool) -> Accounts:
    try:
        accounts: Accounts = AccountsSchema(demo=demo).load(document)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _lines(error.messages))
        raise SettingsError(f"RINGBACK_ACCOUNTS: {name} cannot be used:\n{lines}") from error
    return accounts


def _lines(messages: Any, path: str = "") -> list[str]:
    """Lines such as ``extensions[2].owner: Is no user's id.``; an index counts from 1."""
    if isinstance(messages, list):
        return [f"{path}: {text}" for text in messages]
    lines = []
    for key, below in messages.items():
        if isinstance(key, int):
            lines += _lines(below, f"{path}[{key + 1}]")
        elif key == "_schema":
            lines += _lines(below, path)
        else:
            name = key if _BARE.fullmatch(key) else json.dumps(key)
            lines += _lines(below, f"{path}.{name}" if path else name)
    return lines


class AccountStore:
    """The accounts in Redis: one document and its version, so that all processes see a change."""

    def __init__(self, redis: Redis, keys: Keys, *, max_age: float = 0.0) -> None:
        """``max_age`` is the seconds after which this process sees a change at the latest."""
        self._redis = redis
        self._key = keys.accounts
        self._pacer = Pacer(redis, keys)
        self._max_age = max_age
        # When Redis was last asked, and had answered, in seconds of the monotonic clock.
        self._asked = self._answered = -math.inf
        self._lock = threading.Lock()
        self._version: bytes | None = None
        self._accounts = Accounts()
        self._demo = False
        # The suspended organizations and disabled apps, as Redis has them.
        self._suspensions = Suspensions(redis, keys)
        self._suspended_key = keys.suspended
        self._suspended: dict[str, str] = {}

    def replace(self, accounts: Accounts, *, demo: bool = False) -> bool:
        """Replace the accounts in Redis. Tokens are stored as hashes. Returns whether Redis had
        other accounts.

        Raises SettingsError if the demo accounts would replace others.
        """
        # This process keeps its accounts if Redis comes back empty.
        self._accounts = replace(accounts, suspended=self._accounts.suspended)
        was: Any = self._redis.hmget(self._key, "demo", "document")
        if demo and was[0] == b"0":
            raise SettingsError(
                "RINGBACK_ACCOUNTS is not set, and the accounts in Redis are not the demo's: set "
                "RINGBACK_ACCOUNTS to the accounts file."
            )
        self._demo = demo
        self._write()
        return was[1] is not None and was[1].decode() != self._document()

    def _document(self) -> str:
        accounts = self._accounts
        document = {
            "organizations": [_without_none(asdict(o)) for o in accounts.organizations.values()],
            "users": [_without_none(asdict(u)) for u in accounts.users.values()],
            "extensions": [_without_none(asdict(e)) for e in accounts.extensions.values()],
            "apps": [_app_row(app) for app in accounts.apps.values()],
            "routes": [asdict(r) for r in accounts.routes],
            "conferences": [_without_none(asdict(c)) for c in accounts.conferences.values()],
            "rates": [asdict(r) for r in accounts.rates.values()],
            "gateways": [_without_none(asdict(g)) for g in accounts.gateways],
            "policies": [_without_none(asdict(p)) for p in accounts.policies.values()],
            "prompts": [_without_none(asdict(p)) for p in accounts.prompts.values()],
        }
        return json.dumps(document)

    def _write(self, *, only_missing: bool = False) -> None:
        accounts = self._accounts
        wrote = self._pacer.set_limits(
            _limits(accounts),
            self._document(),
            caps=_caps(accounts),
            demo=self._demo,
            only_missing=only_missing,
        )
        if only_missing and wrote and caps.are_counted(accounts):
            log.error("Redis came back empty: the counts of all caps begin anew")
            counting.counts_lost()

    @property
    def known(self) -> Accounts:
        """The accounts that this process has read last, without a look at Redis."""
        return self._accounts

    def latest(self, *, fresh: bool = False) -> Accounts:
        """The accounts in Redis, or while Redis is unavailable those that it had last."""
        try:
            return self.current(fresh=fresh)
        except RedisError as error:
            log.warning("the accounts cannot be read, go on with those known: %s", error)
            return self._accounts

    def current(self, *, fresh: bool = False) -> Accounts:
        """The accounts in Redis, read again only after a change. With ``fresh`` it asks for a
        change also if it asked a moment ago."""
        if fresh:
            with self._lock:
                return self._ask()
        came = time.monotonic()
        # The first call must read: this process may have begun with other accounts.
        if self._version is not None and came - self._asked < self._max_age:
            return self._accounts
        with self._lock:
            # Of requests that come together only one asks, and the others wait for its answer: what
            # is known here may be hours old.
            if self._version is not None and came <= self._answered:
                return self._accounts
            return self._ask()

    def _ask(self) -> Accounts:
        asked = time.monotonic()
        try:
            self._look()
        finally:
            self._asked, self._answered = asked, time.monotonic()
        return self._accounts

    def _look(self) -> None:
        version: Any = self._redis.hget(self._key, "version")
        if version is None and self._accounts.apps:
            log.warning("Redis came back empty: write the accounts and the limits of calls again")
            if self._suspended:
                # First, so that no process sees these accounts without what is suspended.
                self._suspensions.restore(self._suspended)
            self._write(only_missing=True)
        if version is None or version != self._version:
            # No transaction: a Redis that is full refuses one. What is read after the version may
            # be newer, and is read again then.
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.hmget(self._key, "version", "document", "demo")
                pipe.hgetall(self._suspended_key)
                found, suspended = pipe.execute()
            if found[1] is not None:
                self._read(found[1])
                self._demo = found[2] == b"1"
            self._suspend({name.decode(): text.decode() for name, text in suspended.items()})
            self._version = found[0]

    def _suspend(self, found: dict[str, str]) -> None:
        if is_lost(self._suspended, found):
            self._suspensions.restore(self._suspended)
        else:
            self._suspended = found
        self._accounts = replace(self._accounts, suspended=parsed(self._suspended))

    def _read(self, document: bytes) -> None:
        known = without_unknown(json.loads(document))
        try:
            # The writer has already allowed or refused the demo's tokens.
            found: Accounts = AccountsSchema(demo=True).load(known)
            self._accounts = replace(found, suspended=self._accounts.suspended)
        except ValidationError as error:
            # A newer Ringback wrote them, in a rolling update.
            log.error("the accounts in Redis cannot be read, keep the previous ones: %s", error)


def _limits(accounts: Accounts) -> dict[str, Limit]:
    """The limits by kind and name (app.store.pace)."""
    return {
        **{
            f"organization:{o.id}": Limit(o.legs_per_second or 0, o.max_calls or 0)
            for o in accounts.organizations.values()
        },
        **{f"user:{u.id}": Limit(most=u.max_calls or 0) for u in accounts.users.values()},
        **{f"app:{a.id}": Limit(most=a.max_calls or 0) for a in accounts.apps.values()},
        **{
            f"gateway:{g.name}": Limit(g.legs_per_second or 0, g.max_legs or 0)
            for g in accounts.gateways
        },
    }


def _caps(accounts: Accounts) -> dict[str, dict[str, int | str]]:
    """The caps that workers and listeners look at, by holder."""
    found = {
        name: {cap: value for cap in caps.LOOKED_AT if (value := getattr(of, cap)) is not None}
        for name, of in caps.all_holders(accounts)
    }
    return {name: known for name, known in found.items() if known}


def _without_none(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _app_row(app: App) -> dict[str, Any]:
    """The app as the accounts file has it. A field that it does not use is left out: an older
    Ringback may read this in a rolling update."""
    row = _without_none(asdict(app))
    if app.expires is not None:
        row["expires"] = moment_text(app.expires)
    for name, of in (("tokens", "token"), ("client_secrets", "client_secret")):
        row[name] = [
            {f"{of}_sha256": each.sha256}
            | {
                when: moment_text(at)
                for when in ("not_before", "expires")
                if (at := getattr(each, when)) is not None
            }
            for each in getattr(app, name)
        ]
    return {name: value for name, value in row.items() if value != [] and value != ()}
