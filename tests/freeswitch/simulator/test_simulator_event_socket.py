"""The event socket of the simulator, over TCP."""

import json
import signal
import socket
import subprocess
import sys
import uuid

import pytest
from blocking_client import LIMIT, Client

from freeswitch.simulator import Simulator, server

GOODBYE = (
    b"Content-Type: text/disconnect-notice\nContent-Length: 67\n\n"
    b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
)


def conversation(port: int, *segments: bytes) -> bytes:
    """Everything the switch says to these segments, until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        for segment in segments:
            connection.sendall(segment)
        said = b""
        while data := connection.recv(65536):
            said += data
        return said


CHALLENGE = b"Content-Type: auth/request\n\n"


def reply(text: bytes) -> bytes:
    return b"Content-Type: command/reply\nReply-Text: " + text + b"\n\n"


def test_a_wrong_password_ends_the_connection(simulator: Simulator) -> None:
    for command in (b"auth wrong\n\n", b"userauth a@b:wrong\n\n", b"userauth a:ClueCon\n\n"):
        said = conversation(simulator.port, command)
        assert said == CHALLENGE + reply(b"-ERR invalid") + GOODBYE


def test_a_user_logs_in(simulator: Simulator) -> None:
    said = conversation(simulator.port, b"userauth a@b:ClueCon\n\nexit\n\n")
    accepted = (
        b"Content-Type: command/reply\nReply-Text: +OK accepted\nAllowed-Events: all\n"
        b"Allowed-API: all\nAllowed-LOG: true\n\n"
    )
    assert said == CHALLENGE + accepted + reply(b"+OK bye") + GOODBYE


def test_one_command_in_many_segments_and_many_in_one(simulator: Simulator) -> None:
    said = conversation(
        simulator.port,
        b"au",
        b"th ClueCon\r",
        b"\n\r\napi uuid_exists x\n\nbgapi uuid_exists x\nJob-UUID: j1\n\nnosuch\n",
        b"\napi nosuch 1\n\nexit\n\n",
    )
    assert said == (
        CHALLENGE
        + reply(b"+OK accepted")
        + b"Content-Type: api/response\nContent-Length: 5\n\nfalse"
        + reply(b"+OK Job-UUID: j1\nJob-UUID: j1")
        + reply(b"-ERR command not found")
        + b"Content-Type: api/response\nContent-Length: 31\n\n-ERR nosuch Command not found!\n"
        + reply(b"+OK bye")
        + GOODBYE
    )


def test_nothing_works_before_the_login(simulator: Simulator) -> None:
    said = conversation(simulator.port, b"api status\n\nevent json ALL\n\nexit\n\n")
    refused = reply(b"-ERR command not found")
    assert said == CHALLENGE + refused + refused + reply(b"+OK bye") + GOODBYE


def test_a_long_reply_is_cut(client: Client) -> None:
    answer = client.command("filter " + "h" * 600 + " v")
    assert answer == "+OK filter added. [" + "h" * (511 - len("+OK filter added. ["))


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("event json", "-ERR no keywords supplied"),
        ("event xml ALL", "-ERR xml is not simulated"),
        ("event plain CHANNEL_CREATE FOO", "+OK event listener enabled plain"),
        ("nixevent", "-ERR no keywords supplied"),
        ("nixevent ALL", "+OK events nixed"),
        ("noevents", "+OK no longer listening for events"),
        ("filter a b", "+OK filter added. [a]=[b]"),
        ("filter delete a b", "+OK filter deleted. [a][b]"),
        ("filter delete all", "+OK filter deleted. [all][]"),
        ("filter x", "-ERR invalid syntax"),
        ("api fsctl sps 5", "+OK sessions per second: 5\n"),
        ("api fsctl max_sessions 7", "+OK max sessions: 7\n"),
        ("api global_getvar nosuch", "-ERR no reply\n"),
        ("api show channels", "\n0 total.\n"),
        ("api show calls as json", '{"row_count": 0}\n'),
        ("api show channels count", "\n0 total.\n"),
        ("api hupall", "+OK hangup all channels with cause MANAGER_REQUEST\n"),
    ],
)
def test_replies(client: Client, command: str, answer: str) -> None:
    assert client.command(command) == answer


def test_a_pause_shows_in_the_status(client: Client) -> None:
    """As a FreeSWITCH 1.10.12 says it: "not ready" is one that takes neither way."""
    client.command("api fsctl pause outbound")
    assert client.command("api fsctl pause_check outbound") == "true"
    assert client.command("api fsctl ready_check") == "true"
    assert "is ready" in client.command("api status")
    client.command("api fsctl pause")
    assert client.command("api fsctl ready_check") == "false"
    assert "is not ready" in client.command("api status")
    client.command("api fsctl resume")
    assert client.command("api fsctl pause_check outbound") == "false"


def test_it_ends_elegantly_once_it_has_no_channel(simulator: Simulator, client: Client) -> None:
    other = Client(simulator.port)
    client.command("api originate loopback/00/ringback-sandbox &park()")
    other.write("api fsctl shutdown elegant\n\n")
    assert client.named("SHUTDOWN_REQUESTED")["Event-Info"] == "elegant"
    assert client.command("api fsctl shutdown_check") == "true"
    # It goes on taking calls.
    assert client.command("api originate loopback/00/ringback-sandbox &park()").startswith("+OK")
    client.command("api fsctl shutdown cancel")
    assert other.frame()[1] == b"+OK\n"
    assert client.command("api fsctl shutdown_check") == "false"
    client.events.clear()
    other.write("api fsctl shutdown asap\n\n")
    assert client.named("SHUTDOWN_REQUESTED")["Event-Info"] == "ASAP"
    assert client.command("api originate loopback/00 &park()") == "-ERR DESTINATION_OUT_OF_ORDER\n"
    client.command("api hupall")
    with pytest.raises(EOFError):
        while True:
            client.frame()
    other.close()


def test_it_tells_its_core_uuid(simulator: Simulator, client: Client) -> None:
    assert client.command("api global_getvar core_uuid") == simulator.core_uuid
    assert str(uuid.UUID(simulator.core_uuid)) == simulator.core_uuid


def test_the_heart_beats(client: Client) -> None:
    beat = client.named("HEARTBEAT")
    assert beat["Session-Count"] == "0"
    assert beat["Max-Sessions"] == "20000"


def test_events_are_numbered_and_come_to_whom_asked(simulator: Simulator, client: Client) -> None:
    other = Client(simulator.port)
    other.command("event json CHANNEL_CREATE BACKGROUND_JOB")
    other.command("filter Event-Name BACKGROUND_JOB")
    client.originate("loopback/01/ringback-sandbox &hangup(CALL_REJECTED)", "job")
    assert other.result("job") == client.result("job")
    assert {event["Event-Name"] for event in other.events} == {"BACKGROUND_JOB"}
    client.named("CHANNEL_DESTROY")
    numbers = [int(event["Event-Sequence"]) for event in client.events]
    assert numbers == sorted(set(numbers))
    other.close()


def test_no_event_comes_while_an_api_command_runs(client: Client) -> None:
    client.write("api originate loopback/00/ringback-sandbox &park()\n\n")
    headers, body = client.frame()
    assert headers["Content-Type"] == "api/response"
    assert body.startswith(b"+OK ")
    assert client.named("CHANNEL_CREATE")


def test_a_slow_reader_loses_events_and_then_its_connection(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LOST_LIMIT", 5)
    monkeypatch.setattr(server, "HIGH_WATER", 1)
    slow = Client(simulator.port)
    slow.command("event json ALL")
    quick = Client(simulator.port)
    quick.command("api simulator queue 10")
    big = "x" * 100_000
    for number in range(400):
        quick.command(f"bgapi uuid_exists {big}\nJob-UUID: {number}")
    kinds = []
    with pytest.raises((EOFError, ConnectionError)):
        while True:
            kinds.append(slow.frame()[0]["Content-Type"])
    assert kinds.pop() == "text/disconnect-notice"
    assert 0 < kinds.count("text/event-json") == len(kinds) < 400
    quick.close()
    slow.close()


def test_a_started_again_switch_is_another_one() -> None:
    simulator = Simulator(speed=50)
    with simulator:
        port, core = simulator.port, simulator.core_uuid
        client = Client(port)
        client.command("event json ALL")
        client.originate("loopback/00/ringback-sandbox &park()", "job")
        assert client.result("job").startswith("+OK")
        simulator.stop()
        with pytest.raises((EOFError, ConnectionError)):
            client.event(lambda event: False)
        client.close()
        simulator.start()
        assert (simulator.port, simulator.core_uuid == core) == (port, False)
        client = Client(port)
        assert client.command("api show channels count") == "\n0 total.\n"
        client.close()


def test_a_taken_port_is_an_error(simulator: Simulator) -> None:
    with pytest.raises(OSError), Simulator(port=simulator.port):
        pass


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_says_one_line_and_ends_on_a_signal(end: signal.Signals) -> None:
    program = (
        "from functools import partial\n"
        "from freeswitch.simulator import run\n"
        "run(port=0, announce=partial(print, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        port = int(line.rpartition(":")[2])
        client = Client(port)
        assert json.loads(client.command("api simulator originates")) == []
        process.send_signal(end)
        assert process.stdout.read() == ""
        assert process.wait(LIMIT) == 0
        client.close()
