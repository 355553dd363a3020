"""Changes of the accounts in Redis, and processes that follow them."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app import create_app
from app.accounts import changes, importing, rows
from app.accounts.changes import Change, ChangeRefused
from app.accounts.files import FileStamp, Standing, stamp, standing
from app.accounts.model import User
from app.accounts.rows import AccountRows, Table
from app.accounts.store import AccountStore, read_accounts
from app.settings import Settings, SettingsError
from app.store.client import connect
from app.store.keys import Keys
from app.web.services import EXTENSION
from tests.conftest import eventually
from tests.own_accounts import own_accounts

OWN = own_accounts("our-very-own", ids=True)
KEYS = Keys()
Texts = dict[str, bytes]


@pytest.fixture
def texts(accounts_file: Path) -> Texts:
    accounts_file.write_text(OWN)
    return rows.texts_of(read_accounts(accounts_file))


def users(texts: Texts, *names: str) -> Texts:
    """The rows with more users."""
    row = b'{"organization":"0003"}'
    return {**texts, **{f"users {name}": row for name in names}}


def imported(redis: Redis, texts: Texts, **about: Any) -> changes.Changed:
    return changes.change(AccountStore(redis, KEYS), texts, Change("import_accounts", **about))


def test_only_what_differs_is_written_and_can_be_undone(redis: Redis, texts: Texts) -> None:
    first = imported(redis, texts, by="ada")
    assert (first.version, first.others, first.counts["extensions"]) == (1, False, (5, 0, 0))
    reader = AccountStore(redis, KEYS)
    before = reader.current()
    second = imported(redis, {**users(texts, "13"), "extensions 0003*211": b"{}"}, by="bob")
    assert second.counts["users"] == (1, 0, 0) and second.counts["extensions"] == (0, 1, 0)
    assert set(redis.hkeys(KEYS.account_changes(reader_state(redis)))) == {
        *(b"users 13", b"extensions 0003*211", b"")
    }
    assert reader.current().users["13"] == User("13", "0003")
    # Whoever has the accounts of before goes on with them.
    assert "13" not in before.users and before.extensions["0003*211"].owner == "12"
    assert imported(redis, users(texts, "14"), by="cyd").version == 3
    assert [past.by for past in changes.history(redis, KEYS)] == ["cyd", "bob", "ada"]
    # One after the other, back to the first.
    past, done = changes.undo(AccountStore(redis, KEYS), "dan")
    assert (past.version, done.version) == (3, 4)
    assert {"13"} < set(reader.current().users) and "14" not in reader.current().users
    assert changes.undo(AccountStore(redis, KEYS), "dan")[0].version == 2
    assert reader.current() == AccountStore(redis, KEYS).current() == before
    with pytest.raises(ChangeRefused, match="it was the first one"):
        changes.undo(AccountStore(redis, KEYS), "dan")
    # Nothing to change makes no version.
    assert imported(redis, texts).version == 5
    # Rows that have changed since are never undone by half.
    with pytest.raises(ChangeRefused, match="Try again"), overtaken(redis, texts):
        imported(redis, users(texts, "15"))
    assert "15" not in reader.current().users and "16" in reader.current().users


def reader_state(redis: Redis) -> str:
    reader = AccountStore(redis, KEYS)
    reader.current()
    return reader.state


class overtaken:
    """Another process changes the accounts while the lock of this one has expired."""

    def __init__(self, redis: Redis, texts: Texts) -> None:
        self._redis, self._texts = redis, texts
        self._real = changes._write_rows

    def __enter__(self) -> None:
        def write(*given: Any, **more: Any) -> None:
            changes._write_rows = self._real
            self._redis.delete(KEYS.account_lock)
            imported(self._redis, users(self._texts, "16"))
            self._real(*given, **more)

        changes._write_rows = write

    def __exit__(self, *_: object) -> None:
        changes._write_rows = self._real


def test_limits_come_with_the_rows(redis: Redis, texts: Texts) -> None:
    imported(redis, texts)
    limited = {**texts, "users 12": b'{"organization":"0003","max_calls":7,"minutes_per_day":5}'}
    imported(redis, limited)
    assert redis.hget(KEYS.limits, "user:12") == b"0.0:7"
    assert redis.hget(KEYS.limits, "caps:user:12") == b'{"minutes_per_day": 5}'
    assert b"user:12" in redis.smembers(KEYS.room)
    redis.hset(KEYS.limits, "switch:main", "30.0:1000")
    changes.undo(AccountStore(redis, KEYS), "")
    assert set(redis.hkeys(KEYS.limits)) == {b"mark", b"switch:main"}


def test_a_change_whose_writer_died_is_merged_by_the_next(
    redis: Redis, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(redis, texts)
    behind = AccountStore(redis, KEYS)
    behind.current()
    with monkeypatch.context() as patch:
        patch.setattr(changes, "_merge", lambda *_: None)
        imported(redis, users(texts, "13"))
    assert redis.ttl(KEYS.account_changes(reader_state(redis))) == -1
    assert "13" in AccountStore(redis, KEYS).current().users
    imported(redis, users(texts, "13", "14"))
    assert (
        redis.hmget(KEYS.account_rows, "users 13", "users 14") == [b'{"organization":"0003"}'] * 2
    )
    # A process that comes too late for the changes reads all rows.
    for key in redis.scan_iter(match=KEYS.account_changes("*")):
        assert redis.ttl(key) > 0
        redis.delete(key)
    assert behind.current() == AccountStore(redis, KEYS).current()
    assert {"13", "14"} <= set(behind.current().users)


def test_rows_that_change_while_all_are_read(
    redis: Redis, texts: Texts, settings: Settings
) -> None:
    imported(redis, users(texts, *(f"u{number}" for number in range(3000))))
    reader, scan = AccountStore(redis, KEYS), redis.hscan
    read: list[Any] = []

    def hscan(key: str, *words: Any, **more: Any) -> Any:
        # Between two parts of the rows the first of them and the last go.
        if key == KEYS.account_rows and len(read) == 1:
            imported(connection, users(texts, *(f"u{number}" for number in range(1, 2999))))
        read.append(key)
        return scan(key, *words, **more)

    connection = connect(settings.require_redis())
    redis.hscan = hscan  # type: ignore[method-assign]
    try:
        found = reader.current()
    finally:
        del redis.hscan
    assert len(read) > 2
    assert found == AccountStore(redis, KEYS).current() and "u0" not in found.users


def test_a_large_change_is_read_before_it_counts(redis: Redis, texts: Texts) -> None:
    imported(redis, texts)
    reader = AccountStore(redis, KEYS)
    reader.current()
    many = users(texts, *(f"u{number}" for number in range(1500)))
    writer = threading.Thread(target=imported, args=(redis, many))
    writer.start()
    eventually(lambda: reader.current() and reader._ahead is not None)
    assert len(reader.current().users) == 1, "it does not count yet"
    writer.join()
    asked = counted(redis)
    assert len(reader.current().users) == 1501
    # A look for the version, and one for the state. None for the rows.
    assert counted(redis) - asked < 6 and reader._ahead is None


def counted(redis: Redis) -> int:
    info: Any = redis.info("stats")
    return int(info["total_commands_processed"])


@pytest.mark.parametrize(
    ("version", "written", "of", "expected"),
    [
        (None, None, "d2", Standing.SAME),
        (None, None, "d1", Standing.OLDER),
        (None, 1e12, "d3", Standing.NEW),
        (None, 1.0, "d3", Standing.OLDER),
        # Where both say a version, it decides.
        (8, 1.0, "d3", Standing.NEW),
        (8, 1.0, "d1", Standing.NEW),
        (7, 1e12, "d3", Standing.OLDER),
        (6, 1e12, "d3", Standing.OLDER),
    ],
)
def test_which_file_is_newer(
    redis: Redis, texts: Texts, version: int | None, written: float | None, of: str, expected: str
) -> None:
    file = FileStamp("f", of, version, written)
    assert standing(redis, KEYS, file) is Standing.NEW, "Redis has none"
    imported(redis, texts, file=FileStamp("f", "d1", 6))
    imported(redis, users(texts, "13"), file=FileStamp("f", "d2", 7))
    assert standing(redis, KEYS, file) is expected
    changes.undo(AccountStore(redis, KEYS), "")
    assert standing(redis, KEYS, FileStamp("f", "d2")) is Standing.OLDER, "an undo stays"


def test_the_version_of_a_file(accounts_file: Path) -> None:
    accounts_file.write_text(f"version = 12 # of May\n{OWN}\n")
    assert stamp(accounts_file).version == 12
    assert read_accounts(accounts_file).apps
    accounts_file.write_text(f"{OWN}\n# version = 12\n")
    assert stamp(accounts_file).version is None


def test_an_api_that_starts_reverts_nothing(
    settings: Settings, redis: Redis, accounts_file: Path, tmp_path: Path
) -> None:
    accounts_file.write_text(OWN)
    own = replace(settings, accounts=accounts_file, demo=None)
    with pytest.raises(SettingsError, match="Redis holds no accounts"):
        create_app(replace(own, accounts=None))
    create_app(own)
    newer = tmp_path / "newer.toml"
    newer.write_text(OWN.replace("Second Desk", "Another Desk"))
    importing.import_file(AccountStore(redis, KEYS), newer, "ada")

    def shown(app: Any) -> Any:
        found = app.extensions[EXTENSION][AccountStore].current()
        return found.extensions["0003*211"].caller_id

    here = shown(create_app(own))
    assert here == shown(create_app(replace(own, accounts=None))) and "Another Desk" in here
    # A file that was written later is newer.
    accounts_file.write_text(OWN.replace("Second Desk", "Third Desk"))
    assert "Third Desk" in shown(create_app(own))
    # The demo's accounts come nowhere by themselves.
    with pytest.raises(SettingsError, match="not the demo's"):
        create_app(settings)


def test_a_large_file_is_imported_by_a_process_of_its_own(
    settings: Settings, redis: Redis, accounts_file: Path
) -> None:
    rows_ = "".join(f'[[users]]\nid = "u{n}"\norganization = "0003"\n' for n in range(3000))
    accounts_file.write_text(OWN + "\n" + rows_)
    own = replace(settings, accounts=accounts_file, demo=None)
    found = create_app(own).extensions[EXTENSION][AccountStore].current()
    assert len(found.users) == 3001
    accounts_file.write_text(OWN + "\n" + rows_ + '[[users]]\nid = "u1"\norganization = "0003"\n')
    with pytest.raises(SettingsError, match=r"users\[3002\].id: Is taken by an earlier one"):
        importing.import_apart(own, accounts_file, demo=False)


def test_rows_are_read_when_they_are_looked_at(texts: Texts) -> None:
    held = AccountRows.none().changed(texts)
    assert held.accounts.apps.keys() == {name[5:] for name in texts if name.startswith("apps ")}
    table = held.accounts.extensions
    assert isinstance(table, Table) and not table._made
    assert table["0003*210"] is table["0003*210"] and len(table._made) == 1
    # What a change leaves is shared, and the tokens of an app go with it.
    name = "our-very-own-user"
    token = next(digest for digest, app in held.accounts.tokens.items() if app.id == name)
    after = held.changed({f"apps {name}": b""})
    assert after.tables["extensions"] is held.tables["extensions"]
    assert token not in after.accounts.tokens and token in held.accounts.tokens
    assert after.changed({f"apps {name}": texts[f"apps {name}"]}).accounts == held.accounts
    assert held.differences(texts) == {}


def test_a_process_that_holds_two_kinds(redis: Redis, texts: Texts) -> None:
    imported(redis, texts)
    pages = AccountStore(redis, KEYS, kinds=("organizations", "apps"))
    assert pages.current().apps and not pages.current().extensions
    imported(redis, {**users(texts, "13"), "apps new": texts["apps our-very-own-user"]})
    assert "new" in pages.current().apps and not pages.current().users
    # It never writes accounts that lack the rest.
    redis.flushall()
    pages.current()
    assert not redis.exists(KEYS.accounts)


def test_redis_that_came_back_empty_gets_all_but_no_older_file(
    redis: Redis, texts: Texts, accounts_file: Path
) -> None:
    imported(redis, texts, file=(file := stamp(accounts_file)))
    one, two = AccountStore(redis, KEYS), AccountStore(redis, KEYS)
    known = one.current()
    assert two.current() == known
    redis.flushall()
    assert one.current() == two.current() == known == AccountStore(redis, KEYS).current()
    assert standing(redis, KEYS, file) is Standing.SAME
    assert redis.hexists(KEYS.limits, "mark")


def test_the_process_that_holds_the_lock_writes_alone(
    redis: Redis, texts: Texts, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_SOON", 0.05)
    imported(redis, texts)
    store = AccountStore(connect(settings.require_redis()), KEYS)
    store.current()
    redis.flushall()
    redis.set(KEYS.account_lock, "another", px=100)
    store.current()
    assert not redis.exists(KEYS.accounts)
    eventually(lambda: store.current() and redis.exists(KEYS.accounts))
