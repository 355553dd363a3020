"""The claim protocol, with everything around it failing at every step: never twice, never lost."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from app.calls import transitions, watch
from app.calls.model import Call, State
from app.store import writes
from app.store.calls import CallStore
from app.store.writes import Note
from freeswitch.connection import SwitchConnection
from freeswitch.errors import CommandRefused, EventSocketError
from freeswitch.event_socket import DELIVERY_LIMIT
from tests.app.claims.world import BEGINS_WITHIN, REDIS_FAULTS, ROLES, Broken, Link, Trap, World
from workers import dispatch, jobs
from workers.dispatch import Dispatcher
from workers.listener.common import CommonWatchdog
from workers.listener.reconcile import Reconciler

SEEDS = st.integers(0, 2**16)
SECONDS = st.sampled_from((0.1, 0.5, 2.0, 6.0, 16.0))
NONCES = st.sampled_from((None, "n1", "n2"))
NUMBERS = st.sampled_from((None, None, "15501", "15600"))

# What befalls a process, or others while it is at that step, and for how many seconds.
_REDIS = [(fault, 0.0) for fault in REDIS_FAULTS]
_PROCESS = [("kill", 0.0), ("kill", 5.0), ("stop", 3.0), ("stop", 20.0), ("slow", 30.0)]
_PROCESS += [("late", 2.5)]
_SWITCH = [("restart", 2.0), ("cut", 3.0), ("cut", 15.0), ("stand still", 3.0)]
_SWITCH += [("stand still", 15.0), ("refuse", 4.0), ("refuse job", 4.0)]
_DATA = [("after", 15.0), ("fail over", 0.5), ("fail over", 5.0), ("deliver again", 0.0)]
_CLOCK = [("clock", 0.0)]
_EVENTS = [("lose event", 0.0), ("double event", 0.0)]
TRAPS = [
    Trap(role, kind, steps, *fault)
    for role, kind, most, faults in (
        ("worker", "write", 1, 4 * (_PROCESS + _REDIS + _DATA + _SWITCH + _CLOCK)),
        ("worker", "redis", 3, _PROCESS + _REDIS + _DATA + _SWITCH + _CLOCK),
        ("worker", "send", 0, 4 * _PROCESS + _SWITCH),
        ("worker", "answer", 0, 4 * _PROCESS + _SWITCH),
        ("listener", "write", 3, _PROCESS + _REDIS + _DATA + _CLOCK),
        ("listener", "redis", 5, _PROCESS + _REDIS + _DATA + _CLOCK),
        ("listener", "ask", 3, _PROCESS + _SWITCH),
        ("listener", "answer", 3, _PROCESS + _SWITCH),
        ("listener", "event", 3, _PROCESS + 2 * _EVENTS),
        ("api", "write", 0, _PROCESS + _REDIS + _DATA),
        ("api", "redis", 1, _PROCESS + _REDIS + _DATA),
    )
    for steps in range(most + 1)
    for fault in faults
]


Traps = tuple[Trap | None, ...]


def machine(choices: Sequence[Sequence[Trap]], replicas: int) -> type[RuleBasedStateMachine]:
    """Two workers, two listeners, two switches, an API, and a Redis with one replica, for which
    it waits or (``replicas`` 0) does not. Each rule sets one trap of each choice, or none."""

    @st.composite
    def trap_or_none(draw: st.DrawFn, number: int) -> Trap | None:
        # By index: hypothesis would write out a list of them all.
        index = draw(st.integers(0, len(choices[number])))
        return choices[number][index - 1] if index else None

    drawn = st.tuples(*map(trap_or_none, range(len(choices))))

    class ClaimProtocol(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.patch = pytest.MonkeyPatch()
            self.world = World(replicas)
            self.world.start(self.patch)
            self.world.go_on(1.0, 0)

        def teardown(self) -> None:
            try:
                self.world.come_to_rest()
            finally:
                self.world.stop()
                self.patch.undo()

        @initialize(traps=drawn, seconds=SECONDS, seed=SEEDS)
        def begin(self, traps: Traps, seconds: float, seed: int) -> None:
            self.create("n1", 1, traps, seconds, seed)

        @rule(nonce=NONCES, sources=st.integers(1, 2), traps=drawn, seconds=SECONDS, seed=SEEDS)
        def create(
            self,
            nonce: str | None,
            sources: int,
            traps: Traps,
            seconds: float,
            seed: int,
        ) -> None:
            self.world.create(nonce, sources)
            self.go_on(traps, seconds, seed)

        @rule(index=st.integers(0, 5), number=NUMBERS, traps=drawn, seconds=SECONDS, seed=SEEDS)
        def hang_up(
            self,
            index: int,
            number: str | None,
            traps: Traps,
            seconds: float,
            seed: int,
        ) -> None:
            self.world.hang_up(index, number)
            self.go_on(traps, seconds, seed)

        @rule(traps=drawn, seconds=SECONDS, seed=SEEDS)
        def go_on(self, traps: Traps, seconds: float, seed: int) -> None:
            self.world.traps += [replace(trap) for trap in traps if trap is not None]
            self.world.go_on(seconds, seed)

    return ClaimProtocol


def check(
    choices: Sequence[Sequence[Trap]] = (TRAPS, TRAPS),
    replicas: int = 1,
    phases: tuple[Phase, ...] = (Phase.generate,),
    number: int = 0,
) -> None:
    """Raises Broken with the story of what broke a promise; each ``number`` looks elsewhere."""
    profile = settings(
        max_examples=200,
        stateful_step_count=8,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )
    run_state_machine_as_test(seeded(number)(machine(choices, replicas)), settings=profile)


@pytest.mark.search
def test_the_promises_hold() -> None:
    check(phases=(Phase.generate, Phase.shrink))


# What the model is able to find. Each of these is searched for among the faults that bring it out,
# or the search would take too long.


def without_replicas(_: pytest.MonkeyPatch) -> None:
    """A replica that has not had the claim takes over: the call is dialled again."""


def an_old_claim_is_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watch, "SEND_WITHIN", math.inf)


def a_claim_is_sent_to_another_run(patch: pytest.MonkeyPatch) -> None:
    send = Dispatcher._send

    def send_anyway(
        self: Dispatcher, connection: SwitchConnection, call: Call, before: float
    ) -> None:
        send(self, connection, replace(call, core_uuid=connection.core_uuid), before)

    patch.setattr(Dispatcher, "_send", send_anyway)


def a_job_sends_its_claim_again(patch: pytest.MonkeyPatch) -> None:
    place_call = jobs.place_call

    def send_again(call_id: str) -> None:
        context = jobs._bound()
        call = context.runtime.store.get(call_id)
        if call is not None and call.state is State.DIALING and call.sent is None:
            link = context.pool.get(call.switch or "")
            if call.worker == context.runtime.name and link is not None:
                context.dispatcher._send(link, call, math.inf)
        place_call(call_id)

    patch.setattr(jobs, "place_call", send_again)


def a_repeated_claim_waits_for_no_replica(patch: pytest.MonkeyPatch) -> None:
    run = CallStore._run
    Scripts = list[tuple[list[str], list[str]]]

    def run_first(self: CallStore, scripts: Scripts, replicated: bool) -> list[object]:
        replies = run(self, scripts, False)
        return run(self, scripts, replicated) if replies == [1] else replies

    patch.setattr(CallStore, "_run", run_first)


def an_originate_may_take_longer_than_is_waited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watch, "UNSENT_LIMIT", 5.0)


def a_standstill_counts_as_absence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(watch, "LOOK_LIMIT", math.inf)


def an_end_compares_no_version(patch: pytest.MonkeyPatch) -> None:
    def end(self: Reconciler, call: Call, fault: str) -> None:
        at = self._store.now()
        self._folding.change(call, lambda c: transitions.end(c, fault, at=at), Note("event", fault))

    patch.setattr(Reconciler, "end", end)


def a_job_gives_up_the_claim_of_another(patch: pytest.MonkeyPatch) -> None:
    def end_claim(call: Call, *, worker: str, claimed: float) -> Call:
        return transitions.end(call, transitions.NOT_REPLICATED, at=claimed)

    patch.setattr(dispatch, "_end_claim", end_claim)


def no_queued_call_is_watched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CommonWatchdog, "_watch_queued", lambda self: None)


def no_channel_of_an_ended_call_is_hung_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reconciler, "_hang_up_orphans", lambda self, uuids: None)
    patch.setattr(transitions, "is_unwanted", lambda call, leg: False)


def a_lost_answer_counts_as_a_refusal(patch: pytest.MonkeyPatch) -> None:
    send = Link.bgapi

    def refused(self: Link, command: str, job_uuid: str, *, timeout: float | None = None) -> None:
        try:
            send(self, command, job_uuid, timeout=timeout)
        except EventSocketError as error:
            raise CommandRefused(str(error)) from error

    patch.setattr(Link, "bgapi", refused)


ENDED = "is dialled, ended by|has a channel"
AGAIN = "is dialled twice|had a channel"
# How often it is looked for at most: chance has a part in it.
SEARCHES = 8
# Each with how a promise is broken, and the traps that bring it out.
FINDS: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]] = {
    without_replicas: (
        *("is dialled|has a channel", "worker write fail over", "worker redis fail over"),
    ),
    an_old_claim_is_sent: (ENDED, "worker write after"),
    a_claim_is_sent_to_another_run: (ENDED, "worker write restart"),
    a_job_sends_its_claim_again: (
        *("is dialled twice", "worker answer kill", "worker write deliver again"),
    ),
    a_job_gives_up_the_claim_of_another: (
        ENDED,
        "worker write fail over 0.5",
        "worker redis late",
        "worker redis deliver again",
    ),
    a_repeated_claim_waits_for_no_replica: (
        *("is dialled|has a channel", "worker write repeated", "worker redis fail over"),
    ),
    an_originate_may_take_longer_than_is_waited: (
        *(ENDED, "worker send late", "worker answer kill"),
    ),
    a_standstill_counts_as_absence: (ENDED, "worker send late", "worker send stand still 15"),
    an_end_compares_no_version: (ENDED, "worker send stop 20", "listener write stop 20"),
    no_queued_call_is_watched: ("never ends", "worker redis stand still 15", "worker redis kill"),
    a_lost_answer_counts_as_a_refusal: (AGAIN, "worker send cut", "worker answer cut"),
    no_channel_of_an_ended_call_is_hung_up: ("has a channel", "worker send stop 20"),
}


@pytest.mark.search
@pytest.mark.parametrize("break_it", FINDS, ids=lambda find: find.__name__.replace("_", " "))
def test_the_model_finds_it_when(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    said, *names = FINDS[break_it]
    choices = [
        [t for t in TRAPS if f"{t.role} {t.kind} {t.fault} {t.seconds:g}".startswith(name)]
        for name in names
    ]
    with pytest.raises(Broken, match=rf"\A[^\n]*({said})"):
        for number in range(SEARCHES):
            check(choices, replicas=0 if break_it is without_replicas else 1, number=number)


# What takes too many accidents in a row to be met by chance.


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = fresh_world(monkeypatch)
    yield world
    world.stop()


def test_a_call_that_is_younger_than_an_outage_goes_on(world: World) -> None:
    """The workers reach the switches, the listeners have not for longer than any call lasts."""
    for name in ROLES["listener"]:
        for switch in world.switches.values():
            switch.cut(world.processes[name], 400.0)
    world.go_on(200.0, 0)
    world.create(None, 1)
    world.go_on(8.0, 0)
    assert world.originates.total() == 1
    world.come_to_rest()


def lose_the_line(world: World) -> None:
    """A call waits while the workers stand still, and its place in line is lost."""
    workers = [world.processes[name] for name in ROLES["worker"]]
    for process in workers:
        process.stopped_until = math.inf
    world.create(None, 1)
    world.go_on(5.0, 0, lambda: bool(world.calls()))
    (call,) = world.calls()
    del world.redis.data.line[call.id]
    for process in workers:
        process.stopped_until = 0.0
    # An originate may be long on its way to the switch, and the switch begins in a moment.
    world.go_on(watch.QUEUE_LOOK + 4.0 + DELIVERY_LIMIT + BEGINS_WITHIN, 0)


def test_a_call_that_stands_nowhere_is_put_in_line_again(world: World) -> None:
    lose_the_line(world)
    assert world.originates.total() == 1
    world.come_to_rest()


def test_a_call_that_is_not_put_in_line_again_is_not_dialled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CallStore, "put_in_line", lambda self, calls: None)
    lose_the_line(world)
    assert world.originates.total() == 0


def forget_a_change(world: World, seed: int) -> None:
    """A worker has claimed a call; Redis fails over to a replica that has neither the claim nor the
    change before it; another worker claims the call there. The first one waits for replicas then.
    """
    first, second = (world.processes[name] for name in ROLES["worker"])
    first.stopped_until = second.stopped_until = math.inf
    world.create(None, 2)
    world.go_on(5.0, seed, lambda: bool(world.calls()))
    (call,) = world.calls()
    world.queue.deliver(call)
    world.redis.lag()
    world.hang_up(0, "15502")
    world.go_on(0.5, seed)
    world.traps = [Trap("worker", "write", 1, "late", 3.0)]
    first.stopped_until = 0.0
    world.go_on(0.5, seed)
    world.redis.fail_over()
    world.traps = [Trap("worker", "send", 0, "late", 4.0)]
    second.stopped_until = 0.0
    world.go_on(10.0, seed)


def fresh_world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(replicas=1)
    world.start(monkeypatch)
    world.go_on(1.0, 0)
    return world


def test_a_claim_on_a_lost_history_is_none() -> None:
    dialled = []
    for seed in range(SEARCHES):
        with pytest.MonkeyPatch.context() as patch:
            world = fresh_world(patch)
            try:
                forget_a_change(world, seed)
                world.come_to_rest()
            finally:
                world.stop()
            dialled.append(world.originates.total())
    assert set(dialled) == {1}


def test_numbers_do_not_tell_histories_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "stamp", lambda: "")
    with pytest.raises(Broken, match="is dialled twice"):
        for seed in range(SEARCHES):
            with pytest.MonkeyPatch.context() as patch:
                world = fresh_world(patch)
                try:
                    forget_a_change(world, seed)
                finally:
                    world.stop()
