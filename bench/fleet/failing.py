"""One of four switches fails everything, in each way that a switch can: what it costs."""

import random
import time
from argparse import Namespace

from bench.fleet.harness import Fleet, fleet, is_lost
from bench.speed.table import figure

TITLE = "one of four switches fails everything"
# The most calls a minute that the failing switch may cost, and their share.
CALLS, SHARE = 5, 0.01
# The most seconds until the switch gets calls again, once it is well.
BACK = 60.0
RATE = 20.0
# Each fault: its name, and the orders that begin and end it.
FAULTS = {
    "-ERR to bgapi": ("reject on", "reject off"),
    "no reply": ("swallow on", "swallow off"),
    **{
        f"{cause}, no channel": (f"refuse {cause}", "refuse off")
        for cause in (
            *("DESTINATION_OUT_OF_ORDER", "GATEWAY_DOWN", "INVALID_GATEWAY"),
            "USER_NOT_REGISTERED",
        )
    },
    **{
        cause: (f"fail {cause}", "fail off")
        for cause in (
            *("NORMAL_TEMPORARY_FAILURE", "NETWORK_OUT_OF_ORDER", "DESTINATION_OUT_OF_ORDER"),
        )
    },
}


def run(given: Namespace) -> bool:
    """Run each fault, print a row for each, and return whether all bounds held."""
    luck = random.Random(given.seed)
    columns = ("fault", "calls", "lost", "again", "ejected, s", "back, s")
    print("  {:40}{:>8}{:>8}{:>8}{:>12}{:>10}".format(*columns), flush=True)
    good = True
    with fleet(4) as running:
        for name, orders in FAULTS.items():
            if given.fault and given.fault not in name:
                continue
            good &= _one(running, name, luck.choice(sorted(running.switches)), orders, given)
        if twice := running.dialled_twice():
            good = False
            print(f"  dialled twice: {', '.join(twice)}")
    return good


def _one(running: Fleet, name: str, switch: str, orders: tuple[str, str], given: Namespace) -> bool:
    with running.load(RATE):
        time.sleep(3.0)
        begun = time.monotonic()
        running.order(switch, orders[0])
        out = _until(running, switch, True, given.seconds)
        time.sleep(max(0.0, begun + given.seconds - time.monotonic()))
        running.order(switch, orders[1])
        back = _until(running, switch, False, BACK + 15.0)
    calls = running.ended(begun, time.monotonic())
    lost = [call for call in calls if is_lost(call)]
    in_fault = RATE * max(60.0, given.seconds)
    good = len(lost) <= CALLS * max(1.0, given.seconds / 60) and len(lost) <= SHARE * in_fault
    good &= out is not None and back is not None and back <= BACK
    again = sum(call.refused_by is not None for call in calls)
    figures = [len(calls), len(lost), again]
    row = "".join(f"{count:>8}" for count in figures)
    row += f"{_shown(out):>12}{_shown(back):>10}"
    print(f"  {name:40}{row}{'' if good else '  BEYOND'}", flush=True)
    if given.verbose:
        for call in lost:
            print(f"    {call.id} {call.switch} {call.ended_by} {call.hangup_cause}")
    return good


def _until(running: Fleet, switch: str, ejected: bool, limit: float) -> float | None:
    """The seconds until something of the switch is ejected, or nothing is; None after the limit."""
    begun = time.monotonic()
    while time.monotonic() < begun + limit:
        if bool(running.ejected(switch)) is ejected:
            return time.monotonic() - begun
        time.sleep(0.05)
    return None


def _shown(seconds: float | None) -> str:
    return "never" if seconds is None else figure(seconds)
