"""A pool that follows switches as they come, move and go."""

from collections.abc import Iterator

import gevent
import pytest
from gevent.queue import Queue
from scripted_switch import LIMIT

from freeswitch.address import SwitchAddress
from freeswitch.pool import SwitchPool
from freeswitch.simulator import Simulator


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    with gevent.Timeout(LIMIT):
        yield


def address(name: str, simulator: Simulator, **options: float) -> SwitchAddress:
    host, port = simulator.host, simulator.port
    return SwitchAddress(name, host, port, password="ClueCon", **options)  # type: ignore[arg-type]


def test_switches_come_move_and_go() -> None:
    ups, downs, asked = Queue(), Queue(), []
    with Simulator() as one, Simulator() as two:

        def unknown() -> None:
            asked.append(True)
            pool.follow([address("a", one), address("b", two)])

        pool = SwitchPool(
            (),
            on_up=lambda link: ups.put((link.address.name, link.core_uuid)),
            on_down=downs.put,
            on_unknown=unknown,
        )
        pool.start()
        assert pool.ready() == [] and pool.connected == {}
        pool.follow([address("a", one)])
        first = ups.get(timeout=LIMIT)
        link = pool.get("a")
        assert link is not None and pool.ready() == ["a"]
        # A job may ask for a switch that was added a moment ago.
        found = pool.reach("b")
        assert asked and found is not None and ups.get(timeout=LIMIT)[0] == "b"
        # Other limits are no reason to connect again; another place is.
        pool.follow([address("a", one, legs_per_second=5.0), address("b", two)])
        assert pool.get("a") is link and link.address.legs_per_second == 5.0
        assert pool.connected == {"a": True, "b": True} and downs.empty()
        pool.follow([address("a", two)])
        assert {downs.get(timeout=LIMIT) for _ in "ab"} == {"a", "b"}
        moved = ups.get(timeout=LIMIT)
        assert moved[0] == "a" and moved[1] not in (None, first[1])
        assert pool.get("b") is None and pool.connected == {"a": True}
        pool.stop()
