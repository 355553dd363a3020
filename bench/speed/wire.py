"""A connection to an event socket that costs as little as one can: events are handed on unread."""

import re
from collections import deque
from collections.abc import Callable

import gevent
import gevent.socket
from gevent.event import AsyncResult

from freeswitch.address import SwitchAddress

_LENGTH = re.compile(rb"Content-Length: (\d+)")
_REPLY = re.compile(rb"Reply-Text: ([^\n]*)")
_LIMIT = 60.0


class Wire:
    """`on_event` gets the body of every event, in the greenlet that reads."""

    def __init__(
        self, address: SwitchAddress, on_event: Callable[[bytes], None] | None = None
    ) -> None:
        self._on_event = on_event
        # Whoever waits for the reply, in the order of the commands; the challenge counts as one.
        challenge = AsyncResult()
        self._waiting: deque[AsyncResult | None] = deque([challenge])
        self._socket = gevent.socket.create_connection((address.host, address.port))
        if address.tls is not None:
            self._socket = address.tls.wrap(self._socket)
            address.tls.shake_hands(self._socket)
        self._reader = gevent.spawn(self._read)
        challenge.get(timeout=_LIMIT)
        if not self.ask(f"auth {address.password}").startswith("+OK"):
            raise ConnectionError(f"{address.name} refuses the password")

    def tell(self, command: str) -> None:
        """Send a command, its header lines behind it, and wait for nothing."""
        self._waiting.append(None)
        self._socket.sendall(command.encode() + b"\n\n")

    def ask(self, command: str) -> str:
        """Send a command and return its reply, or the body of an api response."""
        self._waiting.append(slot := AsyncResult())
        self._socket.sendall(command.encode() + b"\n\n")
        answer: bytes = slot.get(timeout=_LIMIT)
        return answer.decode(errors="replace")

    def close(self) -> None:
        self._reader.kill()
        self._socket.close()

    def _read(self) -> None:
        buffer = bytearray()
        while data := self._socket.recv(1 << 18):
            buffer += data
            while (end := buffer.find(b"\n\n")) >= 0:
                length = _LENGTH.search(buffer, 0, end)
                begin, size = end + 2, int(length[1]) if length else 0
                if len(buffer) < begin + size:
                    break
                head, body = bytes(buffer[:end]), bytes(buffer[begin : begin + size])
                del buffer[: begin + size]
                self._take(head, body)
            gevent.sleep(0)

    def _take(self, head: bytes, body: bytes) -> None:
        if b"text/event" in head:
            if self._on_event is not None:
                self._on_event(body)
            return
        if b"text/disconnect-notice" in head:
            return
        waiting = self._waiting.popleft()
        if waiting is not None:
            reply = _REPLY.search(head)
            waiting.set(reply[1] if reply and not body else body)
