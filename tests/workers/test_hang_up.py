"""What the switch is told to hang up, and what the timeline says of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import gevent
import pytest
from redis import Redis

from app.calls import transitions
from app.calls.model import Call
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.writes import Note
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from tests.freeswitch.scripted_switch import CORE, LIMIT, Peer, switch
from tests.workers.test_leg_reports import feed, read
from workers.hang_up import hang_up_leg, hang_up_unwanted, try_to_hang_up


class Told:
    """What a switch was told on its event socket. It has every channel but those named here."""

    def __init__(self, gone: tuple[str, ...] = ()) -> None:
        self.gone = gone
        self.commands: list[str] = []

    def serve(self, peer: Peer) -> None:
        peer.login()
        while command := peer.read().removeprefix("api "):
            if command == "global_getvar core_uuid":
                peer.response(CORE)
                continue
            self.commands.append(command)
            there = not any(uuid in command for uuid in self.gone)
            peer.response("+OK" if there else "-ERR No such channel!")


@contextmanager
def connected(told: Told) -> Iterator[SwitchConnection]:
    with gevent.Timeout(LIMIT), switch(told.serve) as server:
        address = SwitchAddress("s", server.host, server.port, password="ClueCon")
        link = SwitchConnection(address, timeout=LIMIT, heartbeat=LIMIT)
        link.start()
        try:
            assert link.wait_up(LIMIT)
            yield link
        finally:
            link.stop()


@pytest.fixture
def store(redis: Redis) -> CallStore:
    return CallStore(redis, Keys())


@pytest.fixture
def call(store: CallStore) -> Call:
    """A call of two legs that talk."""
    fresh, events = read("ring-all-bridge-far-hangup")
    (accepted,) = Acceptor(store).accept([fresh], lambda *_: None).calls
    bridge = next(n for n, event in enumerate(events) if event.name == "CHANNEL_BRIDGE")
    talking = feed(accepted, events[: bridge + 1])
    return store.change(accepted, lambda _: talking, Note("event", "talks"))


def notes(store: CallStore, call: Call) -> list[tuple[str, str | None]]:
    timeline = store.timeline(call.id)
    return [(e["name"], e.get("leg")) for e in timeline if e["kind"] == "command"]


def test_a_call_that_a_client_wants_ended(store: CallStore, call: Call) -> None:
    told = Told()
    with connected(told) as link:
        assert hang_up_unwanted(store, link, transitions.request_hangup(call, at=1.0))
    assert told.commands == [f"hupall NORMAL_CLEARING ringback_call {call.id}"]
    assert notes(store, call) == [("hupall", None)]


def test_a_party_that_a_client_wants_out(store: CallStore, call: Call) -> None:
    told = Told()
    leg = next(leg for leg in call.legs if leg.live)
    marked = call.with_leg(replace(leg, hangup_requested=1.0))
    with connected(told) as link:
        assert hang_up_unwanted(store, link, marked)
    assert told.commands == [f"uuid_kill {leg.uuid} NORMAL_CLEARING"]
    assert notes(store, call) == [("uuid_kill", leg.id)]


def test_nothing_is_unwanted(store: CallStore, call: Call) -> None:
    told = Told()
    with connected(told) as link:
        assert not hang_up_unwanted(store, link, call)
    assert (told.commands, notes(store, call)) == ([], [])


def test_a_channel_that_is_gone_leaves_no_note(store: CallStore, call: Call) -> None:
    leg = call.legs[0]
    told = Told(gone=(leg.uuid,))
    with connected(told) as link:
        hang_up_leg(store, link, call, leg)
    assert told.commands == [f"uuid_kill {leg.uuid} NORMAL_CLEARING"]
    assert notes(store, call) == []


def test_a_switch_that_is_down(store: CallStore, call: Call) -> None:
    link = SwitchConnection(SwitchAddress("s", "127.0.0.1", 1, password="ClueCon"))
    try_to_hang_up(store, link, transitions.request_hangup(call, at=1.0))
    assert notes(store, call) == []
