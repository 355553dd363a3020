"""The connections of the client to the API under asyncio."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpcore2
from httpcore2 import Response

from ringback.answers import Answer
from ringback.retrying import Limit, NoAnswer
from ringback.transport import FAILURES, KEPT, KEPT_FOR, SENDING, Headers, answer_of, reason


class AsyncTransport:
    """Sends requests. One is enough for all tasks of a loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=None, max_keepalive_connections=KEPT, keepalive_expiry=KEPT_FOR
        )

    async def open(
        self, method: str, path: str, headers: Headers, body: bytes | None, limit: Limit
    ) -> "AsyncStream":
        """The beginning of an answer, whose body is still to be read. Raises NoAnswer."""
        sent = False

        async def trace(name: str, _: Any) -> None:
            nonlocal sent
            sent = sent or name == SENDING

        timeouts: dict[str, float] = {}
        stream = self._pool.stream(
            method,
            self._url + path,
            headers=headers,
            content=body,
            extensions={"timeout": timeouts, "trace": trace},
        )
        try:
            async with asyncio.timeout(limit.left):
                response = await stream.__aenter__()
        except FAILURES as error:
            raise NoAnswer(reason(self._url, limit, error), sent) from error
        return AsyncStream(self._url, stream, response, timeouts, limit)

    async def close(self) -> None:
        await self._pool.aclose()


class AsyncStream:
    """An answer whose body is not read yet."""

    def __init__(
        self, url: str, stream: Any, response: Response, timeouts: dict[str, float], limit: Limit
    ) -> None:
        self.status = response.status
        self._url, self._stream, self._response = url, stream, response
        self._timeouts, self._limit = timeouts, limit

    async def read(self) -> Answer:
        """The whole answer, within the limit of its request. Raises NoAnswer."""
        try:
            async with asyncio.timeout(self._limit.left):
                return answer_of(self._response, await self._response.aread())
        except FAILURES as error:
            raise NoAnswer(reason(self._url, self._limit, error), sent=True) from error
        finally:
            await self.close()

    async def chunks(self, silence: float) -> AsyncIterator[bytes]:
        """The parts of an endless body as they come, with at most so many seconds between two.
        Raises NoAnswer at its end."""
        self._timeouts["read"] = silence
        try:
            async for chunk in self._response.aiter_stream():
                yield chunk
        except FAILURES as error:
            raise NoAnswer(str(error), sent=True) from error
        raise NoAnswer("The stream has ended.", sent=True)

    async def close(self) -> None:
        await self._stream.__aexit__(None, None, None)
