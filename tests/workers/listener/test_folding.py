"""What the listener writes of events that come in bursts: as much as of each alone."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from gevent.event import Event as Flag
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from redis import Redis

from app.calls import transitions
from app.calls.model import Call, Leg, Role, State, job_uuid, leg_uuid
from app.settings import Settings
from app.store.accepting import Acceptor
from app.store.writes import Note
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.events import Event
from tests.workers.test_leg_reports import ENDS, feed, read
from workers.listener.folding import Folding
from workers.listener.steering import Steering
from workers.listener.switch_record import SwitchRecord
from workers.runtime import CALL_VARIABLE, Runtime

SWITCH = SwitchAddress("s", "127.0.0.1", 1, password="ClueCon")


class Following:
    """What a listener hears, and the calls that it hears of. It leads from the start."""

    def __init__(self, settings: Settings) -> None:
        self.runtime = Runtime.create(settings)
        self.store = self.runtime.store
        link, stopping = SwitchConnection(SWITCH), Flag()
        record = SwitchRecord(self.runtime, link, stopping)
        steering = Steering(self.runtime, link)
        self.folding = Folding(self.runtime, link, record, steering, stopping)
        self.folding.take_over([], time.monotonic())

    def hear(self, events: Sequence[Event], *, written: bool = True) -> None:
        """``written``: nothing of it waits for what follows."""
        self.folding.hear(events)
        if written:
            self.folding.write_all()

    def accept(self, name: str, number: int) -> tuple[Call, list[Event]]:
        """A call of its own for a trace, and the trace's events with its names."""
        call, events = read(name)
        call_id = f"{number:020x}"
        uuids = {call.job_uuid: job_uuid(call_id)}
        legs: list[Leg] = []
        for party, leg in enumerate(call.legs, start=1):
            uuids[leg.uuid] = leg_uuid(call_id, leg.role, party, 1)
            legs.append(replace(leg, uuid=uuids[leg.uuid]))
        call = replace(call, id=call_id, job_uuid=uuids[call.job_uuid], legs=tuple(legs))
        (accepted,) = Acceptor(self.store).accept([call], lambda *_: None).calls
        return accepted, [renamed(event, uuids, call_id) for event in events]

    def states(self, call: Call) -> list[str]:
        """Those that whoever follows the changes of all calls sees."""
        entries: Any = self.runtime.redis.xrange(self.store.keys.events)
        of_call = [e[b"state"].decode() for _, e in entries if e[b"call"].decode() == call.id]
        return list(dict.fromkeys(of_call))

    def told(self, call: Call) -> list[tuple[str, str | None]]:
        timeline = self.store.timeline(call.id)
        return [(e["name"], e.get("leg")) for e in timeline if e["kind"] in ("event", "reply")]


def renamed(event: Event, uuids: dict[str, str], call_id: str) -> Event:
    text = json.dumps([dict(event.headers), event.body])
    for old, new in uuids.items():
        text = text.replace(old or "none", new)
    headers, body = json.loads(text)
    return Event(event.name, {**headers, f"variable_{CALL_VARIABLE}": call_id}, body)


def without_version(call: Call | None) -> Call:
    assert call is not None
    return replace(call, version=0, stamp=None)


@profile(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=4), st.data())
def test_bursts_give_what_each_event_alone_gives(
    redis: Redis, settings: Settings, names: list[str], data: st.DataObject
) -> None:
    redis.flushall()
    redis.hset("ringback:limits", "mark", "test")
    one_by_one, in_bursts = Following(settings), Following(settings)
    rng = data.draw(st.randoms(use_true_random=False))
    pairs = []
    mixed: list[Event] = []
    for number, name in enumerate(names):
        alone, its_events = one_by_one.accept(name, 2 * number)
        for event in its_events:
            one_by_one.hear([event])
        call, events = in_bursts.accept(name, 2 * number + 1)
        pairs.append((alone, call, feed(call, events)))
        # The events of one call stay in their order.
        at = 0
        for event in events:
            at = rng.randint(at, len(mixed))
            mixed.insert(at, event)
            at += 1
    while mixed:
        size = rng.choice((1, 2, 5, 20, 100))
        in_bursts.hear(mixed[:size], written=rng.random() < 0.3)
        del mixed[:size]
    in_bursts.hear([])
    for alone, call, end in pairs:
        assert without_version(in_bursts.store.get(call.id)) == without_version(end)
        assert in_bursts.states(call) == one_by_one.states(alone)
        assert in_bursts.told(call) == one_by_one.told(alone)


def test_a_burst_on_what_another_has_changed(redis: Redis, settings: Settings) -> None:
    following = Following(settings)
    call, events = following.accept("ring-all-bridge-far-hangup", 1)
    following.hear(events[:1])
    known = following.store.get(call.id)
    assert known is not None
    # The worker's note comes between, and the listener does not hear of it.
    following.store.change(known, lambda c: transitions.request_hangup(c, at=2.0), Note("a", "b"))
    following.hear(events[1:])
    end = following.store.get(call.id)
    assert end is not None
    assert (end.state, end.ended_by, end.hangup_requested) == (State.ENDED, "api", 2.0)
    assert following.states(call)[-3:] == ["answered", "bridged", "ended"]


def test_a_leg_that_came_in_while_something_waited(redis: Redis, settings: Settings) -> None:
    following = Following(settings)
    call, events = following.accept("destination-busy", 1)
    create = next(event for event in events if event.name == "CHANNEL_CREATE")
    result = Event("BACKGROUND_JOB", {"Job-UUID": call.job_uuid}, "+OK")
    following.hear([result, create], written=False)
    third = replace(
        call.legs[0], id="c1", role=Role.THIRD, uuid=leg_uuid(call.id, Role.THIRD, 1, 1)
    )
    with_third = partial(replace, legs=(*call.legs, third))
    following.folding.change(call, with_third, Note("command", "BargeIn"))
    following.hear([renamed(create, {call.legs[0].uuid: third.uuid}, call.id)])
    found = following.store.get(call.id)
    assert found is not None
    assert [leg.created is not None for leg in found.legs if leg.role is not Role.DESTINATION] == [
        True,
        True,
    ]
    assert ("originate", None) in following.told(call)


def test_what_cannot_be_applied_costs_nothing_else(redis: Redis, settings: Settings) -> None:
    following = Following(settings)
    good, events = following.accept("destination-busy", 1)
    bad, others = following.accept("destination-busy", 2)
    key = following.store.keys.timeline(bad.id)
    redis.delete(key)
    redis.set(key, "no stream")
    odd = Event("CHANNEL_ANSWER", {**events[0].headers, "variable_originate_causes": [[]]})  # type: ignore[dict-item]
    following.hear([odd, *[e for both in zip(events, others, strict=True) for e in both]])
    call = following.store.get(good.id)
    assert call is not None and call.state is State.ENDED


def test_a_call_that_is_no_longer_kept_costs_nothing_else(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = Following(settings)
    gone, others = following.accept("destination-busy", 1)
    call, events = following.accept("destination-busy", 2)
    following.hear([others[0], events[0]])
    redis.delete(following.store.keys.call(gone.id))
    following.hear([*others[1:], *events[1:]])
    end = following.store.get(call.id)
    assert end is not None and end.state is State.ENDED
    assert following.store.get(gone.id) is None
    assert gone.id not in following.folding.known


def test_calls_that_have_ended_are_not_kept_for_ever(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.listener.folding.ENDED_KEPT", 3)
    following = Following(settings)
    for number in range(10):
        _, events = following.accept("source-busy", number)
        following.hear(events)
    assert len(following.folding.known) == 3


def test_a_standby_applies_its_buffer_when_it_takes_over(redis: Redis, settings: Settings) -> None:
    following = Following(settings)
    call, events = following.accept("ring-all-bridge-far-hangup", 1)
    # The leader has heard of the call, loses the lease, and what comes then is not written.
    following.hear(events[:1])
    following.folding.step_down(write=False)
    begun = time.monotonic()
    following.hear(events[1:])
    before = following.store.get(call.id)
    assert before is not None and before.state is not State.ENDED
    following.folding.take_over([before], begun)
    end = following.store.get(call.id)
    assert end is not None
    assert without_version(end) == without_version(feed(call, events))
    assert following.states(call)[-3:] == ["answered", "bridged", "ended"]


def test_what_was_not_written_is_left_to_the_next_leader(redis: Redis, settings: Settings) -> None:
    following = Following(settings)
    call, events = following.accept("destination-busy", 1)
    create = next(event for event in events if event.name == "CHANNEL_CREATE")
    following.hear([create], written=False)
    following.folding.step_down(write=False)
    following.folding.write_all()
    known = following.store.get(call.id)
    assert known is not None and known.legs[0].created is None
    # The same process leads again: it has kept what it heard.
    following.folding.take_over([known], time.monotonic())
    found = following.store.get(call.id)
    assert found is not None and found.legs[0].created is not None
