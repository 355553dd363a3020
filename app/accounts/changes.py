"""Changes of the accounts in Redis: by differences, each with its author and what it undoes.

A change first writes its rows beside those that count. One script (limits.lua) then makes the
change count, together with the limits of calls. After that the rows are merged into the hash of all
rows. A process that ends in between leaves that to the next change.
"""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import LockError, RedisError

from app.accounts import rows
from app.accounts.files import FileStamp
from app.accounts.rows import AccountRows
from app.accounts.store import FILE_FIELDS, AccountStore, caps_of, limits_of
from app.settings import SettingsError
from app.store.keys import Keys

# Seconds after which Redis gives up the lock of a process that has died, and that another one waits
# for it.
_HELD, _WAIT = 120, 150
# Seconds that a request waits for the lock of a process that writes all accounts again.
_SOON = 1.0
# The states that stay known. A process that knows none of them reads all rows.
_STATES = 20
# Seconds for which the rows of a change are kept for processes that follow, and what undoes it.
_CHANGES_KEPT, UNDO_KEPT = 600, 7 * 86_400
# The entries of the history.
_HISTORY = 100
# The rows that are written at once.
_PART = 500
# A change of more rows is told before it counts, and so many seconds later it counts, and one more
# for so many rows.
_LARGE, _AHEAD, _ROWS_A_SECOND = 1_000, 1.0, 50_000

NOT_THE_DEMO = (
    "RINGBACK_ACCOUNTS is not set, and the accounts in Redis are not the demo's: set "
    "RINGBACK_ACCOUNTS to the accounts file."
)

# KEYS  1 the accounts
# ARGV  1 the state that comes, 2 a version
_TELL = """
-- Accounts with nothing but a version would hide that Redis has none.
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HSET', KEYS[1], 'next', ARGV[1], 'version', ARGV[2])
"""

# New, changed and removed rows by kind.
Counts = dict[str, tuple[int, int, int]]


class ChangeRefused(Exception):
    """A change that cannot be made; the text is a sentence for an operator."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a change says of itself: which command, by whom, of which file, and which change it
    undoes."""

    what: str
    by: str = ""
    demo: bool = False
    file: FileStamp | None = None
    undoes: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did: the rows by kind, the version of the accounts now, and whether Redis had
    other accounts."""

    counts: Counts
    version: int
    others: bool


@dataclass(frozen=True, slots=True)
class Past:
    """A change of the past: its state, whose number is the version, and what is known of it."""

    state: str
    at: float
    by: str
    what: str
    file: str
    counts: Counts
    undoes: str
    # Whether the accounts before it were the demo's.
    demo: bool

    @property
    def version(self) -> int:
        return version_of(self.state)


def version_of(state: str) -> int:
    return int(state.partition("-")[0] or 0)


def change(store: AccountStore, texts: Mapping[str, bytes], about: Change) -> Changed:
    """Replace the rows in Redis by these.

    Raises SettingsError if the demo accounts would replace others, ChangeRefused if somebody else
    changes them, or an error of Redis.
    """
    with locked(store):
        return change_locked(store, texts, about)


@contextmanager
def locked(store: AccountStore, wait: float = _WAIT) -> Iterator[None]:
    """The lock of a change: within it the rows do not change. Raises LockError after ``wait``
    seconds."""
    lock = store.redis.lock(store.keys.account_lock, timeout=_HELD, blocking_timeout=wait)
    if not lock.acquire():
        raise LockError("another process changes the accounts")
    try:
        yield
    finally:
        # It may have taken longer than the lock lasts. limits.lua sees whether others came between.
        with suppress(LockError):
            lock.release()


def change_locked(store: AccountStore, texts: Mapping[str, bytes], about: Change) -> Changed:
    store.read()
    head: Any = store.redis.hmget(store.keys.accounts, "rows", "document", "demo")
    if about.demo and head[2] == b"0":
        raise SettingsError(NOT_THE_DEMO)
    there = head[0] is not None and head[1] is None
    before = store.known_rows if there or head[1] is not None else AccountRows.none()
    differences = before.differences(texts)
    if there:
        return _changed(store, before, differences, about)
    # None yet, or those that a version before this one wrote.
    _write_all(store, AccountRows.none().changed(texts), about, expected=head[0])
    return Changed(
        counts_of(before, differences), version_of(store.state), _others(before, differences)
    )


def _others(before: AccountRows, differences: Mapping[str, bytes]) -> bool:
    return bool(before) and bool(differences)


def _changed(
    store: AccountStore, before: AccountRows, differences: dict[str, bytes], about: Change
) -> Changed:
    redis, keys, was = store.redis, store.keys, store.state
    after = before.changed(differences)
    state = _next(was) if differences else was
    fields: dict[str, str] = {"demo": str(int(about.demo))}
    entry = ""
    counts = counts_of(before, differences)
    if differences:
        old = {name: before.text(name) for name in differences}
        _write_rows(redis, keys.account_undo(state), old, UNDO_KEPT)
        _write_rows(redis, keys.account_changes(state), differences)
        if len(differences) > _LARGE:
            redis.eval(_TELL, 1, keys.accounts, state, secrets.token_hex(8))
            time.sleep(_AHEAD + len(differences) / _ROWS_A_SECOND)
        states = _text(redis.hget(keys.accounts, "states")).split()
        fields |= {"rows": state, "states": " ".join([*states, state][-_STATES:])}
        entry = _entry(store, state, counts, about)
    _commit(store, after, fields, entry, about, expected=was)
    if differences:
        _merge(store, state, differences)
    store.wrote(after, state, demo=about.demo, file=_of_file(fields))
    return Changed(counts, version_of(state), bool(differences))


def _write_all(
    store: AccountStore, after: AccountRows, about: Change, *, expected: bytes | None
) -> None:
    """Write all rows where Redis has none that count."""
    redis, keys = store.redis, store.keys
    redis.unlink(keys.account_rows)
    _write_rows(redis, keys.account_rows, after.texts, mark=False)
    state = _next(_text(expected))
    fields = {"rows": state, "states": state, "base": state, "demo": str(int(about.demo))}
    counts = counts_of(AccountRows.none(), after.texts)
    _commit(
        *(store, after, fields, _entry(store, state, counts, about), about),
        expected=_text(expected),
    )
    store.wrote(after, state, demo=about.demo, file=_of_file(fields))


def restore(store: AccountStore) -> bool:
    """Write the accounts that this process knows where Redis came back empty. Returns whether it
    wrote."""
    with suppress(LockError, ChangeRefused), locked(store, _SOON):
        redis, keys, known = store.redis, store.keys, store.known_rows
        if redis.hexists(keys.accounts, "version"):
            return False
        redis.unlink(keys.account_rows)
        _write_rows(redis, keys.account_rows, known.texts, mark=False)
        state = store.state or _next("")
        fields = {"rows": state, "states": state, "base": state, "demo": str(int(store.demo))}
        fields |= store.file
        wrote = _commit(
            *(store, known, fields, "", Change("restore")), expected="", only_missing=True
        )
        if wrote:
            store.wrote(known, state, demo=store.demo, file={})
        return wrote
    # Another process does it.
    return False


def _of_file(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in fields.items() if name in FILE_FIELDS}


def undo(store: AccountStore, by: str) -> tuple[Past, Changed]:
    """Take the last change back that has not been taken back. Returns it, and what that changed.

    Raises ChangeRefused if there is none.
    """
    with locked(store):
        store.read()
        gone = set()
        for past in history(store.redis, store.keys):
            if past.undoes:
                gone.add(past.undoes)
            elif past.state not in gone:
                break
        else:
            raise ChangeRefused("The history has no change to undo.")
        found = dict(store.redis.hscan_iter(store.keys.account_undo(past.state), count=_PART))
        if found.pop(b"", None) is None:
            raise ChangeRefused(
                f"Version {past.version} cannot be undone: it was the first one, or it is older "
                f"than {UNDO_KEPT // 86_400} days."
            )
        old = {name.decode(): text for name, text in found.items()}
        texts = store.known_rows.changed(old).texts
        about = Change("undo", by=by, demo=past.demo, undoes=past.state)
        return past, change_locked(store, texts, about)


def history(redis: Redis, keys: Keys) -> Iterator[Past]:
    """The changes of the past, the last one first."""
    found: Any = redis.lrange(keys.account_history, 0, -1)
    for text in found:
        row: Any = json.loads(text)
        counts = {kind: (one[0], one[1], one[2]) for kind, one in row["rows"].items()}
        yield Past(
            *(row["state"], row["at"], row["by"], row["what"], row.get("file", ""), counts),
            *(row.get("undoes", ""), row.get("demo", False)),
        )


def counts_of(before: AccountRows, differences: Mapping[str, bytes]) -> Counts:
    """The numbers of new, changed and removed rows by kind."""
    found = {kind: [0, 0, 0] for kind in rows.KEYS}
    for name, text in differences.items():
        kind = name.partition(" ")[0]
        if kind in found:
            found[kind][2 if not text else 1 if before.text(name) else 0] += 1
    return {kind: (one[0], one[1], one[2]) for kind, one in found.items()}


def _entry(store: AccountStore, state: str, counts: Counts, about: Change) -> str:
    at: Any = store.redis.time()
    row: dict[str, Any] = {
        "state": state,
        "at": at[0] + at[1] / 1e6,
        "by": about.by,
        "what": about.what,
        "rows": {kind: of for kind, of in counts.items() if any(of)},
        "demo": store.demo,
    }
    if about.file is not None:
        row["file"] = about.file.name
    if about.undoes:
        row["undoes"] = about.undoes
    return json.dumps(row)


def _commit(
    store: AccountStore,
    after: AccountRows,
    fields: dict[str, str],
    entry: str,
    about: Change,
    *,
    expected: str,
    only_missing: bool = False,
) -> bool:
    if entry:
        # When the accounts changed last, and of which file they are.
        file = about.file
        fields["at"] = str(json.loads(entry)["at"])
        fields["digest"] = file.digest if file is not None else ""
        if file is not None:
            fields["file_version"] = "" if file.version is None else str(file.version)
    elif about.file is not None:
        fields["digest"] = about.file.digest
    digest = about.file.digest if about.file is not None else ""
    wrote = store.pacer.set_limits(
        limits_of(after.accounts),
        caps=caps_of(after.accounts),
        only_missing=only_missing,
        accounts=(expected, json.dumps(fields), entry, _HISTORY, digest),
    )
    if wrote is None:
        raise ChangeRefused("Somebody else has changed the accounts at this moment. Try again.")
    return wrote


def _merge(store: AccountStore, state: str, differences: Mapping[str, bytes]) -> None:
    """Merge a change that counts into the hash of all rows, after those before it."""
    redis, keys = store.redis, store.keys
    known = [_text(each) for each in redis.hmget(keys.accounts, "states", "base")]
    states, base = known[0].split(), known[1]
    pending = states[states.index(base) + 1 :] if base in states else states
    for each in pending:
        changes = differences if each == state else _rows_of(redis, keys.account_changes(each))
        for some in _parts(changes):
            with redis.pipeline(transaction=False) as pipe:
                if new := {name: text for name, text in some.items() if text}:
                    pipe.hset(keys.account_rows, mapping=dict[Any, Any](new))
                if gone := [name for name, text in some.items() if not text]:
                    pipe.hdel(keys.account_rows, *gone)
                pipe.execute()
    with redis.pipeline(transaction=False) as pipe:
        pipe.hset(keys.accounts, "base", state)
        for each in pending:
            pipe.expire(keys.account_changes(each), _CHANGES_KEPT)
        pipe.execute()


def _rows_of(redis: Redis, key: str) -> dict[str, bytes]:
    found = {name.decode(): text for name, text in redis.hscan_iter(key, count=_PART)}
    if found.pop("", None) is None:
        raise RedisError(f"{key} is gone before it was merged")
    return found


def _write_rows(
    redis: Redis,
    key: str,
    texts: Mapping[str, bytes],
    kept: int | None = None,
    *,
    mark: bool = True,
) -> None:
    for some in _parts({**texts, "": b""} if mark else texts):
        redis.hset(key, mapping=dict[Any, Any](some))
    if kept is not None:
        redis.expire(key, kept)


def _parts(texts: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    names = list(texts)
    for first in range(0, len(names), _PART):
        yield {name: texts[name] for name in names[first : first + _PART]}


def _next(state: str) -> str:
    """The name of the state after another: its number, and a word that no other has."""
    return f"{version_of(state) + 1}-{secrets.token_hex(4)}"


def _text(found: Any) -> str:
    return "" if found is None else found.decode()
