"""The accounts file: whether it is newer than the accounts in Redis.

A file whose digest was imported is not read again, and an older one never replaces what came later.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

from redis import Redis

from app.settings import SettingsError
from app.store.keys import Keys

# The version that stands in a file before its first table.
_VERSION = re.compile(rb"^version\s*=\s*([0-9]{1,15})\s*(?:#.*)?$", re.MULTILINE)
_TABLE = re.compile(rb"^\s*\[", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells a file from others: its name, the SHA-256 of its content, the ``version`` that it
    says, when it was written (epoch seconds; None if that says nothing), and its bytes."""

    name: str
    digest: str
    version: int | None = None
    written: float | None = None
    size: int = 0


class Standing(StrEnum):
    """Where a file stands to the accounts in Redis."""

    NEW = "new"
    SAME = "same"
    OLDER = "older"


def stamp(path: Path | None) -> FileStamp:
    """The stamp of a file, or of the demo accounts if ``path`` is None. Raises SettingsError."""
    if path is None:
        content = files("app.accounts").joinpath("demo.toml").read_bytes()
        return FileStamp("the demo accounts", hashlib.sha256(content).hexdigest())
    try:
        content, written = path.read_bytes(), path.stat().st_mtime
    except OSError as error:
        raise SettingsError(f"RINGBACK_ACCOUNTS: {path}: {error.strerror}.") from error
    table = _TABLE.search(content)
    found = _VERSION.search(content, 0, table.start() if table else len(content))
    version = int(found[1]) if found else None
    digest = hashlib.sha256(content).hexdigest()
    return FileStamp(str(path), digest, version, written, len(content))


def standing(redis: Redis, keys: Keys, file: FileStamp) -> Standing:
    """Where a file stands. May raise an error of Redis."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.hmget(keys.accounts, "rows", "document", "digest", "file_version", "at")
        pipe.hexists(keys.account_files, file.digest)
        found: Any
        found, was_imported = pipe.execute()
    rows, document, digest, version, at = found
    if rows is None or document is not None:
        return Standing.NEW
    if digest is not None and digest.decode() == file.digest:
        return Standing.SAME
    if file.version is not None and version:
        return Standing.NEW if file.version > int(version) else Standing.OLDER
    if was_imported:
        return Standing.OLDER
    if file.written is not None and at and file.written < float(at):
        return Standing.OLDER
    return Standing.NEW
