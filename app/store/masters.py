"""Follows which server the Sentinels call the master, and cuts the connections to any other.

redis-py asks the Sentinels only when it connects. A connection to a master that hangs stays as it
is until its command has timed out, and so does one to a master that was demoted while it is idle.
"""

import _socket
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

log = logging.getLogger(__name__)

# Seconds between two questions to the Sentinels.
INTERVAL = 0.5

Address = tuple[str, int]


class MasterWatch:
    """The watch of one service, which all connections of a process to this service share."""

    def __init__(self, ask: Callable[[], Address]) -> None:
        """``ask`` returns the address of the master, or raises an error of Redis."""
        self._ask = ask
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        # The process that has the thread: a fork has none.
        self._pid = 0

    def follow(self, connection: Any) -> None:
        """Cut this connection as soon as the Sentinels name another master than its ``host`` and
        ``port``."""
        with self._lock:
            self._connections.add(connection)
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="master-watch", daemon=True).start()

    def _run(self) -> None:
        known: Address | None = None
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            with self._lock:
                if not self._connections:
                    # The next connection starts the thread again.
                    self._pid = 0
                    return
            try:
                master = self._ask()
            except (RedisError, OSError):
                # Between two masters, or without a Sentinel: nothing is known that would help.
                continue
            if known is not None and master != known:
                log.warning("the Sentinels name another master of Redis")
            known = master
            self.cut(master)

    def cut(self, master: Address) -> None:
        """Shut the sockets to every other server down. Their commands fail at once and are tried
        again with the master."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            sock = connection._sock or connection.greeting
            if sock is None or (connection.host, connection.port) == master:
                continue
            # By the system's own call: the socket may belong to another thread's event loop, and
            # its TLS must not wait for a server that hangs.
            with suppress(OSError, AttributeError):
                _socket.socket.shutdown(getattr(sock, "_sock", sock), socket.SHUT_RDWR)
