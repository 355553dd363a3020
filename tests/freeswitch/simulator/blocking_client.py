"""A client of the event socket that shows what comes, frame by frame."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

Frame = tuple[dict[str, str], bytes]
Headers = dict[str, Any]

LIMIT = 60.0
"""Seconds a test waits for what must come."""


class Client:
    """A blocking client: replies and events as they come."""

    def __init__(self, port: int, password: str = "ClueCon") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._buffer = b""
        self.events: list[Headers] = []
        self.greeting = self.frame()
        self.login = self.command(f"auth {password}")

    def close(self) -> None:
        self.socket.close()

    def write(self, text: str) -> None:
        self.socket.sendall(text.encode())

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
        part, _, self._buffer = self._buffer.partition(mark)
        return part

    def frame(self) -> Frame:
        head = self.read_until(b"\n\n").decode()
        headers = dict(line.split(": ", 1) for line in head.split("\n"))
        length = int(headers.get("Content-Length", "0"))
        while len(self._buffer) < length:
            self._buffer += self.socket.recv(65536)
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return headers, body

    def command(self, text: str) -> str:
        """The reply to a command; events that come before are kept."""
        self.write(text + "\n\n")
        while True:
            headers, body = self.frame()
            if headers["Content-Type"] == "command/reply":
                return headers["Reply-Text"]
            if headers["Content-Type"] == "api/response":
                return body.decode()
            self.events.append(json.loads(body))

    def originate(self, command: str, job_uuid: str) -> None:
        self.command(f"bgapi originate {command}\nJob-UUID: {job_uuid}")

    def event(self, matches: Callable[[Headers], bool]) -> Headers:
        """The first event so far, or to come, that matches."""
        seen = 0
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            for event in self.events[seen:]:
                if matches(event):
                    return event
            seen = len(self.events)
            headers, body = self.frame()
            assert headers["Content-Type"] == "text/event-json"
            self.events.append(json.loads(body))
        raise AssertionError("the event did not come")

    def until(self, name: str, count: int) -> None:
        """Read until so many events of a name have come."""
        left = count - sum(event["Event-Name"] == name for event in self.events)
        end = time.monotonic() + LIMIT
        while left > 0:
            assert time.monotonic() < end, f"{left} {name} did not come"
            self.events.append(json.loads(self.frame()[1]))
            left -= self.events[-1]["Event-Name"] == name

    def result(self, job_uuid: str) -> str:
        """What a background job was answered."""
        return self.event(lambda event: event.get("Job-UUID") == job_uuid)["_body"]

    def named(self, name: str, leg: str | None = None) -> Headers:
        """The event of a name, of a leg if one is given."""
        return self.event(
            lambda event: event["Event-Name"] == name and leg in (None, event.get("variable_leg"))
        )
