"""The switch alone: the originate that Ringback sends, by a sender that does nothing else."""

import secrets
import time
from dataclasses import dataclass

import gevent
from gevent.lock import BoundedSemaphore

from app.calls.model import Call, Leg, NumberKind, Role, job_uuid, leg_uuid
from bench.speed.meter import cpu_seconds
from bench.speed.switch import Parties, Switch
from bench.speed.wire import Wire
from workers.dial_command import originate_command

# It answers at once.
NUMBER = "15517"
WARM_UP = 2.0
# Seconds after which a call that nothing was heard of counts as failed.
_GIVE_UP = 10.0


@dataclass(frozen=True)
class Bare:
    under_way: int
    calls_per_second: float
    failed: int
    # Seconds from the originate to the bridge, as the sender saw it.
    latencies: list[float]
    # Seconds of CPU per call.
    switch_cpu: float
    sender_cpu: float


def measure(switch: Switch, under_way: int, seconds: float) -> Bare:
    """Keep so many calls on their way to their bridge."""
    parties = Parties(switch)
    sender = Sender(switch, parties, under_way)
    work = gevent.spawn(sender.run)
    gevent.sleep(WARM_UP)
    pids = {"switch": switch.pid, "sender": 0}
    begun = time.time()
    before = {name: _cpu(pid) for name, pid in pids.items()}
    gevent.sleep(seconds)
    ended = time.time()
    used = {name: _cpu(pid) - before[name] for name, pid in pids.items()}
    sender.stopping = True
    work.join()
    # Those under way are still hung up.
    gevent.sleep(WARM_UP)
    bridged = {i: at for i, at in parties.bridged.items() if begun <= at < ended}
    failed = sum(begun <= at < ended for at in sender.failed)
    parties.close()
    count = max(1, len(bridged))
    return Bare(
        under_way,
        len(bridged) / (ended - begun),
        failed,
        [at - sender.sent[i] for i, at in bridged.items()],
        used["switch"] / count,
        used["sender"] / count,
    )


def _cpu(pid: int | None) -> float:
    """Of process 0: of this one."""
    if pid == 0:
        return time.process_time()
    return cpu_seconds(pid) if pid is not None else 0.0


class Sender:
    """Sends a call as soon as fewer than ``under_way`` are."""

    def __init__(self, switch: Switch, parties: Parties, under_way: int) -> None:
        self.sent: dict[str, float] = {}
        # When each of those failed that did.
        self.failed: list[float] = []
        self.stopping = False
        self._wire = Wire(switch.address)
        self._free = BoundedSemaphore(under_way)
        self._open: dict[str, float] = {}
        self._parties = parties
        parties.on_over = self._over
        self._model = call_to(NUMBER)
        self._command = originate_command(self._model, "")

    def run(self) -> None:
        while not self.stopping:
            if not self._free.acquire(timeout=1.0):
                self._give_up()
                continue
            call_id = secrets.token_hex(10)
            self.sent[call_id] = self._open[call_id] = time.time()
            # All that is different in the next command, its uuids begin with it.
            command = self._command.replace(self._model.id, call_id)
            command = command.replace(_dashed(self._model.id), _dashed(call_id))
            self._wire.tell(f"bgapi {command}\nJob-UUID: {job_uuid(call_id)}")
        end = time.monotonic() + _GIVE_UP
        while self._open and time.monotonic() < end:
            gevent.sleep(0.05)
        self._wire.close()

    def _over(self, call_id: str) -> None:
        if self._open.pop(call_id, None) is not None:
            if call_id in self._parties.refused:
                self.failed.append(time.time())
            self._free.release()

    def _give_up(self) -> None:
        now = time.time()
        for call_id, at in list(self._open.items()):
            if now - at > _GIVE_UP:
                del self._open[call_id]
                self.failed.append(now)
                self._free.release()


def _dashed(call_id: str) -> str:
    return job_uuid(call_id)[:24]


def call_to(number: str) -> Call:
    """A call as the API makes it, both parties at this number."""
    call_id = secrets.token_hex(10)
    legs = tuple(
        Leg(name, role, number, NumberKind.PUBLIC, leg_uuid(call_id, role, 1, 1), gateway="pstn")
        for name, role in (("a1", Role.SOURCE), ("b1", Role.DESTINATION))
    )
    return Call(
        id=call_id,
        kind="simple",
        app="demo-user",
        user="12",
        organization="3",
        organization_name="Default Organization",
        extension="0003*210",
        accepted=round(time.time(), 6),
        wait_for_pickup=25,
        call_duration=7_200,
        queue_timeout=60,
        job_uuid=job_uuid(call_id),
        caller_id="Demo Desk <0003210>",
        caller_id_destination="Demo Desk <0003210>",
        legs=legs,
    )
