"""What may happen to a part: each function does it, waits as long as it lasts, and heals it.

`lasts` is in seconds. Whom it hits is drawn from `random`, so that a seed says all.
"""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random

from bench.faults.cluster import (
    APIS,
    LISTENERS,
    RINGBACK,
    START_LIMIT,
    WORKERS,
    Cluster,
    Layout,
    wait_until,
)
from freeswitch.errors import EventSocketError
from ringback_cli.up import free_port

Action = Callable[[Cluster, Random, float], None]


@dataclass(frozen=True)
class Fault:
    do: Action
    # Of the simulator's making, or of a cluster with or without Sentinel.
    simulator: bool = False
    sentinel: bool | None = None
    # Redis refuses commands, or loses them with its master.
    redis_refuses: bool = False
    # The switch throws events away.
    loses_events: bool = False
    # Seconds that it lasts in a long run.
    lasts: tuple[float, float] = (2.0, 8.0)

    def fits(self, layout: Layout) -> bool:
        if self.simulator and layout.switch:
            return False
        return self.sentinel in (None, layout.sentinel)


def _for_a_while(begin: str, end: str) -> Callable[[Iterable[str]], Action]:
    """Do the one to a part, and the other once it has lasted."""

    def to_one_of(names: Iterable[str]) -> Action:
        def do(cluster: Cluster, random: Random, lasts: float) -> None:
            part = cluster.part(random.choice(sorted(names)))
            getattr(part, begin)()
            time.sleep(lasts)
            getattr(part, end)()

        return do

    return to_one_of


_kill = _for_a_while("kill", "start")
_stop = _for_a_while("stop", "cont")


def _listener_slow(cluster: Cluster, random: Random, lasts: float) -> None:
    """Both get a tenth of the time, as on a machine with too much to do: they fall behind."""
    for name in LISTENERS:
        cluster.journal.say(f"{name:10} is slow")
    end = time.monotonic() + lasts
    while time.monotonic() < end:
        for seconds, number in ((0.45, signal.SIGSTOP), (0.05, signal.SIGCONT)):
            for name in LISTENERS:
                cluster.part(name).signal(number)
            time.sleep(seconds)


def _redis_full(cluster: Cluster, random: Random, lasts: float) -> None:
    server = cluster.master()
    cluster.journal.say(f"{server:10} is full")
    cluster.server(server).config_set("maxmemory", "1")
    time.sleep(lasts)
    cluster.server(server).config_set("maxmemory", "0")
    cluster.journal.say(f"{server:10} is not full any more")


def _redis_readonly(cluster: Cluster, random: Random, lasts: float) -> None:
    """A replica of nothing, with its data: it answers to reading, and refuses to write."""
    server = cluster.master()
    cluster.journal.say(f"{server:10} REPLICAOF nobody")
    cluster.server(server).replicaof("127.0.0.1", str(free_port()))
    time.sleep(lasts)
    cluster.server(server).replicaof("NO", "ONE")
    cluster.journal.say(f"{server:10} REPLICAOF NO ONE")


def _master(begin: str, end: str) -> Action:
    """The master goes; it comes back, stopped ones believing that they still are it."""

    def do(cluster: Cluster, random: Random, lasts: float) -> None:
        cluster.await_ready()
        old = cluster.master()
        getattr(cluster.part(old), begin)()
        _await_new_master(cluster, old)
        time.sleep(lasts)
        getattr(cluster.part(old), end)()

    return do


def _await_new_master(cluster: Cluster, old: str) -> None:
    start = time.monotonic()
    while (new := cluster.master()) == old:
        if time.monotonic() - start > START_LIMIT:
            cluster.journal.incident(
                f"Sentinel has named no other master than {old} for {START_LIMIT:.0f} s"
            )
            return
        time.sleep(0.1)
    took = time.monotonic() - start
    cluster.journal.say(f"{new:10} is the master, after {took:.1f} s")


def _ordered(order: str, undo: str = "simulator heal", everywhere: bool = False) -> Action:
    """Tell one simulator, or all, what to do; and that it is over."""

    def do(cluster: Cluster, random: Random, lasts: float) -> None:
        names = [switch.name for switch in cluster.switches]
        names = names if everywhere else [random.choice(names)]
        for name in names:
            _order(cluster, name, order)
        time.sleep(lasts)
        for name in names:
            _order(cluster, name, undo)

    return do


def _order(cluster: Cluster, switch: str, command: str) -> None:
    try:
        reply = cluster.order(switch, command).strip()
    except EventSocketError as error:
        # A switch that cuts its connections cuts this one too.
        reply = str(error)
    cluster.journal.say(f"{switch:10} {command}: {reply}")
    if reply.startswith(("-ERR", "-USAGE")):
        raise ValueError(f"{switch} does not know {command!r}: {reply}")


def _switch_cut(cluster: Cluster, random: Random, lasts: float) -> None:
    """Again and again: also whoever has just come back."""
    end = time.monotonic() + lasts
    while time.monotonic() < end:
        _order(cluster, random.choice(cluster.switches).name, "simulator cut")
        time.sleep(random.uniform(0.5, 2.0))


def _switch_full(cluster: Cluster, random: Random, lasts: float) -> None:
    name = random.choice(cluster.switches).name
    before = cluster.order(name, "fsctl max_sessions").rpartition(":")[2].strip()
    _order(cluster, name, "fsctl max_sessions 1")
    time.sleep(lasts)
    _order(cluster, name, f"fsctl max_sessions {before}")


def _events_overflow(cluster: Cluster, random: Random, lasts: float) -> None:
    """A queue of a few events that does not empty: the switch throws the rest away, then the
    listener out."""
    name = random.choice(cluster.switches).name
    for command in ("simulator queue 20", "simulator delay 1"):
        _order(cluster, name, command)
    time.sleep(lasts)
    _order(cluster, name, "simulator heal")


def _rolling_restart(cluster: Cluster, random: Random, lasts: float) -> None:
    """As a deployment does: each process in turn, the next when the one before is back."""
    for name in RINGBACK:
        cluster.part(name).terminate()
        cluster.part(name).start()
        cluster.await_ready()
        if name in LISTENERS:
            wait_until(f"{name} has no connections", partial(cluster.listens, name))


def _clock_step(cluster: Cluster, random: Random, lasts: float) -> None:
    """One of each two is an hour ahead, then an hour behind, of the others and of itself."""
    names = [random.choice(two) for two in (APIS, WORKERS, LISTENERS)]
    for ahead in random.sample([3600.0, -3600.0], 2):
        _step_clocks(cluster, names, ahead)
        time.sleep(lasts / 2)
    _step_clocks(cluster, names, 0.0)


def _step_clocks(cluster: Cluster, names: list[str], ahead: float) -> None:
    cluster.journal.say(f"{', '.join(names)}: wall clock {ahead:+.0f} s")
    for name in names:
        cluster.step_clock(name, ahead)


_LONG = (10.0, 30.0)
_SIMULATORS = ("simulator1", "simulator2")

FAULTS: dict[str, Fault] = {
    "worker_kill": Fault(_kill(WORKERS)),
    "worker_stop": Fault(_stop(WORKERS), lasts=_LONG),
    "listener_kill": Fault(_kill(LISTENERS)),
    "listener_stop": Fault(_stop(LISTENERS), lasts=_LONG),
    "listener_slow": Fault(_listener_slow, lasts=_LONG),
    "api_kill": Fault(_kill(APIS)),
    "api_stop": Fault(_stop(APIS), lasts=_LONG),
    "redis_kill": Fault(_kill(["redis1"]), sentinel=False, redis_refuses=True),
    "redis_stop": Fault(_stop(["redis1"]), sentinel=False, lasts=_LONG),
    "redis_full": Fault(_redis_full, redis_refuses=True),
    "redis_readonly": Fault(_redis_readonly, sentinel=False, redis_refuses=True),
    "sentinel_failover": Fault(_master("kill", "start"), sentinel=True, redis_refuses=True),
    "sentinel_stop": Fault(_master("stop", "cont"), sentinel=True, redis_refuses=True),
    "switch_cut": Fault(_switch_cut, simulator=True),
    "switch_mute": Fault(_ordered("simulator mute"), simulator=True, lasts=_LONG),
    "switch_kill": Fault(_kill(_SIMULATORS), simulator=True),
    "switch_stop": Fault(_stop(_SIMULATORS), simulator=True, lasts=_LONG),
    "switch_refuse": Fault(
        _ordered("simulator refuse NORMAL_TEMPORARY_FAILURE", "simulator refuse off"),
        simulator=True,
    ),
    "switch_hang": Fault(_ordered("simulator hang 3", "simulator heal"), simulator=True),
    "switch_pause": Fault(_ordered("fsctl pause outbound", "fsctl resume outbound")),
    "switch_full": Fault(_switch_full),
    "events_delay": Fault(_ordered("simulator delay 2"), simulator=True),
    "events_double": Fault(_ordered("simulator double 0.5", everywhere=True), simulator=True),
    "events_drop": Fault(
        _ordered("simulator drop 0.3", everywhere=True), simulator=True, loses_events=True
    ),
    "events_overflow": Fault(_events_overflow, simulator=True, loses_events=True),
    "rolling_restart": Fault(_rolling_restart),
    "clock_step": Fault(_clock_step),
}
