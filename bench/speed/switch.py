"""The switch that is measured, and the telephones' part in it: who is bridged is hung up again."""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gevent

from app.calls.model import call_id_of
from bench.speed.wire import Wire
from freeswitch.address import SwitchAddress, parse_list

# Seconds that two parties talk, at random: hardly any, as media costs the switch more than calls.
# (Its own limits count whole seconds: all calls of a second would end at once.)
TALK = (0.05, 0.15)
# Legs per second and at once that the simulator admits.
_SESSIONS = 1_000_000
_STOP_LIMIT = 15.0
# The gateway that Ringback's demo accounts dial through, and where it leads.
_GATEWAY = "pstn"
_PROXY = re.compile(r"<proxy>sip:(?:[^@<]*@)?([^:;<]+):?(\d*)")
_START_LIMIT = 10.0
_UNIQUE_ID = re.compile(rb'"Unique-ID":\s*"([^"]+)"')
_JOB_UUID = re.compile(rb'"Job-UUID":\s*"([^"]+)"')
_BODY = re.compile(rb'"_body":\s*"([^"\\]*)')


@dataclass(frozen=True)
class Switch:
    address: SwitchAddress
    url: str
    simulated: bool
    # None where it runs on another machine.
    pid: int | None

    @property
    def title(self) -> str:
        return "simulator" if self.simulated else "FreeSWITCH"


@contextlib.contextmanager
def sipp_far_end(switch: Switch) -> Iterator[None]:
    """A SIPp that answers every call at once, on this machine, where the gateway leads."""
    if (program := shutil.which("sipp")) is None:
        sys.exit("sipp is not on PATH: it is Debian's sip-tester.")
    wire = Wire(switch.address)
    status = wire.ask(f"api sofia xmlstatus gateway {_GATEWAY}")
    wire.close()
    if (found := _PROXY.search(status)) is None:
        sys.exit(f"The switch has no gateway {_GATEWAY}.")
    host, port = found[1], int(found[2] or 5060)
    if _is_taken(host, port):
        sys.exit(f"Gateway {_GATEWAY} leads to {host} port {port}, which another has.")
    # It writes files where it runs.
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [program, "-sn", "uas", "-i", host, "-p", str(port), "-nostdin"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            end = time.monotonic() + _START_LIMIT
            while not _is_taken(host, port):
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"sipp does not take {host} port {port}.")
                time.sleep(0.05)
            yield
        finally:
            _end(process)


def _is_taken(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def switch_to_measure() -> Iterator[Switch]:
    """The switch of FREESWITCH_URL, or a simulator that is started here."""
    if url := os.environ.get("FREESWITCH_URL"):
        address = parse_list(f"real={url}")[0]
        yield Switch(address, f"real={url}", False, _pid(address))
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "freeswitch.simulator", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(b":")[2])
        url = f"simulator=esl://:ClueCon@127.0.0.1:{port}"
        address = parse_list(url)[0]
        wire = Wire(address)
        for limit in ("sps", "max_sessions"):
            wire.ask(f"api fsctl {limit} {_SESSIONS}")
        wire.close()
        yield Switch(address, url, True, process.pid)
    finally:
        _end(process)


def _pid(address: SwitchAddress) -> int | None:
    wire = Wire(address)
    folder = wire.ask("api global_getvar run_dir").strip()
    wire.close()
    try:
        return int((Path(folder) / "freeswitch.pid").read_text())
    except (OSError, ValueError):
        return None


class Parties:
    """Sees every bridge on the switch, and has it hung up after a while.

    Both when Ringback places the calls and when nobody but the switch has work with them: the
    switch does the same for either.
    """

    def __init__(self, switch: Switch) -> None:
        self.talk = True
        # By id of the call: when its bridge was seen, and why there was none.
        self.bridged: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        self.on_over: Callable[[str], object] = id
        self._commands = Wire(switch.address)
        self._events = Wire(switch.address, self._on_event)
        self._events.ask("event json CHANNEL_BRIDGE BACKGROUND_JOB")

    def close(self) -> None:
        self._events.close()
        self._commands.close()

    def hang_up(self, uuid: str) -> None:
        """End a leg, and with it the other."""
        self._commands.tell(f"api uuid_kill {uuid}")

    def forget(self) -> None:
        """Begin anew, with nothing seen."""
        self.bridged.clear()
        self.refused.clear()

    def _on_event(self, event: bytes) -> None:
        if b"CHANNEL_BRIDGE" in event[:64]:
            if (found := _UNIQUE_ID.search(event)) is None:
                return
            uuid = found[1].decode()
            call_id = call_id_of(uuid)
            self.bridged[call_id] = time.time()
            if self.talk:
                gevent.spawn_later(random.uniform(*TALK), self.hang_up, uuid)
        else:
            job, body = _JOB_UUID.search(event), _BODY.search(event)
            if job is None or body is None or body[1].startswith(b"+OK"):
                return
            call_id = call_id_of(job[1].decode())
            self.refused[call_id] = body[1].decode(errors="replace")
        self.on_over(call_id)
