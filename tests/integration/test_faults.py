"""A part dies, a call does not get lost: the listener, the worker, the switch."""

import signal
from collections.abc import Iterator

import pytest

from app.calls import transitions
from app.calls.model import Call, State
from app.store.writes import Note
from tests.conftest import eventually
from tests.integration.conftest import Ringback, started


@pytest.fixture
def ringback(mortal: Ringback) -> Iterator[Ringback]:
    yield mortal
    mortal.heal()


def test_what_happens_without_a_listener_is_found_by_the_next(ringback: Ringback) -> None:
    gone, alive = ringback.place("15500", "15600"), ringback.place("15500", "15601")
    for call_id in (gone, alive):
        ringback.wait_state(call_id, State.BRIDGED)
    ringback.kill("listener")
    assert ringback.api(f"hupall NORMAL_CLEARING ringback_call {gone}").startswith("+OK")
    ringback.start("listener")
    call = ringback.ended(gone)
    assert (call.ended_by, call.disposition) == ("events_lost", 0)
    # The other lives on, and is followed to its own end.
    assert ringback.store.get(alive).state is State.BRIDGED  # type: ignore[union-attr]
    assert ringback.request("DELETE", f"@me/@self/{alive}")[0] == 200
    assert ringback.ended(alive).ended_by == "api"


def test_a_restarted_switch_ends_its_calls(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15600")
    core_uuid = ringback.wait_state(call_id, State.BRIDGED).core_uuid or ""
    ringback.kill("simulator")
    ringback.start("simulator")
    call = ringback.ended(call_id)
    assert (call.ended_by, call.disposition) == ("switch_restarted", 0)
    # Once its events are heard: of a call before that only its absence would be.
    hash_of = ringback.store.redis.hget
    eventually(lambda: hash_of("ringback:switch:simulator", "core_uuid") != core_uuid.encode())
    # The workers have found the new one.
    call = ringback.ended(ringback.place("15500", "15609"))
    assert (call.ended_by, call.hangup_cause) == ("destination", "USER_BUSY")


def test_a_call_whose_worker_died_after_its_claim_is_not_dialled(ringback: Ringback) -> None:
    """Nobody knows whether the dead worker sent it: the switch is asked, nothing is sent."""
    ringback.kill("worker")
    call_id = ringback.place("15500", "15600")
    (core_uuid,) = ringback.store.redis.hmget("ringback:switch:simulator", "core_uuid")
    call = ringback.store.get(call_id)
    assert call is not None

    def claim(current: Call) -> Call:
        return transitions.claim(
            current,
            worker="dead",
            switch="simulator",
            core_uuid=core_uuid.decode(),
            at=ringback.store.now(),
        )

    ringback.store.change(call, claim, Note("command", "claim"))
    ringback.start("worker")
    call = ringback.ended(call_id)
    assert (call.ended_by, call.disposition, call.sent) == ("worker_lost", 4, None)
    assert not [o for o in ringback.originates() if call_id in o["command"]]


def test_channels_of_an_ended_call_are_hung_up(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15600")
    call = ringback.wait_state(call_id, State.BRIDGED)
    fault = transitions.EVENTS_LOST
    # What the listener's cache holds of the call is old by now.
    ringback.store.change(
        call, lambda c: transitions.end(c, fault, at=ringback.store.now()), Note("event", fault)
    )
    legs = [leg.uuid for leg in call.legs]
    # The legs count as ended since the fault.
    eventually(lambda: all(ringback.api(f"uuid_exists {uuid}") == "false" for uuid in legs))


def test_another_listener_takes_over_and_nothing_falls_between(ringback: Ringback) -> None:
    """What ends between the death of one listener and the lead of the next ends as it did."""
    calls = [ringback.place("15500", "15600") for _ in range(10)]
    for call_id in calls:
        ringback.wait_state(call_id, State.BRIDGED)
    first = ringback.stack.processes["listener"]
    ringback.start("listener")
    hearing = ringback.store.keys.switch_listeners("simulator")
    eventually(lambda: ringback.store.redis.zcard(hearing) == 2)
    first.kill()
    assert ringback.api("hupall NORMAL_CLEARING").startswith("+OK")
    ends = {ringback.ended(call_id).ended_by for call_id in calls}
    assert ends == {"switch"}
    for call_id in calls:
        timeline = ringback.store.timeline(call_id)
        states = [entry["name"] for entry in timeline if entry["kind"] == "change"]
        assert states == ["queued", "dialing", "ringing", "answered", "bridged", "ended"]
        # Nor is anything told twice.
        told = [(e["kind"], e["name"], e.get("leg")) for e in timeline if e["kind"] != "event"]
        assert len(told) == len(set(told))


def test_what_the_events_did_not_tell_the_switch_is_asked(ringback: Ringback) -> None:
    ringback.api("simulator drop 1")
    call_id = ringback.place("15500", "15600")
    # Not one event came: the channels themselves have it.
    ringback.wait(call_id, lambda c: all(leg.answered and leg.bridged for leg in c.legs))
    ringback.api("simulator heal")
    assert ringback.request("DELETE", f"@me/@self/{call_id}")[0] == 200
    assert ringback.ended(call_id).ended_by == "api"


def test_a_call_says_that_its_switch_is_out_of_reach(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15600")
    ringback.wait_state(call_id, State.BRIDGED)
    ringback.stack.processes["simulator"].send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: "switchUnreachable" in resource(ringback, call_id))
        assert resource(ringback, call_id)["state"] == "bridged"
    finally:
        ringback.stack.processes["simulator"].send_signal(signal.SIGCONT)
    eventually(lambda: "switchUnreachable" not in resource(ringback, call_id))
    assert resource(ringback, call_id)["state"] == "bridged"


def test_a_call_whose_job_was_lost_is_dialled(ringback: Ringback) -> None:
    """As by a worker that died between taking it from the queue and reading it."""
    worker = ringback.stack.processes["worker"]
    worker.send_signal(signal.SIGSTOP)
    call_id = ringback.place("15500", "15609")
    # It may have been handed to the stopped worker already, which then does nothing with it.
    ringback.store.redis.delete("rq:queue:ringback-calls")
    ringback.kill("worker")
    ringback.start("worker")
    assert ringback.ended(call_id).hangup_cause == "USER_BUSY"
    assert len([o for o in ringback.originates() if call_id in o["command"]]) == 1


def test_without_the_replicas_that_a_claim_needs_nothing_is_dialled() -> None:
    with started(None, wait_replicas=1) as ringback:
        status, answer = ringback.request(
            "POST",
            "@me/simple",
            {
                "extension": "210",
                "nonce": "n1",
                "phoneCallView": [{"source": "15500", "destination": "15609"}],
            },
        )
        assert (status, answer["error"]["code"]) == (503, "outcome_unknown")
        (call,) = ringback.store.by_nonce("demo-user", "n1")
        call = ringback.ended(call.id)
        assert (call.ended_by, call.disposition, call.sent) == ("not_replicated", 2, None)
        assert ringback.originates() == []


def resource(ringback: Ringback, call_id: str) -> dict[str, object]:
    status, answer = ringback.request("GET", f"@me/@self/{call_id}")
    assert status == 200
    found: dict[str, object] = answer["entry"][0]
    return found


def test_a_redis_that_comes_back_empty_lifts_no_limit(ringback: Ringback) -> None:
    """What talks on counts towards the switch's limit, until it is over."""
    redis, keys = ringback.store.redis, ringback.store.keys
    limit = redis.hget(keys.limits, "switch:simulator")
    forgotten = ringback.place("15500", "15600")
    ringback.wait_state(forgotten, State.BRIDGED)
    redis.flushall()
    eventually(lambda: redis.hget(keys.limits, "switch:simulator") == limit)
    # The API writes accounts and limits with the first request.
    call_id = ringback.place("15500", "15601")
    ringback.wait_state(call_id, State.BRIDGED)
    assert redis.hexists(keys.limits, "mark")
    counted = keys.taken("switch:simulator")
    eventually(lambda: redis.scard(counted) == 4)
    assert ringback.api(f"hupall NORMAL_CLEARING ringback_call {forgotten}").startswith("+OK")
    eventually(lambda: redis.scard(counted) == 2)
    assert ringback.request("DELETE", f"@me/@self/{call_id}")[0] == 200
    ringback.ended(call_id)
    eventually(lambda: redis.scard(counted) == 0)
