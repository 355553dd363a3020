"""`ringback cdr export` against a real Redis."""

import csv
import io
import json
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from app.store import index
from app.store.calls import CallStore
from app.store.keys import Keys
from ringback_cli.cdr_export import COLUMNS, LEG_COLUMNS, opened
from ringback_cli.main import main
from ringback_cli.spreadsheet import cell
from tests.app.test_cdr import NOON, cancelled, make, refused, talked


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
    second = make(store, talked, NOON + 60, metadata='{"order":"4711"}')
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
    assert [line.get("metadata") for line in lines] == [None, {"order": "4711"}, None]
    leg = lines[1]["legs"][0]
    assert (leg["number"], leg["asked_by"]) == ("15500", {"user": "12", "app": "demo-user"})
    assert leg["answered"] == "2026-11-20T12:01:02.000Z"

    def ids(*options: str) -> list[str]:
        output = export("--format", "jsonl", *options).stdout
        return [json.loads(line)["id"] for line in output.splitlines()]

    assert ids("--from", "2026-11-20T12:01:00Z") == [second.id, third.id]
    assert ids("--to", "2026-11-20T12:01:00Z") == [first.id]
    assert ids("--from", "2026-11-20", "--to", "2026-11-21", "--user", "13") == [third.id]
    assert ids("--organization", "0003") == [first.id, second.id]


def test_a_line_a_leg(export: Callable[..., Any], store: CallStore, redis: Redis) -> None:
    quiet = make(store, cancelled, NOON)
    call = make(store, talked, NOON + 60)
    key: Any = store.keys.record(call.id)
    text: Any = redis.get(key)
    record = json.loads(text)
    by = {"user": "7", "app": "boss"}
    listener = {"id": "c1", "number": "+1555", "role": "third", "action": "Monitor"}
    record["legs"].append({**listener, "asked_by": by, "seconds": 7, "cause": "NORMAL_CLEARING"})
    redis.set(key, json.dumps(record))
    result = export("--legs")
    assert result.stderr == "5 legs written\n"
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert tuple(rows[0]) == LEG_COLUMNS
    assert [(row["id"], row["leg"]) for row in rows] == [
        *((quiet.id, "a1"), (quiet.id, "b1")),
        *((call.id, "a1"), (call.id, "b1"), (call.id, "c1")),
    ]
    shown = [
        (row["number"], row["seconds"], row["asked_by_user"], row["asked_by_app"], row["answered"])
        for row in rows[2:]
    ]
    assert shown == [
        ("15500", "63", "12", "demo-user", "2026-11-20T12:01:02.000Z"),
        (rows[3]["number"], "60", "12", "demo-user", "2026-11-20T12:01:05.000Z"),
        ("'+1555", "7", "7", "boss", ""),
    ]
    blocked = make(store, refused, NOON + 120)
    row = list(csv.DictReader(io.StringIO(export("--legs").stdout)))[-1]
    assert (row["id"], row["leg"]) == (blocked.id, "b1")
    names = "sip_status sip_phrase reason blocked post_dial_delay mos packets_in marks".split()
    assert [row[name] for name in names] == [
        *("603", "Network Blocked", "'=SIP;cause=603", "True", "1.5", "4.5", "100", "one_way")
    ]
    line = json.loads(export("--legs", "--format", "jsonl").stdout.splitlines()[-1])
    assert line["quality"]["marks"] == ["one_way"] and line["reason"] == "=SIP;cause=603"
    store.redis.delete(store.keys.record(blocked.id))
    # A record of an older version has no legs to write.
    del record["legs"]
    redis.set(key, json.dumps(record))
    lines = [json.loads(line) for line in export("--legs", "--format", "jsonl").stdout.splitlines()]
    assert [line["id"] for line in lines] == [quiet.id, quiet.id]


# What docs/guide/cdr.md tells programs to do.
def undone(text: str) -> str:
    return re.sub("(^|[ ,;|\t\r\n])'(?='*[=+\\-@\t\r＝＋－＠])", r"\1", text)


@given(st.text(st.sampled_from(" ,;|\t\r\n=+-@＝＋－＠'a1\"")))
def test_a_cell_is_undone_by_a_program(text: str) -> None:
    safe = cell(text)
    assert undone(safe) == text
    if re.fullmatch(r"\+1{7,15}", text):
        return
    for part in re.split("[ ,;|\t\r\n]", safe):
        assert not part.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert not safe.startswith(("\t", "\r"))


def test_a_cell_that_is_no_formula_stays() -> None:
    for text in (
        "15500",
        "John Doe <1>",
        "O'Brien",
        "a=b",
        "2026-11-20",
        "",
        "'quoted'",
        "+4915550109",
    ):
        assert cell(text) == text
    assert cell(["+4915550109", "+4915550209"]) == "'+4915550109 '+4915550209"
    assert (cell("＝1+1"), cell("a;=1")) == ("'＝1+1", "a;'=1")
    # Neither is one number.
    assert (cell("+4915550109-1"), cell("+0155501099")) == ("'+4915550109-1", "'+0155501099")
    assert cell("+4915550109\n") == "'+4915550109\n"
    assert (cell(7), cell(None)) == (7, None)


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


def test_a_file_keeps_its_permissions_and_a_link_stays_a_link(
    export: Callable[..., Any], redis: Redis, tmp_path: Path
) -> None:
    file, link = tmp_path / "records.csv", tmp_path / "link"
    file.write_text("older")
    file.chmod(0o640)
    link.symlink_to(file)
    assert export("--output", str(link)).exit_code == 0
    assert link.is_symlink() and stat.S_IMODE(file.stat().st_mode) == 0o640
    assert file.read_text() == ",".join(COLUMNS) + "\n"
    assert sorted(tmp_path.iterdir()) == [link, file]


def test_a_pipe_and_a_device_are_written_to(
    export: Callable[..., Any], redis: Redis, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert export("--output", str(pipe)).exit_code == 0
    reader.join(60)
    assert read == [",".join(COLUMNS) + "\n"] and stat.S_ISFIFO(pipe.stat().st_mode)
    assert export("--output", "/dev/stdout").stdout == ",".join(COLUMNS) + "\n"
    heard, pipe_end = os.pipe()
    assert export("--output", f"/dev/fd/{pipe_end}").exit_code == 0
    os.close(pipe_end)
    with os.fdopen(heard) as unnamed:
        assert unnamed.read() == ",".join(COLUMNS) + "\n"
    assert export("--output", os.devnull).exit_code == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_nobody_else_reads_what_is_not_written_yet(tmp_path: Path) -> None:
    file, part = tmp_path / "records.csv", tmp_path / "records.csv.part"
    file.write_text("older")
    file.chmod(0o600)
    # Somebody else's link, or what a killed export has left.
    part.symlink_to(tmp_path / "elsewhere")
    with opened(str(file)) as writing:
        writing.write("newer")
        assert stat.S_IMODE(part.lstat().st_mode) == 0o600 and file.read_text() == "older"
    assert file.read_text() == "newer" and sorted(tmp_path.iterdir()) == [file]


def test_an_export_that_fails_leaves_no_file(
    export: Callable[..., Any], store: CallStore, redis: Redis, tmp_path: Path
) -> None:
    call = make(store, cancelled, NOON)
    redis.set(store.keys.record(call.id), "{")
    file = tmp_path / "records.csv"
    assert export("--output", str(file)).exit_code != 0
    assert list(tmp_path.iterdir()) == []
