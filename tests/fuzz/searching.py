"""How long and from which seed a search for faults runs.

`pytest tests/fuzz` searches for some seconds, always the same cases. `make fuzz` sets FUZZ_SECONDS,
for each search, and FUZZ_SEED. A search that finds a fault prints the seed to run it again with.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, given, seed
from hypothesis import settings as limits
from hypothesis import strategies as st

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0)
SEED = int(os.environ.get("FUZZ_SEED") or 0)

_T = TypeVar("_T")


def search(check: Callable[[_T], object], cases: st.SearchStrategy[_T], examples: int) -> None:
    """Check so many cases, and then as many again with the next seed until SECONDS are over."""
    end = time.monotonic() + SECONDS
    number = SEED
    while True:

        @seed(number)
        @limits(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def checked(case: _T) -> None:
            check(case)

        try:
            checked()
        except BaseException:
            print(f"To see it again: FUZZ_SEED={number} pytest -n 0 -k {check.__name__} tests/fuzz")
            raise
        number += 1
        if time.monotonic() >= end:
            return
