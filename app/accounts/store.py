"""Accounts: a process reads them from the file or from Redis, and looks them up in memory."""

import json
import logging
import math
import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomli
from marshmallow import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from app.accounts import caps, rows
from app.accounts.model import Accounts
from app.accounts.rows import AccountRows
from app.accounts.schemas import AccountsSchema, without_unknown
from app.accounts.suspension import Suspensions, is_lost, parsed
from app.settings import SettingsError
from app.store.keys import Keys
from app.store.pace import Limit, Pacer
from app.telemetry import counting

log = logging.getLogger(__name__)

# A key that TOML needs no quotes for.
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# The fields of the state of the rows, and those of the file and the time of the last change.
_STATE = ("rows", "states", "base")
FILE_FIELDS = ("digest", "file_version", "at")
# The rows that are read at once, and how often all rows are read anew because others change them.
_PART = 1000
_ATTEMPTS = 5
# The rows that are applied at once: some milliseconds.
_APPLIED = 4000
# Seconds between two looks of a process that nobody asks.
_LOOK = 0.5


def read_accounts(path: Path | None) -> Accounts:
    """Read a TOML file, or the demo accounts if ``path`` is None.

    Raises SettingsError; its text names the bad line or keys.
    """
    if path is None:
        demo = tomli.loads(files("app.accounts").joinpath("demo.toml").read_text())
        return _load(demo, "the demo accounts", demo=True)
    try:
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"RINGBACK_ACCOUNTS: {path}: {error.strerror}.") from error
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
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
    """The accounts in Redis as a process holds them. It reads what has changed since it looked.

    Redis has a state of the rows: a hash of all rows (``base``) and, after it, the rows of the last
    changes. app.accounts.changes writes both.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        max_age: float = 0.0,
        kinds: Collection[str] = tuple(rows.KEYS),
    ) -> None:
        """``max_age`` is the seconds after which this process sees a change at the latest. With
        fewer ``kinds`` it holds those alone, and never writes."""
        self.redis = redis
        self.keys = keys
        self.pacer = Pacer(redis, keys)
        self._kinds = kinds
        self._max_age = max_age
        # When Redis was last asked, and had answered, in seconds of the monotonic clock.
        self._asked = self._answered = -math.inf
        self._lock = threading.RLock()
        self._version: bytes | None = None
        self._rows = AccountRows.none()
        # The state of these rows; "" before the first look.
        self._state = ""
        self.demo = False
        # Of which file the accounts are, and when they changed last, as Redis has it.
        self.file: dict[str, str] = {}
        self._accounts = Accounts()
        # The rows after a large change that is about to come: from and to which state.
        self._ahead: tuple[str, str, AccountRows] | None = None
        # The state that is read ahead.
        self._coming = ""
        # The suspended organizations and disabled apps, as Redis has them.
        self._suspensions = Suspensions(redis, keys)
        self._suspended: dict[str, str] = {}

    def replace(self, accounts: Accounts, *, demo: bool = False) -> bool:
        """Replace the accounts in Redis. Tokens are stored as hashes. Returns whether Redis had
        other accounts.

        Raises SettingsError if the demo accounts would replace others.
        """
        from app.accounts.changes import Change, change

        return change(self, rows.texts_of(accounts), Change("import_accounts", demo=demo)).others

    @property
    def known(self) -> Accounts:
        """The accounts that this process has read last, without a look at Redis."""
        return self._accounts

    @property
    def known_rows(self) -> AccountRows:
        return self._rows

    @property
    def state(self) -> str:
        """The state of the rows that this process has read last."""
        return self._state

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

    def keep_current(self) -> None:
        """Look for changes until the process ends, also while nobody asks."""
        while True:
            time.sleep(_LOOK)
            self.latest()

    def _ask(self) -> Accounts:
        asked = time.monotonic()
        try:
            self._look()
        finally:
            self._asked, self._answered = asked, time.monotonic()
        return self._accounts

    def _look(self) -> None:
        version: Any = self.redis.hget(self.keys.accounts, "version")
        if version is None and self._rows.tables["apps"] and len(self._kinds) == len(rows.KEYS):
            log.warning("Redis came back empty: write the accounts and the limits of calls again")
            if self._suspended:
                # First, so that no process sees these accounts without what is suspended.
                self._suspensions.restore(self._suspended)
            self._restore()
        if version is None or version != self._version:
            self.read()

    def _restore(self) -> None:
        from app.accounts.changes import restore

        if restore(self) and caps.are_counted(self._accounts):
            log.error("Redis came back empty: the counts of all caps begin anew")
            counting.counts_lost()

    def read(self) -> None:
        """Read what has changed, whatever the version."""
        # No transaction: a Redis that is full refuses one. What is read after the version may be
        # newer, and is read again then.
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hmget(
                self.keys.accounts, "version", "demo", "document", "next", *_STATE, *FILE_FIELDS
            )
            pipe.hgetall(self.keys.suspended)
            found, suspended = pipe.execute()
        version, demo, document, coming, *more = found
        state, file = more[: len(_STATE)], more[len(_STATE) :]
        accounts = self._accounts
        if document is not None:
            # A version before this one wrote it.
            accounts = self._read_document(document)
            self._state = ""
        elif state[0] is not None and self._follow(_State.of(state)):
            accounts = self._rows.accounts
        if version is not None:
            self.demo = demo == b"1"
            known = zip(FILE_FIELDS, file, strict=True)
            self.file = {name: text.decode() for name, text in known if text is not None}
        self._suspend(accounts, {name.decode(): text.decode() for name, text in suspended.items()})
        self._version = version
        if coming is not None and (name := coming.decode()) != self._coming:
            self._coming = name
            threading.Thread(target=self._read_ahead, args=(name,), daemon=True).start()

    def _follow(self, found: "_State") -> bool:
        """Bring the rows to a state. Returns whether they had another."""
        if found.rows == self._state:
            return False
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (self._state, found.rows):
            self._rows, self._state = ahead[2], found.rows
            return True
        changes = self._changes(found.since(self._state))
        if changes is None:
            self._read_all()
            return True
        for each in changes:
            self._rows = _changed(self._rows, each)
        self._state = found.rows
        return True

    def _changes(self, names: Sequence[str] | None) -> list[dict[str, bytes]] | None:
        """The rows of changes; None if one of them is no longer there."""
        if names is None:
            return None
        found = []
        for name in names:
            each = self._change(name)
            if each is None:
                return None
            found.append(each)
        return found

    def _change(self, name: str) -> dict[str, bytes] | None:
        found = self._scan(self.keys.account_changes(name))
        # Every change has a row without a name, so that one that has expired is not taken for one
        # that changes nothing.
        return found if found.pop("", None) is not None else None

    def _read_ahead(self, name: str) -> None:
        """Read the rows of a large change before it counts: then no request waits for them."""
        with suppress(RedisError):
            state, held, found = self._state, self._rows, self._change(name)
            if found is not None:
                self._ahead = (state, name, _changed(held, found))

    def _read_all(self) -> None:
        """Read all rows, while others may change them."""
        for _ in range(_ATTEMPTS):
            before = _State.of(self.redis.hmget(self.keys.accounts, *_STATE))
            known = _changed(AccountRows.none(), self._scan(self.keys.account_rows))
            # A row of a later state may be among them, so all changes since are applied.
            after = _State.of(self.redis.hmget(self.keys.accounts, *_STATE))
            changes = self._changes(after.since(before.base))
            if changes is not None:
                for each in changes:
                    known = _changed(known, each)
                self._rows, self._state = known, after.rows
                return
        raise RedisError("the accounts change all the time")

    def _scan(self, key: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        matches = [None] if len(self._kinds) == len(rows.KEYS) else [f"{k} *" for k in self._kinds]
        for match in matches:
            for name, text in self.redis.hscan_iter(key, match=match, count=_PART):
                found[name.decode()] = text
        if matches != [None] and self.redis.hexists(key, ""):
            found[""] = b""
        return found

    def wrote(self, known: AccountRows, state: str, *, demo: bool, file: Mapping[str, str]) -> None:
        """Take over what this process has written."""
        self._rows, self._state, self.demo = known, state, demo
        self.file |= file
        self._accounts = replace(known.accounts, suspended=self._accounts.suspended)
        # What was suspended meanwhile is read at the next look.
        self._version = None

    def _suspend(self, accounts: Accounts, found: dict[str, str]) -> None:
        if is_lost(self._suspended, found):
            self._suspensions.restore(self._suspended)
        else:
            self._suspended = found
        self._accounts = replace(accounts, suspended=parsed(self._suspended))

    def _read_document(self, document: bytes) -> Accounts:
        known = without_unknown(json.loads(document))
        try:
            # The writer has already allowed or refused the demo's tokens.
            accounts: Accounts = AccountsSchema(demo=True).load(known)
        except ValidationError as error:
            log.error("the accounts in Redis cannot be read, keep the previous ones: %s", error)
            return self._accounts
        self._rows = AccountRows.none().changed(rows.texts_of(accounts))
        return self._rows.accounts


def _changed(held: AccountRows, differences: Mapping[str, bytes]) -> AccountRows:
    """The rows after a change of any size. Other greenlets run in between."""
    names = list(differences)
    for first in range(0, len(names), _APPLIED):
        if first:
            time.sleep(0)
        held = held.changed({name: differences[name] for name in names[first : first + _APPLIED]})
    return held


@dataclass(frozen=True, slots=True)
class _State:
    """The state of the rows in Redis: its name, the names of the last states up to it, in order,
    and the state that the hash of all rows has at least."""

    rows: str
    states: tuple[str, ...]
    base: str

    @classmethod
    def of(cls, found: Any) -> "_State":
        name, states, base = (b"" if each is None else each for each in found)
        return cls(name.decode(), tuple(states.decode().split()), base.decode())

    def since(self, state: str) -> tuple[str, ...] | None:
        """The changes that lead from ``state`` to this one; None if they are not known."""
        if state not in self.states:
            return None
        return self.states[self.states.index(state) + 1 :]


def limits_of(accounts: Accounts) -> dict[str, Limit]:
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


def caps_of(accounts: Accounts) -> dict[str, dict[str, int | str]]:
    """The caps that workers and listeners look at, by holder."""
    found = {
        name: {cap: value for cap in caps.LOOKED_AT if (value := getattr(of, cap)) is not None}
        for name, of in caps.all_holders(accounts)
    }
    return {name: known for name, known in found.items() if known}
