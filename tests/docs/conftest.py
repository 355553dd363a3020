"""A whole Ringback for the pages, which is there for as long as they are run."""

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Ringback, started


@pytest.fixture(scope="module")
def ringback() -> Iterator[Ringback]:
    # The telephones that pages tell of are the simulator's.
    with started(None, log_level="WARNING", webhook_allow="127.0.0.0/8") as ringback:
        yield ringback
