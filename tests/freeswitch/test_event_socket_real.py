"""The event socket against a real FreeSWITCH; FREESWITCH_URL is `esl://:password@host:port`."""

import dataclasses
import os
import uuid
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import AsyncResult

from freeswitch.address import SwitchAddress
from freeswitch.event_socket import (
    AuthenticationFailed,
    CommandRefused,
    EventSocket,
    NotConnected,
    SwitchConnection,
)
from freeswitch.events import Event

URL = os.environ.get("FREESWITCH_URL", "")
pytestmark = pytest.mark.skipif(not URL, reason="FREESWITCH_URL is not set")

LIMIT = 60.0  # seconds


@pytest.fixture(autouse=True)
def nothing_hangs() -> Iterator[None]:
    with gevent.Timeout(LIMIT):
        yield


@pytest.fixture
def address() -> SwitchAddress:
    return SwitchAddress.parse(f"real={URL}")


@pytest.fixture
def jobs() -> dict[str, AsyncResult]:
    """What waits for a BACKGROUND_JOB, by Job-UUID."""
    return {}


@pytest.fixture
def switch(address: SwitchAddress, jobs: dict[str, AsyncResult]) -> Iterator[SwitchConnection]:
    def on_event(event: Event) -> None:
        # Those of everyone else on this switch come too.
        if job := jobs.get(event.headers["Job-UUID"]):
            job.set(event)

    connection = SwitchConnection(
        address,
        events=("BACKGROUND_JOB",),
        filters=(("variable_call_id", "/.+/"), ("Event-Name", "BACKGROUND_JOB")),
        on_event=on_event,
    )
    connection.start()
    assert connection.wait_up(LIMIT), connection.last_error
    yield connection
    connection.stop()


def test_core_uuid(switch: SwitchConnection) -> None:
    assert switch.core_uuid == str(uuid.UUID(switch.core_uuid))
    assert switch.api("eval ${core-uuid}") == switch.core_uuid


def test_a_wrong_password(address: SwitchAddress) -> None:
    wrong = dataclasses.replace(address, password="wrong")
    with pytest.raises(AuthenticationFailed):
        EventSocket(wrong.host, wrong.port, wrong.password).connect()


def test_concurrent_commands_get_their_own_replies(switch: SwitchConnection) -> None:
    def ask(number: int) -> None:
        for turn in range(10):
            assert switch.api(f"eval {number}-{turn}") == f"{number}-{turn}"
            with pytest.raises(CommandRefused, match="command not found"):
                switch.command("nosuch")

    gevent.joinall([gevent.spawn(ask, number) for number in range(50)], raise_error=True)


def test_errors_of_an_api_command_are_its_body(switch: SwitchConnection) -> None:
    assert switch.api("nosuch") == "-ERR nosuch Command not found!\n"


def test_a_failed_originate_tells_its_own_job(
    switch: SwitchConnection, jobs: dict[str, AsyncResult]
) -> None:
    job_uuid = str(uuid.uuid4())
    jobs[job_uuid] = AsyncResult()
    switch.bgapi("originate sofia/gateway/nosuch/1 &park()", job_uuid)
    event: Event = jobs[job_uuid].get()
    assert event.body == "-ERR INVALID_GATEWAY\n"
    assert event.headers["Job-Command"] == "originate"


def test_the_longest_job_uuid(switch: SwitchConnection, jobs: dict[str, AsyncResult]) -> None:
    """Its reply must still hold the blank line at its end."""
    job_uuid = uuid.uuid4().hex * 4
    jobs[job_uuid] = AsyncResult()
    switch.bgapi("eval done", job_uuid)
    assert jobs[job_uuid].get().body == "done"
    assert switch.api("eval next") == "next"


def test_exit_ends_the_connection_with_a_notice(address: SwitchAddress) -> None:
    closed = AsyncResult()
    esl = EventSocket(address.host, address.port, address.password, on_close=closed.set)
    esl.connect()
    assert esl.command("exit").text == "+OK bye"
    assert closed.get().startswith("disconnect-notice: Disconnected, goodbye.")
    with pytest.raises(NotConnected):
        esl.api("status")
