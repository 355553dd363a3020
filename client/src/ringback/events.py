# Made of async_events.py by client/unasync.py: edit that file.
"""The stream of changes of calls, as they happen."""

import json
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from ringback.errors import Quota, Unavailable
from ringback.resources import Event
from ringback.retrying import NoAnswer
from ringback.sse import Block, Decoder
from ringback.transport import Stream

# Seconds of silence after which the connection is taken for lost: there is a sign of life each 15.
SILENCE = 40.0


class EventStream:
    """A stream of events. It connects again after a lost connection, so that it misses none and
    gives none twice. :meth:`ringback.Client.events` makes it.

    It connects where ``with`` begins: it has all that happens from then on, however late the
    program iterates over it. ``last_event_id`` is where another stream may go on.
    """

    def __init__(
        self,
        connect: Callable[[str | None], Stream],
        last_event_id: str | None,
        on_reset: Callable[[], None],
    ) -> None:
        self.last_event_id = last_event_id
        self._connect = connect
        self._on_reset = on_reset
        # Seconds, until the stream says another number.
        self._retry = 2.0
        self._stream: Stream | None = None
        self._chunks: Iterator[bytes] | None = None
        self._decoder = Decoder()
        self._blocks: Iterator[Block] = iter(())
        self._ahead: Block | None = None
        # None before it is connected.
        self._open: bool | None = None

    def __enter__(self) -> Self:
        self._open = True
        self._begin()
        # The first block says where the stream begins.
        self._ahead = self._next_block()
        if self._ahead is not None:
            self._took(self._ahead)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        """The next event. Raises RingbackError if the API refuses the stream for good."""
        if self._open is None:
            raise RuntimeError("Iterate over a stream of events within its with block.")
        while self._open:
            block = self._next_block()
            if block is None:
                time.sleep(self._retry)
                self._begin_again()
                continue
            self._took(block)
            if block.event == "reset":
                self._on_reset()
            elif block.event == "call" and block.data:
                return Event.of(block.id, json.loads("\n".join(block.data)))
        raise StopIteration

    def close(self) -> None:
        self._open = False
        stream, self._stream, self._chunks = self._stream, None, None
        if stream is not None:
            stream.close()

    def _took(self, block: Block) -> None:
        self.last_event_id = block.id or self.last_event_id
        if block.retry is not None:
            self._retry = block.retry / 1000

    def _next_block(self) -> Block | None:
        """The next block; None if the connection was lost."""
        if self._ahead is not None:
            block, self._ahead = self._ahead, None
            return block
        while self._chunks is not None:
            if (found := next(self._blocks, None)) is not None:
                return found
            try:
                self._blocks = self._decoder.feed(next(self._chunks))
            except NoAnswer:
                return None
        return None

    def _begin_again(self) -> None:
        try:
            self._begin()
        except (Unavailable, Quota) as error:
            if error.retry_after is not None:
                self._retry = max(self._retry, min(error.retry_after, SILENCE))

    def _begin(self) -> None:
        stream, self._stream, self._chunks = self._stream, None, None
        if stream is not None:
            stream.close()
        self._stream = self._connect(self.last_event_id)
        self._chunks = self._stream.chunks(SILENCE)
        self._decoder, self._blocks = Decoder(self.last_event_id or ""), iter(())
