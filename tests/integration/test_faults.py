"""A part dies, a call does not get lost: the listener, the worker, the switch."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.calls import transitions
from app.calls.model import Call, State
from app.calls.store import Note
from tests.integration.conftest import Ringback, started
from workers.runtime import now
from workers.up import environment


@pytest.fixture
def ringback() -> Iterator[Ringback]:
    """A stack of its own, whose parts may die, on the simulator."""
    with started(None, reconcile_interval=0.5) as ringback:
        yield ringback


def kill(ringback: Ringback, name: str) -> None:
    process = ringback.stack.processes[name]
    process.send_signal(signal.SIGKILL)
    process.wait()


def start(ringback: Ringback, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "workers.cli", name], env=environment(ringback.stack.settings)
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def test_what_happens_without_a_listener_is_found_by_the_next(ringback: Ringback) -> None:
    gone, alive = ringback.place("15500", "15600"), ringback.place("15500", "15601")
    for call_id in (gone, alive):
        ringback.wait_state(call_id, State.BRIDGED)
    kill(ringback, "listener")
    assert ringback.api(f"hupall NORMAL_CLEARING ringback_call {gone}").startswith("+OK")
    listener = start(ringback, "listener")
    try:
        call = ringback.ended(gone)
        assert (call.ended_by, call.disposition) == ("events_lost", 0)
        # The other lives on, and is followed to its own end.
        assert ringback.store.get(alive).state is State.BRIDGED  # type: ignore[union-attr]
        assert ringback.request("DELETE", f"@me/@self/{alive}")[0] == 200
        assert ringback.ended(alive).ended_by == "api"
    finally:
        end(listener)


def test_a_restarted_switch_ends_its_calls(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15600")
    ringback.wait_state(call_id, State.BRIDGED)
    kill(ringback, "simulator")
    switch = start(ringback, "simulator")
    try:
        call = ringback.ended(call_id)
        assert (call.ended_by, call.disposition) == ("switch_restarted", 0)
        # The workers have found the new one.
        assert ringback.ended(ringback.place("15500", "15609")).hangup_cause == "USER_BUSY"
    finally:
        end(switch)


def test_a_call_whose_worker_died_after_its_claim_is_not_dialled(ringback: Ringback) -> None:
    """Nobody knows whether the dead worker sent it: the switch is asked, nothing is sent."""
    kill(ringback, "worker")
    call_id = ringback.place("15500", "15600")
    (core_uuid,) = ringback.store.redis.hmget("ringback:switch:simulator", "core_uuid")
    call = ringback.store.get(call_id)
    assert call is not None

    def claim(current: Call) -> Call:
        return transitions.claim(
            current, worker="dead", switch="simulator", core_uuid=core_uuid.decode(), at=now()
        )

    ringback.store.change(call, claim, Note("command", "claim"))
    worker = start(ringback, "worker")
    try:
        call = ringback.ended(call_id)
        assert (call.ended_by, call.disposition, call.sent) == ("worker_lost", 4, None)
        assert not [o for o in ringback.originates() if call_id in o["command"]]
    finally:
        end(worker)


def test_channels_of_an_ended_call_are_hung_up(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15600")
    call = ringback.wait_state(call_id, State.BRIDGED)
    fault = transitions.EVENTS_LOST
    # What the listener's cache holds of the call is old by now.
    ringback.store.change(call, lambda c: transitions.end(c, fault, at=now()), Note("event", fault))
    legs = [leg.uuid for leg in call.legs]
    ringback.wait(call_id, lambda c: all(leg.ended for leg in c.legs))
    assert [ringback.api(f"uuid_exists {uuid}") for uuid in legs] == ["false", "false"]
