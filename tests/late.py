"""A Redis whose answers come late."""

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from ringback_cli.up import free_port


class LateRedis:
    """A proxy before a Redis. From :meth:`begin` on it keeps each answer for some seconds."""

    def __init__(self, url: str, seconds: float) -> None:
        place = urlsplit(url)
        self._to = place.hostname or "", place.port or 0
        self._seconds = seconds
        self._is_late = False
        port = free_port()
        self.url = url.replace(f":{place.port}/", f":{port}/")
        self._server = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def begin(self) -> None:
        self._is_late = True

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._to) as redis:
            chosen = selectors.DefaultSelector()
            chosen.register(client, selectors.EVENT_READ)
            chosen.register(redis, selectors.EVENT_READ)
            answers: deque[tuple[float, bytes]] = deque()
            while True:
                wait = max(0.0, answers[0][0] - time.monotonic()) if answers else None
                for key, _ in chosen.select(wait):
                    try:
                        data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                    except OSError:
                        return
                    if not data:
                        return
                    if key.fileobj is client:
                        redis.sendall(data)
                    else:
                        due = time.monotonic() + (self._seconds if self._is_late else 0.0)
                        answers.append((due, data))
                while answers and answers[0][0] <= time.monotonic():
                    try:
                        client.sendall(answers.popleft()[1])
                    except OSError:
                        return


@contextmanager
def late(url: str, seconds: float) -> Iterator[LateRedis]:
    proxy = LateRedis(url, seconds)
    yield proxy
    proxy.close()
