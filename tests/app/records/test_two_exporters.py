"""Two exporters at once."""

import threading
from typing import Any

import pytest
from redis import Redis

from app.records.archive import Archive
from app.records.exporting import Exporter
from app.records.model import Holder
from app.store.calls import CallStore
from app.store.index import ALL
from app.store.keys import Keys
from tests.app.records.conftest import AT_ONCE, export
from tests.app.test_cdr import cancelled, make


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_two_exporters_at_once(store: CallStore, redis: Redis, records_url: str) -> None:
    """They make the tables and the partitions, and write each record once."""
    made = {make(store, cancelled, store.now() - 1000 * n).id for n in range(1, 30)}
    archives = [Archive.open(records_url, 20.0) for _ in range(2)]
    failures: list[Any] = []

    def run(archive: Archive) -> None:
        try:
            exporter = Exporter(redis, Keys(), archive, AT_ONCE)
            exporter.prepare()
            export(exporter)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(archive,)) for archive in archives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(record["id"] for record in archives[0].each()) == sorted(made)
    with archives[0].reading() as view:
        assert view.count(Holder(), ALL) == len(made)
    for archive in archives:
        archive.engine.dispose()
