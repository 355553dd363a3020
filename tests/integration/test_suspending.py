"""What is suspended while calls go on and others wait, through the whole stack."""

from collections.abc import Iterator

import pytest

from app.accounts.model import Suspension
from app.accounts.suspension import Suspensions
from app.calls.model import State
from tests.conftest import eventually
from tests.integration.conftest import Ringback
from tests.integration.test_cli import Run, run

__all__ = ["run"]


@pytest.fixture(autouse=True)
def resumed(ringback: Ringback, run: Run) -> Iterator[None]:
    yield
    run("organizations", "resume", "0003")
    run("switch", "resume", name_of(ringback))
    eventually(lambda: place(ringback) == 202)


def name_of(ringback: Ringback) -> str:
    switches = ringback.store.redis.hkeys(ringback.store.keys.limits)
    (name,) = (each for each in switches if each.startswith(b"switch:"))
    return str(name.decode().partition(":")[2])


def place(ringback: Ringback) -> int:
    body = {"extension": "210", "phoneCallView": [{"source": "15509", "destination": "15500"}]}
    return ringback.request("POST", "@me/simple", body)[0]


def test_live_calls_end_and_new_ones_are_refused(ringback: Ringback, run: Run) -> None:
    talk = ringback.wait_state(ringback.place("0003*210", "15600"), State.BRIDGED)
    result = run("organizations", "suspend", "0003", "--why", "unpaid")
    assert result.exit_code == 0, result.output
    eventually(lambda: place(ringback) == 403)
    # Its live calls go on, without actions.
    path, hold = f"@me/@self/{talk.id}", {"action": "OnHold", "phoneCallViewId": "00"}
    status, answer = ringback.request("PUT", path, hold)
    assert (status, answer["error"]["code"]) == (403, "organization_suspended")
    call = ringback.store.get(talk.id)
    assert call is not None and call.state is State.BRIDGED
    result = run("organizations", "suspend", "0003", "--hang-up")
    assert result.stdout == "organization 0003 is suspended. 1 calls ended.\n"
    ended = ringback.ended(talk.id)
    assert (ended.ended_by, ended.disposition) == ("api", 0)
    assert (ended.actions[0].action, ended.actions[0].app) == ("HangUp", "@command-line")


def test_a_call_that_waits_is_not_dialled_any_more(ringback: Ringback, run: Run) -> None:
    switch = name_of(ringback)
    assert run("switch", "pause", switch).exit_code == 0
    call_id = ringback.place("15500", "15600")
    suspensions = Suspensions(ringback.store.redis, ringback.store.keys)
    suspensions.add("organization:0003", Suspension("test", ringback.store.now()))
    eventually(lambda: place(ringback) == 403)
    assert run("switch", "resume", switch).exit_code == 0
    call = ringback.ended(call_id)
    assert (call.ended_by, call.disposition) == ("policy", 5)
    assert not any(leg.created for leg in call.legs)
    told = [entry.get("data", "") for entry in ringback.store.timeline(call_id)]
    assert any("The organization 0003 is suspended." in text for text in told)
