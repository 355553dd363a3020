"""Hanging up all calls, when there are many."""

import threading
import time

from bench.abuse.copies import add_live
from bench.abuse.harness import Stack

TITLE = "DELETE of all with 5,000 live calls, again and again"
BOUND = 3.0
LIMITS = {"longest answer, times the action timeout": 1.0}


def prepare(stack: Stack) -> None:
    add_live(stack, 5_000)


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    longest, statuses = 0.0, set()
    while not stop.is_set():
        begun = time.monotonic()
        status, _ = stack.request("DELETE", "/uapi/phoneCalls/@me/@self")
        longest = max(longest, time.monotonic() - begun)
        statuses.add(status)
    return {
        "longest answer, times the action timeout": longest / stack.settings.action_timeout,
        "answers": ", ".join(f"HTTP {status}" for status in sorted(statuses)),
    }
