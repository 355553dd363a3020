"""Each fault that the simulated switch does to order, over real sockets."""

import json
import time
from collections.abc import Iterator
from queue import Queue
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from blocking_client import LIMIT, Client, Headers

from freeswitch.simulator import Simulator, orders

TELEPHONE = "loopback/00/ringback-sandbox"
LONG = 1000
"""Seconds that no test waits for."""


@pytest.fixture
def client(client: Client) -> Client:
    """Gets all events but those that come by themselves."""
    client.command("nixevent HEARTBEAT")
    client.events.clear()
    return client


@pytest.fixture
def tester(simulator: Simulator) -> Iterator[Client]:
    """The connection that orders the faults; it listens to nothing."""
    tester = Client(simulator.port)
    yield tester
    tester.close()


def order(tester: Client, text: str) -> str:
    return tester.command(f"api simulator {text}")


def faults(tester: Client) -> dict[str, Any]:
    return json.loads(order(tester, "faults"))


def jobs(client: Client, count: int, first: int = 0) -> None:
    """Let the switch send so many BACKGROUND_JOB, numbered."""
    for number in range(first, first + count):
        client.command(f"bgapi uuid_exists x\nJob-UUID: {number}")


def job_numbers(client: Client) -> list[int]:
    return [int(event["Job-UUID"]) for event in client.events if "Job-UUID" in event]


def is_silent(client: Client) -> bool:
    """Nothing has come, and no end of the connection either."""
    client.socket.setblocking(False)
    try:
        return client.socket.recv(1) is None
    except BlockingIOError:
        return True
    finally:
        client.socket.settimeout(LIMIT)


def age(event: Headers) -> float:
    """Seconds since an event happened."""
    return time.time() - int(event["Event-Date-Timestamp"]) / 1e6


def test_events_are_late_and_replies_are_not(client: Client, tester: Client) -> None:
    assert order(tester, f"delay {LONG}") == "+OK\n"
    originate = f"{{origination_uuid=u}}{TELEPHONE} &park()"
    assert tester.command(f"api originate {originate}") == "+OK u\n"
    assert is_silent(client)
    order(tester, "delay 0")
    client.named("CHANNEL_PARK")
    order(tester, "delay 0.5")
    tester.command("api uuid_kill u")
    ended = client.named("CHANNEL_HANGUP")
    assert age(ended) >= 0.5
    client.named("CHANNEL_DESTROY")
    numbers = [int(event["Event-Sequence"]) for event in client.events]
    assert numbers == sorted(numbers)


def test_what_waits_comes_in_order_when_the_delay_ends(client: Client, tester: Client) -> None:
    order(tester, f"delay {LONG}")
    jobs(client, 50)
    order(tester, f"delay {2 * LONG}")
    jobs(client, 1, first=50)
    assert job_numbers(client) == []
    order(tester, "delay 0")
    jobs(client, 1, first=51)
    client.result("51")
    assert job_numbers(client) == list(range(52))


def test_events_come_twice_in_a_row(client: Client, tester: Client) -> None:
    order(tester, "double 1")
    jobs(client, 3)
    client.until("BACKGROUND_JOB", 6)
    assert job_numbers(client) == [0, 0, 1, 1, 2, 2]
    assert client.events[0] == client.events[1]


def fate(seed: int, fault: str) -> list[int]:
    """Which of a hundred events come, and how often."""
    with Simulator(seed=seed) as simulator:
        client = Client(simulator.port)
        client.command("event json BACKGROUND_JOB")
        order(client, fault)
        jobs(client, 100)
        order(client, "heal")
        jobs(client, 1, first=100)
        client.result("100")
        numbers = job_numbers(client)
        assert len(set(range(101)) - set(numbers)) == faults(client)["dropped"]
        client.close()
        return numbers


@pytest.mark.parametrize("fault", ["double 0.3", "drop 0.3"])
def test_the_same_seed_has_the_same_faults(fault: str) -> None:
    come = fate(1, fault)
    assert come == sorted(come)
    assert abs(len(come) - (130 if fault.startswith("double") else 70)) < 20
    assert come == fate(1, fault) != fate(2, fault)


def test_events_of_a_name_are_lost_until_told_otherwise(client: Client, tester: Client) -> None:
    assert order(tester, "drop 1 channel_answer CHANNEL_PROGRESS") == "+OK\n"
    client.originate(f"{TELEPHONE} &hangup()", "1")
    client.named("CHANNEL_DESTROY")
    names = {event["Event-Name"] for event in client.events}
    assert names >= {"CHANNEL_CREATE", "CHANNEL_HANGUP", "BACKGROUND_JOB"}
    assert not names & {"CHANNEL_ANSWER", "CHANNEL_PROGRESS"}
    assert faults(tester)["dropped"] == 2
    order(tester, "drop 0")
    client.originate(f"{TELEPHONE} &hangup()", "2")
    client.named("CHANNEL_ANSWER")


def test_a_full_queue_loses_events_and_then_its_listener(client: Client, tester: Client) -> None:
    client.command("noevents")
    client.command("event json BACKGROUND_JOB")
    order(tester, f"delay {LONG}")
    assert order(tester, "queue 5") == "+OK\n"
    jobs(tester, 505)
    assert faults(tester)["lost"] == 500
    order(tester, "delay 0")
    client.until("BACKGROUND_JOB", 5)
    # What got through ends the row.
    jobs(tester, 1, first=505)
    client.result("505")
    assert job_numbers(client) == [0, 1, 2, 3, 4, 505]
    order(tester, f"delay {LONG}")
    jobs(tester, 506, first=506)
    headers, body = client.frame()
    assert headers["Content-Type"] == "text/disconnect-notice"
    assert body == b"killed listener because of lost events\n"
    with pytest.raises(EOFError):
        client.frame()
    order(tester, "queue 0")
    assert faults(tester)["queue"] == 100_000


def test_one_listener_that_is_closed_costs_no_other_an_event(
    client: Client, tester: Client
) -> None:
    order(tester, f"delay {LONG}")
    order(tester, "queue 5")
    jobs(tester, 505)
    tester.command("event json BACKGROUND_JOB")
    # The one that is too many for the first listener is the first of the second.
    jobs(tester, 1, first=505)
    assert client.frame()[0]["Content-Type"] == "text/disconnect-notice"
    order(tester, "delay 0")
    tester.until("BACKGROUND_JOB", 1)
    assert job_numbers(tester) == [505]


def test_all_connections_but_one_are_cut(
    simulator: Simulator, client: Client, tester: Client
) -> None:
    client.originate(f"{{origination_uuid=u}}{TELEPHONE} &park()", "job")
    client.named("CHANNEL_CREATE")
    assert order(tester, "cut") == "+OK 1 connections\n"
    with pytest.raises(ConnectionResetError):
        client.named("CHANNEL_DESTROY")
    assert tester.command("api uuid_exists u") == "true"
    again = Client(simulator.port)
    assert again.command("api uuid_exists u") == "true"
    again.close()


def test_a_connection_that_is_not_heard(client: Client, tester: Client) -> None:
    assert order(tester, "mute in") == "+OK 1 connections\n"
    client.write(f"bgapi originate {{origination_uuid=u}}{TELEPHONE} &park()\n\n")
    jobs(tester, 1)
    # It still hears.
    client.result("0")
    assert [event["Event-Name"] for event in client.events] == ["BACKGROUND_JOB"]
    assert json.loads(order(tester, "originates")) == []


def test_a_connection_that_hears_nothing(client: Client, tester: Client) -> None:
    assert order(tester, "mute out") == "+OK 1 connections\n"
    tester.command("event json ALL")
    client.write(f"bgapi originate {TELEPHONE} &hangup()\nJob-UUID: j\n\nexit\n\n")
    # It is still heard.
    assert tester.result("j").startswith("+OK ")
    # What it asked for is the end, and no word.
    with pytest.raises(EOFError):
        client.frame()


def test_half_open_connections_stay_so_until_the_client_closes(
    simulator: Simulator, client: Client, tester: Client
) -> None:
    order(tester, "mute in")
    order(tester, "mute")
    client.write("api status\n\n")
    tester.command("event json ALL")
    tester.originate(f"{TELEPHONE} &hangup()", "job")
    tester.named("CHANNEL_DESTROY")
    assert is_silent(client)
    again = Client(simulator.port)
    assert again.command("api uuid_exists x") == "false"
    order(tester, "heal")
    assert faults(tester)["muted"] == 1
    assert is_silent(client)
    client.close()
    end = time.monotonic() + LIMIT
    while faults(tester)["muted"]:
        assert time.monotonic() < end
    again.close()


def test_every_originate_is_refused(client: Client, tester: Client) -> None:
    assert order(tester, "refuse network_out_of_order") == "+OK\n"
    client.originate(f"{TELEPHONE} &park()", "1")
    assert client.result("1") == "-ERR NETWORK_OUT_OF_ORDER\n"
    assert [event["Event-Name"] for event in client.events] == ["BACKGROUND_JOB"]
    assert order(tester, "refuse off") == "+OK\n"
    client.originate(f"{TELEPHONE} &park()", "2")
    assert client.result("2").startswith("+OK ")


def test_the_whole_switch_stands_still(
    client: Client, tester: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands: Queue[float] = Queue()
    go_on = Event()

    def stand(seconds: float) -> None:
        stands.put(seconds)
        go_on.wait(LIMIT)

    monkeypatch.setattr(orders, "time", SimpleNamespace(sleep=stand))
    # Who orders it has the reply.
    assert order(tester, "hang 0.5") == "+OK\n"
    assert stands.get(timeout=LIMIT) == 0.5
    client.write("api uuid_exists x\n\n")
    assert is_silent(client)
    go_on.set()
    assert client.frame()[1] == b"false"


def test_what_is_in_force_is_told_and_ended(client: Client, tester: Client) -> None:
    healthy = faults(tester)
    assert healthy == {
        "delay": 0.0,
        "double": 0.0,
        "drop": 0.0,
        "drop_names": [],
        "queue": 100_000,
        "refuse": None,
        "reject": False,
        "swallow": False,
        "fail": None,
        "cost": 0.0,
        "growth": 0.0,
        "muted": 0,
        "dropped": 0,
        "lost": 0,
        "connections": 2,
    }
    for text in ("delay 1000", "double 1", "drop 0.5 dtmf", "queue 7", "refuse USER_BUSY"):
        order(tester, text)
    jobs(client, 3)
    assert faults(tester) == healthy | {
        "delay": 1000.0,
        "double": 1.0,
        "drop": 0.5,
        "drop_names": ["DTMF"],
        "queue": 7,
        "refuse": "USER_BUSY",
    }
    assert order(tester, "heal") == "+OK\n"
    assert faults(tester) == healthy
    client.until("BACKGROUND_JOB", 6)


def test_an_order_may_come_as_a_background_job(client: Client, tester: Client) -> None:
    client.command("bgapi simulator cut\nJob-UUID: job")
    assert client.result("job") == "+OK 1 connections\n"
    with pytest.raises(ConnectionResetError):
        tester.frame()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "-USAGE: "),
        ("nosuch", "-USAGE: "),
        ("delay", "-USAGE: "),
        ("delay soon", "-ERR "),
        ("delay -1", "-ERR "),
        ("hang nan", "-ERR "),
        ("hang inf", "-ERR "),
        ("double 1.1", "-ERR 1.1 is not a number from 0 to 1\n"),
        ("drop 1 NOSUCH", "-ERR no event is named NOSUCH\n"),
        ("queue -1", "-ERR "),
        ("mute both", "-USAGE: "),
        ("refuse NOSUCH", "-ERR no cause is named NOSUCH\n"),
    ],
)
def test_orders_that_are_none(tester: Client, text: str, answer: str) -> None:
    before = faults(tester)
    assert order(tester, text).startswith(answer)
    assert faults(tester) == before
