"""The registry of switches: what is written, who wins, and when a switch is gone."""

import json
from dataclasses import replace

import pytest
from redis import Redis

from app.store.keys import Keys
from app.store.pace import Limit, Pacer
from app.store.registered import (
    SETTING,
    AlreadyRegistered,
    Dead,
    NotRegistered,
    Registered,
    SwitchRegistry,
    without_password,
)
from app.store.switches import Pause, SwitchStore

KEYS = Keys()
ONE = Registered("one", "esl://:s3cret@10.0.0.1:8021", tags=("eu", "big"), gateways=("pstn",))
GIVEN = Registered("main", "esl://fs:8021", by=SETTING, setting="esl://fs:8021")
PAUSE = Pause("ann@desk", 5.0, "old", drain=True)


@pytest.fixture
def registry(redis: Redis) -> SwitchRegistry:
    return SwitchRegistry(redis, KEYS)


def test_what_is_written_is_read(registry: SwitchRegistry, redis: Redis) -> None:
    assert registry.version() is None
    entry = replace(ONE, weight=50, max_legs=0, dead=Dead("ann", 1.0, "fire"))
    hears = redis.pubsub()
    hears.subscribe(KEYS.switches)
    registry.add(entry)
    assert registry.read() == (1, {"one": entry})
    while (message := hears.get_message(timeout=60)) is not None and message["type"] != "message":
        pass
    assert message is not None
    # A later version knows more, and one entry is broken.
    later = json.loads(entry.dumps()) | {"colour": "red"}
    redis.hset(KEYS.switches, mapping={"one": json.dumps(later), "bad": "{"})
    assert registry.all() == {"one": entry}
    assert SwitchStore(redis, KEYS).names() == ["one"]
    with pytest.raises(AlreadyRegistered):
        registry.add(ONE)
    for change in (
        lambda: registry.set("two", lambda old: old),
        lambda: registry.begin_removal("two", PAUSE),
        lambda: registry.declare_dead("two", "ann", 1.0),
    ):
        with pytest.raises(NotRegistered):
            change()
    assert registry.version() == 1


def test_what_is_read_again_only_after_a_change(registry: SwitchRegistry, redis: Redis) -> None:
    registry.add(ONE)
    assert registry.latest() is registry.latest()
    SwitchRegistry(redis, KEYS).set("one", lambda old: replace(old, weight=7))
    assert registry.latest()["one"].weight == 7


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("esl://:s3cret@h:1", "esl://:***@h:1"),
        ("dns+esls://u:s%40@h:1?ca=/a", "dns+esls://u:***@h:1?ca=/a"),
        ("esl://u@h:1", "esl://u@h:1"),
        ("esl://h:1", "esl://h:1"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert replace(ONE, url=url).shown()["url"] == shown


def test_the_setting_fills_and_the_registry_wins(registry: SwitchRegistry) -> None:
    assert registry.fill([GIVEN]) == ["main"] and registry.fill([GIVEN]) == []
    # Nobody has changed it, so a changed setting counts.
    moved = replace(GIVEN, url="esl://fs2:8021", setting="esl://fs2:8021")
    assert registry.fill([moved]) == ["main"]
    assert registry.all()["main"].url == "esl://fs2:8021"
    # From then on an operator's word counts, and a new name is added.
    registry.set("main", lambda old: replace(old, weight=5, by="ann@desk"))
    assert registry.fill([GIVEN, replace(GIVEN, name="new")]) == ["new"]
    assert registry.all()["main"].weight == 5
    # What an operator has removed stays out until the operator adds it.
    registry.begin_removal("main", PAUSE)
    assert registry.finish_removal("main")
    assert registry.fill([GIVEN]) == []
    # An operator's own switch of a name that stands in the setting is no other.
    own = replace(ONE, name="main")
    registry.add(own)
    assert registry.fill([GIVEN]) == []
    assert registry.all()["main"] == replace(own, setting=GIVEN.setting)
    registry.begin_removal("main", PAUSE)
    registry.finish_removal("main")
    assert registry.fill([GIVEN]) == []


def test_a_switch_goes_after_its_last_call(registry: SwitchRegistry, redis: Redis) -> None:
    pacer, switches = Pacer(redis, KEYS), SwitchStore(redis, KEYS)
    registry.add(ONE)
    pacer.set_switch_limit("one", Limit(most=9))
    assert not registry.finish_removal("one"), "nobody has asked for it"
    redis.zadd(KEYS.switch_calls("one"), {"call": 1.0})
    registry.begin_removal("one", PAUSE)
    assert switches.get_many(["one"])[0].paused == PAUSE
    assert not registry.finish_removal("one")
    redis.zrem(KEYS.switch_calls("one"), "call")
    assert registry.finish_removal("one") and registry.finish_removal("one")
    assert registry.all() == {} and switches.names() == []
    # A listener that does not know yet sets the limit again: the switch stays paused, and goes.
    pacer.set_switch_limit("one", Limit(most=9))
    assert switches.get_many(["one"])[0].paused == PAUSE
    registry.clean("one")
    assert switches.names() == [] and 0 < redis.ttl(KEYS.switch("one")) <= 60
    # One of the same name begins anew, for good.
    registry.add(ONE)
    redis.hset(KEYS.switch("one"), "core_uuid", "c")
    assert redis.ttl(KEYS.switch("one")) == -1
    assert switches.get_many(["one"])[0].paused is None
    pacer.set_switch_limit("one", Limit(most=9))
    registry.clean("one")
    assert redis.hexists(KEYS.limits, "switch:one")


def test_a_removal_and_a_death_are_taken_back(registry: SwitchRegistry, redis: Redis) -> None:
    registry.add(ONE)
    registry.begin_removal("one", PAUSE)
    assert registry.revive("one") and not registry.revive("one")
    dead = registry.declare_dead("one", "ann@desk", 9.0, "fire")
    assert registry.all()["one"] == dead and dead.dead == Dead("ann@desk", 9.0, "fire")
    assert SwitchStore(redis, KEYS).get_many(["one"])[0].paused == Pause("ann@desk", 9.0, "fire")
    assert registry.revive("one") and registry.all() == {"one": ONE}


def test_an_empty_redis_gets_what_a_process_knows(registry: SwitchRegistry, redis: Redis) -> None:
    registry.add(ONE)
    known = registry.all()
    assert not registry.restore(known.values())
    redis.delete(KEYS.switches, KEYS.switches_version)
    assert registry.restore(known.values()) and registry.all() == known


def test_the_addresses_of_a_dns_name_come_and_go(registry: SwitchRegistry, redis: Redis) -> None:
    source = Registered("fs", "dns+esl://:s3cret@fs.example:8021", weight=10)
    registry.add(source)
    assert SwitchStore(redis, KEYS).names() == [], "a DNS name is no switch"

    def member(name: str, **changes: int) -> Registered:
        return Registered(name, f"esl://{name}:8021", by="fs", source="fs", **changes)  # type: ignore[arg-type]

    def follow(*members: Registered) -> tuple[list[str], list[str]]:
        return registry.follow_source("fs", members, lambda name: PAUSE if name != "c" else None)

    assert follow(member("a"), member("b"), member("c")) == (["a", "b", "c"], [])
    assert follow(member("a", weight=3), member("b"), member("c")) == ([], [])
    assert registry.all()["a"].weight == 3
    # `c` has been gone for too short a time.
    assert follow(member("a")) == ([], ["b"])
    assert [name for name, each in registry.all().items() if each.removing] == ["b"]
    assert SwitchStore(redis, KEYS).get_many(["b"])[0].paused == PAUSE
    assert follow(member("a"), member("b")) == (["b"], [])
    assert SwitchStore(redis, KEYS).get_many(["b"])[0].paused is None
    # A name that an operator has registered is no address of it.
    registry.add(ONE)
    assert follow(member("a"), member("b"), replace(member("a"), name="one")) == ([], [])
    assert registry.all()["one"] == ONE
    registry.begin_removal("fs", PAUSE)
    assert follow(member("a")) == ([], ["a", "b"])
    assert not registry.finish_removal("fs")
    assert registry.finish_removal("a") and registry.finish_removal("b")
    registry.set("c", lambda old: replace(old, removing=True))
    assert registry.finish_removal("c") and registry.finish_removal("fs")
    assert [*registry.all()] == ["one"]


def test_one_process_looks_up_names(registry: SwitchRegistry) -> None:
    assert registry.takes_dns("a", 60) and registry.takes_dns("a", 60)
    assert not registry.takes_dns("b", 60)
