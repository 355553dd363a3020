"""Clients that follow the stream of changes, again and again from a place far behind."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from bench.abuse.harness import TOKENS, Stack

PATH = "/uapi/phoneCalls/@me/events"
_TIMEOUT = 60.0


def follow_from(stack: Stack, stop: threading.Event, clients: int, place: str) -> dict[str, object]:
    """Have so many clients resume after a place, read until they have caught up, and begin again,
    until ``stop``. Returns what they got."""
    counted: dict[str, int] = {"caught up": 0, "refused": 0, "events": 0, "resets": 0}
    longest = [0.0]
    lock = threading.Lock()

    def tell(name: str, number: int = 1) -> None:
        with lock:
            counted[name] += number

    def client() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            try:
                if _caught_up(stack, stop, place, tell):
                    tell("caught up")
                    longest[0] = max(longest[0], time.monotonic() - begun)
                elif not stop.wait(0.5):
                    tell("refused")
            except (OSError, http.client.HTTPException):
                tell("refused")
                stop.wait(0.5)

    with ThreadPoolExecutor(clients) as threads:
        for _ in range(clients):
            threads.submit(client)
    return {**counted, "longest until caught up, s": longest[0]}


def _caught_up(stack: Stack, stop: threading.Event, place: str, tell: Callable[..., None]) -> bool:
    newest = stack.redis.xrevrange(stack.keys.events, count=1)[0][0].decode()
    wanted = _number(newest)
    connection = http.client.HTTPConnection(*stack.address, timeout=_TIMEOUT)
    headers = {"Authorization": f"Bearer {TOKENS['hostile']}", "Last-Event-ID": place}
    with closing(connection):
        connection.request("GET", PATH, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            return False
        for name, value in _lines(response):
            if name == b"event":
                tell("resets" if value == b"reset" else "events")
            elif name == b"id" and _number(value.decode()) >= wanted:
                return True
            if stop.is_set():
                return False
    return False


def _lines(response: http.client.HTTPResponse) -> Iterator[tuple[bytes, bytes]]:
    while line := response.readline():
        name, _, value = line.rstrip(b"\n").partition(b": ")
        yield name, value


def _number(place: str) -> tuple[int, int]:
    ms, _, number = place.partition("-")
    return int(ms), int(number)
