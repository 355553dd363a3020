"""Server-sent events: every change of calls as it happens."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from ringback.errors import RingbackError
from ringback.resources import PhoneCall

# Seconds of silence after which the connection is taken for lost: there is a sign of life each 15.
SILENCE = 40.0


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a call. ``state`` is the call's by that change; ``call`` is as it stood when the
    event was sent, which for what is told late may be further on."""

    # To go on after this event another time.
    id: str
    call_id: str
    state: str
    # 1 when the call was accepted, one more with each change.
    version: int
    # Epoch seconds.
    at: float
    call: PhoneCall
    # The user's phone has left a call of somebody else. The call may go on without it.
    left: bool = False

    @classmethod
    def of(cls, event_id: str, data: Mapping[str, Any]) -> "Event":
        return cls(
            id=event_id,
            call_id=data["id"],
            state=data["state"],
            version=data["version"],
            at=data["at"],
            call=PhoneCall.of(data["phoneCall"]),
            left=data.get("left", False),
        )


@dataclass(slots=True)
class Block:
    """What stands between two empty lines of a stream. ``id`` is the last that was set, there or
    before."""

    event: str = "message"
    data: list[str] = field(default_factory=list)
    id: str = ""
    # Milliseconds.
    retry: int | None = None


def blocks(lines: Iterable[bytes], last_id: str = "") -> Iterator[Block]:
    """Read a stream line by line, as the HTML standard has it (Server-sent events, 9.2.6). One
    that is not ended by an empty line is no block."""
    block = Block(id=last_id)
    for line in lines:
        text = line.decode(errors="replace").rstrip("\n").removesuffix("\r")
        if not text:
            yield block
            block = Block(id=block.id)
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            block.event = value
        elif name == "data":
            block.data.append(value)
        elif name == "id" and "\0" not in value:
            block.id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            block.retry = int(value)


class EventStream:
    """Iterates over events, and connects again where the connection was lost, so that none is
    missed and none comes twice. Made by :meth:`ringback.Client.events`.

    It is connected from the start: what happens before it is iterated over is not missed either.
    """

    def __init__(
        self,
        connect: Callable[[str], urllib3.BaseHTTPResponse],
        pause: Callable[[float], None],
        last_event_id: str,
        on_reset: Callable[[], None],
    ) -> None:
        self.last_event_id = last_event_id
        self._connect = connect
        self._pause = pause
        self._on_reset = on_reset
        # Seconds, until the stream says so.
        self._retry = 2.0
        self._response: urllib3.BaseHTTPResponse | None = None
        self._blocks: Iterator[Block] = iter(())
        self._closed = False
        self._ahead: Block | None = None
        self._open()
        # The first says where it begins.
        self._ahead = self._next_block()
        if self._ahead is not None:
            self.last_event_id = self._ahead.id

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while not self._closed:
            block = self._next_block()
            if block is None:
                self._pause(self._retry)
                self._open_again()
                continue
            self.last_event_id = block.id
            if block.retry is not None:
                self._retry = block.retry / 1000
            if block.event == "reset":
                self._on_reset()
            elif block.event == "call" and block.data:
                return Event.of(block.id, json.loads("\n".join(block.data)))
        raise StopIteration

    def close(self) -> None:
        self._closed = True
        if self._response is not None:
            self._response.close()
            self._response = None

    def _next_block(self) -> Block | None:
        """None where the connection has ended or was lost."""
        if self._ahead is not None:
            block, self._ahead = self._ahead, None
            return block
        try:
            return next(self._blocks, None)
        except (HTTPError, OSError):
            return None

    def _open_again(self) -> None:
        try:
            self._open()
        except RingbackError as error:
            if not error.passes:
                raise

    def _open(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._blocks = None, iter(())
        self._response = self._connect(self.last_event_id)
        self._blocks = blocks(self._response, self.last_event_id)
