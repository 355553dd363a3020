"""What `ringback doctor` says of what it saw."""

from dataclasses import replace
from typing import Any

import pytest

from app.accounts.model import Accounts
from app.accounts.store import read_accounts
from app.settings import Settings
from app.store.pace import Limit
from app.store.queue import ACTIONS, CALLS
from app.store.switches import Pause, Switch
from freeswitch.address import SwitchAddress
from ringback_cli import checks
from ringback_cli.checks import Check, Level, SwitchFacts

INFO = {
    "redis_version": "7.2.4",
    "role": "master",
    "aof_enabled": 1,
    "maxmemory_policy": "noeviction",
    "used_memory": 1_000_000,
    "maxmemory": 0,
    "connected_slaves": 0,
}
ADDRESS = SwitchAddress.parse("main=esls://ringback%40example.com:secret@192.0.2.20")
SWITCH = Switch(
    name="main",
    core_uuid="core",
    up_since=1.0,
    unreachable_since=None,
    listener="one",
    listeners=2,
    heartbeat=1.0,
    sessions=0,
    max_sessions=1000,
    sessions_per_second=30,
    limit=Limit(29, 1000),
    calls=0,
    legs=0,
    paused=None,
)
PLAIN = replace(ADDRESS, tls=None)
GATEWAY = "Name    \tpstn\nState   \tNOREG\nStatus  \tUP\n"
FACTS = SwitchFacts(
    ADDRESS,
    core_uuid="core",
    commands=checks.COMMANDS,
    events=checks.EVENTS,
    capacity=(30, 1000),
    modules=frozenset({*checks.NEEDED, *checks.WANTED, "mod_conference", "mod_voicemail"}),
    codecs=("G.711 alaw", "G.711 ulaw", "G.722", "OPUS (STANDARD)", "H264 Video", "VP8 Video"),
    gateways={"pstn": GATEWAY},
)


@pytest.fixture
def demo() -> Accounts:
    return read_accounts(None)


def of(found: Any, level: Level) -> list[Check]:
    """Those of a level, each of which says what to do."""
    some = [check for check in found if check.level is level]
    assert all(bool(check.advice) == (level > 0) for check in some if level >= 0)
    return some


@pytest.mark.parametrize(
    ("changes", "fsync", "replicas", "level", "subject"),
    [
        ({"redis_version": "5.0.7"}, None, 0, Level.FAILURE, "version"),
        ({"role": "slave"}, None, 0, Level.FAILURE, "role"),
        ({"aof_enabled": 0}, None, 0, Level.WARNING, "persistence"),
        ({"aof_last_write_status": "err"}, "always", 0, Level.FAILURE, "persistence"),
        ({}, "no", 0, Level.WARNING, "persistence"),
        ({"maxmemory_policy": "allkeys-lru"}, None, 0, Level.FAILURE, "eviction"),
        ({"maxmemory": 1_010_000}, None, 0, Level.FAILURE, "memory"),
        ({"maxmemory": 1_200_000}, None, 0, Level.WARNING, "memory"),
        ({}, None, 1, Level.FAILURE, "replicas"),
        ({"connected_slaves": 1}, None, 0, Level.FAILURE, "replicas"),
        ({"connected_slaves": 2}, None, 1, Level.FAILURE, "replicas"),
    ],
)
def test_redis(
    settings: Settings,
    changes: dict[str, Any],
    fsync: str | None,
    replicas: int,
    level: Level,
    subject: str,
) -> None:
    wanted = replace(settings, wait_replicas=replicas)
    found = list(checks.redis_checks({**INFO, **changes}, fsync, wanted))
    assert [check.subject for check in of(found, level)] == [subject]
    assert checks.exit_status(found) == level


@pytest.mark.parametrize("fsync", ["everysec", "always", None])
def test_a_redis_that_is_well(settings: Settings, fsync: str | None) -> None:
    assert checks.exit_status(checks.redis_checks(INFO, fsync, settings)) == 0


def test_processes() -> None:
    found = list(checks.worker_checks({CALLS: [1.0, 500.0], ACTIONS: [400.0]}))
    assert [check.level for check in found] == [Level.OK, Level.FAILURE]
    assert checks.listener_check(SWITCH).level is Level.OK
    assert checks.listener_check(replace(SWITCH, listeners=1)).level is Level.WARNING
    assert checks.listener_check(replace(SWITCH, listeners=0)).level is Level.FAILURE
    assert checks.webhooks_check(3, None).level is Level.OK
    assert checks.webhooks_check(3, 60.0).level is Level.FAILURE


def test_clocks() -> None:
    assert checks.clock_check("x", -0.2, 1.0, "").level is Level.OK
    assert "5.00 s behind" in checks.clock_check("x", -5.0, 1.0, "wrong").text


def test_accounts(demo: Accounts) -> None:
    assert checks.exit_status(checks.accounts_checks(Accounts(), None, False)) == 2
    assert checks.exit_status(checks.accounts_checks(demo, demo, False)) == 0
    assert checks.exit_status(checks.accounts_checks(demo, None, True)) == 1
    other = replace(demo, users={})
    assert checks.exit_status(checks.accounts_checks(demo, other, False)) == 1


def test_a_switch_that_is_well(demo: Accounts, settings: Settings) -> None:
    found = list(checks.switch_checks(FACTS, SWITCH, demo, settings))
    assert checks.exit_status(found) == 0, found
    assert of(found, Level.SKIPPED) == []


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"error": "192.0.2.20 port 8021: rude-rejection: Access Denied"}, Level.FAILURE, "acl"),
        ({"error": "192.0.2.20 port 8021: -ERR invalid"}, Level.FAILURE, "password"),
        ({"error": "192.0.2.20 port 8021: no login in 5 s"}, Level.FAILURE, "firewall"),
        ({"error": "fs port 8022: no login in 5 s", "address": PLAIN}, Level.FAILURE, "esls://"),
        ({"error": "fs port 8022: the far end speaks no TLS"}, Level.FAILURE, "tls.md"),
        ({"error": "fs port 8022: the certificate is not trusted"}, Level.FAILURE, "tls.md"),
        ({"address": PLAIN}, Level.WARNING, "esls://"),
        ({"error": "[Errno 111] Connection refused"}, Level.FAILURE, "FreeSWITCH is up"),
        ({"commands": ["originate"]}, Level.FAILURE, "ringback.xml"),
        ({"commands": None}, Level.WARNING, "Restrict"),
        ({"capacity": (2, 10), "address": replace(ADDRESS, max_legs=20)}, Level.WARNING, "Raise"),
        ({"modules": frozenset(checks.WANTED)}, Level.FAILURE, "Load"),
        ({"modules": FACTS.modules - {"mod_voicemail"}}, Level.WARNING, "mod_voicemail"),
        ({"codecs": ("G.711 alaw",)}, Level.WARNING, "VIDEO_CODECS"),
        ({"gateways": {"pstn": "Invalid Gateway!\n"}}, Level.FAILURE, "rescan"),
        ({"gateways": {"pstn": GATEWAY.replace("UP", "DOWN")}}, Level.FAILURE, "pings"),
        ({"gateways": {"pstn": GATEWAY.replace("NOREG", "TRYING")}}, Level.WARNING, "registration"),
        ({"gateways": None}, Level.SKIPPED, "sofia status gateway pstn"),
        ({"modules": None}, Level.SKIPPED, ""),
    ],
)
def test_a_switch(
    demo: Accounts, settings: Settings, changes: dict[str, Any], level: Level, words: str
) -> None:
    found = list(checks.switch_checks(replace(FACTS, **changes), SWITCH, demo, settings))
    assert checks.exit_status(found) == max(level, 0)
    assert any(words in check.advice for check in of(found, level))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_plain_text_on_this_machine_is_well(demo: Accounts, settings: Settings, host: str) -> None:
    facts = replace(FACTS, address=replace(PLAIN, host=host))
    assert checks.exit_status(checks.switch_checks(facts, SWITCH, demo, settings)) == 0


def test_a_switch_that_is_paused_or_was_restarted(demo: Accounts, settings: Settings) -> None:
    paused = replace(SWITCH, paused=Pause("ann@desk", 1.0))
    (check,) = of(checks.switch_checks(FACTS, paused, demo, settings), Level.WARNING)
    assert "ringback switch resume main" in check.advice
    other = replace(SWITCH, core_uuid="another")
    assert checks.exit_status(checks.switch_checks(FACTS, other, demo, settings)) == 1
