"""A tenant that keeps calls until Redis is nearly full."""

import threading
from collections import Counter

from bench.abuse.harness import CREATE, Stack

TITLE = "Calls of 64 parties until Redis is nearly full"
BOUND = 3.0
# Megabytes that Redis may take beside what it has.
_ROOM = 64
_BODY = {
    "extension": "210",
    "phoneCallView": [
        {
            "source": [str(number) for number in range(15500, 15532)],
            "destination": [str(number) for number in range(15540, 15572)],
        }
    ],
}


def prepare(stack: Stack) -> None:
    used = int(stack.redis.info("memory")["used_memory"])
    stack.redis.config_set("maxmemory", used + (_ROOM << 20))


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    answers: Counter[int] = Counter()
    while not stop.is_set():
        status, _ = stack.request("POST", CREATE, _BODY)
        answers[status] += 1
        if status != 202:
            stop.wait(0.1)
    memory = stack.redis.info("memory")
    return {
        **{f"HTTP {status}": count for status, count in sorted(answers.items())},
        "of maxmemory": memory["used_memory"] / memory["maxmemory"],
    }
