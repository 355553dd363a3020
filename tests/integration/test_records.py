"""Records go into a PostgreSQL while its server and the exporter die."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.records.archive import Archive
from app.records.errors import RecordsUnavailable
from app.records.model import Holder
from app.store.index import ALL
from ringback_cli.up import environment
from tests.conftest import LIMIT, eventually
from tests.integration.conftest import Ringback, started
from tests.postgres import Postgres, postgres_running


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_running() as server:
        yield server


def listed(ringback: Ringback, **query: str) -> Any:
    connection = http.client.HTTPConnection(*ringback.stack.settings.http_address, timeout=LIMIT)
    words = "&".join(f"{name}={value}" for name, value in query.items())
    token = {"Authorization": "Bearer demo-user-token"}
    connection.request("GET", f"/uapi/cdr/@me?{words}", headers=token)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return body["entry"] if answer.status == 200 else body


def test_every_record_is_exported_once_whoever_dies(postgres: Postgres) -> None:
    with started(None, records_url=postgres.url) as ringback:
        archive = Archive.open(postgres.url, LIMIT)

        def end_some(count: int) -> list[str]:
            placed = [ringback.place("15509", "15500") for _ in range(count)]
            return [ringback.ended(call_id).id for call_id in placed]

        def has(ids: list[str]) -> bool:
            try:
                return sorted(record["id"] for record in archive.each()) == sorted(ids)
            except RecordsUnavailable:
                return False

        made = end_some(3)
        eventually(lambda: has(made))
        # The server crashes, then the exporter.
        postgres.stop(signal.SIGQUIT)
        made += end_some(3)
        redis, keys = ringback.store.redis, ringback.store.keys
        eventually(lambda: redis.xlen(keys.unexported) == 3)
        assert set(listed(ringback)) == set(made)
        ringback.kill("records")
        postgres.start()
        made += end_some(2)
        words = [sys.executable, "-m", "ringback_cli", "records", "export"]
        environ = dict(environment(ringback.stack.settings))
        again = subprocess.Popen(words, env=environ)
        try:
            # It takes as long as a process takes to start, on a machine that is busy.
            eventually(lambda: has(made), 3 * LIMIT)
            eventually(lambda: redis.xlen(keys.unexported) == 0)
            with archive.reading() as view:
                assert view.count(Holder(), ALL) == len(made)
        finally:
            again.terminate()
        assert again.wait(LIMIT) == 0
        made += end_some(1)
        done = subprocess.run([*words, "--once"], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert has(made) and set(listed(ringback)) == set(made)
