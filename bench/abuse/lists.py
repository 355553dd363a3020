"""Long lists, many at a time."""

import threading

from bench.abuse.copies import add_live
from bench.abuse.harness import Stack
from bench.abuse.repeated import repeat

TITLE = "20 lists of 5,000 live calls at a time"
BOUND = 3.0


def prepare(stack: Stack) -> None:
    add_live(stack, 5_000)


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    return repeat(stack, stop, 20, "/uapi/phoneCalls/@me/@self?count=5000")
