"""A process that follows the registry: passwords, RINGBACK_SWITCHES, and DNS names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from app.settings import Settings
from app.store.keys import Keys
from app.store.registered import Registered, SwitchRegistry
from app.store.switches import Pause
from freeswitch.address import SwitchAddress
from workers import following
from workers.following import Following, NoAddress, address_of
from workers.runtime import Runtime

KEYS = Keys()
OWN = {"main": SwitchAddress("main", "fs", password="of-the-setting", user="u")}
MAIN = Registered("main", "esl://u@fs:8021", by="RINGBACK_SWITCHES", setting="esl://u@fs:8021")
Make = Callable[..., tuple[Following, list[list[SwitchAddress]]]]


@pytest.fixture
def make(redis: Redis, settings: Settings) -> Make:
    def _make(
        switches: str | None = None, **options: bool
    ) -> tuple[Following, list[list[SwitchAddress]]]:
        told: list[list[SwitchAddress]] = []
        runtime = Runtime.create(replace(settings, switches=switches))
        return Following(runtime, told.append, **options), told

    return _make


def password(entry: Registered, *others: Registered) -> str:
    known = {each.name: each for each in (entry, *others)}
    return address_of(entry, known, OWN).password


def test_where_a_password_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "password"
    path.write_text("of-the-file\n")
    monkeypatch.setenv("ESL_ONE", "of-the-environment")
    one = Registered("one", "esl://h:8021")
    assert password(replace(one, url="esl://:of-the-url@h")) == "of-the-url"
    assert password(replace(one, password_file=str(path))) == "of-the-file"
    assert password(replace(one, password_env="ESL_ONE")) == "of-the-environment"
    assert password(MAIN) == "of-the-setting"
    # The addresses of a DNS name have its login.
    for source in (
        Registered("fs", "dns+esl://:of-the-url@h"),
        Registered("fs", "dns+esl://h", password_file=str(path)),
        replace(MAIN, url="dns+esl://u@fs:8021"),
    ):
        member = replace(one, source=source.name)
        assert password(member, source) == password(source)


def test_a_password_that_is_not_there(tmp_path: Path) -> None:
    one = Registered("one", "esl://h:8021")
    (tmp_path / "empty").touch()
    for entry, says in (
        (one, "nowhere what its password is"),
        (replace(one, password_file="/nowhere"), "/nowhere cannot be read: No such file"),
        (replace(one, password_file=str(tmp_path / "empty")), "has no password"),
        (replace(one, password_env="ESL_NONE"), "has no variable ESL_NONE"),
        (replace(one, password_env="RINGBACK_REDIS_URL"), "no name for the variable"),
        (replace(one, setting="esl://h"), "RINGBACK_SWITCHES of this process has no one"),
        (replace(one, source="gone"), "gone, which is not registered"),
        (replace(one, url="http://:s3cret@h"), "must begin with esl://"),
        (replace(one, url="esls://:s3cret@h?ca=/nowhere.pem"), "/nowhere.pem, cannot be read"),
    ):
        with pytest.raises(NoAddress, match=says) as caught:
            password(entry)
        assert "s3cret" not in str(caught.value)


def test_the_setting_fills_the_registry_without_its_passwords(make: Make, redis: Redis) -> None:
    setting = "main=esl://u:s3cret@h:1?max_legs=9,fs=dns+esl://:s3cret@nowhere.invalid"
    worker, told = make(setting)
    worker.look()
    # No listener has filled the registry, perhaps one of a version before: a worker fills nothing.
    assert redis.exists(KEYS.switches) == 0
    assert [[each.name for each in found] for found in told] == [["main"]]
    listener, heard = make(setting, sees_to=True)
    listener.look()
    main = SwitchRegistry(redis, KEYS).all()["main"]
    assert (main.url, main.max_legs, main.by) == ("esl://u@h:1", 9, "RINGBACK_SWITCHES")
    assert b"s3cret" not in b"".join(redis.hvals(KEYS.switches))
    worker.look()
    assert told[-1] == heard[-1] == [SwitchAddress.parse("main=esl://u:s3cret@h:1?max_legs=9")]
    # A process with another setting does not connect, and says so once.
    other, nothing = make()
    other.look()
    assert nothing == [[]]


def test_each_change_is_followed_and_a_lost_registry_written_again(
    make: Make, redis: Redis, tmp_path: Path
) -> None:
    registry = SwitchRegistry(redis, KEYS)
    listener, told = make(sees_to=True)
    listener.look()
    path = tmp_path / "password"
    path.write_text("first")
    registry.add(Registered("one", "esl://h:8021", password_file=str(path)))
    listener.look()
    listener.look()
    assert [each.name for each in told[-1]] == ["one"] and len(told) == 2
    # A file that goes away for a moment, in the middle of its change, ends no connection.
    path.unlink()
    registry.set("one", lambda old: replace(old, max_legs=5))
    listener.look()
    assert told[-1][0].password == "first"
    before = registry.all()
    redis.delete(KEYS.switches, KEYS.switches_version)
    worker, _ = make()
    worker.look()
    assert registry.all() == {}
    listener.look()
    assert registry.all() == before


def test_a_dns_name_becomes_switches(
    make: Make, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = SwitchRegistry(redis, KEYS)
    listener, told = make(sees_to=True)
    other, _ = make(sees_to=True)
    registry.add(Registered("fs", "dns+esl://:s3cret@localhost:9000", tags=("eu",)))
    listener.look()
    assert told[-1] == []
    listener._look_up()
    member = registry.all()["fs-127-0-0-1"]
    assert (member.url, member.tags, member.source) == ("esl://127.0.0.1:9000", ("eu",), "fs")
    listener.look()
    assert told[-1] == [SwitchAddress("fs-127-0-0-1", "127.0.0.1", 9000, password="s3cret")]
    # One process looks for all, and not all the time.
    other.look()
    registry.set("fs", lambda old: replace(old, url="dns+esl://:s3cret@nowhere.invalid:9000"))
    for each in (other, listener):
        each.look()
        each._look_up()
    assert not registry.all()["fs-127-0-0-1"].removing
    # DNS that does not answer changes nothing. An address that it no longer names is drained after
    # a while.
    listener._looked_up -= following.DNS_LOOK
    listener._look_up()
    assert not registry.all()["fs-127-0-0-1"].removing
    source = registry.all()["fs"]
    listener._take(source, [])
    assert not registry.all()["fs-127-0-0-1"].removing
    monkeypatch.setattr(following, "VANISHED", 0.0)
    listener._take(source, [])
    assert registry.all()["fs-127-0-0-1"].removing
    # It has no call, so it goes; the name goes after it.
    registry.begin_removal("fs", Pause("ann", 1.0))
    for _ in range(2):
        listener.look()
        listener._end_removals()
    assert registry.all() == {}
