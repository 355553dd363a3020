"""What is ejected, and what is not, of the outcomes that processes report."""

import json
import time
from typing import Any

import pytest
from redis import Redis

from app.store import ejection
from app.store.ejection import Outcomes
from app.store.keys import Keys

FOUR = ("s1", "s2", "s3", "s4")
NTF = "NORMAL_TEMPORARY_FAILURE"


class Fleet:
    """The reports of one process about some switches."""

    def __init__(self, redis: Redis, names: tuple[str, ...] = FOUR) -> None:
        self.redis = redis
        self.keys = Keys()
        self.names = names
        self.outcomes = Outcomes(redis, self.keys)
        self.outcomes.follow(names)

    def see(self, switch: str, words: str, gateway: str = "") -> None:
        """Report at once: + for what worked, - for what failed."""
        for each in words:
            self.outcomes.add(switch, gateway, None if each == "+" else NTF)
        self.outcomes.report()

    def ejected(self) -> dict[str, bool]:
        """What is ejected, and whether it is tried again."""
        found = ejection.read(self.redis, self.keys)
        return {f"{each.switch} {each.gateway}".strip(): each.probing for each in found}

    def over(self, field: str) -> None:
        """The ejection is over by its time."""
        redis: Any = self.redis
        entry = json.loads(redis.hget(self.keys.ejected, field))
        redis.hset(self.keys.ejected, field, json.dumps({**entry, "until": time.time() - 1}))

    def times(self, field: str) -> tuple[int, float]:
        redis: Any = self.redis
        entry = json.loads(redis.hget(self.keys.ejected, field))
        return entry["times"], entry["until"] - time.time()


@pytest.fixture
def fleet(redis: Redis) -> Fleet:
    return Fleet(redis)


def test_a_switch_that_fails_what_works_on_the_others_is_ejected(fleet: Fleet) -> None:
    for name in FOUR[1:]:
        fleet.see(name, "++++")
    fleet.see("s1", "--")
    assert not fleet.ejected()
    fleet.see("s1", "+--")
    assert not fleet.ejected(), "only failures in a row"
    fleet.see("s1", "-")
    assert fleet.ejected() == {"s1": False}
    fleet.see("s1", "+")
    assert fleet.ejected() == {"s1": False}, "a call of before says nothing"


def test_one_gateway_of_a_switch_is_ejected_alone(fleet: Fleet) -> None:
    for name in FOUR[1:]:
        fleet.see(name, "++++", "pstn")
    fleet.see("s1", "---", "pstn")
    fleet.see("s1", "+++", "other")
    assert fleet.ejected() == {"s1 pstn": False}


def test_what_fails_on_all_switches_is_the_carriers(fleet: Fleet) -> None:
    for _ in range(12):
        for name in FOUR:
            fleet.see(name, "-", "pstn")
    assert not fleet.ejected()


def test_one_call_in_two_that_fails_everywhere_ejects_nothing(fleet: Fleet) -> None:
    for _ in range(15):
        for name in FOUR:
            fleet.see(name, "-+")
    fleet.see("s1", "----")
    assert not fleet.ejected(), "four in a row are chance then"
    for _ in range(12):
        fleet.see("s1", "-")
    assert fleet.ejected() == {"s1": False}


def test_a_switch_that_fails_in_part_is_ejected(fleet: Fleet) -> None:
    for name in FOUR[1:]:
        fleet.see(name, "+" * 30)
    for _ in range(9):
        fleet.see("s1", "--+")
    assert fleet.ejected() == {"s1": False}


def test_at_most_half_are_ejected_and_none_if_all_fail(fleet: Fleet) -> None:
    for name in FOUR:
        fleet.see(name, "++++")
    for name in FOUR[:3]:
        fleet.see(name, "----------")
    assert fleet.ejected() == {"s1": False, "s2": False}
    fleet.see("s4", "-" * 40)
    assert not fleet.ejected(), "it is what is dialled"


def test_with_one_switch_nothing_is_written(redis: Redis) -> None:
    alone = Fleet(redis, ("s1",))
    alone.see("s1", "-" * 20)
    alone.outcomes.owes("s1")
    alone.outcomes.report()
    assert redis.exists(alone.keys.ejected, alone.keys.outcomes) == 0


def test_it_returns_by_a_call_that_works_and_waits_longer_each_time(fleet: Fleet) -> None:
    for name in FOUR[1:]:
        fleet.see(name, "++++")
    fleet.see("s1", "---")
    times, left = fleet.times("s1")
    assert times == 1 and 15 < left <= 20
    fleet.over("s1")
    fleet.see("s1", "-")
    times, left = fleet.times("s1")
    assert times == 2 and 35 < left <= 40
    fleet.over("s1")
    fleet.see("s1", "-")
    assert 35 < fleet.times("s1")[1] <= 40, "back within a minute"
    fleet.over("s1")
    fleet.see("s1", "+")
    assert not fleet.ejected()
    fleet.see("s1", "--")
    assert not fleet.ejected(), "its failures of before are forgotten"


def test_a_probe_keeps_calls_away_or_lets_one_try(fleet: Fleet) -> None:
    fleet.outcomes.probed("s1", "", works=True)
    assert not fleet.ejected()
    fleet.outcomes.owes("s1")
    fleet.outcomes.report()
    assert fleet.ejected() == {"s1": False}
    fleet.over("s1")
    fleet.outcomes.probed("s1", "", works=False)
    assert fleet.times("s1")[1] > 3
    fleet.outcomes.probed("s1", "", works=True)
    assert fleet.ejected() == {"s1": True}
    fleet.see("s1", "+")
    assert not fleet.ejected()


def test_what_works_is_gathered(fleet: Fleet) -> None:
    told: list[None] = []
    fleet.outcomes.on_fault = lambda: told.append(None)
    for _ in range(100):
        fleet.outcomes.add("s1", "", None)
    assert not told and fleet.redis.exists(fleet.keys.outcomes) == 0
    fleet.outcomes.report()
    assert fleet.redis.hlen(fleet.keys.outcomes) == 1
    fleet.outcomes.add("s1", "", NTF)
    assert told == [None], "a failure is reported at once"
