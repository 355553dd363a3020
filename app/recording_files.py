"""The files of recordings: where this host sees them, how they are opened, deleted and expire.

A switch writes a recording on its own host, at a path that RINGBACK_RECORDINGS makes. Where this
host has the same folder (one host, or a mounted file system), RINGBACK_RECORDINGS_ROOT says where.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

# What stands in a path in place of each word of RINGBACK_RECORDINGS.
_WORDS = {
    "organization": r"[A-Za-z0-9_+-]+",
    "user": r"[A-Za-z0-9_+-]+",
    "call": r"[0-9a-f]{20}",
    "view": r"[0-9]{2}",
    "date": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "time": r"[0-9]{12}",
    "format": r"(?:wav|gsm)",
}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe must not wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """A recording that this host has: its path on the switch's host, bytes, and epoch seconds of
    its last change."""

    path: str
    size: int
    changed: float

    @property
    def call(self) -> str:
        """The id of the call, which is in the path."""
        found = re.search(r"(?<![0-9a-f])[0-9a-f]{20}(?![0-9a-f])", self.path)
        return found[0] if found else ""


class RecordingFiles:
    """The files below one folder. No method follows a link below it, or leaves it."""

    def __init__(self, template: str, root: str | None) -> None:
        """``template`` is RINGBACK_RECORDINGS, ``root`` the folder of this host that has what is
        below the fixed part of the template; None if it has none."""
        self.root = root
        # The folders of the template before the first that varies.
        self._fixed = f"{template.partition('{')[0].rpartition('/')[0]}/"
        varies = re.split(r"\{(\w+)\}", template.removeprefix(self._fixed))
        self._pattern = re.compile(
            "".join(re.escape(t) if n % 2 == 0 else _WORDS[t] for n, t in enumerate(varies))
        )

    def is_reachable(self) -> bool:
        return self.root is not None and os.path.isdir(self.root)

    def find(self, path: str) -> Found | None:
        """The file at a path of the switch's host; None if this host has no such file."""
        with self._folder(path) as (folder, name):
            if folder is None:
                return None
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                return None
        return _found(path, status)

    def open(self, path: str) -> BinaryIO | None:
        """The opened file at a path of the switch's host; None if this host has no such file."""
        with self._folder(path) as (folder, name):
            if folder is None:
                return None
            try:
                file = os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb")
            except OSError:
                return None
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            return None
        return file

    def delete(self, path: str) -> bool:
        """Delete the file at a path of the switch's host, and the folders that it leaves empty.
        Returns False if this host has no such file. Raises OSError if it may not be deleted."""
        with self._folder(path) as (folder, name):
            if folder is None:
                return False
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if _found(path, status) is None:
                    return False
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                return False
        self._prune(path)
        return True

    def all(self) -> Iterator[Found]:
        """All files that have the form of RINGBACK_RECORDINGS. Others are no recordings."""
        if self.root is None:
            return
        for folder, _, names, descriptor in os.fwalk(self.root):
            below = os.path.relpath(folder, self.root)
            for name in sorted(names):
                part = name if below == "." else f"{below}/{name}"
                if self._pattern.fullmatch(part) is None:
                    continue
                with suppress(OSError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if (found := _found(self._fixed + part, status)) is not None:
                        yield found

    def expire(self, before: float) -> int:
        """Delete the recordings that were last written before a time (epoch seconds). Returns their
        number. Raises OSError if one may not be deleted."""
        old = [found.path for found in self.all() if found.changed < before]
        return sum(map(self.delete, old))

    def _prune(self, path: str) -> None:
        parts = path.removeprefix(self._fixed).split("/")[:-1]
        while parts:
            with self._folder(self._fixed + "/".join(parts)) as (folder, name):
                if folder is None:
                    return
                try:
                    os.rmdir(name, dir_fd=folder)
                except OSError:
                    # It has other files.
                    return
            parts.pop()

    @contextmanager
    def _folder(self, path: str) -> Iterator[tuple[int | None, str]]:
        """The open folder that has the file at a path of the switch's host, and the file's name.
        The folder is None for a path outside the fixed part, and if there is no such folder."""
        *folders, name = path.removeprefix(self._fixed).split("/")
        outside = not path.startswith(self._fixed) or {"", ".", ".."} & {*folders, name}
        if self.root is None or outside or not path.isprintable():
            yield None, name
            return
        folder: int | None = None
        try:
            folder = os.open(self.root, _FOLDER)
            for each in folders:
                below = os.open(each, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = below
        except OSError:
            if folder is not None:
                os.close(folder)
            yield None, name
            return
        try:
            yield folder, name
        finally:
            os.close(folder)


def _found(path: str, status: os.stat_result) -> Found | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(path, status.st_size, status.st_mtime)
