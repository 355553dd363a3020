"""The reader of server-sent events (HTML standard, 9.2.6). It is fed bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Block:
    """The part of a stream between two empty lines. ``id`` is the last one that was set, there or
    before."""

    event: str = "message"
    data: list[str] = field(default_factory=list)
    id: str = ""
    # Milliseconds.
    retry: int | None = None


class Decoder:
    """A decoder makes blocks of the bytes of a stream. The end of a stream ends no block."""

    def __init__(self, last_id: str = "") -> None:
        self._block = Block(id=last_id)
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Block]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").removesuffix("\r")
            if text:
                self._take(text)
            else:
                block, self._block = self._block, Block(id=self._block.id)
                yield block

    def _take(self, text: str) -> None:
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._block.event = value
        elif name == "data":
            self._block.data.append(value)
        elif name == "id" and "\0" not in value:
            self._block.id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self._block.retry = int(value)
