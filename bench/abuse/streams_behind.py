"""Streams that resume 3,000 changes behind."""

import threading

from bench.abuse.copies import add_changes
from bench.abuse.harness import Stack
from bench.abuse.streams import follow_from

TITLE = "45 streams that resume 3,000 changes behind"
BOUND = 3.0
_begin: list[str] = []


def prepare(stack: Stack) -> None:
    _begin[:] = [add_changes(stack, 3_000)]


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    return follow_from(stack, stop, 45, _begin[0])
