"""Whether the three promises were kept, by the switch's own record: each call placed once, none
lost, and Redis and the API say what the switch did.

Nothing here goes through Ringback's own reading of a call: the hashes are read as
docs/redis.md gives them to back ends.
"""

import asyncio
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from app.calls.model import State, call_id_of
from app.calls.transitions import FAULTS
from bench.faults.cluster import WORKERS, Cluster, NotReady, wait_until
from bench.faults.histories import record_faults, time_faults, version_faults
from bench.faults.load import CALLS, EXTENSION, NUMBER, Answer, Placed, exchange
from bench.faults.record import LegRecord, OriginateRecord, Record

# The app of the load's token.
_APP = "demo-user"
# Seconds that a leg may outlive the answer that it was hung up: both are stamped on one machine.
_TRUE_WITHIN = 0.5
# Seconds by which Redis and the record may differ over when something was.
_SAME = 0.25
# Seconds that a worker is given to note what it has sent.
NOTE_LIMIT = 60.0
# How the API may answer what is asked of a call that may have ended, or is nonsense.
_ASKED = (200, 202, 400, 404, 503)
_STATES = [state.value for state in State]
_SEEN = ("ringing", "answered", "bridged", "ended")


@dataclass
class CallHash:
    """A call as Redis has it."""

    id: str
    fields: dict[str, str]
    timeline: list[dict[str, str]]

    @property
    def ended_by(self) -> str | None:
        return self.fields.get("ended_by")

    def since(self, state: State) -> float | None:
        """When it came to a state, by Redis' own clock in epoch seconds."""
        for entry in self.timeline:
            if (entry["kind"], entry["name"]) == ("change", state.value):
                return int(entry["id"].partition("-")[0]) / 1000
        return None

    @property
    def claims(self) -> int:
        """How often the timeline says that the call was claimed, `WORKER on SWITCH`. Workers claim
        actions too."""
        return sum(
            (e["kind"], e["name"]) == ("command", "claim") and " on " in e.get("data", "")
            for e in self.timeline
        )

    @property
    def originates(self) -> int:
        """How often the timeline says that the originate was sent, or may have been: a worker that
        loses the switch meanwhile notes a reply that it does not know."""
        return sum(
            entry["name"] == "originate"
            and (entry["kind"] == "command" or entry.get("data", "").startswith("unknown: "))
            for entry in self.timeline
        )

    @property
    def lost_sight(self) -> bool:
        """Whether Ringback had to end the call without the switch's word on how it ended."""
        noted = {entry["name"] for entry in self.timeline if entry["kind"] == "event"}
        return self.ended_by in FAULTS or bool(noted & FAULTS)

    @property
    def legs(self) -> dict[str, dict[str, str]]:
        """Of each leg its fields, by the name of the leg."""
        legs: dict[str, dict[str, str]] = {name: {} for name in self.fields["legs"].split(",")}
        for name, value in self.fields.items():
            if name.startswith("leg:"):
                _, leg, what = name.split(":")
                legs[leg][what] = value
        return legs

    @cached_property
    def numbers(self) -> frozenset[str]:
        return frozenset(leg["number"] for leg in self.legs.values())


@dataclass
class Verdict:
    """What was found. `evidence` holds all that is known of the calls the violations name."""

    calls: int = 0
    violations: list[str] = field(default_factory=list)
    evidence: dict[str, str] = field(default_factory=dict)
    # Commands that the switches had for these calls.
    originates: int = 0
    # How many calls ended for each reason, and what answers clients got.
    reasons: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    # Jobs that a killed worker had, of calls that have ended: RQ's maintenance takes them away.
    rq_leftovers: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """All of it; :meth:`short` is for a screen."""
        return self._told(len(self.violations), len(self.evidence))

    def short(self) -> str:
        return self._told(12, 2)

    def _told(self, violations: int, evidence: int) -> str:
        lines = [
            f"{self.calls} calls, {self.originates} originated; ended by: {_counted(self.reasons)}",
            f"answers: {_counted(self.answers)}",
        ]
        if self.rq_leftovers:
            lines.append(f"rq leftovers: {', '.join(self.rq_leftovers)}")
        lines += [f"VIOLATION {text}" for text in self.violations[:violations]]
        if (more := len(self.violations) - violations) > 0:
            lines.append(f"... and {more} more")
        for name, text in list(self.evidence.items())[:evidence]:
            lines += [f"--- {name}", text]
        return "\n".join(lines)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"


def read_calls(redis: Any, cluster: Cluster) -> dict[str, CallHash]:
    """Every call that Redis holds, by its id."""
    pattern = re.compile(re.escape(cluster.keys.call("")).replace(r"\{\}", r"\{([0-9a-f]+)\}"))
    names = [key.decode() for key in redis.scan_iter(f"{cluster.keys.prefix}call:*", count=1000)]
    ids = [found[1] for name in names if (found := pattern.fullmatch(name))]
    calls = {}
    for first in range(0, len(ids), 500):
        some = ids[first : first + 500]
        with redis.pipeline(transaction=False) as pipe:
            for call_id in some:
                pipe.hgetall(cluster.keys.call(call_id))
                pipe.xrange(cluster.keys.timeline(call_id))
            replies = pipe.execute()
        for call_id, flat, entries in zip(some, replies[::2], replies[1::2], strict=True):
            timeline = [{"id": entry.decode(), **_text(of)} for entry, of in entries]
            calls[call_id] = CallHash(call_id, _text(flat), timeline)
    return calls


def _text(flat: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in flat.items()}


def check(
    cluster: Cluster,
    placed: Sequence[Placed],
    record: Record,
    evidence: Path,
    *,
    redis_refused: bool = False,
    events_lost: bool = False,
) -> Verdict:
    """Check all calls that the clients wanted, after everything is healed and drained.

    The evidence goes into a file of that folder too. With ``redis_refused`` Redis refused commands
    for a while: a worker gives up a note then. With ``events_lost`` a switch threw events away: of
    a source that lost the race, nothing may have been heard.
    """
    verdict = Verdict(len(placed))
    checker = _Checker(cluster, placed, record, verdict, redis_refused, events_lost)
    with suppress(NotReady):
        # A worker gathers what it has sent for a moment, and notes it together.
        wait_until("what was sent is not noted", lambda: not checker.await_notes(), NOTE_LIMIT)
    for found in checker.run():
        verdict.violations.append(found.text)
        for call_id in found.calls:
            verdict.evidence.setdefault(f"call {call_id}", checker.tell_call(call_id))
        if found.plan is not None:
            verdict.evidence.setdefault(
                f"request {found.plan.plan.index}", checker.tell_plan(found.plan)
            )
    verdict.violations += [f"process: {text}" for text in cluster.journal.incidents]
    cluster.journal.incidents.clear()
    if verdict.violations:
        (evidence / f"violations-{time.time():.0f}.txt").write_text(str(verdict))
    return verdict


@dataclass(frozen=True)
class _Found:
    text: str
    calls: tuple[str, ...] = ()
    plan: Placed | None = None


class _Checker:
    def __init__(
        self,
        cluster: Cluster,
        placed: Sequence[Placed],
        record: Record,
        verdict: Verdict,
        redis_refused: bool,
        events_lost: bool,
    ) -> None:
        self._cluster = cluster
        self._redis = cluster.redis()
        self._record = record
        self._verdict = verdict
        self._placed = placed
        self._redis_refused = redis_refused
        self._events_lost = events_lost
        self._read()

    def _read(self) -> None:
        placed = self._placed
        plan_of = {number: p.plan.index for p in placed for number in p.plan.numbers}
        # Those of earlier rounds too, for what is left of them.
        self._all_calls = read_calls(self._redis, self._cluster)
        self._calls = {
            i: call
            for i, call in self._all_calls.items()
            if any(number in plan_of for number in call.numbers)
        }
        self._by_plan: dict[int, list[CallHash]] = defaultdict(list)
        for call in self._calls.values():
            for index in {plan_of[n] for n in call.numbers if n in plan_of}:
                self._by_plan[index].append(call)

    def run(self) -> Iterator[_Found]:
        yield from self._placed_once()
        for call in self._calls.values():
            self._verdict.reasons[call.ended_by or "not ended"] += 1
            self._verdict.originates += len(self._record.originates.get(call.id, ()))
        for placed in self._placed:
            for answer in placed.answers:
                what = answer.code or answer.status or (answer.error or "").partition("(")[0]
                self._verdict.answers[f"{answer.method} {what}"] += 1
            yield from self._one_call(placed)
            yield from self._answers_true(placed)
        for call in self._calls.values():
            yield from self._ended(call)
            yield from self._timeline_in_order(call)
            yield from self._agrees(call)
            for text in time_faults(call.legs):
                yield _Found(f"call {call.id}: {text}", (call.id,))
            yield from self._meant(call)
        yield from self._histories()
        yield from self._found_by_get()
        yield from self._no_channels()
        yield from self._nothing_left()

    # (a) Placed once

    def _placed_once(self) -> Iterator[_Found]:
        """Of all calls there ever were: what was done long ago may be done again now."""
        record = self._record
        for number, rings in record.rings.items():
            before = number in record.forgotten
            if len(rings) + before > 1 and NUMBER.fullmatch(number):
                at = ", ".join(f"{ring.at:.3f} on {ring.where}" for ring in rings)
                text = f"number {number} was dialled {len(rings) + before} times: {at}"
                yield _Found(text, tuple({ring.call_id for ring in rings if ring.call_id}))
        for call_id, sent in record.originates.items():
            before = call_id in record.forgotten
            # What made no channel may be dialled on another switch, once.
            made = [o for o in sent if not self._was_refused(call_id, o)]
            if (len(made) + before > 1 or len(sent) > 2) and call_id in self._all_calls:
                at = ", ".join(f"{o.time:.3f} on {o.switch}" for o in sent)
                text = f"call {call_id} was originated {len(sent) + before} times: {at}"
                yield _Found(text, (call_id,))

    def _was_refused(self, call_id: str, originate: OriginateRecord) -> bool:
        """Whether the switch refused the originate, and made no channel."""
        places = {leg.switch for leg in self._legs_of(call_id)}
        return (originate.result or "").startswith("-ERR") and originate.switch not in places

    def _one_call(self, placed: Placed) -> Iterator[_Found]:
        plan = placed.plan
        ids = {call.id for call in self._by_plan[plan.index]} | {
            ring.call_id
            for number in plan.numbers
            for ring in self._record.rings.get(number, ())
            if ring.call_id
        }
        if len(ids) > 1:
            yield _Found(f"one request made {len(ids)} calls: {sorted(ids)}", tuple(ids), placed)

    # (b), (g) The answers were true

    def _answers_true(self, placed: Placed) -> Iterator[_Found]:
        plan = placed.plan
        answered = placed.call_ids
        if len(answered) > 1:
            text = f"nonce {plan.nonce} was answered with several calls: {sorted(answered)}"
            yield _Found(text, tuple(answered), placed)
        for call_id in answered:
            call = self._calls.get(call_id)
            if call is None:
                text = f"call {call_id} was answered 202 and is not in Redis"
                yield _Found(text, (call_id,), placed)
            elif call.numbers != set(plan.numbers):
                text = f"call {call_id} has numbers {sorted(call.numbers)}, not the client's"
                yield _Found(text, (call_id,), placed)
        surely_none = all(_refused(answer) for answer in placed.posts)
        calls = self._by_plan[plan.index]
        rung = [n for n in plan.numbers if n in self._record.rings]
        if placed.posts and surely_none and (calls or rung):
            yield _Found(
                f"a client was only told service_unavailable, and has calls "
                f"{[call.id for call in calls]}, numbers rung: {rung}",
                tuple(call.id for call in calls),
                placed,
            )
        for answer in placed.answers:
            yield from self._answer_true(answer, placed)

    def _answer_true(self, answer: Answer, placed: Placed) -> Iterator[_Found]:
        ids = tuple(placed.call_ids)
        allowed = (200, 202, 503) if answer.method in ("POST", "DELETE") else _ASKED
        if answer.status is not None and answer.status not in allowed:
            yield _Found(f"a sound request was answered so: {answer} {answer.body}", ids, placed)
        if answer.status == 503 and not answer.retry_after:
            yield _Found(f"a 503 without Retry-After: {answer}", ids, placed)
        if answer.method != "DELETE" or answer.status != 200:
            return
        call_id = answer.path.rpartition("/")[2]
        if [call["state"] for call in answer.body] != ["ended"]:
            yield _Found(f"DELETE was answered 200 with {answer.body}", (call_id,), placed)
        for leg in self._legs_of(call_id):
            if max(leg.created, leg.ended or 0.0) > answer.answered + _TRUE_WITHIN:
                text = (
                    f"DELETE was answered 200 at {answer.answered:.3f}, and {leg.number} was "
                    f"there from {leg.created:.3f} to {leg.ended}"
                )
                yield _Found(text, (call_id,), placed)

    # (b), (c) Ended, with a reason

    def _ended(self, call: CallHash) -> Iterator[_Found]:
        if call.fields["state"] != "ended":
            live = [leg.uuid for leg in self._legs_of(call.id) if leg.ended is None]
            channels = f"its channels {live}" if live else "no channel"
            text = f"call {call.id} is {call.fields['state']} with {channels} on the switch"
            yield _Found(text, (call.id,))
        elif call.ended_by is None:
            yield _Found(f"call {call.id} has ended without a reason", (call.id,))

    def _legs_of(self, call_id: str) -> list[LegRecord]:
        return self._record.legs_of.get(call_id, [])

    # (f) The timeline

    def _timeline_in_order(self, call: CallHash) -> Iterator[_Found]:
        states = [entry["name"] for entry in call.timeline if entry["kind"] == "change"]
        ranks = [_STATES.index(state) for state in states]
        if ranks != sorted(set(ranks)):
            yield _Found(f"call {call.id} went through the states {states}", (call.id,))
        dialled = bool(self._record.originates.get(call.id))
        for name, count, at_least in (
            ("claim", call.claims, int(dialled)),
            ("originate", call.originates, int(self._has_note(call))),
        ):
            # A call that a switch refused is claimed once more.
            most = 2 if "refused_by" in call.fields else 1
            if not at_least <= count <= most:
                text = f"call {call.id} has {count} entries {name!r}, and was "
                yield _Found(text + ("dialled" if dialled else "not dialled"), (call.id,))

    def await_notes(self) -> list[str]:
        """Ids of the calls whose originate is not noted, and is to be."""
        self._read()
        return [c.id for c in self._calls.values() if self._has_note(c) and not c.originates]

    def _has_note(self, call: CallHash) -> bool:
        """Whether the call was dialled, by a worker that lived on to note it in Redis."""
        workers = [self._cluster.part(name).pid for name in WORKERS]
        lives = call.fields.get("worker", "").rpartition("-")[2] in map(str, workers)
        return bool(self._record.originates.get(call.id)) and lives and not self._redis_refused

    # (e) Redis and the record

    def _agrees(self, call: CallHash) -> Iterator[_Found]:
        recorded = {leg.uuid: leg for leg in self._legs_of(call.id)}
        for name, kept in call.legs.items():
            leg = recorded.pop(kept["uuid"], None)
            of = f"call {call.id} ({call.ended_by}): leg {name} ({kept['number']})"
            if self._events_lost and _came_and_went_unheard(call, name, kept, leg):
                continue
            for text in _differences(call, name, kept, leg):
                yield _Found(f"{of} {text}", (call.id,))
        if recorded:
            text = f"call {call.id} has legs on the switch that are not its own: {list(recorded)}"
            yield _Found(text, (call.id,))
        for what in ("answered", "bridged"):
            of_sources = [leg.get(what) for leg in call.legs.values() if leg["role"] == "source"]
            if (what in call.fields) != any(of_sources):
                text = (
                    f"call {call.id} has {what} {call.fields.get(what)}, its sources {of_sources}"
                )
                yield _Found(text, (call.id,))

    def _histories(self) -> Iterator[_Found]:
        """The stream of changes, and one record for each call that has ended."""
        entries = self._redis.xrange(self._cluster.keys.events)
        told = (_text(entry) for _, entry in entries if b"version" in entry)
        for text in version_faults((e for e in told if e["call"] in self._calls), _STATES):
            yield _Found(text, (text.split()[1],))
        ended = [call for call in self._calls.values() if call.fields["state"] == "ended"]
        with self._redis.pipeline(transaction=False) as pipe:
            for call in ended:
                pipe.get(self._cluster.keys.record(call.id))
            for call, kept in zip(ended, pipe.execute(), strict=True):
                for text in record_faults(call.fields, kept):
                    yield _Found(f"call {call.id} {text}", (call.id,))

    # The reason is true: nothing of this load lasts for hours, and a clock that was stepped is none

    def _meant(self, call: CallHash) -> Iterator[_Found]:
        if call.ended_by == "duration":
            yield _Found(f"call {call.id} ended by its duration, which is hours", (call.id,))
        if call.ended_by == "timeout":
            lives = [(leg.ended or 0.0) - leg.created for leg in self._legs_of(call.id)]
            rang = max(lives, default=0.0)
            # The switch counts whole seconds of its clock, which runs `speed` times faster.
            due = (int(call.fields["wait_for_pickup"]) - 1) / self._cluster.layout.speed
            if rang < due:
                text = f"call {call.id} ended by a timeout after {rang:.2f} s of ringing"
                yield _Found(text, (call.id,))
        elif not self._legs_of(call.id) and call.ended_by in ("source", "destination"):
            text = f"call {call.id} never had a channel, and ended by {call.ended_by}"
            yield _Found(text, (call.id,))
        begun, ended = call.since(State.QUEUED), call.since(State.ENDED)
        if begun is None or ended is None:
            return
        waited = ended - begun
        if call.ended_by == "queue_timeout" and waited < int(call.fields["queue_timeout"]) - 1:
            text = f"call {call.id} ended by queue_timeout after {waited:.2f} s"
            yield _Found(text, (call.id,))
        for leg in self._legs_of(call.id):
            up = leg.created < ended - _TRUE_WITHIN and (leg.ended or ended) > ended + _TRUE_WITHIN
            if call.ended_by in FAULTS and up:
                text = (
                    f"call {call.id} ended by {call.ended_by} at {ended:.3f}, and {leg.number} "
                    f"was there from {leg.created:.3f} to {leg.ended:.3f}"
                )
                yield _Found(text, (call.id,))

    # (b) GET says what Redis says

    def _found_by_get(self) -> Iterator[_Found]:
        port = next(iter(self._cluster.api_ports.values()))
        ids = [i for placed in self._placed for i in placed.call_ids if i in self._calls]
        for call_id, found in zip(ids, asyncio.run(_get_all(port, ids)), strict=True):
            call = self._calls[call_id]
            got = [(entry["id"], entry["state"], entry.get("endedBy")) for entry in found]
            if got != [(call_id, call.fields["state"], call.ended_by)]:
                text = f"GET of call {call_id} says {got}, Redis {call.fields['state']}"
                yield _Found(text, (call_id,))

    # (d) No channel of ours

    def _no_channels(self) -> Iterator[_Found]:
        for switch in self._cluster.switches:
            for uuid in self._cluster.channels(switch.name):
                if (call_id := call_id_of(uuid)) in self._all_calls:
                    text = f"channel {uuid} of call {call_id} is still on {switch.name}"
                    yield _Found(text, (call_id,))

    # (h) Nothing left behind

    def _nothing_left(self) -> Iterator[_Found]:
        keys, redis = self._cluster.keys, self._redis
        for key in redis.scan_iter(f"{keys.prefix}calls:*", count=1000):
            yield _Found(f"{key.decode()} is not empty: {redis.zrange(key, 0, 4)}")
        lanes = [f"{keys.prefix}{name}*" for name in ("lane", "ready", "held:", "out:", "looks")]
        waiting = keys.line("*"), keys.waiting, keys.claims, keys.turns
        for name in (*waiting, *lanes, keys.taken("*")):
            for key in redis.scan_iter(name, count=1000):
                yield _Found(f"{key.decode()} is left behind")
        names = keys.call, keys.timeline, keys.record
        kept = [name(i) for i in self._calls for name in names]
        nonces = {placed.plan.nonce for placed in self._placed} - {None}
        kept += [keys.nonce(_APP, nonce) for nonce in nonces if nonce]
        with redis.pipeline(transaction=False) as pipe:
            for name in kept:
                pipe.ttl(name)
            for name, ttl in zip(kept, pipe.execute(), strict=True):
                if ttl == -1:
                    yield _Found(f"{name} is kept for ever")
        yield from self._no_jobs()
        for switch in self._cluster.switches:
            if self._cluster.follower(switch.name) is None:
                yield _Found(f"no living listener follows {switch.name}")

    def _no_jobs(self) -> Iterator[_Found]:
        redis = self._redis
        jobs = [
            (key.decode(), job.decode())
            for key in redis.scan_iter("rq:queue:*", count=1000, _type="list")
            for job in redis.lrange(key, 0, -1)
        ]
        jobs += [
            (key.decode(), job.decode())
            for key in redis.scan_iter("rq:wip:*", count=1000)
            for job in redis.zrange(key, 0, -1)
        ]
        killed = any(self._cluster.part(name).kills for name in (*WORKERS, *self._servers()))
        for key, job in jobs:
            call = self._call_of_job(job)
            if killed and call is not None and call.fields["state"] == "ended":
                self._verdict.rq_leftovers.append(f"{key} {job}")
            else:
                ids = (call.id,) if call else ()
                yield _Found(f"{key} still holds the job {job}", ids)

    def _servers(self) -> list[str]:
        return [name for name in self._cluster.parts if name.startswith("redis")]

    def _call_of_job(self, job: str) -> CallHash | None:
        # rq:wip holds job and execution; a job's id is the call's, or RQ's own.
        job_id = job.partition(":")[0]
        description = self._redis.hget(f"rq:job:{job_id}", "description") or b""
        named = re.findall(r"[0-9a-f]{20}", f"{job_id} {description.decode()}")
        return next((call for name in named if (call := self._all_calls.get(name))), None)

    # Evidence

    def tell_call(self, call_id: str) -> str:
        call = self._all_calls.get(call_id)
        lines = ["on the switch:"]
        lines += [f"  originate {each}" for each in self._record.originates.get(call_id, ())]
        lines += [f"  {each}" for each in self._legs_of(call_id)]
        if call is None:
            return "\n".join([*lines, "not in Redis"])
        lines.append(f"in Redis: {json.dumps(call.fields)}")
        lines += [
            f"  {entry['at']} {entry['kind']:8} {entry['name']} {entry.get('leg', '')} "
            f"{entry.get('data', '')[:200]}"
            for entry in call.timeline
        ]
        return "\n".join(lines)

    def tell_plan(self, placed: Placed) -> str:
        return "\n".join([str(placed.plan), *(f"  {answer}" for answer in placed.answers)])


def _came_and_went_unheard(
    call: CallHash, name: str, kept: Mapping[str, str], leg: LegRecord | None
) -> bool:
    """Whether a source lost the race, and the switch threw all its events away. No event of
    another leg names it, and the call may be over before a look could find it missing."""
    heard = "created" in kept or any(entry.get("leg") == name for entry in call.timeline)
    return leg is not None and leg.cause == "LOSE_RACE" and not heard


def _differences(
    call: CallHash, name: str, kept: Mapping[str, str], leg: LegRecord | None
) -> Iterator[str]:
    """Between a leg in Redis and on the switch. What Redis says is always so. What it does not
    say, and when exactly, counts where Ringback never lost sight of the call."""
    if leg is None:
        if "created" in kept:
            yield "was never on the switch"
        return
    missed = any(entry["name"] == "found on the switch" for entry in call.timeline)
    if "created" not in kept and (missed or "originate_error" in call.fields):
        # It came and went while nobody heard the switch, which names no source that lost the race.
        return
    exact = not call.lost_sight and call.fields["state"] == "ended"
    # An event tells all that its leg did so far. Of a leg that had none, because the network
    # lost them, others' events tell how it ended, and nobody whether and when it rang.
    heard = any(entry.get("leg") == name for entry in call.timeline)
    for what in _SEEN:
        in_redis = float(kept[what]) if what in kept else None
        on_switch: float | None = getattr(leg, what)
        missing = in_redis is None and on_switch is not None
        if missing and exact and (heard or what == "ended"):
            yield f"{what} {on_switch} on the switch, not in Redis"
        elif what == "ended" and "cause" not in kept:
            # Ringback lost sight of the call, and ended the leg with it.
            continue
        elif in_redis is not None and on_switch is None:
            yield f"{what} {in_redis} in Redis, not on the switch"
        elif in_redis and on_switch and exact and heard and abs(in_redis - on_switch) > _SAME:
            yield f"{what} {in_redis} in Redis, {on_switch} on the switch"
    cause = kept.get("cause")
    if cause != leg.cause and (exact or cause is not None):
        yield f"ended {cause} in Redis, {leg.cause} on the switch"


def _refused(answer: Answer) -> bool:
    """Whether it was surely not accepted: told so, or not even connected."""
    if answer.status == 503:
        return answer.code == "service_unavailable"
    return (answer.error or "").startswith("ConnectionRefusedError")


async def _get_all(port: int, ids: Sequence[str]) -> list[list[dict[str, Any]]]:
    few = asyncio.Semaphore(8)

    async def get(call_id: str) -> list[dict[str, Any]]:
        async with few:
            response = await exchange(port, "GET", f"{CALLS}/{EXTENSION}/{call_id}")
        entry: list[dict[str, Any]] = response.body.get("entry", [])
        return entry

    return await asyncio.gather(*map(get, ids))
