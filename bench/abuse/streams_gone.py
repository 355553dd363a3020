"""Streams whose proxy is gone: their places must be free for those that come after them."""

import http.client
import threading
import time
from contextlib import suppress

from bench.abuse.harness import TOKENS, Stack
from bench.abuse.streams import PATH

TITLE = "50 streams whose proxy is gone, then one more of the same app, again and again"
BOUND = 3.0
# Seconds until the app has a stream again.
LIMITS = {"longest until a new stream, s": 5.0}
_STREAMS = 50


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    longest = 0.0
    refused = rounds = 0
    while not stop.is_set():
        gone = []
        for _ in range(_STREAMS):
            status, connection = _stream(stack)
            gone.append(connection)
            refused += status != 200
        # A proxy that is killed: its kernel closes all connections at once.
        for connection in gone:
            connection.close()
        begun = time.monotonic()
        while True:
            status, connection = _stream(stack)
            connection.close()
            if status == 200:
                break
            refused += 1
            time.sleep(0.1)
        longest = max(longest, time.monotonic() - begun)
        rounds += 1
        stop.wait(1.0)
    return {"rounds": rounds, "refused": refused, "longest until a new stream, s": longest}


def _stream(stack: Stack) -> tuple[int, http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*stack.address, timeout=60.0)
    headers = {"Authorization": f"Bearer {TOKENS['hostile']}"}
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", PATH, headers=headers)
        return connection.getresponse().status, connection
    return 0, connection
