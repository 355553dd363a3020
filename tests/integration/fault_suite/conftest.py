"""What the files of the fault suite share: clusters, and what is asked of their calls.

`python -m bench.faults` does the same faults for longer. On the switch of FREESWITCH_URL, whose
gateway `pstn` reaches the far end of FREESWITCH_FAR_END, what only a simulator can do is skipped.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults.check import Verdict
from bench.faults.cluster import Layout
from bench.faults.suite import Suite, opened

REAL = os.environ.get("FREESWITCH_URL")
FAR_END = os.environ.get("FREESWITCH_FAR_END", "esl://:ClueCon@127.0.0.1:8022")
RATE = 8.0
LAYOUT = Layout(
    switch=REAL,
    far_end=FAR_END if REAL else None,
    speed=2.0,
    settings={"RINGBACK_RECONCILE_INTERVAL": "2", "RINGBACK_QUEUE_TIMEOUT": "20"},
)


class Keeper:
    """Keeps a suite for many tests, and makes another once something was wrong with it."""

    def __init__(self, layout: Layout, folder: Callable[[], Path], *, asks: bool) -> None:
        self._asks = asks
        self._layout = layout
        self._folder = folder
        self._exits = ExitStack()
        self._suite: Suite | None = None

    def suite(self) -> Suite:
        if self._suite is None or not self._suite.sound:
            self.close()
            seed = self._layout.seed
            new = opened(self._layout, self._folder(), seed, print, asks=self._asks)
            self._suite = self._exits.enter_context(new)
        return self._suite

    def close(self) -> None:
        self._suite = None
        self._exits.close()


@pytest.fixture(scope="module")
def keeper(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Keeper]:
    """Keeps the cluster of a file, whose SEED gives it numbers that no other file dials: all may
    run on one switch."""
    layout = replace(LAYOUT, seed=request.module.SEED)
    asks = getattr(request.module, "ASKS", False)
    made = Keeper(layout, lambda: tmp_path_factory.mktemp("faults"), asks=asks)
    yield made
    made.close()


@pytest.fixture
def suite(keeper: Keeper) -> Suite:
    return keeper.suite()


def sound(verdict: Verdict) -> Verdict:
    assert not verdict.violations, verdict.short()
    return verdict


def under_load(happens: Callable[[], None]) -> Callable[[], None]:
    """With calls under way before it, and some after."""

    def happen() -> None:
        time.sleep(0.7)
        happens()
        time.sleep(0.7)

    return happen
