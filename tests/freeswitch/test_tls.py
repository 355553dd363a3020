"""The event socket by TLS: which certificates it takes, and what it says of others."""

import re
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event as Flag
from scripted_switch import LIMIT

from freeswitch.address import SwitchAddress
from freeswitch.connection import SwitchConnection
from freeswitch.errors import ConnectFailed
from freeswitch.event_socket import CORE_UUID, EventSocket
from freeswitch.simulator import Simulator
from freeswitch.tls import Tls
from tests.tls import Certificate, certificate, tls_proxy


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    with gevent.Timeout(LIMIT):
        yield


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(speed=50) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls") / "good", "fs1.example.com", "127.0.0.1")


@pytest.fixture(scope="module")
def port(simulator: Simulator, good: Certificate) -> Iterator[int]:
    """Where the simulator is reached by TLS."""
    with tls_proxy(good, simulator.port) as port:
        yield port


def refusal(port: int, tls: Tls | None, timeout: float = LIMIT) -> str:
    """What the event socket says of a far end that it does not log in to."""
    esl = EventSocket("127.0.0.1", port, "ClueCon", tls=tls, timeout=timeout)
    with pytest.raises(ConnectFailed) as caught:
        esl.connect()
    assert esl.sock is None or esl.sock.fileno() == -1
    assert str(caught.value).startswith(f"127.0.0.1 port {port}: ")
    return str(caught.value)


@pytest.mark.parametrize("options", ["ca={}", "ca={}&name=fs1.example.com"])
def test_a_connection_by_tls_is_as_any_other(port: int, good: Certificate, options: str) -> None:
    """It subscribes, gets events in order, runs commands, and notices its end."""
    address = SwitchAddress.parse(f"a=esls://:ClueCon@127.0.0.1:{port}?{options.format(good.ca)}")
    jobs: list[str] = []
    heard, down = Flag(), Flag()
    count = 200

    def on_event(event: object) -> None:
        jobs.append(event.headers["Job-UUID"])  # type: ignore[attr-defined]
        if len(jobs) == count:
            heard.set()

    connection = SwitchConnection(
        address, events=("BACKGROUND_JOB",), on_event=on_event, on_down=lambda _: down.set()
    )
    connection.start()
    assert connection.wait_up(LIMIT)
    core = connection.core_uuid
    # Writers at the same time as the reader: replies find their commands.
    sent = [f"job-{n}" for n in range(count)]
    sending = [gevent.spawn(connection.bgapi, f"{CORE_UUID}", each) for each in sent]
    gevent.joinall(sending, raise_error=True)
    assert heard.wait(LIMIT) and sorted(jobs) == sorted(sent)
    assert connection.api_apart(CORE_UUID, timeout=LIMIT).strip() == core
    # Longer than a record of TLS, in both directions.
    assert connection.api("x" * 40_000).startswith("-ERR x")
    connection.stop()
    assert down.wait(LIMIT)


def test_the_end_of_the_far_end_is_seen(
    simulator: Simulator, good: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    down: list[str] = []
    with tls_proxy(good, simulator.port) as port:
        tls = Tls("127.0.0.1", good.ca)
        connection = SwitchConnection(
            SwitchAddress("a", "127.0.0.1", port, password="ClueCon", tls=tls),
            on_down=down.append,
        )
        connection.start()
        assert connection.wait_up(LIMIT)
    while not down:
        gevent.sleep(0.01)
    connection.stop()
    assert not [each for each in caplog.records if each.exc_info]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_closing_at_any_moment_logs_no_fault(
    port: int, good: Certificate, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    esl = EventSocket("127.0.0.1", port, "ClueCon", tls=Tls("127.0.0.1", good.ca), timeout=LIMIT)
    esl.connect()
    gevent.sleep(seconds)
    esl.close()
    esl._receive_events_greenlet.join()
    assert not caplog.records


def test_a_certificate_that_is_not_the_right_one(
    simulator: Simulator, port: int, good: Certificate, tmp_path: Path
) -> None:
    other = certificate(tmp_path / "other", "127.0.0.1")
    text = refusal(port, Tls("127.0.0.1", other.ca))
    assert re.search("certificate is not trusted for 127.0.0.1: .*issuer", text)
    # The authorities of the system do not know it either.
    assert "is not trusted for 127.0.0.1: " in refusal(port, Tls("127.0.0.1"))
    text = refusal(port, Tls("fs2.example.com", good.ca))
    assert "is not trusted for fs2.example.com: Hostname mismatch" in text
    text = refusal(port, Tls("127.0.0.2", good.ca))
    assert "is not trusted for 127.0.0.2: IP address mismatch" in text
    expired = certificate(tmp_path / "expired", "127.0.0.1", expired=True)
    with tls_proxy(expired, simulator.port) as late:
        text = refusal(late, Tls("127.0.0.1", expired.ca))
    assert text.endswith("is not trusted for 127.0.0.1: certificate has expired")


def test_a_far_end_that_speaks_no_tls(simulator: Simulator, good: Certificate) -> None:
    assert "the far end speaks no TLS" in refusal(simulator.port, Tls("127.0.0.1", good.ca))


def test_plain_text_to_a_far_end_that_speaks_tls(port: int) -> None:
    """Either waits for the other to begin; no password leaves."""
    assert "no login in 0.1 s" in refusal(port, None, timeout=0.1)


def test_a_file_of_authorities_that_cannot_be_used(
    port: int, good: Certificate, tmp_path: Path
) -> None:
    missing = str(tmp_path / "ca.pem")
    text = refusal(port, Tls("127.0.0.1", missing))
    assert f"the file of `ca`, {missing}, cannot be read: No such file" in text
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    assert "holds no certificate in PEM" in refusal(port, Tls("127.0.0.1", str(empty)))
