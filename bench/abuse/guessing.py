"""Tokens that one address guesses."""

import threading

from bench.abuse.harness import Stack
from bench.abuse.paced import pace

TITLE = "249 wrong tokens in 5 s from one address"
BOUND = 2.0
LIMITS = {"HTTP 200": 0, "no Retry-After": 0, "no answer": 0}
# Of the form of a token that was issued.
_GUESS = "g" * 43


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {_GUESS}"}
    answers = pace(stack, stop, 249 / 5, "GET", "/uapi/phoneCalls/@me/@self", None, headers)
    return {"HTTP 200": 0, "no Retry-After": 0, "no answer": 0, **answers}
