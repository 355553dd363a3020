"""A request that is sent at a rate, whatever comes back."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from bench.abuse.harness import Stack

_CLIENTS = 16
_TIMEOUT = 30.0


def pace(
    stack: Stack,
    stop: threading.Event,
    rate: float,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> Counter[str]:
    """Send so many requests a second until ``stop``, on connections that are kept. Returns how many
    were answered how. A client that is late catches up."""
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def client(first: float) -> None:
        due, connection = first, None
        while not stop.wait(max(0.0, due - time.monotonic())):
            due += _CLIENTS / rate
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(*stack.address, timeout=_TIMEOUT)
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                response.read()
                answer = f"HTTP {response.status}"
                if response.status == 429 and response.headers["Retry-After"] is None:
                    answer = "no Retry-After"
            except (OSError, http.client.HTTPException):
                answer = "no answer"
                if connection is not None:
                    connection.close()
                connection = None
            with lock:
                answers[answer] += 1
        if connection is not None:
            connection.close()

    begun = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS) as threads:
        for number in range(_CLIENTS):
            threads.submit(client, begun + number / rate)
    return answers
