"""What a leader says of its switch, on a simulated switch."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from app.settings import Settings
from app.store.pace import Limit
from app.store.steering import Steer, SteerStore
from app.store.switches import SwitchStore
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.simulator import Simulator
from tests.freeswitch.simulator.blocking_client import Client
from workers.listener import steering
from workers.listener.steering import FIRST_SHARE, SAMPLES, Steering
from workers.listener.window import FIRST
from workers.runtime import Runtime

LIMIT = Limit(30.0, 20_000)


class Led:
    """A switch, and what its leader says of it at each look."""

    def __init__(self, settings: Settings, port: int) -> None:
        address = SwitchAddress("s", "127.0.0.1", port, password="ClueCon")
        self.link = SwitchConnection(address)
        self.runtime = Runtime.create(settings)
        self.steers = SteerStore(self.runtime.redis, self.runtime.keys)
        self.switches = SwitchStore(self.runtime.redis, self.runtime.keys)
        self.link.start()
        assert self.link.wait_up(30.0)
        self.steering = Steering(self.runtime, self.link)
        self.steering.begin()

    def says(self, *, hears: bool = True, limit: Limit | None = LIMIT, core: str = "c") -> Steer:
        # It asks at once.
        self.steering.refused()
        self.steering.look(hears=hears, core=core, limit=limit)
        found = self.steers.get("s")
        assert found is not None
        return found

    def aged(self, seconds: float) -> None:
        """The switch is no longer new."""
        self.steering._since = self.runtime.store.now() - seconds


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=50) as simulator:
        yield simulator


@pytest.fixture
def led(redis: Redis, settings: Settings, simulator: Simulator) -> Iterator[Led]:
    led = Led(settings, simulator.port)
    yield led
    led.link.stop()


@pytest.fixture
def operator(simulator: Simulator) -> Iterator[Client]:
    client = Client(simulator.port)
    yield client
    client.close()


def test_nothing_is_said_before_the_limits_are_known(led: Led) -> None:
    led.steering.look(hears=True, core="c", limit=None)
    assert led.steers.get("s") is None
    assert led.says().closed == ""


def test_a_new_switch_gets_its_share_by_and_by(led: Led) -> None:
    led.runtime.redis.hset(led.runtime.keys.switches, "s", '{"weight": 50, "slow_start": 20}')
    led.says()
    assert led.says().weight == 50 * FIRST_SHARE
    led.aged(10)
    assert led.says().weight == pytest.approx(25, abs=1)
    led.aged(20)
    assert led.says().weight == 50
    # Another leader goes on with it, and a new run of the switch is new.
    another = Steering(led.runtime, led.link)
    another.begin()
    led.steering = another
    assert led.says().weight == 50
    assert led.says(core="d").weight == 50 * FIRST_SHARE


def test_a_switch_is_back_after_it_was_away(led: Led, monkeypatch: pytest.MonkeyPatch) -> None:
    led.says()
    led.aged(100)
    assert led.says(hears=False, limit=None).closed == "unreachable"
    assert led.says().weight == 100
    monkeypatch.setattr(steering, "AWAY", -steering.LASTS - 1)
    assert led.says().weight == 100 * FIRST_SHARE


def test_what_an_operator_tells_the_switch_itself(led: Led, operator: Client) -> None:
    switch: Any = {"up_since": 1}
    led.runtime.redis.hset(led.runtime.keys.switch("s"), mapping=switch)
    led.switches.sign("s", "l", hears=True, at=time.time(), lasts=100)

    def state() -> str:
        led.says()
        return led.switches.get_many(["s"])[0].state

    assert state() == "up"
    operator.command("api fsctl pause inbound")
    assert state() == "up"
    operator.command("api fsctl pause outbound")
    assert led.says().closed == "paused by fsctl"
    assert state() == "paused"
    operator.command("api fsctl resume")
    assert state() == "up"
    operator.command("api originate loopback/00/ringback-sandbox &park()")
    stops = Client(led.link.address.port)
    stops.write("api fsctl shutdown elegant\n\n")
    end = time.monotonic() + 30
    while operator.command("api fsctl shutdown_check") != "true":
        assert time.monotonic() < end
    assert led.says().closed == "shut down by fsctl"
    assert state() == "draining"
    assert led.switches.get_many(["s"])[0].closed == "shut down by fsctl"
    operator.command("api fsctl shutdown cancel")
    assert state() == "up"
    stops.close()


def test_sessions_of_others_and_idle_cpu_count(led: Led, operator: Client) -> None:
    led.says()
    led.aged(100)
    assert led.says().room == 20_000
    operator.command("api fsctl max_sessions 10")
    for _ in range(3):
        operator.command("api originate loopback/00/ringback-sandbox &park()")
    # Sessions that come and go with Ringback's own legs are no others'.
    assert led.says().room == 10
    for _ in range(SAMPLES):
        said = led.says()
    theirs = said.sessions_of_others
    assert theirs is not None and theirs >= 3 and said.room == 10 - theirs
    # Those of Ringback are none.
    led.runtime.redis.sadd(led.runtime.keys.taken("switch:s"), *map(str, range(theirs)))
    led.says()
    assert led.says().room == 10
    assert led.says().weight == 100
    operator.command("api simulator idle 10")
    said = led.says()
    assert (said.idle, said.weight) == (10.0, 50.0)


def test_a_window_where_nobody_has_set_a_limit(led: Led) -> None:
    assert led.says().window is None
    own = Limit(9999.0, 20_000)
    assert led.says(limit=own).window == FIRST
    led.link.address = replace(led.link.address, legs_per_second=0.0)
    assert led.says(limit=Limit(0.0, 20_000)).window is None


def test_a_call_that_is_past_its_setup_leaves_the_window(led: Led) -> None:
    own, keys, redis = Limit(9999.0, 20_000), led.runtime.keys, led.runtime.redis
    at = (led.runtime.store.now() - 5) * 1e6
    redis.hset(keys.call("a"), "state", "dialing")
    redis.hset(keys.call("b"), "state", "ended")
    redis.zadd(keys.setup("s"), {"a": at, "b": at, "c": at})
    for _ in range(3):
        led.says(limit=own)
    assert redis.zrange(keys.setup("s"), 0, -1) == [b"a"]


def test_nobody_leads_any_more(led: Led) -> None:
    led.says()
    led.steering.stop()
    found = led.steers.get("s")
    assert found is not None and found.until <= led.runtime.store.now()
