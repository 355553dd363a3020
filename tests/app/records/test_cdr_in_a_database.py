"""The tests of the cdr resource again, with the records in a database, or in Redis and in a
database."""

from typing import Any

import pytest
from redis import Redis

from app.records.exporting import Exporter
from tests.app import test_cdr
from tests.app.conftest import Ask
from tests.app.records.conftest import move, spread

recent = test_cdr.recent


@pytest.fixture
def ask(ask: Ask, exporter: Exporter, redis: Redis, kind: str) -> Ask:
    """Asks, once the records are where they are to be."""

    def _ask(method: str, path: str, *words: Any, **query: Any) -> Any:
        if "/cdr" in path:
            if kind == "sqlite":
                move(exporter)
            else:
                spread(exporter, redis)
        return ask(method, path, *words, **query)

    return _ask


test_the_record_of_a_call_that_talked = test_cdr.test_the_record_of_a_call_that_talked
test_a_user_brings_no_records_into_another_organization = (
    test_cdr.test_a_user_brings_no_records_into_another_organization
)
test_pages_and_dates = test_cdr.test_pages_and_dates
test_parameters = test_cdr.test_parameters
