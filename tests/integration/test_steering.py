"""Calls and a switch that nobody leads, or that an operator has told to take none."""

import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest

from app.calls.model import State
from app.store.steering import SteerStore
from app.store.switches import SwitchStore
from freeswitch.event_socket import EventSocket
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, Ringback
from workers.runtime import switch_addresses

SWITCH = "simulator"


@pytest.fixture
def ringback(mortal: Ringback) -> Iterator[Ringback]:
    yield mortal
    mortal.api("fsctl shutdown cancel")
    mortal.api("fsctl resume")
    mortal.heal()


def tell(ringback: Ringback, command: str) -> None:
    """Have the switch begin a command, without a wait for its end."""
    address = switch_addresses(ringback.stack.settings)[0]
    connection = EventSocket(address.host, address.port, address.password)
    connection.connect()
    connection.bgapi(command, str(uuid4()))
    connection.close()


def await_looks(ringback: Ringback) -> None:
    """Wait until workers have looked for calls to dial a few times: each look leaves a key."""
    redis, looks = ringback.store.redis, ringback.store.keys.turn("*")
    before = set(redis.keys(looks))
    eventually(lambda: len(set(redis.keys(looks)) - before) > 3)


def test_workers_may_be_restarted_before_listeners(ringback: Ringback) -> None:
    """No call is given to a switch that no listener hears, so none of them is lost."""
    store, steers = ringback.store, SteerStore(ringback.store.redis, ringback.store.keys)
    talks = ringback.place("15500", "15600")
    ringback.wait_state(talks, State.BRIDGED)
    dialled = len(ringback.originates())
    listener = ringback.stack.processes["listener"]
    listener.send_signal(signal.SIGTERM)
    listener.wait(LIMIT)
    said = steers.get(SWITCH)
    # It says so as it goes: nobody waits for the end of its word.
    assert said is not None and said.until <= store.now()
    ringback.kill("worker")
    ringback.start("worker")
    placed = [ringback.place("15509", "15500") for _ in range(5)]
    await_looks(ringback)
    assert {call.state for call in store.get_many(placed) if call} == {State.QUEUED}
    assert len(ringback.originates()) == dialled
    ringback.start("listener")
    assert {ringback.ended(call_id).hangup_cause for call_id in placed} == {"USER_BUSY"}
    assert len(ringback.originates()) == dialled + 5
    assert ringback.wait_state(talks, State.BRIDGED).state is State.BRIDGED


@pytest.mark.parametrize(
    ("command", "state"), [("fsctl pause", "paused"), ("fsctl shutdown elegant", "draining")]
)
def test_a_switch_is_drained_by_what_it_was_told_itself(
    ringback: Ringback, command: str, state: str
) -> None:
    store = ringback.store
    switches = SwitchStore(store.redis, store.keys)
    talks = ringback.place("15500", "15600")
    ringback.wait_state(talks, State.BRIDGED)
    tell(ringback, command)
    eventually(lambda: switches.get_many([SWITCH])[0].state == state)
    placed = ringback.place("15509", "15500")
    await_looks(ringback)
    waiting = store.get(placed)
    assert waiting is not None and waiting.state is State.QUEUED
    assert ringback.wait_state(talks, State.BRIDGED).state is State.BRIDGED
    ringback.api("fsctl shutdown cancel")
    ringback.api("fsctl resume")
    assert ringback.ended(placed).hangup_cause == "USER_BUSY"
