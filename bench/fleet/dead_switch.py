"""What a dead switch with many live calls costs the listeners of the others, and how soon its calls
end once it is declared dead.

    python -m bench.fleet.dead_switch [--seconds 30]

Twenty simulated switches carry calls. One of them dies, and Redis has 2,000 live calls of it whose
deadlines have passed: the case that costs most. Compared is the CPU of the listener for the same
calls on the others before and after.
"""

import argparse
import contextlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from app.calls import transitions
from app.calls.model import Call, State
from app.calls.transitions import LegReport
from app.settings import KNOWN, load_settings
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.pace import SUSPENDED
from app.store.queue import JobQueue
from app.store.registered import SwitchRegistry
from app.store.writes import Note
from bench.speed.bare import NUMBER, call_to
from bench.speed.meter import cpu_seconds
from freeswitch.simulator import Simulator
from ringback_cli.up import Ports, Stack, running

TITLE = "a dead switch is free for the others"
SWITCHES, CALLS = 20, 2_000
DEAD = "s1"
# Calls per second on the others.
RATE = 4.0
# The most CPU after the death, as a share of that before, and the most seconds until the calls of a
# switch that is declared dead have ended.
BOUND, ENDED_WITHIN = 1.2, 10.0
# Seconds for which the calls have lasted.
_LASTED = 3_600.0
_SETTLES = 15.0


def run(given: argparse.Namespace) -> bool:
    """Print the figures. Returns whether they are within their bounds."""
    with contextlib.ExitStack() as exits:
        switches = {
            f"s{n}": exits.enter_context(Simulator(speed=4.0, seed=n))
            for n in range(1, SWITCHES + 1)
        }
        urls = (f"{name}=esl://:ClueCon@127.0.0.1:{s.port}" for name, s in switches.items())
        settings = replace(
            load_settings(),
            redis_url=None,
            accounts=None,
            switches=",".join(urls),
            demo=KNOWN,
            connections_per_address=0,
            log_level="ERROR",
        )
        stack = exits.enter_context(running(settings, Ports(any_http=True)))
        store = CallStore(connect(stack.settings.require_redis()), Keys())
        exits.enter_context(_placing(stack))
        time.sleep(_SETTLES)
        before = _cpu(stack, given.seconds)
        _die(store, switches[DEAD])
        time.sleep(_SETTLES)
        after = _cpu(stack, given.seconds)
        took = _declared_dead(store)
        live = len(store.live_of_switch(DEAD))
    ratio = after / before
    print(f"{'listener, ms of CPU per second':44}{before * 1000:8.1f}   {SWITCHES} switches")
    print(f"{'':44}{after * 1000:8.1f}   one dead with {CALLS} calls")
    print(f"{'ratio':44}{ratio:8.2f}   at most {BOUND}")
    print(f"{'seconds until its calls had ended':44}{took:8.1f}   at most {ENDED_WITHIN:.0f}")
    return ratio <= BOUND and took <= ENDED_WITHIN and live == 0


def _cpu(stack: Stack, seconds: float) -> float:
    """The seconds of CPU that the listener takes in a second."""
    pid, begun = stack.processes["listener"].pid, time.monotonic()
    used = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - used) / (time.monotonic() - begun)


def _die(store: CallStore, switch: Simulator) -> None:
    """End a switch, and write live calls of it. They have lasted for longer than they may, so the
    watchdog has to look at each."""
    core: Any = store.redis.hget(store.keys.switch(DEAD), "core_uuid") or b""
    switch.stop()
    queue = JobQueue(store.redis, store.keys)

    def bridged(call: Call) -> Call:
        at = store.now() - _LASTED
        call = transitions.claim(call, worker="bench", switch=DEAD, core_uuid=core.decode(), at=at)
        call = transitions.mark_sent(call, at=at, job_uuid=call.job_uuid)
        source, destination = (leg.uuid for leg in call.legs)
        for uuid, other in ((source, destination), (destination, source)):
            report = LegReport(uuid, created=at, answered=at, bridged=at, bridged_to=other)
            call = transitions.report_leg(call, report)
        return call

    # No worker claims a call meanwhile.
    store.redis.set(SUSPENDED, 1)
    for _ in range(CALLS):
        call = replace(call_to(NUMBER), call_duration=600)
        Acceptor(store).accept([call], lambda *_: None)
        store.change(replace(call, version=1), bridged, Note("command", "claim"))
    queue.calls.empty()  # type: ignore[no-untyped-call]
    store.redis.delete(SUSPENDED)


def _declared_dead(store: CallStore) -> float:
    """The seconds from the word of an operator until no call of the switch is live."""
    ids = store.live_of_switch(DEAD)
    SwitchRegistry(store.redis, store.keys).declare_dead(DEAD, "bench", store.now())
    begun = time.monotonic()
    while store.live_of_switch(DEAD) and time.monotonic() - begun < 60.0:
        time.sleep(0.1)
    took = time.monotonic() - begun
    ended = [call for call in store.get_many(ids) if call is not None]
    by = {call.ended_by for call in ended if call.state is State.ENDED}
    print(f"{'calls that ended, by':44}{len(ended):8}   {', '.join(sorted(map(str, by)))}")
    return took


@contextlib.contextmanager
def _placing(stack: Stack) -> Iterator[None]:
    """Place calls at a rate until leaving. One that is refused does not matter here."""
    stop = threading.Event()
    body = {"extension": "210", "phoneCallView": [{"source": [NUMBER], "destination": ["15511"]}]}
    headers = {"Authorization": "Bearer demo-user-token"}

    def place() -> None:
        while not stop.wait(1.0 / RATE):
            connection = http.client.HTTPConnection(*stack.settings.http_address, timeout=30)
            with contextlib.suppress(OSError), contextlib.closing(connection):
                connection.request("POST", "/uapi/phoneCalls/@me/simple", json.dumps(body), headers)
                connection.getresponse().read()

    thread = threading.Thread(target=place, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m bench.fleet.dead_switch")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement (30)")
    sys.exit(0 if run(parser.parse_args()) else 1)
