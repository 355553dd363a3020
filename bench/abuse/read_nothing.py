"""Answers that nobody reads: they must not take the places of other clients."""

import threading

from bench.abuse.connections import BOUND, COUNT, LIMITS, hold
from bench.abuse.harness import Stack

TITLE = f"{COUNT:,} connections that ask for a file 100 times, and read nothing"
__all__ = ["BOUND", "LIMITS"]
_GET = b"GET /console/static/uplot/uplot.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    return hold(stack, stop, _GET * 100)
