"""One event socket against a switch with bad manners."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import gevent
import greenswitch
import pytest
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from gevent.queue import Queue
from scripted_switch import CHALLENGE, LIMIT, NOTICE, SHORT, Peer, stay_silent, switch

from freeswitch import event_socket
from freeswitch.errors import (
    AuthenticationFailed,
    CommandRefused,
    CommandTimeout,
    ConnectFailed,
    EventSocketError,
    NotConnected,
)
from freeswitch.event_socket import AT_ONCE, Batching, EventSocket
from freeswitch.events import Event


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    with gevent.Timeout(LIMIT):
        yield


@contextmanager
def connected(
    manners: Callable[[Peer], object],
    on_event: Callable[[Event], object] | None = None,
    on_close: Callable[[str], object] | None = None,
    on_events: Callable[[list[Event]], object] | None = None,
    batching: Batching = AT_ONCE,
) -> Iterator[EventSocket]:
    """An event socket that has logged in; `manners` goes on from there."""

    def log_in_first(peer: Peer) -> object:
        peer.login()
        return manners(peer)

    with switch(log_in_first) as server:
        esl = EventSocket(
            server.host,
            server.port,
            "ClueCon",
            timeout=LIMIT,
            on_event=on_event,
            on_events=on_events,
            batching=batching,
            on_close=on_close,
        )
        esl.connect()
        try:
            yield esl
        finally:
            esl.close()
            assert_nothing_left(esl)
        server.result()


def assert_nothing_left(esl: EventSocket) -> None:
    for greenlet in (esl._receive_events_greenlet, esl._process_events_greenlet):
        if greenlet is not None:
            greenlet.join()
    assert not esl.connected
    assert esl.sock is None or esl.sock.fileno() == -1
    assert not esl._commands_sent


# --- connecting


def fail_to_connect(manners: Callable[[Peer], object], timeout: float = LIMIT) -> ConnectFailed:
    closed: list[str] = []
    with switch(manners) as server:
        esl = EventSocket(
            server.host, server.port, "ClueCon", timeout=timeout, on_close=closed.append
        )
        with pytest.raises(ConnectFailed) as caught:
            esl.connect()
        assert_nothing_left(esl)
        server.result()
    assert closed == []
    assert "ClueCon" not in str(caught.value)
    with pytest.raises(NotConnected):
        esl.api("status")
    return caught.value


def test_wrong_password() -> None:
    def refuse(peer: Peer) -> None:
        peer.write(CHALLENGE)
        peer.read()
        peer.reply("-ERR invalid")
        peer.write(NOTICE)

    assert isinstance(fail_to_connect(refuse), AuthenticationFailed)


def test_rude_rejection() -> None:
    body = b"Access Denied, go away.\n"

    def reject(peer: Peer) -> None:
        head = b"Content-Type: text/rude-rejection\nContent-Length: %d\n\n"
        peer.write(head % len(body) + body)

    error = fail_to_connect(reject)
    assert not isinstance(error, AuthenticationFailed)
    assert "rude-rejection: Access Denied" in str(error)


@pytest.mark.parametrize("greeting", [b"", b"Content-Ty", CHALLENGE])
def test_end_of_file_before_the_login_is_done(greeting: bytes) -> None:
    fail_to_connect(lambda peer: peer.write(greeting))


@pytest.mark.parametrize("greeting", [b"", b"Content-Ty", CHALLENGE])
def test_silence_before_the_login_is_done(greeting: bytes) -> None:
    def stall(peer: Peer) -> None:
        peer.write(greeting)
        stay_silent(peer)

    assert f"{SHORT} s" in str(fail_to_connect(stall, timeout=SHORT))


def test_talk_without_a_challenge_does_not_stretch_the_time_limit() -> None:
    def chatter(peer: Peer) -> None:
        with suppress(OSError):
            while True:
                peer.write(b"Content-Type: log/data\n\n" * 100)

    assert f"{SHORT} s" in str(fail_to_connect(chatter, timeout=SHORT))


def test_not_an_event_socket() -> None:
    assert "bad frame" in str(fail_to_connect(lambda peer: peer.write(b"SSH-2.0-x\r\n\n\n")))


def test_nothing_listens() -> None:
    with switch(stay_silent) as server:
        pass
    esl = EventSocket("127.0.0.1", server.port, "ClueCon")
    with pytest.raises(ConnectFailed, match="refused"):
        esl.connect()
    assert_nothing_left(esl)


@pytest.mark.parametrize("host", ["nosuch.invalid", "x" * 70 + ".invalid", "a..b"])
def test_a_name_without_address(host: str) -> None:
    with pytest.raises(ConnectFailed):
        EventSocket(host, 8021, "ClueCon").connect()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6() -> None:
    def manners(peer: Peer) -> None:
        peer.login()
        peer.serve()

    try:
        context = switch(manners, "::1")
        server = context.__enter__()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with EventSocket(server.host, server.port, "ClueCon") as esl:
        assert esl.api("status") == "status"
    server.result()
    context.__exit__(None, None, None)


def test_login_as_a_user() -> None:
    def manners(peer: Peer) -> None:
        peer.login("userauth me@example.com:ClueCon")
        peer.serve()

    with (
        switch(manners) as server,
        EventSocket(server.host, server.port, "ClueCon", user="me@example.com") as esl,
    ):
        assert esl.connected


def test_a_password_with_a_line_break_is_refused() -> None:
    for user, password in ((None, "Clue\n\nCon"), ("Clue\n", "ClueCon")):
        with pytest.raises(ValueError, match="line break") as caught:
            EventSocket("127.0.0.1", 8021, password, user=user)
        assert "Clue" not in str(caught.value)


def test_it_connects_once() -> None:
    with connected(stay_silent) as esl, pytest.raises(RuntimeError):
        esl.connect()


# --- commands


def test_what_goes_over_the_wire() -> None:
    commands = AsyncResult()
    with connected(lambda peer: commands.set(peer.serve())) as esl:
        assert esl.command("event json CHANNEL_CREATE").text == "+OK"
        assert esl.command("sendmsg x", {"call-command": "hangup", "a": ""}).text == "+OK"
        assert esl.api("eval é") == "eval é"
        assert esl.send("sendmsg x\ncall-command: hangup").headers["Reply-Text"] == "+OK"
        assert esl.send("api status").data == "status"
        # The scripted switch names no job: this may be the reply of any command.
        with pytest.raises(NotConnected, match="another command"):
            esl.bgapi("status", "job-1")
    assert commands.get() == [
        "event json CHANNEL_CREATE",
        "sendmsg x\ncall-command: hangup\na: ",
        "api eval é",
        "sendmsg x\ncall-command: hangup",
        "api status",
        "bgapi status\nJob-UUID: job-1",
    ]


def test_refusals() -> None:
    def refuse(peer: Peer) -> None:
        peer.read()
        peer.reply("-ERR command not found")
        peer.read()
        peer.response("-ERR no such channel\n")
        peer.read()
        peer.reply("-ERR permission denied")
        peer.read()
        peer.reply("+OK Job-UUID: job-1")
        peer.read()
        peer.reply("-ERR permission denied")
        peer.read()
        peer.reply("-ERR command not found")
        stay_silent(peer)

    with connected(refuse) as esl:
        with pytest.raises(CommandRefused, match="not found") as caught:
            esl.command("nosuch")
        assert str(caught.value) == "-ERR command not found"
        assert esl.api("uuid_kill x") == "-ERR no such channel\n"
        with pytest.raises(CommandRefused, match="permission"):
            esl.api("system x")
        esl.bgapi("status", "job-1")
        with pytest.raises(CommandRefused, match="permission"):
            esl.bgapi("status", "job-1")
        assert esl.send("nosuch").data == "-ERR command not found"


def test_every_greenlet_gets_its_own_reply() -> None:
    def work(number: int) -> None:
        for turn in range(20):
            text = f"{number} {turn} " + "x" * (100_000 if turn == number % 20 else turn)
            assert esl.api(text) == text

    with connected(Peer.serve) as esl:
        # The long commands do not go out at once, and wait half written.
        esl.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        greenlets = [gevent.spawn(work, number) for number in range(50)]
        gevent.joinall(greenlets, raise_error=True)


def test_a_late_reply_goes_to_nobody_else() -> None:
    go_on = Flag()

    def late(peer: Peer) -> None:
        first = peer.read()
        second = peer.read()
        go_on.wait()
        peer.response(first)
        peer.response(second)
        stay_silent(peer)

    with connected(late) as esl:
        with pytest.raises(CommandTimeout, match="api eval: no reply") as caught:
            esl.api("eval secret", timeout=SHORT)
        assert "secret" not in str(caught.value)
        second = gevent.spawn(esl.api, "second")
        gevent.idle()
        go_on.set()
        assert second.get() == "api second"
        assert esl.connected


def test_a_time_limit_of_the_caller_passes_through() -> None:
    with connected(stay_silent) as esl:
        with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(SHORT) as own:
            esl.api("status")
        assert caught.value is own
        assert esl.connected


def test_half_a_command_on_the_wire_ends_the_connection() -> None:
    stop = Flag()

    with connected(lambda peer: stop.wait()) as esl:
        waiting = gevent.spawn(esl.api, "status")
        gevent.idle()
        with pytest.raises(CommandTimeout):  # nobody reads: it cannot all be written
            esl.api("x" * 20_000_000, timeout=SHORT)
        assert not esl.connected
        with pytest.raises(NotConnected, match="write failed"):
            waiting.get()
        with pytest.raises(NotConnected, match="write failed"):
            esl.api("status")
        stop.set()


@pytest.mark.parametrize("bad", ["\n", "\r", "\0", "\n\n", "a\nb", "\nJob-UUID: forged"])
def test_a_line_break_is_refused_before_anything_is_sent(bad: str) -> None:
    commands = AsyncResult()
    with connected(lambda peer: commands.set(peer.serve())) as esl:
        for call in (
            lambda: esl.command(f"api {bad}"),
            lambda: esl.command("sendmsg x", {"a": bad}),
            lambda: esl.command("sendmsg x", {bad: "a"}),
            lambda: esl.command("sendmsg x", {f"a{bad}": "a"}),
            lambda: esl.api(f"status{bad}"),
            lambda: esl.bgapi(f"status{bad}", "job-1"),
            lambda: esl.bgapi("status", f"job-1{bad}"),
            lambda: esl.send(f"api status\n\n{bad}"),
        ):
            with pytest.raises(ValueError):
                call()
        assert esl.api("still here") == "still here"
    assert commands.get() == ["api still here"]


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("", {}),
        (" ", {}),
        ("sendmsg x", {"": "a"}),
        ("sendmsg x", {"a: b": "c"}),
        ("sendmsg x", {"a b": "c"}),
        ("sendmsg x", {"content-LENGTH": "1"}),
    ],
)
def test_what_is_no_command(line: str, headers: dict[str, str]) -> None:
    with connected(stay_silent) as esl, pytest.raises(ValueError):
        esl.command(line, headers)


def test_a_long_job_uuid_would_break_the_framing_of_the_reply() -> None:
    with connected(stay_silent) as esl:
        for job_uuid in ("", "a b", "é", "j" * 129):
            with pytest.raises(ValueError, match="Job-UUID"):
                esl.bgapi("status", job_uuid)


def test_errors_for_those_who_know_greenswitch() -> None:
    esl = EventSocket("127.0.0.1", 1, "ClueCon")
    assert isinstance(esl, greenswitch.InboundESL)
    with pytest.raises(greenswitch.esl.NotConnectedError):
        esl.send("api status")
    with pytest.raises(NotImplementedError):
        esl.register_handle("*", print)
    assert issubclass(NotConnected, EventSocketError)


# --- the end of a connection


@pytest.mark.parametrize(
    ("last_words", "reason"),
    [
        (b"", "end of file"),
        (b"Content-Type: comm", "end of file"),
        (b"Content-Type: api/response\nContent-Length: 100\n\nhalf", "end of file"),
        (b"no header\n\n", "bad frame: not a `key: value` header line"),
        (b"Content-Type: api/response\nContent-Length: x\n\n", "bad frame: Content-Length"),
        (NOTICE, "disconnect-notice: Goodbye"),
    ],
)
def test_the_end_wakes_everyone_and_is_told_once(last_words: bytes, reason: str) -> None:
    closed: Queue = Queue()

    def manners(peer: Peer) -> None:
        for _ in range(20):
            peer.read()
        peer.write(last_words)

    with connected(manners, on_close=closed.put) as esl:
        waiting = [gevent.spawn(esl.api, "status") for _ in range(20)]
        for greenlet in waiting:
            with pytest.raises(NotConnected, match=reason):
                greenlet.get()
        assert not esl.connected
        assert closed.get(timeout=LIMIT).startswith(reason)
    assert closed.empty()


def test_a_reply_to_no_command_ends_the_connection() -> None:
    def manners(peer: Peer) -> None:
        peer.reply("+OK")
        stay_silent(peer)

    closed = AsyncResult()
    with connected(manners, on_close=closed.set):
        assert closed.get() == "a reply to no command"


def test_a_reader_that_fails_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("Content-Type")

    closed = AsyncResult()
    with connected(Peer.serve, on_close=closed.set) as esl:
        monkeypatch.setattr(esl, "handle_event", fail)
        with pytest.raises(NotConnected, match="read failed: KeyError"):
            esl.api("status")
        assert "KeyError" in closed.get()


def test_a_handler_that_ends_its_greenlet_ends_the_connection() -> None:
    def on_event(_: Event) -> None:
        raise gevent.GreenletExit

    def manners(peer: Peer) -> None:
        peer.event("CHANNEL_ANSWER")
        stay_silent(peer)

    closed = AsyncResult()
    with connected(manners, on_event, closed.set):
        assert closed.get() == "events are not handled any more"


def test_skipped_events_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    skipped: list[str] = []

    def manners(peer: Peer) -> None:
        for _ in range(100):
            peer.raw_event(b"{")
        peer.event("CHANNEL_ANSWER")
        peer.serve()

    seen = AsyncResult()
    with connected(manners, seen.set) as esl:
        esl._on_skipped = skipped.append
        seen.get()
    assert len(skipped) == 100
    assert unreadable(caplog) == event_socket.TOLD_A_MINUTE


def test_close_wakes_those_who_wait() -> None:
    closed: Queue = Queue()
    with connected(stay_silent, on_close=closed.put) as esl:
        waiting = gevent.spawn(esl.api, "status")
        gevent.idle()
        esl.close()
        esl.close("again")
        with pytest.raises(NotConnected, match="closed on our side"):
            waiting.get()
        assert closed.get(timeout=LIMIT) == "closed on our side"
    assert closed.empty()


def test_close_while_connecting() -> None:
    with switch(stay_silent) as server:
        esl = EventSocket(server.host, server.port, "ClueCon", timeout=LIMIT)
        connecting = gevent.spawn(esl.connect)
        gevent.idle()
        esl.close()
        with pytest.raises(ConnectFailed, match="closed on our side"):
            connecting.get()
        assert_nothing_left(esl)


# --- events


def test_events_come_in_order_and_do_not_hold_up_replies() -> None:
    seen: list[str] = []
    all_seen, handler_may_go_on = Flag(), Flag()

    def on_event(event: Event) -> None:
        handler_may_go_on.wait()
        seen.append(event.headers["number"])
        if len(seen) == 500:
            all_seen.set()

    def manners(peer: Peer) -> None:
        for number in range(500):
            peer.event("HEARTBEAT", number=str(number))
        peer.serve()

    with connected(manners, on_event) as esl:
        assert esl.api("status") == "status"
        assert seen == []
        handler_may_go_on.set()
        all_seen.wait()
    assert seen == [str(number) for number in range(500)]


def test_a_burst_leaves_others_their_turn() -> None:
    class Burst:
        """A socket that always has more to read, until it ends."""

        chunks = 1000

        def recv(self, _: int) -> bytes:
            self.chunks -= 1
            return b"Content-Type: log/data\n\n" if self.chunks else b""

        def close(self) -> None:
            pass

    esl = EventSocket("127.0.0.1", 8021, "ClueCon")
    esl.sock = burst = Burst()
    reader = gevent.spawn(esl.receive_events)
    gevent.sleep(0)
    gevent.sleep(0)
    assert 0 < burst.chunks < 1000
    reader.join()


def test_catching_up_waits_for_the_handler() -> None:
    go_on, seen, caught_up = Flag(), list[str](), list[bool]()

    def on_event(event: Event) -> None:
        go_on.wait()
        seen.append(event.headers["number"])

    def manners(peer: Peer) -> None:
        for number in range(50):
            peer.event("CUSTOM", number=str(number))
        peer.serve()

    with connected(manners, on_event) as esl:
        assert not esl.catch_up(0.01)
        waiting = gevent.spawn(lambda: caught_up.append(esl.catch_up(LIMIT)))
        assert esl.api("status") == "status"
        assert caught_up == []
        go_on.set()
        waiting.join()
        assert caught_up == [True]
        assert len(seen) == 50


def test_catching_up_with_what_a_lost_connection_left() -> None:
    go_on, lost, seen = Flag(), Flag(), list[str]()

    def on_event(event: Event) -> None:
        go_on.wait()
        seen.append(event.name)

    def manners(peer: Peer) -> None:
        for _ in range(50):
            peer.event("CUSTOM")

    with connected(manners, on_event, lambda _: lost.set()) as esl:
        with pytest.raises(NotConnected):
            esl.api("status")
        assert not esl.catch_up(0.01)
        go_on.set()
        assert esl.catch_up(LIMIT)
        assert len(seen) == 50
        assert lost.is_set()


def unreadable(caplog: pytest.LogCaptureFixture) -> int:
    """How many events were logged as unreadable."""
    return sum("event that is unreadable" in message for message in caplog.messages)


def test_all_that_waits_comes_at_once_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    batching = Batching(size=8, spacing=0.04, read_ahead=0.002)
    go_on, closed, caught_up = Flag(), AsyncResult(), list[bool]()
    seen: list[list[str]] = []

    def on_events(events: list[Event]) -> None:
        seen.append([event.headers["number"] for event in events])
        go_on.wait()
        if len(seen) == 2:
            raise KeyError("it loses no more than these")

    def manners(peer: Peer) -> None:
        peer.event("CUSTOM", number="alone")
        peer.read()
        peer.response("")
        for number in range(30):
            peer.event("CUSTOM", number=str(number))
            if number == 20:
                peer.raw_event(b"[]")
        peer.serve()

    with connected(manners, on_close=closed.set, on_events=on_events, batching=batching) as esl:
        esl.api("go on")
        # An event that comes alone goes on at once.
        assert seen == [["alone"]]
        waiting = gevent.spawn(lambda: caught_up.append(esl.catch_up(LIMIT)))
        assert esl.api("status") == "status"
        assert caught_up == []
        go_on.set()
        waiting.join()
        assert caught_up == [True]
        assert [n for batch in seen for n in batch] == ["alone", *map(str, range(30))]
        assert max(map(len, seen)) == 8
    assert unreadable(caplog) == 1
    assert closed.get() == "closed on our side"


def test_by_default_no_event_waits_for_those_that_follow() -> None:
    seen: Queue = Queue()

    def manners(peer: Peer) -> None:
        for number in range(3):
            peer.event("CUSTOM", number=str(number))
            peer.read()
            peer.response("")
        peer.serve()

    with connected(manners, on_events=seen.put) as esl:
        for number in range(3):
            (event,) = seen.get(timeout=LIMIT)
            assert event.headers["number"] == str(number)
            esl.api("the next")


def test_events_that_follow_closely_wait_for_their_batch() -> None:
    seen: Queue = Queue()

    def manners(peer: Peer) -> None:
        peer.event("CUSTOM", number="alone")
        for number in range(3):
            peer.read()
            peer.event("CUSTOM", number=str(number))
            peer.response("")
        peer.serve()

    batching = Batching(spacing=LIMIT, read_ahead=0.002)
    with connected(manners, on_events=seen.put, batching=batching) as esl:
        (event,) = seen.get(timeout=LIMIT)
        assert event.headers["number"] == "alone"
        # Replies do not wait.
        for _ in range(3):
            esl.api("the next")
        assert esl.backlog == 3
        assert seen.empty()
        # It sleeps until the next batch is due.
        esl._process_events_greenlet.kill()


def test_the_marker_of_catching_up_is_passed_after_its_batch() -> None:
    go_on, caught_up, seen = Flag(), list[bool](), list[int]()

    def on_events(events: list[Event]) -> None:
        go_on.wait()
        seen.append(len(events))

    with connected(Peer.serve, on_events=on_events) as esl:
        # Behind the one that is being handled, the marker and another are taken together.
        esl._esl_event_queue.put(b'{"Event-Name":"CUSTOM"}')
        waiting = gevent.spawn(lambda: caught_up.append(esl.catch_up(LIMIT)))
        assert esl.api("status") == "status"
        esl._esl_event_queue.put(b'{"Event-Name":"CUSTOM"}')
        go_on.set()
        waiting.join()
        assert caught_up == [True]
        assert sum(seen) == 2


def test_a_bad_event_or_handler_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: Queue = Queue()

    def on_event(event: Event) -> None:
        seen.put(event.name)
        if event.name == "RAISES":
            raise KeyError("Unique-ID")
        if event.name == "TIMES_OUT":
            raise gevent.Timeout(1)

    def manners(peer: Peer) -> None:
        peer.write(b"Content-Length: 3\nContent-Type: text/event-plain\n\nabc")
        peer.event("RAISES")
        peer.raw_event(b'{"Event-Name":')
        peer.event("TIMES_OUT")
        peer.raw_event(b"[]")
        peer.event("LAST")
        peer.serve()

    with connected(manners, on_event) as esl:
        assert [seen.get(timeout=LIMIT) for _ in range(3)] == ["RAISES", "TIMES_OUT", "LAST"]
        assert unreadable(caplog) == 2
        assert esl.api("status") == "status"


def test_events_before_the_end_come_before_on_close() -> None:
    def manners(peer: Peer) -> None:
        for number in range(50):
            peer.event("CUSTOM", number=str(number))

    seen: Queue = Queue()
    with connected(manners, lambda event: seen.put(event.headers["number"]), seen.put):
        order = [seen.get(timeout=LIMIT) for _ in range(51)]
    assert order == [*map(str, range(50)), "end of file"]


def test_a_handler_may_send_commands_and_close() -> None:
    answer, closed = AsyncResult(), AsyncResult()

    def on_event(_: Event) -> None:
        answer.set(esl.api("from the handler"))
        esl.close()

    def manners(peer: Peer) -> None:
        peer.event("HEARTBEAT")
        peer.event("HEARTBEAT")
        peer.serve()

    with connected(manners, lambda event: on_event(event), closed.set) as esl:
        assert answer.get() == "from the handler"
        assert closed.get() == "closed on our side"


@pytest.mark.parametrize("limit", [{"MAX_QUEUED_EVENTS": 10}, {"MAX_QUEUED_BYTES": 300}])
def test_a_full_queue_ends_the_connection(
    limit: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, most in limit.items():
        monkeypatch.setattr(event_socket, name, most)
    closed, go_on = AsyncResult(), Flag()
    seen: list[str] = []

    def on_event(event: Event) -> None:
        seen.append(event.name)
        go_on.wait()

    def manners(peer: Peer) -> None:
        for _ in range(20):
            peer.event("HEARTBEAT")
        stay_silent(peer)

    with connected(manners, on_event, closed.set) as esl:
        with pytest.raises(NotConnected, match="event queue full"):
            esl.api("status")
        go_on.set()
        assert closed.get() == "event queue full"
    assert len(seen) <= 1
