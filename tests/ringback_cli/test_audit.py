"""`ringback audit` against a real Redis."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
from redis import Redis

from app.settings import Settings
from app.store import audit
from app.store.audit import Entry, Who
from app.store.calls import CallStore
from app.store.keys import Keys
from ringback_cli.session import who
from tests.app.test_phone_calls import OTHER
from tests.conftest import eventually
from tests.ringback_cli.test_commands import Run, placed, run, store

__all__ = ["run", "store"]

BOSS = Who("user", "boss", "7", "192.0.2.7")
NOON = 1_796_040_000.0


@pytest.fixture
def kept(redis: Redis, run: Run) -> None:
    """Three entries, a minute apart."""
    for number, entry in enumerate(
        (
            Entry(BOSS, "Monitor", "c" * 20, "0003", data="15600 > 0003*024"),
            Entry(BOSS, "place", "210", "0003", result="pc_destination_invalid", data="=1+1"),
            Entry(Who("app", address="192.0.2.9"), "read", result="access_denied", count=40),
        )
    ):
        at = NOON + 60 * number
        flat: Any = audit.fields(entry, f"{at:.6f}")
        redis.xadd(Keys().audit, flat, id=f"{int(at * 1000)}-0")


def test_all_that_is_kept(run: Run, kept: None) -> None:
    result = run("audit")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "2026-11-30 12:00:00Z  Monitor  cccccccccccccccccccc  accepted  15600 > 0003*024  "
        "user by app boss (user 7) from 192.0.2.7",
        "2026-11-30 12:01:00Z  place  210  pc_destination_invalid  =1+1  "
        "user by app boss (user 7) from 192.0.2.7",
        "2026-11-30 12:02:00Z  read  access_denied  40 times  app from 192.0.2.9",
    ]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--app", "boss"], ["Monitor", "place"]),
        (["--user", "7", "--what", "place"], ["place"]),
        (["--call", "c" * 20], ["Monitor"]),
        (["--organization", "0003"], ["Monitor", "place"]),
        (["--result", "refused"], ["place", "read"]),
        (["--result", "access_denied"], ["read"]),
        (["--since", "2026-11-30T12:01:00Z"], ["place", "read"]),
        (["--until", "2026-11-30T12:01:00Z"], ["Monitor"]),
        (["--app", "nobody"], []),
    ],
)
def test_filters(run: Run, kept: None, options: list[str], found: list[str]) -> None:
    result = run("audit", "--json", *options)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["what"] for line in result.stdout.splitlines()] == found


def test_csv(run: Run, kept: None, tmp_path: Any) -> None:
    file = tmp_path / "audit.csv"
    result = run("audit", "--csv", "--output", str(file), "--app", "boss")
    assert result.stderr == "2 entries written\n"
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert (rows[0]["at"], rows[0]["on"]) == ("2026-11-30T12:00:00.000Z", "c" * 20)
    # No client writes a formula into the operator's spreadsheet.
    assert rows[1]["data"] == "'=1+1"


@pytest.mark.parametrize(
    "options",
    [
        ["--csv", "--json"],
        ["--csv", "--follow"],
        ["--output", "x"],
        ["--follow", "--until", "2026-11-30"],
        ["--since", "soon"],
    ],
)
def test_options_that_do_not_go_together(run: Run, options: list[str]) -> None:
    assert run("audit", *options).exit_code == 2


def test_what_an_operator_does(
    run: Run, store: CallStore, redis: Redis, accounts_file: Any
) -> None:
    redis.hset(store.keys.limits, "switch:one", "30.0:100")
    call = placed(store, "1")
    for words in (
        ["switch", "drain", "one", "--why", "a new one"],
        ["switch", "resume", "one"],
        # It is not paused, so this does nothing.
        ["switch", "resume", "one"],
        ["switch", "forget", "one"],
        ["calls", "hangup", call.id],
        ["accounts", "add-app", "new", "--level", "administrator", "--client-secret"],
        ["accounts", "rotate-secret", "new"],
    ):
        result = run(*words)
        assert result.exit_code == 0, (words, result.output)
    secret = re.search("client_secret = (.+)", result.stdout)
    accounts_file.write_text(OTHER)
    assert run("accounts", "import", str(accounts_file)).exit_code == 0
    lines = [json.loads(line) for line in run("audit", "--json").stdout.splitlines()]
    assert {(e["kind"], e["app"], e["user"]) for e in lines} == {
        ("operator", "@command-line", who())
    }
    assert [(e["what"], e.get("on"), e.get("data")) for e in lines] == [
        ("drain", "one", "a new one"),
        ("resume", "one", None),
        ("forget", "one", None),
        ("hang_up", call.id, None),
        ("add_app", "new", "client_secret"),
        ("rotate_secret", "new", "client_secret"),
        # The demo's tokens are no longer those of its apps.
        ("import_accounts", None, "apps +0 ~4 -1"),
    ]
    assert secret is not None and secret[1] not in repr(lines)
    shown = run("calls", "show", call.id).stdout
    assert f"by app @command-line (user {who()})" in shown


def test_follow(settings: Settings, redis: Redis, kept: None) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "ringback_cli", "audit", "--follow", "--json"],
        env={"RINGBACK_REDIS_URL": settings.require_redis(), "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    ) as process:
        try:
            assert process.stdout is not None
            first = [json.loads(process.stdout.readline())["what"] for _ in range(3)]
            assert first == ["Monitor", "place", "read"]
            now = CallStore(redis, Keys()).now()
            for what in ("place", "OnHold"):
                redis.execute_command(*audit.command(Keys(), Entry(BOSS, what), now, 3600))
            assert json.loads(process.stdout.readline())["what"] in ("place", "OnHold")
            assert json.loads(process.stdout.readline())["app"] == "boss"
        finally:
            process.send_signal(signal.SIGINT)
            eventually(lambda: process.poll() is not None)
