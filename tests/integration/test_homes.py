"""Calls, phones, rooms and recovered channels of two switches, with the whole of Ringback."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.calls.model import Call, State
from freeswitch.event_socket import EventSocket
from freeswitch.simulator import Simulator
from tests.conftest import eventually
from tests.integration.conftest import Ringback, started
from tests.own_accounts import own_accounts

PHONE, TOKEN = "210@example.com", "the-homes-tests-user-token"


class Two:
    """The whole of Ringback with two switches."""

    def __init__(self, ringback: Ringback, switches: dict[str, Simulator]) -> None:
        self.ringback, self.switches = ringback, switches
        self.redis = ringback.store.redis

    def api(self, name: str, command: str) -> str:
        switch = self.switches[name]
        connection = EventSocket(switch.host, switch.port, switch.password)
        connection.connect()
        try:
            return connection.api(command)
        finally:
            connection.close()

    def placed(self, count: int, kind: str = "simple", **body: object) -> list[Call]:
        """Calls of one request, as they are once they are claimed."""
        status, answer = self.ringback.request("POST", f"@me/{kind}", body, TOKEN)
        assert status == 202, answer
        assert len(answer) == count
        wait = self.ringback.wait_state
        return [wait(each["id"], State.DIALING) for each in answer]

    def originated(self, name: str) -> int:
        return len(self.switches[name].originates)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    accounts: Path = tmp_path_factory.mktemp("homes") / "accounts.toml"
    accounts.write_text(
        own_accounts("the-homes-tests")
        .replace("sofia/gateway/pstn/0003210", f"user/{PHONE}")
        .replace('number = "0003*024"', 'number = "0003*024"\nswitch = "s1"')
    )
    with ExitStack() as stack:
        switches = {name: stack.enter_context(Simulator(speed=4.0)) for name in ("s1", "s2")}
        urls = [f"{name}=esl://:ClueCon@127.0.0.1:{s.port}" for name, s in switches.items()]
        ringback = stack.enter_context(
            started(
                ",".join(urls),
                accounts=accounts,
                reconcile_interval=0.5,
                recover_wait=1.0,
                home_wait=1,
            )
        )
        yield Two(ringback, switches)


def test_a_phone_is_called_at_its_switch(two: Two) -> None:
    assert two.api("s2", f"simulator register {PHONE} 600") == "+OK\n"
    # The other switch has other phones.
    two.api("s1", "simulator register 299@example.com 600")
    keys = two.ringback.store.keys
    eventually(lambda: two.redis.exists(keys.registered(PHONE)) == 1)
    before = two.originated("s1")
    views = [{"source": ["0003*210"], "destination": [f"15{n:03d}"]} for n in range(100, 120)]
    calls = two.placed(20, extension="210", phoneCallView=views)
    assert {call.switch for call in calls} == {"s2"}
    assert two.originated("s1") == before
    # The accounts say where this one is.
    view = {"source": ["15100"], "destination": ["0003*024"]}
    assert [c.switch for c in two.placed(1, extension="210", phoneCallView=[view])] == ["s1"]
    # A phone that has left is at no switch.
    assert two.api("s2", f"simulator unregister {PHONE}") == "+OK\n"
    eventually(lambda: two.redis.hlen(keys.registered(PHONE)) == 0)
    two.api("s2", f"simulator register {PHONE} 600")
    eventually(lambda: two.redis.hlen(keys.registered(PHONE)) == 1)


def test_a_new_leader_reads_what_it_has_not_heard(two: Two) -> None:
    """Registrations that began and ended while nobody listened."""
    redis, keys = two.redis, two.ringback.store.keys
    two.ringback.kill("listener")
    two.api("s2", "simulator register 213@example.com 600")
    redis.hset(keys.registered("214@example.com"), "s2 gone", f"{time.time() + 600:.0f}")
    redis.zadd(keys.registrations("s2"), {"214@example.com gone": time.time() + 600})
    two.ringback.start("listener")
    eventually(lambda: redis.exists(keys.registered("213@example.com")) == 1)
    eventually(lambda: redis.exists(keys.registered("214@example.com")) == 0)


def test_a_room_is_on_one_switch(two: Two) -> None:
    views = [{"source": ["003"], "destination": [f"15{n}"]} for n in range(200, 206)]
    calls = two.placed(
        6, "conferenceInvite?number=3&pin=2233", extension="003", phoneCallView=views
    )
    assert len({call.switch for call in calls}) == 1


def test_a_recovered_switch_keeps_its_talking_calls(two: Two) -> None:
    view = {"source": ["15100"], "destination": ["0003*024"]}
    kept, lost = two.placed(2, extension="210", phoneCallView=[view, view])
    for call in (kept, lost):
        two.ringback.wait_state(call.id, State.BRIDGED)
    two.api("s1", f"uuid_kill {lost.legs[0].uuid}")
    two.ringback.ended(lost.id)
    assert "+OK" in two.api("s1", "simulator crash")
    assert two.api("s1", "sofia recover") != "No calls to recover.\n"
    again = two.ringback.wait(kept.id, lambda call: call.core_uuid != kept.core_uuid)
    assert again.state is State.BRIDGED
    # It ends as it would have done.
    assert two.ringback.request("DELETE", f"@me/@self/{kept.id}", token=TOKEN)[0] == 200
    ended = two.ringback.ended(kept.id)
    assert (ended.ended_by, ended.disposition) == ("api", 0)
    # What a switch does not bring back ends once it has had its time.
    (gone,) = two.placed(1, extension="210", phoneCallView=[view])
    two.ringback.wait_state(gone.id, State.BRIDGED)
    two.api("s1", "simulator crash")
    assert two.ringback.ended(gone.id).ended_by == "switch_restarted"
    assert json.loads(two.api("s1", "show channels as json"))["row_count"] == 0


def test_a_call_whose_switch_is_down_ends(two: Two) -> None:
    two.ringback.store.redis.hset(
        two.ringback.store.keys.switch("s1"), "paused", '{"by": "test", "at": 0.0}'
    )
    try:
        view = {"source": ["15100"], "destination": ["0003*024"]}
        status, answer = two.ringback.request(
            "POST", "@me/simple", {"extension": "210", "phoneCallView": [view]}, TOKEN
        )
        assert status == 202
        ended = two.ringback.ended(answer[0]["id"])
        assert (ended.ended_by, ended.claimed, ended.disposition) == ("home_unavailable", None, 2)
    finally:
        two.redis.hdel(two.ringback.store.keys.switch("s1"), "paused")
