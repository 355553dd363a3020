"""A request that many clients of an app send again and again."""

import http.client
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from bench.abuse.harness import Stack

_PAUSE = 0.2


def repeat(
    stack: Stack, stop: threading.Event, clients: int, *paths: str, app: str = "hostile"
) -> dict[str, object]:
    """Have so many clients send GETs until ``stop``, the paths by turns. Returns how many were
    answered how, and the longest that one took."""
    answers: Counter[str] = Counter()
    longest = [0.0]
    lock = threading.Lock()

    def client(path: str) -> None:
        while not stop.is_set():
            begun = time.monotonic()
            try:
                status, _ = stack.request("GET", path, app=app, timeout=120.0)
                answer = f"HTTP {status}"
            except (OSError, http.client.HTTPException):
                answer = "no answer"
            with lock:
                answers[answer] += 1
                longest[0] = max(longest[0], time.monotonic() - begun)
            if answer != "HTTP 200":
                stop.wait(_PAUSE)

    with ThreadPoolExecutor(clients) as threads:
        for number in range(clients):
            threads.submit(client, paths[number % len(paths)])
    return {**answers, "longest, s": longest[0]}
