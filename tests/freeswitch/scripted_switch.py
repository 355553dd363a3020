"""A switch that does what a test's script says: a server on a real loopback socket."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import gevent
import gevent.socket
import pytest
from gevent.queue import Queue
from gevent.server import StreamServer

LIMIT = 60.0
"""Seconds after which a test counts as hanging."""
SHORT = 0.1
"""Seconds of a time limit that is meant to strike."""
CORE = "6b0653e6-5563-4757-960a-afcc4b93bd98"
CHALLENGE = b"Content-Type: auth/request\n\n"
NOTICE = b"Content-Type: text/disconnect-notice\nContent-Length: 8\n\nGoodbye\n"


class Peer:
    """The switch's end of one connection."""

    def __init__(self, sock: gevent.socket.socket) -> None:
        self.sock = sock
        self.file = sock.makefile("rb")

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> str:
        """The next command with its header lines, or the empty string at the end of the
        connection. That end is a reset, so that bytes nobody has read are never delivered."""
        lines = []
        with suppress(ConnectionResetError):
            while (line := self.file.readline()) not in (b"\n", b""):
                lines.append(line)
        return b"".join(lines).decode().rstrip("\n")

    def reply(self, text: str) -> None:
        self.write(f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode())

    def response(self, body: str) -> None:
        data = body.encode()
        self.write(b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(data), data))

    def event(self, name: str, **headers: str) -> None:
        self.raw_event(json.dumps({"Event-Name": name, **headers}).encode())

    def raw_event(self, data: bytes) -> None:
        self.write(b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (len(data), data))

    def login(self, expected: str = "auth ClueCon") -> None:
        self.write(CHALLENGE)
        assert self.read() == expected
        self.reply("+OK accepted")

    def serve(self) -> list[str]:
        """Reply as a switch does until the connection ends; return the commands."""
        commands = []
        while command := self.read():
            commands.append(command)
            if command == "api global_getvar core_uuid":
                self.response(CORE)
            elif command.startswith("api "):
                self.response(command.removeprefix("api "))
            else:
                self.reply("+OK")
        return commands


class Switch:
    """A server that runs `manners` on each connection, and then ends it."""

    def __init__(self, manners: Callable[[Peer], object], host: str) -> None:
        self.manners = manners
        self.results: Queue = Queue()
        self.server = StreamServer((host, 0), self.handle)
        self.server.start()
        self.port: int = self.server.server_port
        self.host = host

    def handle(self, sock: gevent.socket.socket, _: object) -> None:
        with sock:
            try:
                result = self.manners(Peer(sock))
            except (Exception, gevent.Timeout) as error:
                result = error
        self.results.put(result)

    def result(self) -> object:
        """What `manners` returned for the next connection that ended; raises what it raised."""
        result = self.results.get(timeout=LIMIT)
        if isinstance(result, BaseException):
            raise result
        return result


@contextmanager
def switch(manners: Callable[[Peer], object], host: str = "127.0.0.1") -> Iterator[Switch]:
    server = Switch(manners, host)
    try:
        yield server
    finally:
        server.server.stop(timeout=0)


def stay_silent(peer: Peer) -> None:
    """Send nothing more until the other end closes. It closes with a reset, so that bytes nobody
    has read are never delivered."""
    with pytest.raises(ConnectionResetError):
        while True:
            assert peer.sock.recv(65536)
