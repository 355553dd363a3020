"""Server-sent events of the API process: cut off and taken up again."""

import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from app.calls.model import State
from ringback_cli.up import environment, free_port, serves
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, Ringback
from tests.integration.test_processes import BIN


class Connection:
    """An open stream, read line by line."""

    def __init__(
        self,
        address: tuple[str, int],
        last: str | None = None,
        token: str = "demo-user-token",
        *,
        lazy: bool = False,
    ) -> None:
        self.http = http.client.HTTPConnection(*address, timeout=LIMIT)
        self.http.connect()
        if lazy:
            # The kernel takes little for who does not read.
            self.http.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        headers = {"Authorization": f"Bearer {token}"}
        if last is not None:
            headers["Last-Event-ID"] = last
        self.http.request("GET", "/uapi/phoneCalls/@me/events", headers=headers)
        self.answer = self.http.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.last = ""

    def blocks(self) -> Iterator[dict[str, str]]:
        fields: dict[str, str] = {}
        for line in self.answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
                continue
            self.last = fields.get("id", self.last)
            yield fields
            fields = {}

    def begin(self) -> "Connection":
        next(self.blocks())
        return self

    def states(self, call_id: str, until: str) -> list[tuple[int, str]]:
        """Versions and states of the call up to the first event with that state."""
        found = []
        for block in self.blocks():
            if "data" not in block:
                continue
            data: Any = json.loads(block["data"])
            if data["id"] == call_id:
                found.append((data["version"], data["state"]))
                if data["state"] == until:
                    return found
        raise AssertionError(found)

    def close(self) -> None:
        self.answer.close()
        self.http.close()


def test_a_connection_that_is_cut_loses_nothing(ringback: Ringback) -> None:
    address = ringback.stack.settings.http_address
    stream = Connection(address).begin()
    call_id = ringback.place("15500", "15500")
    first = stream.states(call_id, "answered")
    stream.close()
    ringback.wait_state(call_id, State.BRIDGED)
    ringback.request("DELETE", f"@me/210/{call_id}")
    call = ringback.ended(call_id)
    again = Connection(address, last=stream.last)
    heard = first + again.states(call_id, "ended")
    again.close()
    assert [version for version, _ in heard] == list(range(1, len(heard) + 1))
    assert len(heard) <= call.version
    states = list(dict.fromkeys(state for _, state in heard))
    assert states == ["queued", "dialing", "ringing", "answered", "bridged", "ended"]


def test_a_process_that_stops_lets_its_streams_go(ringback: Ringback) -> None:
    """Two API processes: who is cut off by the end of one goes on at the other."""
    settings = replace(ringback.stack.settings, http=f"127.0.0.1:{free_port()}")
    process = subprocess.Popen(
        [BIN / "ringback", "api"], env=environment(settings), stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: serves(settings.http_address))
        streams = [Connection(settings.http_address).begin() for _ in range(3)]
        call_id = ringback.place("15500", "15511")
        for stream in streams:
            stream.states(call_id, "queued")
        process.send_signal(signal.SIGTERM)
        for stream in streams:
            for _ in stream.blocks():
                pass
        # Well within its time: no stream held it up until it was killed.
        _, said = process.communicate(timeout=LIMIT)
        assert process.returncode == 0 and "graceful timeout" not in said
    finally:
        process.kill()
    again = Connection(ringback.stack.settings.http_address, last=streams[0].last)
    assert again.states(call_id, "ended")[0] == (2, "dialing")
    again.close()


def test_who_takes_nothing_is_cut_off_delays_nobody_and_comes_back_for_the_rest(
    ringback: Ringback,
) -> None:
    address = ringback.stack.settings.http_address
    call_id = ringback.place("15508", "15500")
    redis, key = ringback.store.redis, ringback.store.keys.events
    entry: Any = {"call": call_id, "state": "ringing", "version": 9, "at": "1.0", "changed": "{}"}
    lazy, busy = Connection(address, lazy=True).begin(), Connection(address).begin()
    # More than the kernel and the API hold for one connection.
    bursts, each = 15, 900
    for _ in range(bursts):
        with redis.pipeline(transaction=False) as pipe:
            for _ in range(each):
                pipe.xadd(key, entry)
            pipe.execute()
        assert count(busy, each) == each
    had = count(lazy, bursts * each)
    assert 0 < had < bursts * each
    again = Connection(address, last=lazy.last)
    assert count(again, bursts * each - had) == bursts * each - had
    for stream in (busy, again):
        stream.close()
    ringback.request("DELETE", f"@me/210/{call_id}")


def count(stream: Connection, most: int) -> int:
    """How many events come that were made up, up to so many."""
    found = 0
    try:
        for block in stream.blocks():
            found += '"version":9,"at":1.0' in block.get("data", "")
            if found == most:
                break
    except (http.client.HTTPException, OSError):
        # Cut off in the middle.
        pass
    return found


def test_streams_whose_proxy_is_gone_leave_their_places(ringback: Ringback) -> None:
    address = ringback.stack.settings.http_address
    gone = [Connection(address) for _ in range(50)]
    for stream in gone:
        # No stream has anything to tell, and none waits for its next sign of life.
        stream.http.sock.shutdown(socket.SHUT_RDWR)
        stream.close()
    again = Connection(address)
    again.close()
