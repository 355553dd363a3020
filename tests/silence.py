"""A name server that does not answer."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gevent.resolver.ares import Resolver


class Silence:
    """A name server on a port of this machine that keeps what it is asked, and says nothing before
    it refuses to."""

    def __init__(self) -> None:
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind(("127.0.0.1", 0))
        self.server.setblocking(False)
        self._asked: list[str] = []
        self._open: list[tuple[bytes, Any]] = []

    def asked(self) -> list[str]:
        """The first label of each name that was asked for, each once."""
        while True:
            try:
                packet, client = self.server.recvfrom(512)
            except BlockingIOError:
                return list(dict.fromkeys(self._asked))
            # The header has twelve bytes, and the length of a label stands before it.
            self._asked.append(packet[13 : 13 + packet[12]].decode())
            self._open.append((packet, client))

    def refuse(self) -> None:
        """Answer all questions that are open with SERVFAIL."""
        self.asked()
        for packet, client in self._open:
            self.server.sendto(packet[:2] + b"\x81\x82" + packet[4:], client)
        self._open.clear()

    def resolve(self, host: str, port: Any, **options: Any) -> Any:
        """As ``socket.getaddrinfo``, of names of example.com by this server alone."""
        if not host.endswith(".example.com"):
            return socket.getaddrinfo(host, port, **options)
        # A resolver belongs to the thread that it was made in.
        resolver = Resolver(
            use_environ=False,
            servers=["127.0.0.1"],
            udp_port=self.server.getsockname()[1],
            timeout=60.0,
            tries=1,
        )
        return resolver.getaddrinfo(host, port)


@contextmanager
def silent() -> Iterator[Silence]:
    silence = Silence()
    yield silence
    silence.server.close()
