"""`ringback switch add`, `set`, `remove` and `declare-dead`, without processes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from app.settings import Settings
from app.store import format
from app.store.keys import Keys
from app.store.pace import Limit, Pacer
from app.store.registered import Registered, SwitchRegistry
from ringback_cli.main import main
from ringback_cli.up import _registered, free_port

KEYS = Keys()
Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RINGBACK_REDIS_URL", settings.require_redis())
    monkeypatch.setenv("COLUMNS", "200")
    format.check(redis, KEYS)
    return lambda *words: CliRunner().invoke(main, ["switch", *words], prog_name="ringback")


@pytest.fixture
def registry(redis: Redis) -> SwitchRegistry:
    return SwitchRegistry(redis, KEYS)


def ok(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    assert "s3cret" not in result.output
    return json.loads(result.stdout)


def test_a_switch_is_added_and_changed(run: Run, registry: SwitchRegistry, redis: Redis) -> None:
    added = ok(
        run(
            *("add", "one", "esl://u:s3cret@h?max_legs=9", "--weight", "50", "--tag", "eu"),
            *("--tag", "big", "--gateway", "pstn", "--legs-per-second", "2.5", "--json"),
        )
    )
    assert added["state"] == "unknown" and added["registered"]["url"] == "esl://u:***@h:8021"
    one = registry.all()["one"]
    assert (one.url, one.weight, one.tags) == ("esl://u:s3cret@h:8021", 50, ("eu", "big"))
    assert (one.max_legs, one.legs_per_second, one.gateways) == (9, 2.5, ("pstn",))
    assert one.slow_start == 30 and one.added > 0 and one.by
    assert ok(run("list", "--json"))[0]["registered"]["weight"] == 50
    assert "one has the weight 50, has the tags eu, big" in run("list").stdout
    again = run("add", "one", "esl://:s3cret@h")
    assert again.exit_code == 1 and "switch set one" in again.stderr
    ok(run("set", "one", "--max-legs", "own", "--tag", "", "--gateway", "all", "--json"))
    one = registry.all()["one"]
    assert (one.max_legs, one.tags, one.gateways, one.weight) == (None, (), None, 50)
    # A password that goes to a file is kept no longer, and comes back by another URL.
    ok(run("set", "one", "--password-file", "/run/p", "--json"))
    assert registry.all()["one"].url == "esl://u@h:8021"
    ok(run("set", "one", "--url", "esl://u@h:1", "--password-env", "ESL_ONE", "--json"))
    one = registry.all()["one"]
    assert (one.url, one.password_file, one.password_env) == ("esl://u@h:1", None, "ESL_ONE")
    ok(run("set", "one", "--url", "esls://:elsewhere@h:1", "--json"))
    one = registry.all()["one"]
    assert (one.url, one.password_env) == ("esls://:elsewhere@h:1", None)
    assert b"s3cret" not in str(redis.xrange(KEYS.audit)).encode()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "one", "esl://h"), "Or give --password-file"),
        (("add", "one", "esl://:s3cret@h", "--password-file", "/f"), "give it once"),
        (("add", "one", "esl://h", "--password-file", "f"), "absolute path"),
        (("add", "one", "esl://h", "--password-env", "PATH"), "must begin with ESL_"),
        (("add", "o ne", "esl://:s3cret@h"), "1 to 32 letters"),
        (("add", "one", "http://:s3cret@h"), "esl://"),
        (("add", "one", "esl://:s3cret@h", "--max-legs", "nan"), "no number"),
        (("add", "one", "esl://:s3cret@h", "--weight", "-1"), "--weight"),
        (("set", "one", "--weight", "1"), "no registered switch one"),
        (("remove", "one"), "no registered switch one"),
        (("declare-dead", "one"), "no registered switch one"),
        (("set", "two"), "what is to change"),
        (("set", "two-1", "--weight", "1"), "is an address of two"),
        (("remove", "two-1"), "is an address of two"),
        (("forget", "two"), "switch remove two"),
    ],
)
def test_what_is_refused(
    run: Run, registry: SwitchRegistry, words: Sequence[str], says: str
) -> None:
    registry.add(Registered("two", "dns+esl://:s3cret@fs:8021"))
    registry.add(Registered("two-1", "esl://10.0.0.1:8021", source="two"))
    Pacer(registry._redis, KEYS).set_switch_limit("two", Limit())
    result = run(*words)
    assert result.exit_code in (1, 2) and says in result.stderr
    assert "s3cret" not in result.output and "Traceback" not in result.output
    assert len(registry.all()) == 2


def test_live_calls_guard_a_switch(run: Run, registry: SwitchRegistry, redis: Redis) -> None:
    registry.add(Registered("one", "esl://:s3cret@h:8021"))
    redis.zadd(KEYS.switch_calls("one"), {"0" * 20: 1.0})
    for words, says in (
        (("remove", "one"), "1 live calls. --drain"),
        (("set", "one", "--url", "esl://:s3cret@h:1"), "drain one --wait"),
        (("declare-dead", "one"), "Add --yes"),
        (("remove", "one", "--drain", "--limit", "0"), "still has 1 calls"),
    ):
        result = run(*words)
        assert result.exit_code in (1, 2) and says in result.stderr, words
    assert registry.all()["one"].removing
    assert "is removed once its last call has ended" in run("list").stdout
    assert run("resume", "one").stdout == "one gets new calls again.\n"
    assert not registry.all()["one"].removing
    # Another password or limit is no other place.
    assert run("set", "one", "--url", "esl://:s3cret2@h").exit_code == 0
    assert ok(run("declare-dead", "one", "--yes", "--why", "fire", "--json"))["paused"] is not None
    dead = registry.all()["one"].dead
    assert dead is not None and dead.why == "fire"
    redis.delete(KEYS.switch_calls("one"))
    assert run("remove", "one").stdout == "one is removed.\n"
    assert registry.all() == {} and ok(run("list", "--json")) == []


def test_a_dns_name_goes_with_its_switches(run: Run, registry: SwitchRegistry) -> None:
    registry.add(Registered("fs", "dns+esl://:s3cret@fs:8021"))
    registry.add(Registered("fs-1", "esl://10.0.0.1:8021", source="fs"))
    assert [each["name"] for each in ok(run("list", "--json"))] == ["fs-1"]
    assert "fs is a DNS name of switches: dns+esl://:***@fs:8021" in run("list").stdout
    assert ok(run("remove", "fs", "--json"))["removed"] == ["fs", "fs-1"]
    assert registry.all() == {}


def test_the_doctor_and_up_know_what_is_registered(
    run: Run, registry: SwitchRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"esl://:s3cret@127.0.0.1:{free_port()}"
    registry.add(Registered("one", nobody))
    registry.add(Registered("two", "esl://h:8021", password_file="/nowhere"))
    registry.add(Registered("fs", "dns+esl://:s3cret@fs:8021"))
    registry.add(Registered("given", "esl://h:8021", setting="esl://h:8021"))
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert "s3cret" not in result.output
    found = {each["subject"]: each["level"] for each in json.loads(result.stdout)}
    assert (found["one"], found["two"], found["given"]) == ("failure", "warning", "warning")
    assert "fs" not in found and found["listeners of one"] == "failure"
    # These need no RINGBACK_SWITCHES, so `ringback up` starts no simulator beside them.
    assert sorted(_registered(settings)) == ["one", "two"]
    assert _registered(replace(settings, redis_url=None)) == []
