"""Importing the accounts file: by ``ringback accounts import``, and by an API that starts."""

import json
import logging
import subprocess
import sys
from pathlib import Path

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from app.accounts import rows
from app.accounts.changes import NOT_THE_DEMO, Change, Changed, ChangeRefused, change
from app.accounts.files import Standing, stamp, standing
from app.accounts.store import AccountStore, read_accounts
from app.settings import Settings, SettingsError
from app.store.client import connect, is_unavailable
from app.store.format import check
from app.store.keys import Keys

log = logging.getLogger(__name__)

# The author of what an API imports.
API = "@api"
# A larger file is read by a process of its own, in bytes: the memory that takes would stay with the
# API, and its requests would wait.
_LARGE = 100_000
# Seconds that an import of a process of its own takes at most, and that another one waits for it.
_HELD, _WAIT = 600, 610


def import_file(store: AccountStore, path: Path, by: str) -> Changed:
    """Import a file, whatever Redis has. Raises SettingsError, ChangeRefused, or an error of
    Redis."""
    file = stamp(path)
    texts = rows.texts_of(read_accounts(path))
    return change(store, texts, Change("import_accounts", by, file=file))


def import_at_start(
    settings: Settings, store: AccountStore, path: Path | None, *, demo: bool
) -> bool:
    """Import the file of an API that starts (the demo accounts if ``path`` is None) if it is newer
    than the accounts in Redis. Returns whether Redis had others.

    Raises SettingsError, or an error of Redis.
    """
    file = stamp(path)
    found = standing(store.redis, store.keys, file)
    if found is Standing.OLDER and not demo:
        log.warning(
            "%s is older than the accounts in Redis, so it is not imported. `ringback accounts "
            "history` shows what came later, `ringback accounts import` imports the file anyway",
            file.name,
        )
    if found is not Standing.NEW:
        store.current()
        if demo and not store.demo:
            raise SettingsError(NOT_THE_DEMO)
        return False
    if path is not None and file.size > _LARGE:
        return import_apart(settings, path, demo=demo)
    texts = rows.texts_of(read_accounts(path))
    return change(store, texts, Change("import_accounts", API, demo, file)).others


def is_large(path: Path) -> bool:
    """Whether a process of its own reads the file. Raises SettingsError."""
    return stamp(path).size > _LARGE


def import_apart(settings: Settings, path: Path, *, demo: bool) -> bool:
    """Import a file by a process of its own, if it is newer than the accounts in Redis. Returns
    whether Redis had others.

    Raises SettingsError, or ConnectionError while Redis is unavailable.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as one; one.main()"
    words = [settings.require_redis(), settings.key_prefix, str(path), demo]
    log.info("import %s", path)
    # The URL has a password, which must not be seen in a list of processes.
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(words), stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout or '{"wrong": "The import ended early."}')
    if "unavailable" in found:
        raise RedisConnectionError(found["unavailable"])
    if "wrong" in found:
        raise SettingsError(found["wrong"])
    return bool(found["others"])


def main() -> None:
    """Import a file for an API. What to import comes as JSON, and so goes the answer."""
    url, prefix, path, demo = json.load(sys.stdin)
    redis, keys = connect(url, timeout=30.0), Keys(prefix)
    store = AccountStore(redis, keys)
    found: dict[str, bool | str] = {}
    try:
        check(redis, keys)
        # Of several that start together one imports.
        with redis.lock(keys.account_import, timeout=_HELD, blocking_timeout=_WAIT):
            file, found["others"] = stamp(Path(path)), False
            if standing(redis, keys, file) is Standing.NEW:
                texts = rows.texts_of(read_accounts(Path(path)))
                about = Change("import_accounts", API, demo, file)
                found["others"] = change(store, texts, about).others
    except RedisError as error:
        found = {"unavailable" if is_unavailable(error) else "wrong": str(error)}
    except (SettingsError, ChangeRefused) as error:
        found = {"wrong": str(error)}
    print(json.dumps(found))


def check_serves(store: AccountStore, *, may_demo: bool) -> None:
    """Raise SettingsError if Redis holds no accounts that an API without a file may serve."""
    found = store.current()
    if not found.apps:
        raise SettingsError(
            "RINGBACK_ACCOUNTS is not set, and Redis holds no accounts: give the accounts file, "
            "run `ringback accounts import FILE`, or run `ringback up`, which makes accounts."
        )
    if store.demo and not may_demo:
        raise SettingsError(
            "RINGBACK_ACCOUNTS is not set, and the accounts in Redis are the demo's, whose tokens "
            "everybody knows: set RINGBACK_ACCOUNTS to the accounts file."
        )
