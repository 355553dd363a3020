"""Searches through many call reports, and lists of many."""

import threading
from concurrent.futures import ThreadPoolExecutor

from bench.abuse.copies import add_records
from bench.abuse.harness import Stack
from bench.abuse.repeated import repeat

TITLE = "20 searches at a time through 100,000 call reports, and lists of 5,000 of them"
BOUND = 3.0
LIMITS = {"the quiet app's search: longest, s": 3.0}
_SEARCH = "/uapi/cdr?source=15999"
_PATHS = (_SEARCH, "/uapi/cdr?destination=15999", "/uapi/cdr?count=5000")


def prepare(stack: Stack) -> None:
    add_records(stack, 100_000)


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    with ThreadPoolExecutor(1) as threads:
        others = threads.submit(repeat, stack, stop, 1, _SEARCH, app="quiet")
        found = repeat(stack, stop, 20, *_PATHS)
        return found | {f"the quiet app's search: {n}": v for n, v in others.result().items()}
