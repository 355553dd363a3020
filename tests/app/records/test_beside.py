"""What else reads and changes records in the database: erasures, commands, and Redis' users."""

import json
import re
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import NoPermissionError
from sqlalchemy import text

from app.privacy.erasing import Eraser, finish
from app.privacy.person import find
from app.records.archive import Archive
from app.records.exporting import Exporter
from app.records.model import Holder
from app.settings import Settings
from app.store.audit import Who
from app.store.calls import CallStore
from app.store.client import connect
from app.store.index import ALL
from app.store.keys import Keys
from ringback_cli import checks
from ringback_cli.checks import Level
from ringback_cli.main import main
from tests.app.conftest import ADMINISTRATOR
from tests.app.records.conftest import AT_ONCE, ONE, export, move
from tests.app.test_cdr import cancelled, make
from tests.app.test_privacy import NO_FILES, NUMBER, OTHER, Accounts, placed
from tests.deploy.redis_users import users_acl

WHO = Who("operator", "@api")


def texts_of(archive: Archive) -> str:
    """All that the database holds, as one text."""
    with archive.reading() as view:
        rows = [
            row
            for table in ("records", "record_terms", "record_counts")
            for row in view.connection.execute(text(f"SELECT * FROM {table}")).fetchall()
        ]
    return "\n".join(map(str, rows))


def eraser(redis: Redis, archive: Archive, *, write: bool) -> Eraser:
    person = find(NUMBER, Accounts())
    words = (redis, Keys(), Accounts(), person, "0" * 32, NO_FILES, WHO)
    return Eraser(*words, write=write, archive=archive)


def test_a_person_is_erased_from_the_database_too(
    redis: Redis, store: CallStore, archive: Archive, exporter: Exporter
) -> None:
    at = float(int(store.now()) - 1000)
    old, new, other = (
        placed(redis, number, accepted=at + n) for n, number in enumerate((NUMBER, NUMBER, OTHER))
    )
    redis.zrem(store.keys.records, new.id)
    move(exporter)
    redis.delete(store.keys.call(old.id), store.keys.record(old.id))
    export(exporter)
    digits = NUMBER.removeprefix("+")
    assert digits in texts_of(archive)
    # One that an exporter has read, and does not have written yet.
    key = store.keys.record(new.id)
    was: Any = redis.get(key)
    assert eraser(redis, archive, write=False).run().found["records"] == 2
    assert digits in texts_of(archive)
    report = eraser(redis, archive, write=True).run()
    assert report.found["records"] == 2
    assert digits not in texts_of(archive)
    archive.write([(orjson.loads(was), was.decode())])
    export(exporter)
    found = {record["id"]: record for record in archive.each()}
    assert digits not in texts_of(archive) and OTHER.removeprefix("+") in texts_of(archive)
    assert found[old.id]["destination"] == ["erased"]
    assert found[old.id]["published"] == old.accepted and found.keys() == {old.id, new.id, other.id}
    # A call that was live then, which Redis no longer keeps.
    record = {**found[old.id], "destination": [NUMBER]}
    archive.write([(record, orjson.dumps(record).decode())])
    person = find(NUMBER, Accounts())
    entry = orjson.dumps(["0" * 32, person.dumps()]).decode()
    redis.hset(store.keys.erasing, f"{old.id} {person.key}", entry)
    assert finish(redis, store.keys, Accounts(), NO_FILES, WHO, archive) == 1
    assert digits not in texts_of(archive)
    with archive.reading() as view:
        assert view.count(Holder(), ALL) == 3


@ONE
def test_the_exporter_s_user_of_redis(
    redis: Redis, redis_url: str, store: CallStore, archive: Archive
) -> None:
    """deploy/redis/users.acl allows what it does, and no more."""
    (line,) = [
        line
        for line in users_acl({"REDIS_PASSWORD": "x", "REDIS_RECORDS_PASSWORD": "y"}).splitlines()
        if line.startswith("user ringback-records ")
    ]
    redis.execute_command("ACL", "SETUSER", *line.split()[1:])
    try:
        own = connect(re.sub(r"//(.*@)?", "//ringback-records:y@", redis_url))
        exporter = Exporter(own, store.keys, archive, AT_ONCE)
        exporter.prepare()
        call = make(store, cancelled, store.now() - 100)
        move(exporter)
        exporter.expire()
        assert [record["id"] for record in archive.each()] == [call.id]
        assert not redis.exists(store.keys.records)
        with pytest.raises(NoPermissionError):
            own.get(store.keys.call(call.id))
    finally:
        redis.execute_command("ACL", "DELUSER", "ringback-records")


@ONE
def test_commands(
    redis: Redis,
    redis_url: str,
    records_url: str,
    client: FlaskClient,
    store: CallStore,
    exporter: Exporter,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RINGBACK_REDIS_URL", redis_url)
    monkeypatch.setenv("RINGBACK_RECORDS_URL", records_url)
    made = [make(store, cancelled, store.now() - 1000 + n).id for n in range(3)]
    move(exporter)
    made.append(make(store, cancelled, store.now() - 900).id)
    result = CliRunner().invoke(main, ["cdr", "export", "--format", "jsonl"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["id"] for line in lines] == made and "4 records written" in result.stderr
    # The console searches there too.
    own = {"X-Ringback-Console": "1"}
    assert client.post("/console/api/session", json={"token": ADMINISTRATOR}, headers=own)
    answer = client.get(f"/console/api/calls?q={made[0]}", headers=own)
    assert [call["id"] for call in answer.json["calls"]] == [made[0]]


@pytest.mark.parametrize(
    ("words", "levels"),
    [
        ((False, None, None, None, None), [Level.SKIPPED]),
        ((False, None, None, 7, 9.0), [Level.WARNING]),
        ((True, None, "it does not answer", 0, None), [Level.FAILURE]),
        ((True, 0, None, None, None), [Level.FAILURE]),
        ((True, 1, None, 0, None), [Level.OK, Level.OK]),
        ((True, 1, None, 7, 3.0), [Level.OK, Level.OK]),
        ((True, 1, None, 7, 300.0), [Level.OK, Level.FAILURE]),
    ],
)
def test_doctor(words: Any, levels: list[Level]) -> None:
    assert [check.level for check in checks.records_checks(*words)] == levels
