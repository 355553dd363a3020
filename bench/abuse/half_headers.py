"""Requests whose headers never end: they must not take the places of other clients."""

import threading

from bench.abuse.connections import BOUND, COUNT, LIMITS, hold
from bench.abuse.harness import Stack

TITLE = f"{COUNT:,} connections that send half of the headers, and a byte now and then"
__all__ = ["BOUND", "LIMITS"]


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    return hold(stack, stop, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", then=b"a")
