"""A whole Ringback for the pages: the telephones that they tell of are the simulator's."""

from collections.abc import Callable

import pytest

from tests.integration.conftest import Ringback


@pytest.fixture(scope="session")
def ringback(stacks: Callable[..., Ringback]) -> Ringback:
    return stacks(None, log_level="WARNING")
