"""How fast Ringback is beside its switch, and what a call costs: all in one run, as one table.

    python -m bench.speed [--part a,b,…] [--seconds N] [--full] [--plot FILE.png]
    python -m bench.speed --memory SECONDS

On the simulator, or on the switch of FREESWITCH_URL. Times and rates of one run compare with each
other; they do not with those of another machine, or of another hour on a busy one.
"""

import argparse
import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from app.settings import KNOWN, Settings, load_settings
from bench.speed import bare, enqueued, growth, memory, plot, polls, replay, rq_jobs
from bench.speed.calls import EndToEnd, Level
from bench.speed.switch import Switch, sipp_far_end, switch_to_measure
from bench.speed.table import figure, heads, quantile, row, title
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import Ports, free_port, running

PARTS = {
    "a": "the switch alone",
    "b": "RQ's empty job",
    "c": "calls end to end",
    "d": "events of a burst",
    "e": "status polls",
    "f": "calls end to end again, with many calls kept",
    "g": "a burst of calls that a program enqueues",
}
# Shares of the maximum at which latencies are taken.
SHARES = (0.2, 0.5, 0.8)
OURS = ("api", "worker", "listener", "redis")
PLOTTED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Calls on their way to their bridge at a time, by turns, when the switch is alone: a simulated one
# answers no sooner when it has less to do.
UNDER_WAY = (10, 20, 40)
UNDER_WAY_SIMULATED = (20, 40, 80)
JOBS = {"Worker": 300, "SimpleWorker": 1_000}
# Empty jobs/s of a SimpleWorker (190 to 420) on the kind of machine that the goals were set for.
JOBS_THERE = 300
# Calls that are looked at for the bytes of one, and of which a listener gets all events at once.
SIZED = 50
BURST = 500
LIVE = 10_000
ENDED, ENDED_FULL = 20_000, 1_000_000
REQUESTED, REQUESTED_FULL = 2_000, 10_000
# Seconds that an ended call is kept while memory is watched.
_RETENTION = 60


@dataclass(frozen=True)
class Goal:
    """What was found of that which is to be reached: ``at least``, ``at most`` or ``under``."""

    name: str
    found: float
    word: str
    bound: float
    # How it changes with the machine: 1 for a time, -1 for a rate.
    power: int = 0


class Run:
    """The parts in their order; later ones are compared with earlier ones."""

    def __init__(self, given: argparse.Namespace, switch: Switch, exits: ExitStack) -> None:
        self.given = given
        self.switch = switch
        self.seconds: float = given.seconds
        self._exits = exits
        self._calls: EndToEnd | None = None
        self.alone: bare.Bare | None = None
        self.rq: rq_jobs.EmptyJob | None = None
        # Those at SHARES of the maximum, then the maximum.
        self.levels: list[Level] = []
        self.goals: list[Goal] = []

    @property
    def settings(self) -> Settings:
        settings = replace(
            load_settings(),
            redis_url=None,
            accounts=None,
            demo=KNOWN,
            connections_per_address=0,
            switches=self.switch.url,
            log_level="ERROR",
            app_requests=0,
            app_calls=0,
        )
        return replace(settings, retention=_RETENTION) if self.given.memory else settings

    @property
    def calls(self) -> EndToEnd:
        """Ringback, started when it is first needed, for all parts that need it whole."""
        if self._calls is None:
            ports = Ports(any_http=True)
            stack = self._exits.enter_context(running(self.settings, ports))
            self._calls = EndToEnd(stack, self.switch)
            self._exits.callback(self._calls.close)
        return self._calls

    def part_a(self) -> None:
        title(f"(a) the {self.switch.title} alone: bgapi originate … &bridge, nothing else")
        counts = UNDER_WAY_SIMULATED if self.switch.simulated else UNDER_WAY
        found = [bare.measure(self.switch, count, self.seconds) for count in counts]
        heads(*(f"{each.under_way} at once" for each in found))
        self.alone = max(found, key=lambda each: each.calls_per_second)
        row("calls/s", *(each.calls_per_second for each in found))
        row("failed", *(each.failed for each in found))
        for share in (0.5, 0.99):
            row(
                f"originate → bridge, p{share * 100:.0f} ms",
                *(quantile(each.latencies, share) * 1e3 for each in found),
            )
        row("CPU ms per call: switch", *(each.switch_cpu * 1e3 for each in found))
        row("CPU ms per call: load", *(each.sender_cpu * 1e3 for each in found))

    def part_b(self) -> None:
        title("(b) RQ's own cost: a job that does nothing, a stock worker")
        redis = EmbeddedRedis(free_port())
        try:
            found = [
                rq_jobs.measure(redis.url, redis.process.pid, f"rq.{name}", count)
                for name, count in JOBS.items()
            ]
        finally:
            redis.stop()
        heads(*JOBS)
        self.rq = found[-1]
        row("jobs/s", *(each.jobs_per_second for each in found))
        row("Redis commands per job, enqueued and done", *(each.commands for each in found))
        row("Redis round trips per job", *(each.reads for each in found))
        row("CPU ms per job: worker", *(each.worker_cpu * 1e3 for each in found))
        row("CPU ms per job: redis", *(each.redis_cpu * 1e3 for each in found))

    def part_c(self) -> None:
        title("(c) Ringback end to end, from the POST to the bridge")
        best = self._maximum()
        self.levels = [*(self._level(best.rate * share) for share in SHARES), best]
        self._show(self.levels)
        half = self.levels[SHARES.index(0.5)]
        originated = [quantile(half.originated, share) * 1e3 for share in (0.5, 0.99)]
        if self.alone:
            share_of_switch = best.rate / self.alone.calls_per_second
            self.goals.append(
                Goal("calls/s, of the switch's alone", share_of_switch, "at least", 0.5)
            )
        self.goals += [
            Goal("CPU ms per call, half load", half.cpu_ms(*OURS), "at most", 5, 1),
            Goal("POST → originate, half load, p50 ms", originated[0], "under", 5, 1),
            Goal("POST → originate, half load, p99 ms", originated[1], "under", 25, 1),
            Goal("Redis round trips per call", half.per_call(half.used.reads), "at most", 30),
        ]
        self._bytes()
        if self.given.plot:
            others = [self._level(best.rate * share) for share in PLOTTED if share not in SHARES]
            plot.draw(
                [*self.levels, *others],
                f"Ringback on the {self.switch.title}, {os.cpu_count()} CPUs",
                self.given.plot,
            )

    def part_d(self) -> None:
        title("(d) events of a FreeSWITCH in one burst, one listener, to Redis")
        events = replay.measure(self.settings, BURST)
        row("events, and bytes of one", events.count, events.size)
        row("events/s", events.per_second, ratio=events.per_second / events.greenswitch, to="below")
        row("events/s that greenswitch parses, alone", events.greenswitch)
        row("CPU ms per event: listener", events.listener_cpu * 1e3)
        row("CPU ms per event: redis", events.redis_cpu * 1e3)
        row("Redis commands per event, in scripts too", events.commands)
        row("Redis round trips per event", events.reads)
        row("calls that do not stand as bridged and ended", events.wrong)
        self.goals.append(
            Goal("events/s of one listener", events.per_second, "at least", 5_000, -1)
        )

    def part_e(self) -> None:
        title("(e) status polls of one live call, one API process")
        found = polls.measure(self.calls, self.seconds)
        straight = found.hgetall_per_second
        row("GETs/s", found.per_second, ratio=found.per_second / straight, to="HGETALL")
        row("failed", found.failed)
        for share in (0.5, 0.99):
            row(f"p{share * 100:.0f} ms", quantile(found.latencies, share) * 1e3)
        row("CPU ms per GET: api", found.api_cpu * 1e3)
        row("CPU ms per GET: redis", found.redis_cpu * 1e3)
        row("HGETALLs/s, one client, one by one", straight)
        row("CPU ms per HGETALL: redis", found.hgetall_redis_cpu * 1e3)
        self.goals.append(Goal("CPU ms of the API per poll", found.api_cpu * 1e3, "under", 1, 1))

    def part_f(self) -> None:
        ended = ENDED_FULL if self.given.full else ENDED
        title(f"(f) the same with {LIVE:,} live calls and {ended:,} ended ones kept")
        self._grow(ended)
        best = self._maximum()
        rates = [level.offered for level in self.levels[:-1]] or [best.rate * s for s in SHARES]
        levels = [*map(self._level, rates), best]
        self._show(levels, self.levels)
        if self.levels:
            middle = SHARES.index(0.5)
            cpu = levels[middle].cpu_ms(*OURS) / self.levels[middle].cpu_ms(*OURS)
            self.goals += [
                Goal(
                    "calls/s with many kept, of (c)",
                    best.rate / self.levels[-1].rate,
                    "at least",
                    0.9,
                ),
                Goal("CPU per call with many kept, of (c)", cpu, "at most", 1.1),
            ]

    def part_g(self) -> None:
        count = REQUESTED_FULL if self.given.full else REQUESTED
        title(f"(g) {count:,} calls that a program enqueues at once, and 20 POSTs/s beside them")
        found = enqueued.measure(self.calls, count, self.seconds)
        alone = self.rq.jobs_per_second if self.rq else None
        ratio = found.jobs_per_second / alone if alone else None
        row("accepted and dialled, jobs/s", found.jobs_per_second, ratio=ratio, to="(b)")
        row("refused", found.refused)
        row("accepted before an earlier job", found.out_of_order)
        row("CPU ms per job: worker", found.worker_cpu * 1e3)
        heads("alone", "beside")
        for share in (0.5, 0.95):
            both = [quantile(each, share) * 1e3 for each in (found.quiet, found.beside)]
            row(f"POST → answer, p{share * 100:.0f} ms", *both, ratio=both[1] / both[0], to="alone")

    def show_goals(self) -> None:
        """What was found, beside what is to be reached; and, as an aid to read it by, beside what
        that is in units of the empty job that RQ did in the same run."""
        title("to reach")
        slower = JOBS_THERE / self.rq.jobs_per_second if self.rq else None
        if slower:
            here = JOBS_THERE / slower
            print(f"  (on the right for a machine whose SimpleWorker does {here:.0f} empty jobs/s,")
            print(f"  as it did here, in place of {JOBS_THERE}, for which the figures were set)")
        for goal in self.goals:
            scaled = ""
            if slower and goal.power:
                scaled = f"{goal.word} {figure(goal.bound * slower**goal.power)}"
            row(goal.name, goal.found, f"   {goal.word} {figure(goal.bound):8}{scaled}")

    def watch_memory(self) -> None:
        title(f"memory at a constant load, ended calls kept for {_RETENTION} s")
        rate = self.calls.estimate(self.seconds) / 2
        row("calls/s", rate)
        memory.watch(self.calls, rate, self.given.memory)

    def _maximum(self) -> Level:
        best, tried = self.calls.maximum(self.seconds)
        row("rates tried, calls/s", *(level.offered for level in tried))
        row("bridged, calls/s", *(level.bridged for level in tried))
        row("failed or refused", *(level.failed.total() for level in tried))
        row("held", *("yes" if level.held else "no" for level in tried))
        print()
        return best

    def _level(self, rate: float) -> Level:
        # A p99 needs some hundred calls to stand on.
        return self.calls.level(rate, max(self.seconds, min(2 * self.seconds, 400 / rate)))

    def _grow(self, ended: int) -> None:
        calls = self.calls
        [model] = calls.place_lasting(1, rate=1)
        begun = calls.memory()
        if self.given.full and self.switch.simulated:
            # On the switch, by Ringback, and followed by it.
            calls.place_lasting(LIVE, rate=0.8 * calls.estimate(self.seconds))
        else:
            growth.copy_live(calls.redis, calls.keys, model, LIVE)
            row("the live ones are copies in Redis, of a switch that nobody follows")
        live = calls.memory()
        calls.hang_up([model])
        growth.copy_ended(calls.redis, calls.keys, model, ended)
        row("Redis bytes per live call added", (live.calls - begun.calls) / LIVE)
        row(
            "Redis bytes per ended copy, packed as a restored one is",
            (calls.memory().calls - live.calls) / ended,
        )

    def _bytes(self) -> None:
        calls = self.calls
        ids = calls.place_lasting(SIZED, rate=max(1.0, 0.5 * self.levels[-1].rate))
        row("Redis bytes per live call, hash and timeline", calls.bytes_of(ids))
        row("  and of RQ's record of its job, for a minute", calls.bytes_of_jobs(ids))
        calls.hang_up(ids)
        row("Redis bytes per ended call, hash and timeline", calls.bytes_of(ids))
        row("Redis bytes of the stream of all changes", calls.memory().stream)

    def _show(self, levels: Sequence[Level], before: Sequence[Level] = ()) -> None:
        """The levels as columns. Behind them a ratio: of the maximum for a rate, of the middle
        for all else; to those before, where there are some."""
        heads(*(f"{share:.0%}" for share in SHARES), "maximum")
        row("offered, calls/s", *(level.offered for level in levels))
        best = levels[-1].rate
        ratio, to = None, "(c)"
        if before:
            ratio = best / before[-1].rate
        elif self.alone:
            ratio, to = best / self.alone.calls_per_second, "(a)"
        row("bridged, calls/s", *(level.bridged for level in levels), ratio=ratio, to=to)
        row("failed or refused", *(level.failed.total() for level in levels))
        for reason in sorted({reason for level in levels for reason in level.failed}):
            row(f"  {reason}", *(level.failed[reason] for level in levels))
        originate = "originate" if self.switch.simulated else "originate is sent"
        for name, of in (
            ("answer", "answered"),
            (originate, "originated"),
            ("bridged on the switch", "bridged_on_switch"),
            ("bridged in Redis", "bridged_in_redis"),
        ):
            for share in (0.5, 0.99):
                self._compare(
                    f"POST → {name}, p{share * 100:.0f} ms",
                    [quantile(getattr(level, of), share) * 1e3 for level in levels],
                    [quantile(getattr(level, of), share) * 1e3 for level in before],
                )
        for name in levels[0].used.cpu:
            self._compare(
                f"CPU ms per call: {name}",
                [level.cpu_ms(name) for level in levels],
                [level.cpu_ms(name) for level in before],
            )
        self._compare(
            "CPU ms per call: " + " + ".join(OURS),
            [level.cpu_ms(*OURS) for level in levels],
            [level.cpu_ms(*OURS) for level in before],
            (self.rq.worker_cpu + self.rq.redis_cpu) * 1e3 if self.rq else None,
        )
        self._compare(
            "Redis commands per call, in scripts too",
            [level.per_call(level.used.commands) for level in levels],
            [level.per_call(level.used.commands) for level in before],
            self.rq.commands if self.rq else None,
        )
        self._compare(
            "Redis round trips per call",
            [level.per_call(level.used.reads) for level in levels],
            [level.per_call(level.used.reads) for level in before],
            self.rq.reads if self.rq else None,
        )
        row("the load's own delay, p99 ms", *(level.lag * 1e3 for level in levels))

    def _compare(
        self,
        name: str,
        figures: Sequence[float],
        before: Sequence[float],
        of_rq: float | None = None,
    ) -> None:
        """A row with the ratio of its middle to the one before, or to RQ's SimpleWorker."""
        middle = SHARES.index(0.5)
        if before:
            row(name, *figures, ratio=figures[middle] / before[middle], to="(c)")
        elif of_rq:
            row(name, *figures, ratio=figures[middle] / of_rq, to="(b)")
        else:
            row(name, *figures)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {part}  {what}" for part, what in PARTS.items()),
    )
    parser.add_argument(
        "--part", type=_parts, default=tuple(PARTS), metavar="a,b,…", help="these parts alone"
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="the length of each window (%(default)s)"
    )
    parser.add_argument(
        "--full", action="store_true", help=f"{ENDED_FULL:,} ended calls in (f), and live channels"
    )
    parser.add_argument(
        "--far-end",
        choices=("sipp",),
        help="start a SIPp on this machine where the gateway pstn of a FreeSWITCH leads",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="latency against load")
    parser.add_argument(
        "--memory", type=float, metavar="SECONDS", help="only watch memory, for so long"
    )
    given = parser.parse_args()
    with ExitStack() as exits:
        switch = exits.enter_context(switch_to_measure())
        if given.far_end:
            if switch.simulated:
                parser.error("--far-end is for the switch of FREESWITCH_URL")
            exits.enter_context(sipp_far_end(switch))
        print(
            f"Ringback on the {switch.title}{' with SIPp' if given.far_end else ''}, "
            f"Python {platform.python_version()}, "
            f"{os.cpu_count()} CPUs, windows of {given.seconds:g} s"
        )
        run = Run(given, switch, exits)
        if given.memory:
            run.watch_memory()
            return
        for part in given.part:
            getattr(run, f"part_{part}")()
        run.show_goals()


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(sorted(set(text.split(","))))
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no part is named {' or '.join(sorted(unknown))}")
    return parts


if __name__ == "__main__":
    main()
