"""Streams that resume from the very beginning."""

import threading

from bench.abuse.copies import add_changes
from bench.abuse.harness import Stack
from bench.abuse.streams import follow_from

TITLE = "30 streams that resume from the beginning, 60,000 changes kept"
BOUND = 3.0


def prepare(stack: Stack) -> None:
    add_changes(stack, 60_000)


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    return follow_from(stack, stop, 30, "1-0")
