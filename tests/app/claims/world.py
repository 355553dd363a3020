"""What surrounds the claim protocol, in virtual time and one thread, so that all of it may fail.

The code under test is the real one: ``app.calls``, ``workers.jobs``, ``workers.listener``, the pool
of switches, the service that hangs up. Modelled are the edges: clocks, the scheduler of greenlets,
Redis (whose two scripts are told again here), RQ's queue, the event socket, the switches, phones.
Each thread of each process is a greenlet that hands over wherever the real one waits for something
outside itself. There it may be killed, may be stopped, may get its answer late or not at all.
"""

import contextlib
import heapq
import itertools
import json
import logging
import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import GreenletExit, getcurrent, greenlet  # type: ignore[import-untyped]
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import LockError, RedisError

import freeswitch.commands
import freeswitch.pool
from app.accounts.model import Accounts
from app.calls import transitions, watch
from app.calls.model import (
    Call,
    Leg,
    NumberKind,
    Role,
    State,
    call_id_of,
    from_hash,
)
from app.calls.model import job_uuid as job_uuid_of
from app.calls.model import leg_uuid as leg_uuid_of
from app.phone_calls.services import PhoneCalls
from app.settings import Settings, load_settings
from app.store import pace, scripts
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.errors import OutcomeUnknown
from app.store.keys import Keys
from app.store.pace import Claims
from freeswitch.address import SwitchAddress
from freeswitch.errors import CommandRefused, CommandTimeout, EventSocketError, NotConnected
from freeswitch.event_socket import DELIVERY_LIMIT
from freeswitch.events import Event
from workers import dispatch, hang_up, jobs
from workers.listener import (
    common,
    failures,
    folding,
    leading,
    reconcile,
    steering,
    switch_record,
)
from workers.runtime import Runtime

EPOCH = 1_800_000_000.0
SWITCHES = ("s1", "s2")
ROLES = {"worker": ("w1", "w2"), "listener": ("l1", "l2"), "api": ("api",)}
# What may become of a command of Redis: not done, done twice, done and then given up.
REDIS_FAULTS = ("refused", "repeated", "reply lost")
# How long a bridged call lasts, a phone rings, a call waits for a worker; in seconds.
DURATION, RINGING, QUEUEING = 120, 10, 8
# By how much a wall clock is stepped.
CLOCK_ERROR = 3600.0
# A switch begins to dial this long after it has taken an originate: a thread is to start.
BEGINS_WITHIN = 1.0

# The protocol's limits as they are meant, whatever a test makes of them.
SEND_WITHIN, COMMAND_LIMIT = watch.SEND_WITHIN, watch.COMMAND_LIMIT


class Broken(AssertionError):
    """One of the promises was broken."""


class Killed(BaseException):
    """The process is gone: nothing that its code still does on the way out has an effect."""


@dataclass
class Trap:
    """What happens when one of the processes of a role comes to its n-th step of a kind."""

    role: str
    kind: str
    steps: int
    fault: str
    seconds: float = 0.0


class Actor:
    """One thread of a process."""

    def __init__(self, process: "Process", work: Callable[[], object]) -> None:
        self.process = process
        self.over = False
        # What its work has come to.
        self.value: Any = None
        # What it waits for: until something holds or a time has come, whichever is first.
        self.kind = "start"
        self.delayed = False
        self.waits = True
        self.ready: Callable[[], bool] | None = None
        self.until: float | None = None
        self.not_before = 0.0
        self.greenlet = greenlet(lambda fault: self._run(work), parent=process.world.hub)

    @property
    def dead(self) -> bool:
        return self.over

    def link(self, work: Callable[["Actor"], object]) -> None:
        """Nobody asks here for what is over."""

    def _run(self, work: Callable[[], object]) -> None:
        with contextlib.suppress(Killed, GreenletExit):
            self.value = work()

    def earliest(self, now: float) -> float:
        """When it can go on, as far as can be told."""
        if self.ready is None:
            at = now if self.until is None else self.until
        elif self.ready():
            at = now
        else:
            at = float("inf") if self.until is None else self.until
        if at < self.not_before:
            at = self.not_before
        return at if at > self.process.stopped_until else self.process.stopped_until


class Process:
    """An operating system's process: it lives, stands still, dies and is started again."""

    def __init__(
        self, world: "World", role: str, name: str, build: Callable[["Process"], None]
    ) -> None:
        self.world = world
        self.role = role
        self.name = name
        self.links: list[Link] = []
        self.context: Any = None
        self.dead = False
        self.stopped_until = 0.0
        # Each step may take long until then.
        self.slow_until = 0.0
        # Its wall clock is wrong by so many seconds.
        self.clock_error = 0.0
        self._build = build

    def start(self) -> None:
        """A new run of it, with nothing left of the one before."""
        self.dead = False
        self.stopped_until = self.slow_until = 0.0
        self.links = []
        self.world.starting = self
        self._build(self)
        self.world.starting = None
        if self.role == "worker" and self.world.rng.random() < 0.5:
            self.world.queue.give_back()

    def kill(self, down_for: float) -> None:
        self.world.say(f"{self.name} is killed, back in {down_for} s")
        self.dead = True
        for link in self.links:
            link.stop()
        for actor in [a for a in self.world.actors if a.process is self]:
            self.world.end(actor)
        self.world.at(down_for, self.start)

    def spawn(self, work: Callable[[], object]) -> Actor:
        actor = Actor(self, work)
        self.world.actors.append(actor)
        return actor


class World:
    """The clock, all that runs, and what is known of it without asking Redis."""

    def __init__(self, replicas: int = 1) -> None:
        self.hub = getcurrent()
        self.now = 1000.0
        self.actors: list[Actor] = []
        self.running: Actor | None = None
        self.starting: Process | None = None
        self.rng = random.Random(0)
        # Without delays that nothing asks for.
        self.calm = False
        self.story: deque[str] = deque(maxlen=1000)
        # What can go on, and what comes later.
        self._ready: list[Actor | Callable[[], object]] = []
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self.batches = itertools.count()
        # What clients were told, what the switches were, and when each call was last claimed.
        self.accepted: set[str] = set()
        self.hung_up: set[str] = set()
        self.of_nonce: dict[str, set[str]] = {}
        self.originates: Counter[str] = Counter()
        self.claimed: dict[str, float] = {}
        # The one window that the protocol leaves open, "the sender that stands still": a worker
        # finds its claim young enough, and is stopped between that and the sending for longer than
        # the limits allow for. The call may be ended by then; it is dialled all the same, once,
        # and hung up as soon as its channel is seen.
        self.sent_too_late: set[str] = set()
        self.replicas = replicas
        self.failed_over = False
        self.redis = Redis(self)
        self.queue = Queue(self.redis)
        self.settings = replace(
            _settings(), reconcile_interval=3.0, wait_replicas=replicas, redis_reserve="0"
        )
        self.switches = {name: Switch(self, name) for name in SWITCHES}
        builders = {"worker": _build_worker, "listener": _build_listener, "api": _build_api}
        self.processes = {
            name: Process(self, role, name, builders[role])
            for role, names in ROLES.items()
            for name in names
        }
        self.traps: list[Trap] = []

    def start(self, patch: pytest.MonkeyPatch) -> None:
        """Start every process, on the model's own clock, greenlets, Redis and event sockets."""
        clock, log, flag = _Clock(self), _Log(self), partial(_Flag, self)
        link = partial(Link, world=self)
        for name, module in sys.modules.copy().items():
            ours = name.startswith(("app.", "workers.", "freeswitch.", "tenacity."))
            if ours and getattr(module, "time", None) is time:
                patch.setattr(module, "time", clock)
        for module in (dispatch, leading, folding, steering, common):
            patch.setattr(module, "Flag", flag)
        for module in (freeswitch.pool, leading):
            patch.setattr(module, "SwitchConnection", link)
        listening = leading, reconcile, steering, switch_record, common
        for module in (dispatch, hang_up, jobs, *listening, failures, pace):
            patch.setattr(module, "log", log)
        waiting = freeswitch.commands, freeswitch.pool
        for module in (dispatch, leading, reconcile, folding, *waiting):
            patch.setattr(module, "gevent", _Gevent(self), raising=False)
        patch.setattr(reconcile, "Pool", partial(_Pool, self))
        # Who is told of channels that Redis has lost decides nothing.
        patch.setattr(reconcile, "Strangers", lambda *_: SimpleNamespace(look=lambda *_: None))
        for module in (dispatch, folding):
            patch.setattr(module, "BoundedSemaphore", partial(_Semaphore, self))
        for module in (leading, common):
            patch.setattr(module, "Lock", Lease)
        patch.setattr(leading, "RegistrationKeeper", partial(_NoRegistrations, self))
        # Half as often, for the model's speed.
        patch.setattr(leading, "RENEWAL", 1.0)
        patch.setattr(leading, "SAID_EACH", 1.0)
        patch.setattr(jobs, "_bound", lambda: self.process.context)
        # What tenacity says before it tries again.
        patch.setattr(logging.getLogger(failures.__name__), "disabled", True)
        for process in self.processes.values():
            process.start()

    def say(self, text: str) -> None:
        self.story.append(f"{self.now - 1000:8.3f} {text}")

    # What an actor does

    def wait(
        self, kind: str, ready: Callable[[], bool] | None = None, until: float | None = None
    ) -> Trap | None:
        """Hand over, until ``ready`` or the time ``until``; returns the fault that comes then."""
        actor = self.running
        if actor is None or actor.greenlet is not getcurrent() or actor.over:
            raise Killed
        actor.kind, actor.ready, actor.until = kind, ready, until
        actor.not_before, actor.delayed = 0.0, False
        if ready is None and until is None:
            actor.waits = False
            self._ready.append(actor)
        trap: Trap | None = self.hub.switch()
        if actor.over:
            raise Killed
        return trap

    @property
    def process(self) -> Process:
        """Whose code runs."""
        if self.starting is not None:
            return self.starting
        assert self.running is not None
        return self.running.process

    def wall(self) -> float:
        error = self.running.process.clock_error if self.running else 0.0
        return EPOCH + self.now + error

    # What the machine does

    def at(self, delay: float, action: Callable[[], object]) -> None:
        """Have something happen that is of no process of ours."""
        heapq.heappush(self._agenda, (self.now + delay, next(self._order), action))

    def delay(self, most: float) -> float:
        """Mostly none."""
        return 0.0 if self.calm or self.rng.random() < 0.7 else self.rng.uniform(0.0, most)

    def go_on(self, seconds: float, seed: int, until: Callable[[], bool] | None = None) -> None:
        """Let everything run, in an order that the seed says."""
        self.rng = rng = random.Random(seed)
        end = self.now + seconds
        steps = 0
        while True:
            # Not at every step: it takes longer than the step.
            soonest = self._look() if not self._ready or rng.random() < 0.3 else 0.0
            if self._ready:
                index = int(rng.random() * len(self._ready))
                self._ready[index], self._ready[-1] = self._ready[-1], self._ready[index]
                one = self._ready.pop()
                if isinstance(one, Actor):
                    self._resume(one)
                else:
                    one()
                steps += 1
                if steps > 100_000:
                    self.broken("time stands still")
                continue
            if until is not None and until():
                return
            self.now = min(soonest, end)
            if soonest >= end:
                return

    def _look(self) -> float:
        """See what can be done now; returns when there is more."""
        now, agenda = self.now, self._agenda
        soonest = agenda[0][0] if agenda else float("inf")
        while agenda and agenda[0][0] <= now:
            self._ready.append(heapq.heappop(agenda)[2])
        for actor in self.actors:
            if actor.waits:
                at = actor.earliest(now)
                if at <= now:
                    actor.waits = False
                    self._ready.append(actor)
                elif at < soonest:
                    soonest = at
        return soonest

    def _resume(self, actor: Actor) -> None:
        process = actor.process
        if actor.over:
            return
        actor.waits = True
        if process.stopped_until > self.now:
            return
        trap = self._sprung(actor) if self.traps else None
        if trap is not None:
            self.say(f"{process.name} at {actor.kind}: {trap.fault} {trap.seconds}")
            if trap.fault == "kill":
                process.kill(trap.seconds)
                return
            if trap.fault not in ("after", *REDIS_FAULTS):
                self.fail(trap.fault, process, trap.seconds)
                if trap.fault in ("late", "restart"):
                    actor.not_before = self.now + trap.seconds
                return
        elif not self.calm and actor.kind != "idle" and not actor.delayed:
            slow = process.slow_until > self.now
            if self.rng.random() < (0.5 if slow else 0.01):
                actor.delayed = True
                actor.not_before = self.now + self.rng.uniform(0.0, 3.0)
                return
        self.running = actor
        try:
            actor.greenlet.switch(trap)
        finally:
            self.running = None
        if actor.greenlet.dead:
            actor.over = True
        for doomed in [a for a in self.actors if a.over]:
            self.end(doomed)

    def _sprung(self, actor: Actor) -> Trap | None:
        """The trap that this step has sprung."""
        for trap in self.traps:
            if trap.role == actor.process.role and trap.kind in ("any", actor.kind):
                trap.steps -= 1
                if trap.steps < 0:
                    self.traps.remove(trap)
                    return trap
        return None

    def fail(self, fault: str, process: Process, seconds: float) -> None:
        """What befalls others while a process is at some step, or the process itself."""
        switches = list(self.switches.values())
        if fault == "stop":
            process.stopped_until = self.now + seconds * self.rng.uniform(0.7, 1.3)
        elif fault == "slow":
            process.slow_until = self.now + seconds
        elif fault == "restart":
            for switch in switches:
                switch.restart()
        elif fault == "cut":
            for switch in switches:
                switch.cut(process, seconds)
        elif fault == "stand still":
            for switch in switches:
                switch.stand_still(seconds)
        elif fault in ("refuse", "refuse job"):
            self.rng.choice(switches).refuse(fault, seconds)
        elif fault == "deliver again":
            self.queue.give_back()
        elif fault in ("lose event", "double event"):
            for link in process.links:
                link.fail_event(fault)
        elif fault == "clock":
            process.clock_error = self.rng.choice((0.0, -CLOCK_ERROR, CLOCK_ERROR))
            self.redis.clock_error = self.rng.choice((0.0, -CLOCK_ERROR, CLOCK_ERROR))
        elif fault == "fail over":
            # What is written from here on is lost with the master.
            self.redis.lag()
            self.at(seconds, self.redis.fail_over)
        else:
            assert fault == "late"

    def end(self, actor: Actor) -> None:
        """Let it do nothing more."""
        actor.over = True
        self.actors.remove(actor)
        if actor.greenlet:
            actor.greenlet.throw(Killed)

    # What clients do

    def create(self, nonce: str | None, sources: int) -> None:
        """A client asks for a call; with the nonce of another's it gets that one's."""
        number = next(self._order)

        def request() -> None:
            store, queue, _ = self.process.context
            with contextlib.suppress(RedisError, OutcomeUnknown):
                call = _new_call(f"{number:04x}".ljust(20, "0"), nonce, sources, store.now())
                accepted = Acceptor(store).accept(
                    [call], queue.place_call, nonce=nonce and ("app", call.nonce)
                )
                found = {call.id for call in accepted.calls}
                self.accepted |= found
                if nonce is not None:
                    self.of_nonce.setdefault(nonce, set()).update(found)

        self._ask(request)

    def hang_up(self, index: int, number: str | None) -> None:
        """A client wants one of the calls ended, or one of its parties out."""

        def request() -> None:
            store, _, service = self.process.context
            with contextlib.suppress(RedisError, OutcomeUnknown):
                if (call := store.get(call_id)) is not None:
                    at = store.now()
                    end = partial(transitions.hang_up_number, number=number, at=at)
                    service.request_hang_ups([(call, end, number)])
                    if number is None:
                        self.hung_up.add(call_id)

        if ids := sorted(self.redis.call_ids()):
            call_id = ids[index % len(ids)]
            self.say(f"{call_id[:4]} is to be hung up, {number or 'all of it'}")
            self._ask(request)

    def _ask(self, request: Callable[[], None]) -> None:
        api = self.processes["api"]
        if not api.dead:
            api.spawn(request)

    # How it has to end

    def come_to_rest(self) -> None:
        """Nothing fails any more: what was accepted is ended with a reason, or lives."""
        self.say("all is well again")
        self.calm = True
        self.traps.clear()
        for process in self.processes.values():
            process.slow_until = process.clock_error = 0.0
        for switch in self.switches.values():
            switch.heal()
        self.redis.replica = None
        self.redis.clock_error = 0.0
        healed = self.now
        self.go_on(45.0, 0, lambda: self.now > healed + 8.0 and self._is_at_rest())
        for call in self.calls():
            there = bool(self.channels(call.id))
            if there and call.state is State.ENDED:
                self.broken(f"{call.id} has ended by {call.ended_by}, and has a channel")
            if there and (call.id in self.hung_up or call.hangup_requested is not None):
                self.broken(f"{call.id} is not hung up")
            if not there and call.state not in (State.QUEUED, State.ENDED):
                self.broken(f"{call.id} is lost, {call.state}")
        for switch in self.switches.values():
            for channel in list(switch.channels.values()):
                switch.hang_up(channel, "NORMAL_CLEARING")
        # Whatever waits for a wall clock that was wrong.
        self.redis.clock_error = 2 * CLOCK_ERROR
        self.go_on(45.0, 0, self._is_over)
        self._check_end()

    def _is_at_rest(self) -> bool:
        """Whether each call has ended, or talks and may, and nobody stands still."""
        if any(process.stopped_until > self.now for process in self.processes.values()):
            return False
        for call in self.calls():
            there = bool(self.channels(call.id))
            unwanted = call.id in self.hung_up or call.hangup_requested is not None
            wanted = call.state is not State.ENDED and not unwanted
            if not wanted if there else call.state is not State.ENDED:
                return False
        return True

    def _is_over(self) -> bool:
        ended = State.ENDED.encode()
        calls = self.redis.data.hashes.values()
        channels = any(switch.channels for switch in self.switches.values())
        return not channels and all(call[b"state"] == ended for call in calls)

    def _check_end(self) -> None:
        calls = {call.id: call for call in self.calls()}
        for call in calls.values():
            if call.state is not State.ENDED or call.ended_by is None:
                self.broken(f"{call.id} never ends, {call.state}")
        keys = self.redis.keys
        for key in (keys.old_deadlines, *map(keys.deadlines, SWITCHES), keys.queued):
            if deadlines := self.redis.data.zsets.get(key):
                self.broken(f"deadlines without a call: {deadlines}")
        if any(switch.channels for switch in self.switches.values()):
            self.broken("a channel without a call")
        if lost := self.accepted - set(calls):
            self.broken(f"accepted and lost: {lost}")
        nonces = [call.nonce for call in calls.values() if call.nonce is not None]
        if len(set(nonces)) < len(nonces) or any(len(ids) > 1 for ids in self.of_nonce.values()):
            self.broken("two calls of one nonce")

    def stop(self) -> None:
        """Leave nothing that could run on."""
        for actor in list(self.actors):
            self.end(actor)

    # What is so, whatever Redis says

    def channels(self, call_id: str) -> list["Channel"]:
        return [
            channel
            for switch in self.switches.values()
            for channel in switch.channels.values()
            if channel.call_id == call_id
        ]

    def calls(self) -> list[Call]:
        return [call for call_id in self.redis.call_ids() if (call := self.call(call_id))]

    def call(self, call_id: str) -> Call | None:
        flat = self.redis.data.hashes.get(self.redis.keys.call(call_id))
        return from_hash({k.decode(): v.decode() for k, v in flat.items()}) if flat else None

    def broken(self, text: str) -> None:
        raise Broken(text + "\n" + "\n".join(self.story))


@cache
def _settings() -> Settings:
    return load_settings()


def _new_call(call_id: str, nonce: str | None, sources: int, at: float) -> Call:
    """As the service for phone calls makes it."""
    legs = [
        Leg(
            id=f"{letter}{party}",
            role=role,
            number=f"1550{party}" if role is Role.SOURCE else "15600",
            kind=NumberKind.PUBLIC,
            uuid=leg_uuid_of(call_id, role, party, 1),
            gateway="pstn",
        )
        for letter, role, count in (("a", Role.SOURCE, sources), ("b", Role.DESTINATION, 1))
        for party in range(1, count + 1)
    ]
    return Call(
        id=call_id,
        kind="simple",
        app="app",
        user="12",
        organization="3",
        organization_name="One",
        extension="0003*210",
        accepted=at,
        wait_for_pickup=RINGING,
        call_duration=DURATION,
        queue_timeout=QUEUEING,
        job_uuid=job_uuid_of(call_id),
        nonce=nonce,
        legs=tuple(legs),
    )


# Processes


def _runtime(process: Process) -> Runtime:
    world = process.world
    redis: Any = world.redis
    queue: Any = world.queue
    store = CallStore(redis, world.redis.keys, world.replicas)
    pacer: Any = Line(world.redis)
    claims = Claims(store, process.name)
    keys = world.redis.keys
    # Without accounts: no policy, no country.
    accounts: Any = SimpleNamespace(latest=lambda fresh=False: Accounts(), known=Accounts())
    outcomes: Any = Outcomes()
    own = claims, process.name, accounts, outcomes
    return Runtime(world.settings, redis, keys, store, queue, pacer, *own)


def _addresses() -> list[SwitchAddress]:
    return [SwitchAddress(name, "host", password="secret") for name in SWITCHES]


def _build_api(process: Process) -> None:
    runtime = _runtime(process)
    service = PhoneCalls(runtime.settings, runtime.store, runtime.queue, runtime.pacer)
    process.context = runtime.store, runtime.queue, service


def _build_listener(process: Process) -> None:
    runtime = _runtime(process)
    for address in _addresses():
        process.spawn(leading.SwitchListener(runtime, address).run)
    process.spawn(common.CommonWatchdog(runtime).run)


def _build_worker(process: Process) -> None:
    runtime = _runtime(process)
    pool = freeswitch.pool.SwitchPool(_addresses(), on_up=lambda _: dispatcher.look())
    dispatcher = dispatch.Dispatcher(runtime, pool)
    process.context = jobs.JobContext(runtime, pool, dispatcher)
    pool.start()
    process.spawn(dispatcher.run)
    queue: Any = runtime.queue
    process.spawn(partial(_work, process.world, queue, Queue.CALLS, jobs.place_call, dispatcher))
    process.spawn(partial(_work, process.world, queue, Queue.ACTIONS, jobs.hang_up, None))


def _work(
    world: World,
    queue: "Queue",
    name: str,
    job: Callable[[str], None],
    dispatcher: dispatch.Dispatcher | None,
) -> None:
    """workers.rq_worker: take a job, do it, take the next. What fails is not tried again."""
    batches = itertools.count()
    batch = f"{world.process.name}-{next(world.batches)}"
    while True:
        try:
            job_id = queue.take(name)
            if job_id is None:
                continue
            # As workers.claiming does it.
            if dispatcher is not None:
                claim = dispatcher.ask(f"{batch}-{next(batches)}")
                if claim is not None:
                    dispatcher.dial(queue.claim(claim))
            job(job_id)
            queue.done(name, job_id)
        except (RedisError, EventSocketError):
            world.wait("idle", until=world.now + 1.0)
        except KeyError:
            # Its call is gone with the Redis that had it.
            if not world.failed_over:
                raise


# Clocks and greenlets


class _Clock:
    """The ``time`` module of the code under test."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now

    def time(self) -> float:
        return self._world.wall()

    def sleep(self, seconds: float) -> None:
        self._world.wait("idle", until=self._world.now + seconds)


class _Gevent:
    """As much of gevent as the listener uses."""

    def __init__(self, world: World) -> None:
        self._world = world

    def sleep(self, seconds: float) -> None:
        self._world.wait("idle", until=self._world.now + seconds)

    def spawn(self, work: Callable[..., object], *args: object) -> Actor:
        return self._world.process.spawn(lambda: work(*args))

    def killall(self, actors: Sequence[Actor]) -> None:
        for actor in actors:
            actor.over = True

    def joinall(self, actors: Sequence[Actor], timeout: float | None = None) -> list[Actor]:
        until = None if timeout is None else self._world.now + timeout
        self._world.wait("idle", lambda: all(actor.over for actor in actors), until)
        return [actor for actor in actors if actor.over]

    def wait(self, flags: Sequence["_Flag"], count: int) -> None:
        self._world.wait("idle", lambda: sum(flag.is_set() for flag in flags) >= count)


class _Pool:
    """gevent.pool.Pool."""

    def __init__(self, world: World, size: int) -> None:
        self._world = world
        self._size = size
        self._actors: list[Actor] = []

    def spawn(self, work: Callable[..., object], *args: object) -> None:
        self._await(self._size - 1)
        self._actors.append(self._world.process.spawn(lambda: work(*args)))

    def join(self) -> None:
        self._await(0)

    def kill(self) -> None:
        for actor in self._actors:
            actor.over = True

    def _await(self, most: int) -> None:
        if self._running() > most:
            self._world.wait("idle", lambda: self._running() <= most)

    def _running(self) -> int:
        self._actors = [actor for actor in self._actors if not actor.over]
        return len(self._actors)


class _Flag:
    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            until = None if timeout is None else self._world.now + timeout
            self._world.wait("idle", self.is_set, until)
        return self._is_set


class _NoRegistrations:
    """The registrations of a switch where no phone registers."""

    def __init__(self, world: World, *_: object) -> None:
        self._never = _Flag(world)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None

    def wait(self) -> None:
        self._never.wait()


class _Semaphore:
    def __init__(self, world: World) -> None:
        self._world = world
        self._free = True

    def __enter__(self) -> None:
        while not self._free:
            self._world.wait("idle", lambda: self._free)
        self._free = False

    def __exit__(self, *_: object) -> None:
        self._free = True


class _Log:
    """What is logged as an exception was foreseen by nobody, but for what the model raised."""

    def __init__(self, world: World) -> None:
        self._world = world

    def info(self, text: str, *args: object) -> None:
        pass

    debug = info

    def warning(self, text: str, *args: object) -> None:
        self._world.say(f"{self._world.process.name}: {text % args}")

    error = warning

    def exception(self, text: str, *args: object) -> None:
        error = sys.exc_info()[1]
        raise error if isinstance(error, Broken) else AssertionError(text % args)


# Redis and RQ


@dataclass
class Data:
    """What a Redis server holds."""

    hashes: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    zsets: dict[str, dict[str, float]] = field(default_factory=dict)
    strings: dict[str, bytes] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    # The claims of the waiting calls, by acceptance.
    line: dict[str, str] = field(default_factory=dict)
    leases: dict[str, tuple[object, float]] = field(default_factory=dict)

    def copy(self) -> "Data":
        return Data(
            dict(self.hashes),
            {name: dict(zset) for name, zset in self.zsets.items()},
            dict(self.strings),
            {name: list(items) for name, items in self.lists.items()},
            dict(self.line),
            dict(self.leases),
        )


def _flat(of: dict[bytes, bytes]) -> list[bytes]:
    return [text for item in of.items() for text in item]


def _id_of_key(key: str) -> str:
    return key[key.index("{") + 1 : -1]


class Redis:
    """A master with a replica that may lag, and the client for both."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys = Keys()
        self.data = Data()
        # What the replica has while it lags behind; None while it does not.
        self.replica: Data | None = None
        self.master = 0
        self.clock_error = 0.0
        self.connection_pool = SimpleNamespace(
            get_connection=lambda: _Connection(self), release=lambda connection: None
        )

    def lag(self) -> None:
        self.replica = self.data.copy()

    def fail_over(self) -> None:
        """The replica takes over, and what it has not had is lost."""
        self.world.say("Redis fails over")
        self.master += 1
        if self.replica is not None:
            self.world.failed_over = True
            self.data, self.replica = self.replica, None

    def call_ids(self) -> list[str]:
        return [_id_of_key(key) for key in self.data.hashes]

    def execute(
        self, run: Callable[[], Any], kind: str = "redis", *, sent_again: bool = True
    ) -> Any:
        """One command, as its sender sees it; redis-py sends one again whose answer was lost."""
        world = self.world
        trap = world.wait(kind)
        fault = trap.fault if trap is not None else ""
        if fault == "refused":
            raise RedisConnectionError("refused")
        answer = run()
        if fault == "repeated" and sent_again:
            world.wait("again")
            return run()
        if fault in ("repeated", "reply lost"):
            raise RedisConnectionError("the answer was lost")
        if trap is not None and fault == "after":
            world.process.stopped_until = world.now + trap.seconds
            world.wait("answer")
        return answer

    def acknowledged(self) -> int:
        """What WAIT answers: whether the replica has caught up in time."""
        if self.replica is not None:
            if self.world.rng.random() < 0.5:
                return 0
            self.replica = self.data.copy()
        return 1

    # As redis-py has it

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.execute(lambda: dict(self.data.hashes.get(key, {})))
        return found

    def time(self) -> tuple[int, int]:
        seconds, micros = self.execute(self.clock)
        return seconds, micros

    def pipeline(self, transaction: bool = True) -> "_Pipeline":
        return _Pipeline(self)

    def xlen(self, _: str) -> int:
        # Nothing here reads the stream of changes.
        return 0

    def zrange(self, key: str, first: Any, last: Any, byscore: bool = False) -> list[bytes]:
        def run() -> list[bytes]:
            members = sorted(self.zset(key).items(), key=lambda item: item[::-1])
            return [name.encode() for name, score in members if not byscore or score <= last]

        found: list[bytes] = self.execute(run)
        return found

    def zadd(self, key: str, scores: dict[str, float], xx: bool) -> None:
        assert xx

        def run() -> None:
            zset = self.zset(key)
            zset.update({name: score for name, score in scores.items() if name in zset})

        self.execute(run)

    def zrem(self, key: str, name: str) -> None:
        self.execute(lambda: self.zset(key).pop(name, None))

    def zset(self, key: str) -> dict[str, float]:
        return self.data.zsets.setdefault(key, {})

    def smembers(self, key: str) -> set[bytes]:
        """Of what counts towards limits, which decide nothing here."""
        return self.execute(set)  # type: ignore[no-any-return]

    def hget(self, *_: str) -> None:
        """What leaders say of their switches."""
        self.execute(lambda: None)

    def is_held(self, lease: str) -> int:
        return int(self.data.leases.get(lease, (0, 0.0))[1] > self.world.now)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """What is told of switches and in timelines decides nothing, but whoever tells it waits."""
        if name not in ("hset", "hdel", "hsetnx", "sadd", "srem"):
            raise AttributeError(name)
        return lambda *_, **__: self.execute(lambda: None)

    # The scripts

    def change(self, keys: list[str], argv: list[str]) -> int | list[bytes]:
        """As change.lua does it: whatever it answers, it has written."""
        old = self.data.hashes.get(keys[0], {})
        if b":".join(old[name] for name in (b"version", b"stamp") if old).decode() != argv[0]:
            return _flat(old)
        new = dict(old)
        for name, number, *words in json.loads(argv[1]):
            self._carry_out(new, name, keys[number - 1], *words)
        if new != old:
            self._check(old, new, _id_of_key(keys[0]))
            self.data.hashes[keys[0]] = new
        return 1

    def _carry_out(self, call: dict[bytes, bytes], name: str, key: str, *words: str) -> None:
        """Carry out one command of a change or a claim; what decides nothing is left out."""
        match name:
            case "HSET":
                texts = [word.encode() for word in words]
                call.update(zip(texts[::2], texts[1::2], strict=True))
            case "ZADD":
                self.zset(key)[words[1]] = float(words[0])
            case "ZREM":
                self.zset(key).pop(words[0], None)
            case "ENTER":
                self.data.line[words[0]] = words[3]
            case "LEAVE":
                self.data.line.pop(words[0], None)

    def accept(self, keys: list[str], argv: Sequence[Any]) -> list[bytes]:
        """As accept.lua does it."""
        clock = str(self._micros()).encode()
        nonce = self.data.strings.get(keys[0]) if keys[0] else None
        if nonce is not None and nonce != argv[1]:
            return [b"seen", clock, nonce]
        calls = json.loads(argv[3])
        first = 2
        changes = []
        for count, of_call in calls:
            changes.append((keys[first : first + count], of_call))
            if keys[first] in self.data.hashes:
                return [b"accepted", clock]
            first += count
        if self._micros() > float(argv[0]):
            return [b"late", clock]
        for of_call, arguments in changes:
            self.change(of_call, arguments)
        if keys[0]:
            self.data.strings[keys[0]] = argv[2].encode()
        # The calls of the model have no caps.
        words = deque(argv[5:])
        while words:
            _, key, job_id = [words.popleft() for _ in range(words.popleft())]
            self.data.lists.setdefault(key, []).append(job_id)
        return [b"accepted", clock]

    def evalsha(self, sha: str, count: int, *words: Any) -> Any:
        keys, argv = list(words[:count]), list(words[count:])
        if sha == scripts.PACE.sha:
            return self.execute(lambda: self.pace(keys, argv), "write")
        if sha == scripts.QUEUED.sha:
            return self.execute(lambda: self.queued(keys, argv))
        # Notes in timelines decide nothing.
        return self.execute(lambda: None)

    def queued(self, keys: list[str], argv: list[Any]) -> list[Any]:
        """As queued.lua does it."""
        now = self._micros() / 1e6
        due = [i for i, at in sorted(self.zset(keys[0]).items()) if at <= now][: argv[1]]
        found = []
        for call_id in due:
            claim = self.data.line.get(call_id)
            till = json.loads(claim)[0] if claim is not None else 0.0
            if till <= now:
                found.append(call_id.encode())
                till = now + argv[0]
            self.zset(keys[0])[call_id] = till
        return [len(due), found]

    def pace(self, keys: list[str], argv: list[Any]) -> list[Any]:
        """As pace.lua does it with the stored claims, but some calls have to wait for a while."""
        world, hashes, line = self.world, self.data.hashes, self.data.line
        clock = str(self._micros()).encode()
        answered = self.data.strings.get(keys[3])
        if answered is not None:
            ids = filter(None, answered.decode().split(","))
            known = [hashes.get(self.keys.call(i), {}) for i in ids]
            return [clock, 0, [], [], *(_flat(each) for each in known)]
        switches = json.loads(argv[5])
        if self._micros() > float(argv[8]):
            switches = []
        late, claimed = [], []
        while line and switches and world.rng.random() < 0.8:
            call_id = next(iter(line))
            key = self.keys.call(call_id)
            till, fits, commands, *where = json.loads(line.pop(call_id))
            old = hashes[key]
            version = b":".join(old[name] for name in (b"version", b"stamp")).decode()
            if old[b"state"] not in (b"queued", b"dialing") or version != fits:
                continue
            among = [of for of in switches if not where or of[0] != where[0]["not"]]
            if self._micros() / 1e6 >= till or not among:
                late.append(call_id.encode())
                continue
            switch, run = world.rng.choice(among)
            words = {"worker": argv[6], "switch": switch, "run": run, "stamp": argv[7]}
            new = dict(old)
            for command in commands:
                self._carry_out(new, *(self._word(word, words) for word in command))
            self._check(old, new, call_id)
            hashes[key] = new
            claimed.append((call_id, new))
        self.data.strings[keys[3]] = ",".join(i for i, _ in claimed).encode()
        again = 300_000 if line else -1
        return [clock, again, late, [], *(_flat(flat) for _, flat in claimed)]

    def _word(self, word: Any, words: dict[str, str]) -> str:
        """A word of a stored claim (app.store.marks)."""
        match word:
            case {"is": name}:
                return words[name]
            case {"after": seconds}:
                return f"{self._micros() / 1e6 + seconds:.6f}"
            case {"join": parts}:
                return "".join(self._word(part, words) for part in parts)
            case {"json": fields}:
                return json.dumps({name: self._word(each, words) for name, each in fields.items()})
        return str(word)

    def clock(self) -> tuple[int, int]:
        """Its own wall clock, which every process follows: seconds and microseconds."""
        return divmod(int((EPOCH + self.world.now + self.clock_error) * 1e6), 1_000_000)

    def _micros(self) -> int:
        seconds, micros = self.clock()
        return seconds * 1_000_000 + micros

    def _check(self, old: dict[bytes, bytes], new: dict[bytes, bytes], call_id: str) -> None:
        """A call only moves forward, by one version each time, and ends once."""
        world = self.world
        before = State(old.get(b"state", b"queued").decode())
        after = State(new[b"state"].decode())
        world.say(f"{world.process.name}: {call_id[:4]} v{new[b'version'].decode()} is {after}")
        if int(new[b"version"]) != int(old.get(b"version", b"0")) + 1:
            world.broken(f"{call_id}: a version is lost")
        if after.rank < before.rank:
            world.broken(f"{call_id} goes back from {before} to {after}")
        if old.get(b"refused") != new.get(b"refused"):
            if world.originates[call_id]:
                world.broken(f"{call_id} is to be dialled again and had a channel")
            world.say(f"{call_id[:4]} is to be dialled again")
        if old.get(b"claimed") != new.get(b"claimed"):
            world.claimed[call_id] = world.now
        if before is State.ENDED:
            for name in (b"ended_by", b"hangup_cause", b"ended"):
                if old.get(name) != new.get(name):
                    world.broken(f"{call_id} ends twice")
            # Late events may say that it has talked.
            if new[b"disposition"] not in (old[b"disposition"], b"0"):
                world.broken(f"{call_id} is disposed of twice")
        elif after is State.ENDED:
            by = new[b"ended_by"].decode()
            world.say(f"{call_id[:4]} is ended by {by}")
            # What was sent too late, and Redis could not yet know of.
            unknown = call_id in world.sent_too_late and b"sent" not in old
            if world.channels(call_id) and not unknown:
                world.broken(f"{call_id} is ended by {by} and has a channel")


class _Pipeline:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._commands: list[Callable[[], Any]] = []
        self._kind = "redis"
        # RQ's commands, which are never executed here.
        self.command_stack: list[tuple[tuple[str, ...], dict[str, object]]] = []

    def __enter__(self) -> "_Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def exists(self, key: str) -> None:
        """Of leases alone."""
        self._commands.append(lambda: self._redis.is_held(key))

    def hkeys(self, _: str) -> None:
        """Of the limits alone, which name the switches."""
        self._commands.append(lambda: [f"switch:{name}".encode() for name in SWITCHES])

    def hgetall(self, key: str) -> None:
        self._commands.append(lambda: dict(self._redis.data.hashes.get(key, {})))

    def evalsha(self, sha: str, count: int, *words: str) -> None:
        if sha == scripts.ONCE.sha:
            # Notes in timelines decide nothing.
            self._commands.append(lambda: None)
            return
        self._kind = "write"
        keys, argv = list(words[:count]), list(words[count:])
        self._commands.append(lambda: self._redis.change(keys, argv))

    def hmget(self, key: str, *names: str) -> None:
        def run() -> list[bytes | None]:
            of = self._redis.data.hashes.get(key, {})
            return [of.get(name.encode()) for name in names]

        self._commands.append(run)

    def wait(self, replicas: int, limit: int) -> None:
        self._commands.append(self._redis.acknowledged)

    def hset(self, *_: str) -> None:
        """What leaders say of their switches; which of these has room is chosen at random."""
        self._commands.append(lambda: None)

    hget = scard = hset

    def zadd(self, key: str, scores: dict[str, float]) -> None:
        self._commands.append(lambda: self._redis.zset(key).update(scores))

    def zrem(self, key: str, name: str) -> None:
        self._commands.append(lambda: self._redis.zset(key).pop(name, None))

    def zremrangebyscore(self, key: str, _: str, last: float) -> None:
        def run() -> None:
            zset = self._redis.zset(key)
            for name in [name for name, score in zset.items() if score <= last]:
                del zset[name]

        self._commands.append(run)

    def expire(self, key: str, seconds: int) -> None:
        """Nothing is forgotten here that is said again every second."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        done: list[Any] = (
            self._redis.execute(lambda: [run() for run in self._commands], self._kind)
            if self._commands
            else []
        )
        return done


class _Connection:
    """The one that a call is accepted on: each command is sent once."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._master = redis.master
        self._command: tuple[Any, ...] = ()

    def send_command(self, *words: Any) -> None:
        self._command = words

    def disconnect(self) -> None:
        pass

    def read_response(self, timeout: float) -> Any:
        kind = "write" if self._command[0].startswith("EVAL") else "redis"
        answer = self._redis.execute(self._run, kind, sent_again=False)
        # Whoever asks again at once does not do so without end.
        self._redis.world.wait("answer", until=self._redis.world.now + 0.01)
        return answer

    def _run(self) -> Any:
        name, *words = self._command
        if self._master != self._redis.master:
            raise RedisConnectionError("the master is gone")
        if name == "TIME":
            return self._redis.clock()
        if name == "WAIT":
            return self._redis.acknowledged()
        count = words[1]
        return self._redis.accept(words[2 : 2 + count], words[2 + count :])


class Lease:
    """redis.lock.Lock, as far as the listener uses it."""

    def __init__(self, redis: Redis, name: str, timeout: float, **_: object) -> None:
        self._redis = redis
        self._name = name
        self._timeout = timeout
        self._token: object = None

    def acquire(self) -> bool:
        token = object()

        def run() -> bool:
            if self._held()[1] > self._redis.world.now:
                return False
            self._hold(token)
            return True

        acquired: bool = self._redis.execute(run)
        if acquired:
            self._token = token
        return acquired

    def reacquire(self) -> bool:
        self._redis.execute(lambda: self._hold(self._owned()))
        return True

    def release(self) -> None:
        def run() -> None:
            self._owned()
            del self._redis.data.leases[self._name]

        self._redis.execute(run)

    def _held(self) -> tuple[object, float]:
        return self._redis.data.leases.get(self._name, (None, 0.0))

    def _owned(self) -> object:
        token, until = self._held()
        if token is not self._token or until <= self._redis.world.now:
            raise LockError("not ours")
        return token

    def _hold(self, token: object) -> None:
        self._redis.data.leases[self._name] = token, self._redis.world.now + self._timeout


class Line:
    """app.store.pace.Pacer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Limits decide nothing here."""
        return lambda *_: self._redis.execute(lambda: None)


class Outcomes:
    """app.store.ejection.Outcomes: what is seen of switches decides nothing here."""

    def has_others(self, switch: str) -> bool:
        return True

    def ejected(self) -> list[Any]:
        return []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Queue:
    """app.store.queue.JobQueue over two lists. RQ moves a job to a third before it runs it, and
    what is in there when a worker dies is lost, or comes back."""

    CALLS, ACTIONS, TAKEN = "calls", "actions", "taken"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def place_call(self, call: Call, pipeline: _Pipeline) -> None:
        pipeline.command_stack.append((("RPUSH", self.CALLS, call.id), {}))

    def hang_up(self, *calls: Call) -> None:
        self._redis.execute(lambda: self._list(self.ACTIONS).extend(call.id for call in calls))

    def take(self, name: str) -> str | None:
        self._redis.world.wait("idle", lambda: bool(self._list(name)))

        def run() -> str | None:
            jobs = self._list(name)
            if jobs:
                self._list(self.TAKEN).append(f"{name} {jobs[0]}")
            return jobs.pop(0) if jobs else None

        taken: str | None = self._redis.execute(run)
        return taken

    def claim(self, words: list[Any]) -> Any:
        """What goes with the start of a job."""
        keys, argv = words[1 : 1 + words[0]], words[1 + words[0] :]
        return self._redis.execute(lambda: self._redis.pace(keys, argv), "write")

    def done(self, name: str, job_id: str) -> None:
        def run() -> None:
            with contextlib.suppress(ValueError):
                self._list(self.TAKEN).remove(f"{name} {job_id}")

        self._redis.execute(run)

    def deliver(self, call: Call) -> None:
        """One job more."""
        self._list(self.CALLS).append(call.id)

    def give_back(self) -> None:
        """RQ delivers a second time what somebody has taken."""
        for taken in self._list(self.TAKEN):
            name, _, job_id = taken.partition(" ")
            self._list(name).append(job_id)

    def _list(self, name: str) -> list[str]:
        return self._redis.data.lists.setdefault(name, [])


# The event socket


class Socket:
    """One connection of a process, to one run of a switch."""

    def __init__(self, process: Process, switch: "Switch") -> None:
        self.run = switch.run
        self.since = switch.now
        self.closed = False
        self._process = process
        self._switch = switch

    def answers(self) -> bool:
        return self.run == self._switch.run and self._switch.hears(self._process)


class Link:
    """freeswitch.connection.SwitchConnection."""

    def __init__(
        self,
        address: SwitchAddress,
        *,
        on_events: Callable[[list[Event]], object] | None = None,
        on_up: Callable[["Link"], object] | None = None,
        heartbeat: float = 10.0,
        timeout: float = 5.0,
        world: World,
        **_: object,
    ) -> None:
        self.address = address
        self.process = world.process
        self.switch = world.switches[address.name]
        self.core_uuid: str | None = None
        # Events that are here, in their order for each leg alone.
        self.inbox: dict[str, deque[Event]] = {}
        self._world = world
        self._on_events = on_events
        self._on_up = on_up
        self._timeout = timeout
        # A link that has died without a word is found out within.
        self._notice = heartbeat + timeout
        self._socket: Socket | None = None
        self._started = False
        # Whether some have been handed on and are not applied yet.
        self._handling = False

    def start(self) -> None:
        self._started = True
        self.process.links.append(self)
        self.switch.links.append(self)
        if self._on_events is not None:
            self.process.spawn(self._handle_events)
        self._connect()

    def stop(self) -> None:
        self._started = False
        if self in self.switch.links:
            self.switch.links.remove(self)
        self._close()

    def notice(self) -> None:
        """The link no longer works, which is found out in a while if it is still so."""

        def look() -> None:
            if self._socket is not None and not self._socket.answers():
                self._close()

        self._world.at(self._world.delay(self._notice), look)

    def _connect(self) -> None:
        if not self._started or self._socket is not None:
            return
        if not self.switch.hears(self.process) or self.process.stopped_until > self._world.now:
            self._world.at(0.5, self._connect)
            return
        self.core_uuid = self.switch.core_uuid
        self._socket = Socket(self.process, self.switch)
        if self._on_up is not None:
            self._on_up(self)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.closed = True
            self._socket = None
        if self._started:
            self._world.at(0.1 + self._world.delay(2.0), self._connect)

    @property
    def up(self) -> bool:
        return self._socket is not None

    @property
    def up_for(self) -> float:
        return 0.0 if self._socket is None else self._world.now - self._socket.since

    @property
    def backlog(self) -> int:
        return len(self.inbox)

    def catch_up(self, timeout: float) -> bool:
        def is_done() -> bool:
            return not self.inbox and not self._handling

        self._world.wait("ask", is_done, self._world.now + timeout)
        return is_done()

    def wait_up(self, timeout: float) -> bool:
        self._world.wait("idle", lambda: self.up, self._world.now + timeout)
        return self.up

    def was_heard(self, within: float = 1.0) -> bool:
        # Of late or not, where it has not been found out that nothing comes.
        socket = self._socket
        return socket is not None and not socket.closed and self._world.rng.random() < 0.5

    def is_answering(self, within: float = 1.0, timeout: float = 2.0) -> bool:
        socket = self._socket
        if socket is not None:
            self._world.wait("ask", socket.answers, self._world.now + timeout)
            if not socket.answers() and not socket.closed:
                self._close()
        return socket is not None and not socket.closed

    def api(self, line: str, *, timeout: float | None = None) -> str:
        """One command, carried out while it is waited for or not at all."""
        return self._ask(self._connected(), line, timeout or self._timeout)

    def api_apart(self, line: str, *, timeout: float) -> str:
        """The same on a connection of its own."""
        return self._ask(Socket(self.process, self.switch), line, timeout)

    def _ask(self, socket: Socket, line: str, timeout: float) -> str:
        world = self._world
        end = world.now + timeout
        world.wait("ask", lambda: socket.closed or socket.answers(), end)
        if socket.closed:
            raise NotConnected("closed")
        if not socket.answers():
            raise CommandTimeout(line)
        answer = self.switch.api(line)
        world.wait("answer")
        if socket.closed:
            raise NotConnected("closed")
        # A process that stands still may have read the answer before, and go on with it after.
        if world.now > end and world.rng.random() < 0.5:
            raise CommandTimeout(line)
        return answer

    def bgapi(self, command: str, job_uuid: str, *, timeout: float | None = None) -> None:
        """The originate: it leaves, arrives within DELIVERY_LIMIT or never, and is answered."""
        world, socket = self._world, self._connected()
        limit = timeout or self._timeout
        checked = world.now
        world.wait("send")
        if socket.closed:
            raise NotConnected("closed")
        late = world.now - checked > limit
        if late and world.rng.random() < 0.5:
            raise CommandTimeout("bgapi")
        # How the switch has answered: whether it took the command.
        answered: list[bool] = []
        world.say(f"{self.process.name} sends {call_id_of(job_uuid)[:4]}")
        if late or world.now - checked > COMMAND_LIMIT:
            self._stood_still(call_id_of(job_uuid), checked)
        left = world.now

        def arrive() -> None:
            if socket.run != self.switch.run:
                return
            if self.switch.is_cut_from(self.process):
                if world.now < left + DELIVERY_LIMIT:
                    world.at(0.1, arrive)
            elif self.switch.stands:
                # Its host has taken it.
                world.at(0.1, arrive)
            else:
                answered.append(self.switch.originate(command, job_uuid))

        world.at(world.delay(DELIVERY_LIMIT), arrive)
        world.wait("answer", lambda: bool(answered) or socket.closed, left + limit)
        if socket.closed:
            raise NotConnected("closed")
        if not answered:
            raise CommandTimeout("bgapi")
        if not answered[0]:
            raise CommandRefused("-ERR")

    def _stood_still(self, call_id: str, checked: float) -> None:
        """Whether that was the window which the protocol leaves open: the claim was young enough
        when its age was checked."""
        if checked <= self._world.claimed[call_id] + SEND_WITHIN:
            self._world.say(f"{call_id[:4]}: the sender stood still")
            self._world.sent_too_late.add(call_id)

    def _connected(self) -> Socket:
        if self._socket is None:
            raise NotConnected("down")
        return self._socket

    def hear(self, key: str, event: Event) -> None:
        if self._on_events is not None and self._socket is not None and self._socket.answers():
            self.inbox.setdefault(key, deque()).append(event)

    def fail_event(self, fault: str) -> None:
        """The next event of one leg never comes, or comes twice."""
        if self.inbox:
            key = self._world.rng.choice(sorted(self.inbox))
            if fault == "lose event":
                self._next(key)
            else:
                self.inbox[key].appendleft(self.inbox[key][0])

    def _next(self, key: str) -> Event:
        event = self.inbox[key].popleft()
        if not self.inbox[key]:
            del self.inbox[key]
        return event

    def _handle_events(self) -> None:
        assert self._on_events is not None
        while True:
            self._world.wait("event", lambda: bool(self.inbox))
            events: list[Event] = []
            # Alone, or with others that wait.
            while self.inbox and (not events or self._world.rng.random() < 0.7):
                events.append(self._next(self._world.rng.choice(sorted(self.inbox))))
            if events:
                self._handling = True
                self._on_events(events)
                self._handling = False


# Switches and phones


@dataclass(eq=False)
class Channel:
    uuid: str
    call_id: str
    dialling: "Dialling"
    source: bool
    times: dict[str, float] = field(default_factory=dict)
    peers: list[str] = field(default_factory=list)
    bridged_to: str | None = None
    cause: str | None = None
    disposition: str | None = None

    def headers(self) -> dict[str, Any]:
        """As reports.py reads them."""
        found: dict[str, Any] = {
            "Unique-ID": self.uuid,
            "variable_ringback_call": self.call_id,
            **{f"Caller-Channel-{n}-Time": str(int(at * 1e6)) for n, at in self.times.items()},
        }
        if self.peers:
            found["variable_originate_causes"] = [f"{uuid};NONE" for uuid in self.peers]
        if self.bridged_to:
            found["Other-Leg-Unique-ID"] = found["variable_last_bridge_to"] = self.bridged_to
        if self.cause:
            found["Hangup-Cause"] = self.cause
        if self.disposition:
            found["variable_originate_disposition"] = self.disposition
        return found

    @property
    def state(self) -> str:
        if "Answered" in self.times:
            return "ACTIVE"
        return "RINGING" if "Progress" in self.times else "DOWN"


@dataclass(eq=False)
class Dialling:
    """One originate that a switch carries out."""

    job_uuid: str
    call_id: str
    destinations: list[str]
    ring_time: float
    duration: float
    winner: Channel | None = None
    over: bool = False


class Switch:
    """One FreeSWITCH: it carries out every originate that it receives, and counts them."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.run = 1
        self.channels: dict[str, Channel] = {}
        self.links: list[Link] = []
        self.stands_until = 0.0
        # Until when it refuses originates by its reply, or by the result of the job.
        self.refuses_until = {"refuse": 0.0, "refuse job": 0.0}
        self._world = world
        self._cut_until: dict[Process, float] = {}

    @property
    def core_uuid(self) -> str:
        return f"core-{self.name}-{self.run}"

    @property
    def now(self) -> float:
        return self._world.now

    @property
    def stands(self) -> bool:
        return self.stands_until > self._world.now

    def is_cut_from(self, process: Process) -> bool:
        return self._cut_until.get(process, 0.0) > self._world.now

    def hears(self, process: Process) -> bool:
        return not self.stands and not self.is_cut_from(process)

    # Faults

    def restart(self) -> None:
        self._world.say(f"{self.name} is started again")
        self.run += 1
        self.channels.clear()
        for link in self.links:
            link.notice()

    def cut(self, process: Process, seconds: float) -> None:
        self._world.say(f"{self.name} is cut off from {process.name} for {seconds} s")
        self._cut_until[process] = self._world.now + seconds
        for link in self.links:
            if link.process is process:
                link.notice()

    def stand_still(self, seconds: float) -> None:
        self._world.say(f"{self.name} stands still for {seconds} s")
        self.stands_until = self._world.now + seconds
        for link in self.links:
            link.notice()

    def refuse(self, how: str, seconds: float) -> None:
        self._world.say(f"{self.name} is to {how} for {seconds} s")
        self.refuses_until[how] = self._world.now + seconds

    def _refuses(self, how: str) -> bool:
        return self.refuses_until[how] > self._world.now

    def heal(self) -> None:
        self._cut_until.clear()
        self.refuses_until = dict.fromkeys(self.refuses_until, 0.0)
        self.stands_until = 0.0

    # Commands

    def api(self, line: str) -> str:
        verb, *words = line.split()
        if verb == "global_getvar":
            return self.core_uuid
        if verb == "status":
            return "0 session(s) per Sec out of max 30\n1000 session(s) max\n"
        if verb == "fsctl":
            return "false"
        if verb == "show":
            rows = [{"uuid": c.uuid, "callstate": c.state} for c in self.channels.values()]
            return json.dumps({"row_count": len(rows), "rows": rows}, separators=(",", ":"))
        if verb == "hupall":
            cause, _, call_id = words
            for channel in [c for c in self.channels.values() if c.call_id == call_id]:
                self.hang_up(channel, cause)
            return "+OK hangup all channels matching"
        if verb == "uuid_exists":
            return "true" if words[0] in self.channels else "false"
        channel_found = self.channels.get(words[0])
        if channel_found is None:
            return "-ERR No such channel!\n"
        if verb == "uuid_kill":
            self.hang_up(channel_found, words[1])
            return "+OK\n"
        assert verb == "uuid_dump", line
        stamp = str(int(self._wall() * 1e6))
        headers = {"Event-Name": "CHANNEL_DATA", "Event-Date-Timestamp": stamp}
        return json.dumps({**headers, **channel_found.headers()})

    def originate(self, command: str, job_uuid: str) -> bool:
        """Taken from the wire; a thread of its own carries it out in a moment. Returns whether it
        is not refused at once."""
        if self._refuses("refuse"):
            return False
        run = self.run

        def begin() -> None:
            if self.run == run:
                self._dial(command, job_uuid)

        self._world.at(self._world.delay(BEGINS_WITHIN), begin)
        return True

    def _dial(self, command: str, job_uuid: str) -> None:
        world = self._world
        dial, _, bridge = command.partition(" &bridge(")
        found = re.search(r"ringback_call=(\w+)", dial)
        ring_time = re.search(r"originate_timeout=(\d+)", dial)
        duration = re.search(r"sched_hangup \+(\d+)", dial)
        assert found and ring_time and duration, command
        call_id = found[1]
        sources, destinations = (
            re.findall(r"origination_uuid=([0-9a-f-]{36})", text) for text in (dial, bridge)
        )
        dialling = Dialling(job_uuid, call_id, destinations, int(ring_time[1]), int(duration[1]))
        if self._refuses("refuse job"):
            world.say(f"{self.name} refuses {call_id[:4]}")
            self._result(dialling, "-ERR DESTINATION_OUT_OF_ORDER\n")
            return
        world.say(f"{self.name} dials {call_id[:4]}")
        world.originates[call_id] += 1
        if world.originates[call_id] > 1:
            world.broken(f"{call_id} is dialled twice")
        if call_id not in world.sent_too_late:
            call = world.call(call_id)
            if call is None and not world.failed_over:
                world.broken(f"{call_id} is dialled and was never accepted")
            if call is not None and call.state is State.ENDED:
                world.broken(f"{call_id} is dialled, ended by {call.ended_by}")
        if any(uuid in self.channels for uuid in (*sources, *destinations)):
            self._result(dialling, "-ERR DESTINATION_OUT_OF_ORDER\n")
            return
        self._ring(dialling, sources, source=True)

    def _ring(self, dialling: Dialling, uuids: list[str], source: bool) -> None:
        channels = [Channel(uuid, dialling.call_id, dialling, source) for uuid in uuids]
        for channel in channels:
            channel.times["Created"] = self._wall()
            self.channels[channel.uuid] = channel
            self._emit("CHANNEL_CREATE", channel)
            self._phone(channel)

        def time_is_up() -> None:
            for channel in channels:
                if "Answered" not in channel.times:
                    self.hang_up(channel, "NO_ANSWER")

        self._world.at(dialling.ring_time, time_is_up)

    def _phone(self, channel: Channel) -> None:
        """What a phone does: it rings or does not, and is answered, refused or left alone."""
        world, rng = self._world, self._world.rng
        at = rng.uniform(0.0, 0.5)
        if rng.random() < 0.8:
            world.at(at, lambda: self.progress(channel))
        fate = rng.random()
        at += rng.choice((0.0, 0.2, 2.0, 5.0))
        if fate < 0.7:
            world.at(at, lambda: self.answer(channel))
            if fate < 0.4:
                at += rng.choice((0.0, 1.0, 4.0, 20.0))
                world.at(at, lambda: self.hang_up(channel, "NORMAL_CLEARING"))
        elif fate < 0.85:
            world.at(at, lambda: self.hang_up(channel, "USER_BUSY"))
        elif fate < 0.92:
            # A network may give the cause with which a switch refuses.
            world.at(at, lambda: self.hang_up(channel, "DESTINATION_OUT_OF_ORDER"))

    def progress(self, channel: Channel) -> None:
        if self._lives(channel) and "Answered" not in channel.times:
            channel.times["Progress"] = self._wall()
            self._emit("CHANNEL_PROGRESS", channel)

    def answer(self, channel: Channel) -> None:
        if not self._lives(channel) or "Answered" in channel.times:
            return
        dialling = channel.dialling
        channel.times["Answered"] = self._wall()
        self._emit("CHANNEL_ANSWER", channel)
        for other in self._of(dialling):
            if other is not channel and other.source is channel.source:
                self._end(other, "LOSE_RACE")
        if channel.source:
            dialling.winner = channel
            self._result(dialling, f"+OK {channel.uuid}\n")
            channel.peers = dialling.destinations
            # The switch itself ends what lasts too long.
            self._world.at(dialling.duration, lambda: self.hang_up(channel, "ALLOTTED_TIMEOUT"))
            self._ring(dialling, dialling.destinations, source=False)
        elif dialling.winner is not None:
            at = self._wall()
            for one, other in ((dialling.winner, channel), (channel, dialling.winner)):
                one.times["Bridged"], one.bridged_to = at, other.uuid
            self._emit("CHANNEL_BRIDGE", dialling.winner)

    def hang_up(self, channel: Channel, cause: str) -> None:
        """End a channel, and what ends with it."""
        if not self._lives(channel):
            return
        dialling = channel.dialling
        self._end(channel, cause)
        left = self._of(dialling)
        if dialling.winner is None:
            if not left:
                # The job is a thread of its own too.
                result = partial(self._result, dialling, f"-ERR {cause}\n")
                self._world.at(self._world.delay(BEGINS_WITHIN), result)
            return
        ends_all = channel.source or "Bridged" in channel.times
        if ends_all or not [c for c in left if not c.source]:
            for other in left:
                if other.source and "Bridged" not in other.times:
                    other.disposition = cause
                # Each is a thread of its own.
                self._world.at(self._world.delay(0.5), partial(self._end, other, cause))

    def _end(self, channel: Channel, cause: str) -> None:
        if not self._lives(channel):
            return
        channel.times["Hangup"] = self._wall()
        channel.cause = cause
        del self.channels[channel.uuid]
        self._emit("CHANNEL_HANGUP_COMPLETE", channel)

    def _lives(self, channel: Channel) -> bool:
        return self.channels.get(channel.uuid) is channel

    def _of(self, dialling: Dialling) -> list[Channel]:
        return [c for c in self.channels.values() if c.dialling is dialling]

    def _result(self, dialling: Dialling, body: str) -> None:
        if not dialling.over:
            dialling.over = True
            self._tell(
                dialling.job_uuid,
                Event("BACKGROUND_JOB", {"Job-UUID": dialling.job_uuid}, body),
            )

    def _emit(self, name: str, channel: Channel) -> None:
        self._tell(channel.uuid, Event(name, channel.headers()))

    def _tell(self, key: str, event: Event) -> None:
        for link in self.links:
            link.hear(key, event)

    def _wall(self) -> float:
        # The one clock that is not stepped: FreeSWITCH's own runs on from its start.
        return EPOCH + self._world.now
