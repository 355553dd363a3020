"""A request that many clients of an app send again and again."""

import http.client
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from bench.abuse.harness import TOKENS, Stack

_PAUSE = 0.2
_TIMEOUT = 120.0


def repeat(
    stack: Stack, stop: threading.Event, clients: int, *paths: str, app: str = "hostile"
) -> dict[str, object]:
    """Have so many clients send GETs until ``stop``, the paths by turns. Returns how many were
    answered how, and the longest that one took."""
    answers: Counter[str] = Counter()
    longest = [0.0]
    lock = threading.Lock()
    under_way: set[http.client.HTTPConnection] = set()

    def client(path: str) -> None:
        while not stop.is_set():
            begun = time.monotonic()
            connection = http.client.HTTPConnection(*stack.address, timeout=_TIMEOUT)
            under_way.add(connection)
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {TOKENS[app]}"})
                response = connection.getresponse()
                response.read()
                answer = f"HTTP {response.status}"
            except (OSError, http.client.HTTPException):
                if stop.is_set():
                    return
                answer = "no answer"
            finally:
                under_way.discard(connection)
                connection.close()
            with lock:
                answers[answer] += 1
                longest[0] = max(longest[0], time.monotonic() - begun)
            if answer != "HTTP 200":
                stop.wait(_PAUSE)

    with ThreadPoolExecutor(clients) as threads:
        for number in range(clients):
            threads.submit(client, paths[number % len(paths)])
        stop.wait()
        for connection in tuple(under_way):
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
    return {**answers, "longest, s": longest[0]}
