"""What Redis has of the switches, and that a paused one is given no call."""

import pytest
from redis import Redis

from app.store.pace import Limit
from app.store.switches import Pause, SwitchStore
from tests.app.test_pace import Line, ids

PAUSE = Pause("ann@desk", 1000.0, "new disks", drain=True)


@pytest.fixture
def line(redis: Redis) -> Line:
    return Line(redis)


@pytest.fixture
def switches(line: Line) -> SwitchStore:
    for name in ("s", "t"):
        line.pacer.set_switch_limit(name, Limit(most=1000))
    return SwitchStore(line.redis, line.keys)


def test_a_switch_as_its_listener_tells_of_it(line: Line, switches: SwitchStore) -> None:
    line.redis.hset(
        line.keys.switch("s"),
        mapping={"core_uuid": "c", "up_since": "5.5", "sessions": "", "max_sessions": "1000"},
    )
    line.redis.zadd(line.keys.switch_listeners("s"), {"one": 1.0, "two": 2.0})
    line.call()
    line.next()
    assert switches.names() == ["s", "t"]
    s, t = switches.get_many(["s", "t"])
    assert (s.state, s.core_uuid, s.up_since, s.sessions, s.max_sessions) == (
        *("up", "c", 5.5),
        *(None, 1000),
    )
    assert (s.listeners, s.limit, s.paused) == (2, Limit(most=1000), None)
    assert t.state == "unknown"
    line.redis.hset(line.keys.switch("s"), "unreachable_since", "7.0")
    assert switches.get_many(["s"])[0].state == "unreachable"


def test_a_paused_switch_gets_no_call_and_the_others_do(line: Line, switches: SwitchStore) -> None:
    switches.pause("s", PAUSE)
    assert switches.get_many(["s"])[0].paused == PAUSE
    line.calls(4)
    turn = line.turn(["s", "t"])
    assert {call.switch for call in turn.calls} == {"t"}
    assert len(turn.calls) == 4


def test_while_all_are_paused_calls_wait_in_line(line: Line, switches: SwitchStore) -> None:
    for name in ("s", "t"):
        switches.pause(name, PAUSE)
    calls = line.calls(2)
    turn = line.turn(["s", "t"])
    assert turn.calls == () and turn.again is not None and turn.again <= 0.1
    assert line.pacer.places(calls)[calls[1].id].ahead == 1
    assert switches.resume("t")
    assert not switches.resume("t")
    assert line.next(switches=["s", "t"]) == ids(*calls)


def test_a_pause_of_another_form_counts_too(line: Line, switches: SwitchStore) -> None:
    line.redis.hset(line.keys.switch("s"), "paused", "by hand")
    (switch,) = switches.get_many(["s"])
    assert switch.paused is not None and switch.paused.why == "by hand"
    line.call()
    assert line.next() == []


def test_one_that_was_forgotten_is_known_no_more(line: Line, switches: SwitchStore) -> None:
    switches.pause("s", PAUSE)
    switches.forget("s")
    assert switches.names() == ["t"]
    assert switches.get_many(["s"])[0].paused is None
