"""Bodies that arrive a byte at a time: they must not take the places of other clients."""

import threading

from bench.abuse.connections import BOUND, COUNT, LIMITS, hold
from bench.abuse.harness import Stack

TITLE = f"{COUNT:,} connections that send the body of POST /oauth/token one byte now and then"
__all__ = ["BOUND", "LIMITS"]
_HEAD = (
    b"POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\ng"
)


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    return hold(stack, stop, _HEAD, then=b"a")
