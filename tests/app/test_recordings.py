"""Recordings: who may list, fetch and delete them, and which files that can be."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from redis import Redis

from app.calls.model import Asked, Call, State, evolve
from app.recording_files import RecordingFiles
from app.recordings.services import Recordings
from app.settings import Settings
from app.store import audit
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.writes import Note
from app.web.auditing import Auditor
from app.web.services import EXTENSION
from ringback_cli.main import main
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, USER, VOIPNOW, Ask
from tests.app.test_store import new_call

FIXED = "/var/lib/freeswitch/recordings"
TEMPLATE = f"{FIXED}/{{organization}}/{{date}}/{{call}}-{{view}}-{{time}}.{{format}}"
SOUND = bytes(range(256)) * 40


@pytest.fixture
def files(tmp_path: Path) -> RecordingFiles:
    root = tmp_path / "root"
    root.mkdir()
    return RecordingFiles(TEMPLATE, str(root))


@pytest.fixture
def served(client: FlaskClient, files: RecordingFiles, store: CallStore) -> Iterator[None]:
    """The API sees the folder of the recordings."""
    client.application.extensions[EXTENSION][Recordings] = Recordings(store, files)
    yield


def write(files: RecordingFiles, path: str, content: bytes = SOUND) -> Path:
    """Write the file that this host has for a path of the switch's host."""
    here = Path(f"{files.root}{path.removeprefix(FIXED)}")
    here.parent.mkdir(parents=True, exist_ok=True)
    here.write_bytes(content)
    return here


def name_of(call_id: str, view: str = "00") -> str:
    return f"{call_id}-{view}-101530123456.wav"


def recorded(store: CallStore, path: str | None = None, **changes: Any) -> tuple[Call, str]:
    """A call that is recorded now, and the path of the recording."""
    call = new_call()
    path = path or f"{FIXED}/3/2026-11-30/{name_of(call.id)}"
    asked = Asked("x", "StartRecording", 1796000000.0, "demo-user", "12", "a1", file=path)
    source, destination = call.legs
    source = evolve(source, created=1.0, answered=2.0, recording=3.0, recording_file=path)
    call = evolve(call, legs=(source, destination), actions=(asked,), **changes)
    Acceptor(store).accept([call], lambda call, pipe: None)
    return call, path


def end(store: CallStore, call: Call) -> None:
    def ended(old: Call) -> Call:
        source, destination = old.legs
        legs = (evolve(source, recorded=9.0, ended=9.0), destination)
        return evolve(old, state=State.ENDED, ended=9.0, legs=legs, disposition=0)

    store.change(call, ended, Note("event", "x"))


def path_of(call: Call, name: str = "", user: str = "@me") -> str:
    return f"/uapi/phoneCalls/{user}/@self/{call.id}/recordings{'/' if name else ''}{name}"


def test_a_recording_from_its_begin_to_its_deletion(
    ask: Ask, served: None, files: RecordingFiles, store: CallStore
) -> None:
    call, path = recorded(store)
    name = name_of(call.id)
    (row,) = ask("GET", path_of(call)).json["entry"]
    assert (row["id"], row["recording"], row["available"]) == (name, True, False)
    here = write(files, path)
    live = ask("DELETE", path_of(call, name))
    assert (live.status_code, live.json["error"]["code"]) == (409, "recording_live")
    end(store, call)
    answer = ask("GET", path_of(call))
    assert answer.json["totalResults"] == 1
    (row,) = answer.json["entry"]
    assert row.pop("link") == row.pop("links")
    assert row == {
        "id": name,
        "leg": "a1",
        "number": "15500",
        "begun": "2026-11-30T00:53:20Z",
        "recording": False,
        "available": True,
        "size": len(SOUND),
    }
    # The record knows it when the call is no longer kept.
    store.redis.delete(store.keys.call(call.id))
    assert ask("GET", path_of(call), fields="id").json["entry"] == [{"id": name}]
    whole = ask("GET", path_of(call, name))
    assert (whole.status_code, whole.mimetype, whole.data) == (200, "audio/wav", SOUND)
    assert whole.headers["Content-Disposition"] == f"attachment; filename={name}"
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    (deleted,) = ask("DELETE", path_of(call, name)).json
    assert deleted["id"] == name
    # Nor is the folder left that has no other file.
    assert not here.parent.exists()
    gone = ask("GET", path_of(call, name))
    assert (gone.status_code, gone.json["error"]["code"]) == (404, "recording_unknown")
    assert ask("GET", path_of(call)).json["entry"][0]["available"] is False
    assert ask("DELETE", path_of(call, name)).status_code == 404


def test_parts(
    client: FlaskClient, ask: Ask, served: None, files: RecordingFiles, store: CallStore
) -> None:
    call, path = recorded(store)
    write(files, path)

    def part(**headers: str) -> Any:
        token = {"Authorization": f"Bearer {USER}"}
        return client.get(path_of(call, name_of(call.id)), headers={**token, **headers})

    whole = part()
    assert whole.headers["Accept-Ranges"] == "bytes"
    some = part(Range="bytes=10-19")
    assert (some.status_code, some.data) == (206, SOUND[10:20])
    assert some.headers["Content-Range"] == f"bytes 10-19/{len(SOUND)}"
    assert part(Range="bytes=-5").data == SOUND[-5:]
    assert part(Range=f"bytes={len(SOUND) - 1}-").data == SOUND[-1:]
    assert part(Range=f"bytes={len(SOUND)}-").status_code == 416
    # Several ranges and what is none: the whole file.
    for text in ("bytes=0-1,4-5", "lines=1-2", "bytes=x"):
        assert (part(Range=text).status_code, part(Range=text).data) == (200, SOUND)
    tag = whole.headers["ETag"]
    assert part(**{"If-None-Match": tag}).status_code == 304
    assert part(Range="bytes=0-0", **{"If-Range": tag}).status_code == 206
    assert part(Range="bytes=0-0", **{"If-Range": '"other"'}).data == SOUND


def test_who_may_have_it(
    ask: Ask, served: None, files: RecordingFiles, store: CallStore, client: FlaskClient
) -> None:
    call, path = recorded(store)
    write(files, path)
    strange, other = recorded(store, user="99", extension="0009*100")
    write(files, other)
    for token in (USER, ORGANIZATION, ADMINISTRATOR):
        user = "@me" if token == USER else "@owner"
        name = name_of(call.id)
        assert ask("GET", path_of(call, name, user), token=token).status_code == 200
        found = ask("GET", path_of(strange, name_of(strange.id), user), token=token)
        assert found.status_code == (200 if token == ADMINISTRATOR else 404)
    # The other way round too, when only the records are left.
    for each in (call, strange):
        end(store, each)
        store.redis.delete(store.keys.call(each.id))
    assert ask("GET", path_of(strange)).json["error"]["code"] == "pc_phonecall_invalid"
    for method in ("GET", "DELETE"):
        refused = ask(method, path_of(strange, name_of(strange.id)), token=ORGANIZATION)
        assert refused.status_code in (400, 404)
    assert Path(f"{files.root}{other.removeprefix(FIXED)}").exists()
    assert ask("GET", path_of(call), token=None).status_code == 401


def test_a_program_for_voipnow_has_those_of_a_call_that_has_ended(
    ask: Ask, served: None, store: CallStore
) -> None:
    call, _ = recorded(store)
    end(store, call)
    # It does not find the call itself any more.
    assert ask("GET", path_of(call), token=VOIPNOW).json["totalResults"] == 1


def test_one_that_only_takes_part_may_not(ask: Ask, served: None, store: CallStore) -> None:
    call, _ = recorded(store, user="99", extension="0009*100")
    source, destination = call.legs
    own = evolve(source, owner="12", number="0003*210", ringing=1.5)
    store.change(call, lambda old: evolve(old, legs=(own, destination)), Note("event", "x"))
    refused = ask("GET", path_of(call))
    assert (refused.status_code, refused.json["error"]["code"]) == (403, "rights_insufficient")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        f"{FIXED}/../../../../etc/passwd",
        f"{FIXED}/3/../../secret.wav",
        f"{FIXED}//secret.wav",
        f"{FIXED}/3/link.wav",
        f"{FIXED}/linked/secret.wav",
        f"{FIXED}/3/pipe.wav",
        f"{FIXED}/3",
        f"{FIXED}x/secret.wav",
        f"{FIXED}/3/a\0.wav",
        f"{FIXED}/3/a\r\nX: y.wav",
    ],
)
def test_no_path_leads_out(ask: Ask, served: None, files: RecordingFiles, path: str) -> None:
    """Whatever stands in Redis: these paths are what a switch, or somebody else, wrote there."""
    root = Path(files.root or "")
    (root.parent / "secret.wav").write_bytes(b"secret")
    (root / "3").mkdir()
    (root / "3" / "link.wav").symlink_to(root.parent / "secret.wav")
    (root / "linked").symlink_to(root.parent)
    (root / "3" / "a\r\nX: y.wav").write_bytes(b"x")
    os.mkfifo(root / "3" / "pipe.wav")
    assert files.find(path) is None
    assert files.open(path) is None
    assert files.delete(path) is False
    assert (root.parent / "secret.wav").exists()


def test_what_is_not_on_this_host_is_told(ask: Ask, store: CallStore) -> None:
    call, _ = recorded(store)
    (row,) = ask("GET", path_of(call)).json["entry"]
    assert row["available"] is False and "size" not in row
    error = ask("GET", path_of(call, row["id"])).json["error"]
    assert error["message"] == (
        "The recordings are on the switch's host, where the API cannot read them."
    )


def test_the_audit_has_it(
    client: FlaskClient, ask: Ask, served: None, files: RecordingFiles, store: CallStore
) -> None:
    call, path = recorded(store)
    write(files, path)
    ask("GET", path_of(call, name_of(call.id)))
    ask("DELETE", path_of(call, "x.wav"))
    client.application.extensions[EXTENSION][Auditor].flush()
    found = [entry for _, entry in audit.read(store.redis, store.keys)]
    assert [(e["what"], e["on"], e["result"], e["data"]) for e in found] == [
        ("recording_fetch", call.id, "accepted", name_of(call.id)),
        ("recording_delete", call.id, "recording_unknown", "x.wav"),
    ]


# Ages, and the commands


def old_and_new(files: RecordingFiles) -> tuple[Path, Path]:
    old = write(files, f"{FIXED}/3/2026-08-30/{name_of('a' * 20)}")
    new = write(files, f"{FIXED}/3/2026-11-30/{name_of('b' * 20)}")
    long_ago = time.time() - 8_000_000
    os.utime(old, (long_ago, long_ago))
    return old, new


def test_only_recordings_grow_old(files: RecordingFiles) -> None:
    old, new = old_and_new(files)
    others = [old.parent / "notes.txt", old.parent / "a.wav", Path(files.root or "") / "x.wav"]
    for each in others:
        each.write_bytes(b"")
        os.utime(each, (0, 0))
    assert files.expire(time.time() - 7_776_000) == 1
    assert not old.exists() and new.exists()
    assert all(each.exists() for each in others)


def test_the_commands(
    files: RecordingFiles, redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = old_and_new(files)
    monkeypatch.setenv("RINGBACK_RECORDINGS_ROOT", files.root or "")

    def run(*words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(main, ["recordings", *words])
        assert result.exit_code == code, result.output
        return result

    rows = json.loads(run("list", "--json").stdout)
    assert [row["call"] for row in rows] == ["a" * 20, "b" * 20]
    assert json.loads(run("list", "--call", "b" * 20, "--json").stdout) == rows[1:]
    assert run("delete", "--expired").stdout.splitlines() == [rows[0]["path"]]
    assert old.exists()
    run("delete", "--expired", "--yes")
    assert not old.exists() and new.exists()
    assert "no recording x.wav" in run("delete", "x.wav", "--yes", code=1).stderr
    run("delete", "--yes", code=2)
    monkeypatch.setenv("RINGBACK_REDIS_URL", settings.redis_url or "")
    run("delete", new.name, "--yes")
    assert not new.exists()
    monkeypatch.delenv("RINGBACK_RECORDINGS_ROOT")
    assert "RINGBACK_RECORDINGS_ROOT is not set" in run("list", code=1).stderr
