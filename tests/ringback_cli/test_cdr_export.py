"""`ringback cdr export` against a real Redis."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis

from app.store import index
from app.store.calls import CallStore
from app.store.keys import Keys
from ringback_cli.cdr_export import COLUMNS
from ringback_cli.main import main
from tests.app.test_cdr import NOON, cancelled, make, talked


@pytest.fixture
def store(redis: Redis) -> CallStore:
    return CallStore(redis, Keys())


@pytest.fixture
def export(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("RINGBACK_REDIS_URL", redis_url)

    def _export(*options: str) -> Any:
        return CliRunner().invoke(main, ["cdr", "export", *options])

    return _export


def test_export(
    export: Callable[..., Any], store: CallStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "CHUNK", 2)
    first = make(store, cancelled, NOON + 0.25, caller_id='Jo "the, voice" Łuk <1>')
    second = make(store, talked, NOON + 60)
    third = make(store, cancelled, NOON + 120, user="13", extension="0004*100")
    result = export()
    assert (result.exit_code, result.stderr) == (0, "3 records written\n")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["id"] for row in rows] == [first.id, second.id, third.id]
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["caller_id"] == first.caller_id
    assert rows[0]["published"] == "2026-11-20T12:00:00.250Z"
    assert (rows[1]["duration"], rows[1]["billed"], rows[0]["answered"]) == ("64", "61", "")
    file = tmp_path / "records.jsonl"
    assert export("--format", "jsonl", "--output", str(file)).stdout == ""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["id"] for line in lines] == [first.id, second.id, third.id]
    assert (lines[1]["billed"], lines[1]["source"]) == (61, ["15500"])

    def ids(*options: str) -> list[str]:
        output = export("--format", "jsonl", *options).stdout
        return [json.loads(line)["id"] for line in output.splitlines()]

    assert ids("--from", "2026-11-20T12:01:00Z") == [second.id, third.id]
    assert ids("--to", "2026-11-20T12:01:00Z") == [first.id]
    assert ids("--from", "2026-11-20", "--to", "2026-11-21", "--user", "13") == [third.id]
    assert ids("--organization", "0003") == [first.id, second.id]


def test_no_cell_is_a_formula(export: Callable[..., Any], store: CallStore) -> None:
    names = {"caller_id": "=cmd()", "caller_id_destination": "@x", "organization_name": "+1"}
    make(store, cancelled, NOON, **names, nonce="-n")
    (row,) = csv.DictReader(io.StringIO(export().stdout))
    shown = {name: row[name] for name in (*names, "nonce", "destination")}
    assert shown == {
        "caller_id": "'=cmd()",
        "caller_id_destination": "'@x",
        "organization_name": "'+1",
        "nonce": "'-n",
        "destination": "15500",
    }
    exact = json.loads(export("--format", "jsonl").stdout)
    assert {name: exact[name] for name in names} == names and exact["nonce"] == "-n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "soon"], "Invalid value for --from: 'soon' is not a date"),
        (["--user", "1", "--organization", "2"], "--organization or --user, not both"),
        (["--format", "xml"], "'xml' is not one of 'csv', 'jsonl'"),
    ],
)
def test_an_export_that_cannot_be(
    export: Callable[..., Any], options: list[str], said: str, redis: Redis
) -> None:
    result = export(*options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_file_that_cannot_be_written_is_named(export: Callable[..., Any], redis: Redis) -> None:
    result = export("--output", "/nowhere/records.csv")
    assert result.exit_code == 1
    assert "No such file or directory: '/nowhere/records.csv.part'" in result.stderr


def test_an_export_that_fails_leaves_no_file(
    export: Callable[..., Any], store: CallStore, redis: Redis, tmp_path: Path
) -> None:
    call = make(store, cancelled, NOON)
    redis.set(store.keys.record(call.id), "{")
    file = tmp_path / "records.csv"
    assert export("--output", str(file)).exit_code != 0
    assert list(tmp_path.iterdir()) == []
