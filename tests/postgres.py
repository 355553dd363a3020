"""A PostgreSQL server of the tests' own, from the binaries that Debian's package has put here."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringback_cli.up import free_port

# As Debian and PATH have them.
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_LIMIT = 60.0


def _binary(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(map(str, [*_FOLDERS, os.environ["PATH"]])))


class Postgres:
    """A server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        # The server does not run as root.
        self._user = 65534 if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user, self._user)
        self._run(_binary("initdb"), "-D", folder / "data", "-U", "ringback", "-A", "trust", "-N")
        self.start()

    def start(self) -> None:
        settings = (
            "fsync=off",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
        )
        words = [word for setting in settings for word in ("-c", setting)]
        self._process = subprocess.Popen(
            [_binary("postgres"), "-D", self.folder / "data", "-p", str(self.port), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd=self.folder,
        )
        end = time.monotonic() + _LIMIT
        while not self._answers():
            assert time.monotonic() < end and self._process.poll() is None, "PostgreSQL"
            time.sleep(0.02)

    def _answers(self) -> bool:
        asked = (_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port))
        return subprocess.run(asked).returncode == 0

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it; SIGINT ends all connections, SIGQUIT is a crash."""
        self._process.send_signal(number)
        self._process.wait(_LIMIT)

    @property
    def url(self) -> str:
        return f"postgresql://ringback@127.0.0.1:{self.port}/postgres"

    def _run(self, *words: object) -> None:
        done = subprocess.run(
            list(map(str, words)), user=self._user, cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def postgres_running() -> Iterator[Postgres]:
    """A server with an empty database. Skips the test where there is none on this machine."""
    if _binary("postgres") is None or _binary("initdb") is None:
        pytest.skip("no PostgreSQL server here: install Debian's package postgresql")
    with tempfile.TemporaryDirectory(prefix="ringback-postgres-") as name:
        server = Postgres(Path(name))
        try:
            yield server
        finally:
            server.stop()
