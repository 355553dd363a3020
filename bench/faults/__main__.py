"""Faults against a running Ringback, for a minute or for hours.

    python -m bench.faults [--seconds 60] [--seed N] [--rate 20] [--faults NAME,NAME] [--sentinel]
        [--asks]
        [--switch esl://:ClueCon@127.0.0.1:8021 --far-end esl://:ClueCon@127.0.0.1:8022]

Starts Redis (three Sentinels and a replica too), two APIs, workers, listeners and simulators,
places calls at the rate, and does one fault after the other. In between all is healed, and what
the clients were told and what Redis says is held against the switches' own record. The same seed
gives the same calls and the same faults in the same order. Exit status 0 if nothing was wrong.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.faults.check import Verdict
from bench.faults.cluster import Layout, NotReady
from bench.faults.faults import FAULTS
from bench.faults.suite import Suite, opened
from bench.parts import stopped

# Seconds of load from one check to the next: what is wrong is found near to its cause.
ROUND = 90.0
# Seconds of nothing but load before a fault.
CALM = (1.0, 4.0)
SETTINGS = {
    "RINGBACK_RECONCILE_INTERVAL": "5",
    "RINGBACK_QUEUE_TIMEOUT": "30",
    # Ended calls need not be kept for longer than it takes to check them.
    "RINGBACK_RETENTION": "1200",
    # The load has a rate of its own.
    "RINGBACK_APP_REQUESTS": "0",
    "RINGBACK_APP_CALLS": "0",
}


def main() -> int:
    given = _arguments()
    layout = Layout(
        sentinel=given.sentinel,
        appendfsync=given.appendfsync,
        min_replicas=given.min_replicas,
        switch=given.switch,
        far_end=given.far_end,
        seed=given.seed,
        settings=SETTINGS | ({"RINGBACK_WAIT_REPLICAS": "1"} if given.sentinel else {}),
    )
    names = [name for name in given.faults or FAULTS if FAULTS[name].fits(layout)]
    if unfit := set(given.faults or ()) - set(names):
        raise SystemExit(f"not on this cluster: {', '.join(sorted(unfit))}")
    signal.signal(signal.SIGTERM, stopped)
    folder = Path(tempfile.mkdtemp(prefix="ringback-faults-"))
    print(f"seed {given.seed}, {given.rate:g} calls/s, evidence in {folder}", flush=True)
    good = False
    try:
        good = _run(layout, folder, given, names)
    except NotReady as error:
        print(f"VIOLATION nothing works any more: {error}")
    except KeyboardInterrupt:
        print("Stopped.")
    finally:
        if good and not given.keep:
            shutil.rmtree(folder)
        else:
            print(f"The evidence is in {folder}")
    return 0 if good else 1


def _run(layout: Layout, folder: Path, given: argparse.Namespace, names: list[str]) -> bool:
    verdicts: list[Verdict] = []
    with opened(layout, folder, given.seed, _tell, asks=given.asks) as suite:
        deck = _deck(given.seed, names)
        left = given.seconds
        while left > 0:
            length = min(left, ROUND)
            left -= length
            happening = partial(_faults_for, suite, deck, length)
            verdicts.append(suite.round(happening, given.rate))
            print(verdicts[-1].short(), flush=True)
            # Hours of calls would not fit into memory.
            suite.record.forget()
    _sum_up(verdicts)
    return not any(verdict.violations for verdict in verdicts)


def _deck(seed: int, names: list[str]) -> Iterator[tuple[str, float, float]]:
    """Without end: seconds of calm, a fault, and how long it lasts. All, then all again."""
    chance = random.Random(f"deck {seed}")
    while True:
        for name in chance.sample(names, len(names)):
            yield name, chance.uniform(*CALM), chance.uniform(*FAULTS[name].lasts)


def _faults_for(suite: Suite, deck: Iterator[tuple[str, float, float]], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name, calm, lasts = next(deck)
        time.sleep(calm)
        suite.do(name, lasts)
    time.sleep(CALM[0])


def _sum_up(verdicts: list[Verdict]) -> None:
    total = Verdict()
    for verdict in verdicts:
        total.calls += verdict.calls
        total.originates += verdict.originates
        total.reasons += verdict.reasons
        total.answers += verdict.answers
    violations = sum(len(verdict.violations) for verdict in verdicts)
    print(f"All in all: {total.short()}\n{violations} violations", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of load (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--rate", type=float, default=20.0, help="calls per second (20)")
    parser.add_argument("--faults", type=_names, metavar="NAME,NAME", help="only these")
    parser.add_argument("--asks", action="store_true", help="ask more of the calls, in any order")
    parser.add_argument("--list", action="store_true", help="name the faults")
    parser.add_argument("--sentinel", action="store_true", help="Redis with Sentinels")
    parser.add_argument("--min-replicas", type=int, default=0, choices=(0, 1))
    parser.add_argument("--appendfsync", default="always", choices=("always", "everysec"))
    parser.add_argument("--switch", metavar="URL", help="a real switch, with --far-end")
    parser.add_argument("--far-end", metavar="URL", help="the event socket that its calls reach")
    parser.add_argument("--keep", action="store_true", help="the evidence, whatever it says")
    given = parser.parse_args()
    if given.list:
        print("\n".join(FAULTS))
        sys.exit(0)
    if bool(given.switch) != bool(given.far_end):
        parser.error("--switch and --far-end go together")
    return given


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(FAULTS):
        raise argparse.ArgumentTypeError(f"no fault is named {', '.join(sorted(unknown))}")
    return names


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
