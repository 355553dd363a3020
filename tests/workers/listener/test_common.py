"""The common watchdog: what waits, what nobody leads, and what was declared dead."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from app.calls import transitions, watch
from app.calls.model import Call, State
from app.settings import Settings
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.registered import Registered, SwitchRegistry
from app.store.writes import Note
from bench.speed.bare import NUMBER, call_to
from workers.listener import common
from workers.listener.common import CommonWatchdog
from workers.runtime import Runtime


class Clock:
    """The monotonic clock of the watchdog."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(common, "time", clock)
    yield clock


@pytest.fixture
def runtime(redis: Redis, settings: Settings) -> Runtime:
    return Runtime.create(settings)


@pytest.fixture
def store(runtime: Runtime) -> CallStore:
    return runtime.store


def claimed(store: CallStore, switch: str) -> Call:
    """A call that was dialled on the switch."""
    (call,) = Acceptor(store).accept([call_to(NUMBER)], lambda *_: None).calls

    def dial(call: Call) -> Call:
        call = transitions.claim(call, worker="w", switch=switch, core_uuid="c", at=store.now())
        return transitions.mark_sent(call, at=store.now(), job_uuid=call.job_uuid)

    store.redis.hset(store.keys.limits, f"switch:{switch}", "0:0")
    return store.change(call, dial, Note("command", "claim"))


def declare_dead(store: CallStore, switch: str) -> None:
    registry = SwitchRegistry(store.redis, store.keys)
    registry.fill([Registered(switch, "esl://host:8021")])
    registry.declare_dead(switch, "ada@desk", store.now())


def test_the_calls_of_a_dead_switch_end_with_their_reason(
    runtime: Runtime, store: CallStore, caplog: pytest.LogCaptureFixture
) -> None:
    gone = [claimed(store, "s1") for _ in range(common.BATCH + 3)]
    other = claimed(store, "s2")
    # The first cannot be ended: it holds up no other.
    store.redis.hset(store.keys.call(gone[0].id), "state", "asleep")
    declare_dead(store, "s1")
    CommonWatchdog(runtime).look()
    for call in store.get_many([call.id for call in gone[1:]]):
        assert call is not None
        ended = call.state, call.ended_by, call.disposition
        assert ended == (State.ENDED, "switch_dead", transitions.UNKNOWN)
    (note,) = [e for e in store.timeline(gone[1].id) if e["name"] == "switch_dead"]
    assert json.loads(note["data"]) == {"switch": "s1", "by": "ada@desk"}
    assert store.redis.exists(store.keys.record(gone[1].id))
    count = common.BATCH + 2
    assert f"switch s1 was declared dead by ada@desk: ended {count} calls" in caplog.text
    still = store.get(other.id)
    assert still is not None and still.state is not State.ENDED
    assert store.live_of_switch("s1") == [gone[0].id]
    # A call that was claimed at the last moment ends too.
    late = claimed(store, "s1")
    CommonWatchdog(runtime).look()
    ended_late = store.get(late.id)
    assert ended_late is not None and ended_late.ended_by == "switch_dead"


def test_one_process_has_the_lease(runtime: Runtime, store: CallStore) -> None:
    one, other = CommonWatchdog(runtime), CommonWatchdog(runtime)
    assert [each._keeps_lease() for each in (one, other, one)] == [True, False, True]
    # Another process took it over while this one stood still.
    store.redis.delete(store.keys.watch_lease)
    assert other._keeps_lease()
    assert [each._keeps_lease() for each in (one, other)] == [False, True]


def test_calls_of_a_switch_without_a_leader_wait_as_long_as_they_can_live(
    runtime: Runtime, store: CallStore, clock: Clock
) -> None:
    call = claimed(store, "s1")
    key = store.keys.deadlines("s1")

    def look(later: float) -> tuple[State, float]:
        clock.at += later
        store.redis.zadd(key, {call.id: 1.0}, xx=True)
        watchdog.look()
        now = store.get(call.id)
        assert now is not None
        found: Any = store.redis.zscore(key, call.id)
        return now.state, -1.0 if found is None else found - store.now()

    watchdog = CommonWatchdog(runtime)
    state, left = look(0.0)
    assert state is State.DIALING
    most = min(watch.UNREACHABLE_LOOK, watch.longest(call))
    assert most - 5.0 < left <= most
    # Another process has found a leader meanwhile: the time counts anew.
    store.redis.set(store.keys.switch_lease("s1"), "x")
    look(1.0)
    store.redis.delete(store.keys.switch_lease("s1"))
    assert look(watch.longest(call))[0] is State.DIALING
    assert look(watch.longest(call) - 1.0)[0] is State.DIALING
    assert look(1.0)[0] is State.ENDED
    ended = store.get(call.id)
    assert ended is not None and ended.ended_by == "switch_unreachable"
    watchdog.look()
    assert not store.redis.exists(key)


def test_deadlines_of_the_version_before_go_to_their_switches(
    runtime: Runtime, store: CallStore
) -> None:
    call, over = claimed(store, "s1"), claimed(store, "s1")
    store.redis.delete(store.keys.deadlines("s1"))
    end = store.change(
        over, lambda c: transitions.end(c, "events_lost", at=2.0), Note("event", "x")
    )
    assert end.state is State.ENDED
    old = {call.id: 1.0, over.id: 1.0, "0" * 20: 1.0, "later": store.now() + 60}
    store.redis.zadd(store.keys.old_deadlines, old)
    store.redis.set(store.keys.switch_lease("s1"), "x")
    CommonWatchdog(runtime).look()
    assert store.redis.zrange(store.keys.old_deadlines, 0, -1) == [b"later"]
    assert store.due("s1", store.now()) == [call.id]


def test_a_call_that_moves_to_another_switch_is_watched_there(store: CallStore) -> None:
    call = claimed(store, "s1")
    store.change(call, lambda c: replace(c, switch="s2"), Note("command", "claim"))
    keys = store.keys
    assert [store.redis.zcard(keys.deadlines(name)) for name in ("s1", "s2")] == [0, 1]
