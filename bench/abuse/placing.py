"""Calls that one app goes on placing after its burst."""

import json
import threading
import time

from bench.abuse.harness import CALL, CREATE, TOKENS, Stack
from bench.abuse.paced import pace

TITLE = "3,000 calls in 11 s by one app"
BOUND = 3.0
# A burst is placed as fast as the machine can, which `bench.speed` measures.
SETTINGS = {"app_calls_burst": 100}
LIMITS = {"calls beyond the limit": 0, "no Retry-After": 0, "no answer": 0}


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    begun = time.monotonic()
    answers = pace(
        stack,
        stop,
        3_000 / 11,
        "POST",
        f"{CREATE}?callDuration=1",
        json.dumps(CALL).encode(),
        {"Authorization": f"Bearer {TOKENS['hostile']}", "Content-Type": "application/json"},
    )
    seconds, settings = time.monotonic() - begun, stack.settings
    most = settings.app_calls_burst + settings.app_calls * seconds
    return {
        "no Retry-After": 0,
        "no answer": 0,
        **answers,
        "calls beyond the limit": max(0.0, answers["HTTP 202"] - most),
    }
