"""A connection that is kept open, against a switch that ends it in every way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag
from gevent.queue import Queue
from scripted_switch import CHALLENGE, CORE, LIMIT, SHORT, Peer, Switch, stay_silent, switch

from freeswitch import connection as connection_module
from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.errors import CommandTimeout, NotConnected
from freeswitch.events import Event
from freeswitch.simulator.hostile import KINDS


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    with gevent.Timeout(LIMIT):
        yield


class Watch:
    """Callbacks of a SwitchConnection that can be waited for."""

    def __init__(self) -> None:
        self.calls: Queue = Queue()

    def on_event(self, event: Event) -> None:
        self.calls.put(("event", event.name))

    def on_up(self, connection: SwitchConnection) -> None:
        self.calls.put(("up", connection.core_uuid))

    def on_down(self, reason: str) -> None:
        self.calls.put(("down", reason))

    def next(self) -> tuple[str, str]:
        call: tuple[str, str] = self.calls.get(timeout=LIMIT)
        return call

    def wait_for(self, call: tuple[str, str]) -> None:
        """Pass over all calls before this one."""
        while self.next() != call:
            pass


def connection_to(server: Switch, **options: Any) -> SwitchConnection:
    return SwitchConnection(
        SwitchAddress("a", server.host, server.port, password="ClueCon"),
        events=("CHANNEL_ANSWER", "BACKGROUND_JOB"),
        filters=(("variable_call_id", "/.+/"), ("Event-Name", "BACKGROUND_JOB")),
        **{"timeout": LIMIT, "heartbeat": LIMIT, "min_delay": 0.001, "max_delay": 0.01, **options},
    )


@contextmanager
def kept(server: Switch, watch: Watch, **options: Any) -> Iterator[SwitchConnection]:
    connection = connection_to(
        server, on_event=watch.on_event, on_up=watch.on_up, on_down=watch.on_down, **options
    )
    connection.start()
    try:
        yield connection
    finally:
        connection.stop()
        assert not connection.up


SUBSCRIPTION = [
    "api global_getvar core_uuid",
    "filter variable_call_id /.+/",
    "filter Event-Name BACKGROUND_JOB",
    "event json CHANNEL_ANSWER BACKGROUND_JOB",
]


def accept(peer: Peer) -> None:
    """Log in and take the subscription."""
    peer.login()
    for expected in SUBSCRIPTION:
        assert peer.read() == expected
        if expected.startswith("api "):
            peer.response(CORE)
        else:
            peer.reply("+OK")


def test_it_subscribes_again_on_every_connection() -> None:
    def manners(peer: Peer) -> None:
        accept(peer)
        peer.event("CHANNEL_ANSWER")
        peer.read()

    watch = Watch()
    with switch(manners) as server, kept(server, watch) as connection:
        for _ in range(3):
            assert connection.wait_up(LIMIT)
            calls = {watch.next(), watch.next()}
            assert calls == {("up", CORE), ("event", "CHANNEL_ANSWER")}
            assert connection.core_uuid == CORE
            with pytest.raises(NotConnected, match="end of file"):
                connection.api("the switch dies of it")
            assert not connection.up
            assert watch.next() == ("down", "end of file")
            server.result()


def test_it_takes_every_failure_and_comes_back() -> None:
    def wrong_password(peer: Peer) -> None:
        peer.write(CHALLENGE)
        peer.read()
        peer.reply("-ERR invalid")

    def no_core_uuid(peer: Peer) -> None:
        peer.login()
        peer.read()
        peer.response("-ERR no reply\n")

    def endless_core_uuid(peer: Peer) -> None:
        peer.login()
        peer.read()
        peer.response("[" * 100_000)

    def no_permission(peer: Peer) -> None:
        peer.login()
        peer.read()
        peer.reply("-ERR permission denied")

    def good(peer: Peer) -> None:
        accept(peer)
        stay_silent(peer)

    def not_an_event_socket(peer: Peer) -> None:
        peer.write(b"SSH-2.0\n\n")

    failures: Iterator[Callable[[Peer], object]] = iter(
        [
            *(Peer.login, not_an_event_socket, wrong_password),
            *(no_core_uuid, endless_core_uuid, no_permission),
        ]
    )

    def manners(peer: Peer) -> None:
        next(failures, good)(peer)

    watch = Watch()
    with switch(manners) as server, kept(server, watch) as connection:
        assert connection.wait_up(LIMIT)
        assert watch.next() == ("up", CORE)  # no on_down without an on_up before it
    assert watch.next() == ("down", "stopped")
    assert watch.calls.empty()


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_switch_sends_the_next_event_is_heard(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    skipped: list[str] = []

    bad = iter([KINDS[kind]()])

    def manners(peer: Peer) -> None:
        accept(peer)
        with suppress(ConnectionError):
            peer.write(next(bad, b""))
            peer.event("CHANNEL_ANSWER")
            peer.serve()

    watch = Watch()
    # The bytes that complete half a frame come with the next sign of life.
    with (
        switch(manners) as server,
        kept(server, watch, heartbeat=SHORT, on_skipped=skipped.append) as connection,
    ):
        watch.wait_for(("event", "CHANNEL_ANSWER"))
        assert connection.wait_up(LIMIT)
        bad_events = {"nested", "no-json", "no-texts", "no-event", "half"}
        assert skipped == ["unreadable"] * (kind in bad_events) + ["too large"] * (kind == "large")
        assert ("skipped an event" in caplog.text) == bool(skipped)


def test_a_reply_behind_a_flood_of_events_is_no_sign_of_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "FLOOD", 10)
    asked = 0

    def manners(peer: Peer) -> None:
        nonlocal asked
        accept(peer)
        while peer.read():
            asked += 1
            # The first two signs of life get events and no reply, the third gets nothing.
            for _ in range(10 if asked < 3 else 0):
                peer.event("CHANNEL_ANSWER")

    watch = Watch()
    with switch(manners) as server, kept(server, watch, heartbeat=SHORT, timeout=SHORT):
        calls = [watch.next() for _ in range(22)]
    assert sorted(calls)[:1] + sorted(calls)[-1:] == [
        ("down", "api global_getvar: no reply within 0.1 s"),
        ("up", CORE),
    ]
    assert calls.count(("event", "CHANNEL_ANSWER")) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_switch_sends_commands_go_through(kind: str) -> None:
    bad = iter([KINDS[kind]()])

    def manners(peer: Peer) -> None:
        accept(peer)
        with suppress(ConnectionError):
            peer.write(next(bad, b""))
            peer.serve()

    with switch(manners) as server:
        connection = connection_to(server, heartbeat=SHORT)
        connection.start()
        answer = None
        while answer != "status":
            gevent.sleep(0.001)
            # Half a frame takes the next reply for its rest.
            with suppress(NotConnected, CommandTimeout):
                answer = connection.api("status", timeout=SHORT)
        connection.stop()


def test_a_half_open_link_is_noticed() -> None:
    replies = False

    def manners(peer: Peer) -> None:
        accept(peer)
        (Peer.serve if replies else stay_silent)(peer)

    watch = Watch()
    with switch(manners) as server, kept(server, watch, timeout=1.0, heartbeat=SHORT):
        # On a busy machine, connecting may take longer than the timeout, and is tried again.
        watch.wait_for(("down", "api global_getvar: no reply within 1.0 s"))
        replies = True
        watch.wait_for(("up", CORE))


def test_while_down_commands_say_why() -> None:
    with switch(stay_silent) as server:
        pass
    connection = connection_to(server)
    assert not connection.wait_up(0)
    with pytest.raises(NotConnected, match="a is down: not started"):
        connection.api("status")
    connection.start()
    connection.start()
    assert not connection.wait_up(SHORT)
    for call in (
        lambda: connection.api("status"),
        lambda: connection.bgapi("status", "job-1"),
    ):
        with pytest.raises(NotConnected, match=r"a is down: .*refused"):
            call()
    connection.stop()
    connection.stop()


def test_an_on_up_that_raises_is_tried_again() -> None:
    calls: Queue = Queue()
    errors = iter([KeyError("redis"), gevent.Timeout(1)])

    def on_up(connection: SwitchConnection) -> None:
        assert connection.up
        calls.put(connection.api("show channels as json"))
        if error := next(errors, None):
            raise error

    def manners(peer: Peer) -> None:
        accept(peer)
        peer.serve()

    with switch(manners) as server:
        connection = connection_to(server, on_up=on_up, on_down=calls.put)
        connection.start()
        order = [calls.get(timeout=LIMIT) for _ in range(5)]
        connection.stop()
    assert order[0::2] == ["show channels as json"] * 3
    assert "KeyError" in order[1]
    assert "Timeout" in order[3] or "1 second" in order[3]


@pytest.mark.parametrize("where", ["on_event", "on_up", "on_down"])
def test_stop_from_a_callback(where: str) -> None:
    stopped = Flag()
    connection: SwitchConnection

    def stop(_: object) -> None:
        connection.stop()
        stopped.set()

    def manners(peer: Peer) -> None:
        accept(peer)
        if where == "on_event":
            peer.event("CHANNEL_ANSWER")
        if where != "on_down":
            stay_silent(peer)

    with switch(manners) as server:
        # Waiting for itself would strike the limit of the test first.
        connection = connection_to(server, timeout=LIMIT * 2, **{where: stop})
        connection.start()
        keeper = connection._keeper
        stopped.wait()
        assert keeper is not None
        keeper.join()
        assert not connection.up
        server.result()


@pytest.mark.parametrize("bad", [{"events": ("A\nB",)}, {"filters": (("a", "b\n\napi c"),)}])
def test_a_subscription_with_a_line_break_is_refused(bad: dict[str, tuple[str]]) -> None:
    with pytest.raises(ValueError):
        SwitchConnection(SwitchAddress("a", "h", password="p"), **bad)  # type: ignore[arg-type]


def test_a_half_open_link_is_given_up_though_commands_never_cease() -> None:
    def manners(peer: Peer) -> None:
        accept(peer)
        stay_silent(peer)

    watch = Watch()
    with switch(manners) as server, kept(server, watch) as connection:
        assert watch.next() == ("up", CORE)
        waiting = gevent.spawn(connection.api, "status")
        gevent.idle()
        with pytest.raises(CommandTimeout):
            connection.api("status", timeout=SHORT)
        lost = f"no sign of life: api status: no reply within {SHORT} s"
        assert watch.next() == ("down", lost)
        with pytest.raises(NotConnected, match=lost):
            waiting.get()
