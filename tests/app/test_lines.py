"""The lines of waiting calls against a full scan of all that waits, over random histories."""

import secrets
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from app.calls import transitions
from app.calls.model import Call, Leg, NumberKind, Role, State, job_uuid, leg_uuid
from app.store import writes
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.pace import Claims, Limit, Pacer
from app.store.steering import Steer, SteerStore
from app.store.writes import Note

ORGANIZATIONS, USERS, GATEWAYS = ("1", "2"), ("a", "b"), ("g", "h")
SWITCHES = ("s", "t")
# A rate that gives one call and no other in the time of a test.
ONCE = 1e-9
LIMITS = st.sampled_from([Limit(), Limit(most=1), Limit(most=2), Limit(most=3), Limit(ONCE)])
NAMES = (
    *(f"organization:{name}" for name in ORGANIZATIONS),
    *(f"user:{name}{user}" for name in ORGANIZATIONS for user in USERS),
    *(f"gateway:{name}" for name in GATEWAYS),
    "switch:s",
)


@dataclass
class Waiting:
    """A waiting call as a full scan reads it."""

    id: str
    organization: str
    accepted: float
    legs: int
    takes: list[tuple[str, int, int]]


class Scan:
    """All that Redis holds of waiting calls and limits, and what a full scan of it would claim.

    This is how calls were found before lanes: each organization by turn, each of its calls by
    acceptance, the first one that its limits allow.
    """

    def __init__(self, redis: Any, keys: Keys, waiting: list[Call]) -> None:
        self.now = float(redis.time()[0]) * 1e6
        self.limits = {
            name.decode(): (float(rate), int(most))
            for name, text in redis.hgetall(keys.limits).items()
            if name != b"mark"
            for rate, most in [text.decode().split(":")]
        }
        self.moments = {n.decode(): float(v) for n, v in redis.hgetall(keys.pace).items()}
        self.taken = {
            key.decode().removeprefix(keys.taken("")): redis.scard(key)
            for key in redis.keys(keys.taken("*"))
        }
        self.turns = {n.decode(): at for n, at in redis.zrange(keys.turns, 0, -1, withscores=True)}
        self.turn = self.moments.get("turn", 0.0)
        self.lines: dict[str, list[Waiting]] = {}
        for call in sorted(waiting, key=lambda call: (call.accepted, call.id)):
            self.lines.setdefault(call.organization, []).append(_as_waiting(call))
        self.full: set[str] = set()

    def claims(self, most: int) -> list[str]:
        """The ids of the calls that are claimed, in order."""
        found: list[str] = []
        asked = sorted(self.lines, key=lambda name: (self.turns[name], name))
        while asked and len(found) < most:
            name = asked.pop(0)
            call = self._first(name)
            if call is None:
                continue
            switch = self._switch(call.legs)
            if switch is None:
                break
            self.lines[name].remove(call)
            for limit, places, legs in (*call.takes, (f"switch:{switch}", call.legs, call.legs)):
                self.taken[limit] = self.taken.get(limit, 0) + places
                if self.limits.get(limit, (0.0, 0))[0]:
                    self.moments[limit] = self.now + legs / ONCE
            found.append(call.id)
            self.turn = max(self.turn, self.turns[name])
            self.turns[name] = self.turn + call.legs
            if self.lines[name]:
                asked = sorted([*asked, name], key=lambda name: (self.turns[name], name))
        return found

    def _first(self, organization: str) -> Waiting | None:
        if not self._allows(f"organization:{organization}", 1):
            return None
        for call in self.lines[organization]:
            if all([self._allows(limit, places) for limit, places, _ in call.takes[1:]]):
                return call
        return None

    def _allows(self, limit: str, places: int) -> bool:
        rate, most = self.limits.get(limit, (0.0, 0))
        if limit in self.full or (rate and self.moments.get(limit, 0.0) > self.now):
            return False
        taken = self.taken.get(limit, 0)
        if most and taken and taken + places > most:
            # A call that finds no room keeps what there is from those after it.
            self.full.add(limit)
            return False
        return True

    def _switch(self, legs: int) -> str | None:
        free = [name for name in SWITCHES if self._allows(f"switch:{name}", legs)]

        def load(name: str) -> float:
            most: int = self.limits.get(f"switch:{name}", (0.0, 0))[1] or 10_000
            taken: int = self.taken.get(f"switch:{name}", 0)
            return (taken + 1) / most

        return min(free, key=load, default=None)


def _as_waiting(call: Call) -> Waiting:
    legs = [leg for leg in call.legs if leg.hangup_requested is None]
    gateways = dict.fromkeys(leg.gateway or "" for leg in legs)
    takes = [(f"organization:{call.organization}", 1, len(legs)), (f"user:{call.user}", 1, 1)]
    for name in gateways:
        count = sum(leg.gateway == name for leg in legs)
        takes.append((f"gateway:{name}", count, count))
    return Waiting(call.id, call.organization, call.accepted, len(legs), takes)


def machine(redis: Redis, *, large: bool) -> type[RuleBasedStateMachine]:
    """``large``: whether a call may take more than one place of a limit. Then an organization that
    is served keeps no room for its large call, which a full scan does until its end: that both find
    something, or nothing, is compared, and not what they find."""
    gateways = st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=3, unique=not large)

    class Lines(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            redis.flushall()
            self.keys = Keys()
            self.store = CallStore(redis, self.keys)
            self.pacer = Pacer(redis, self.keys)
            self.claims = Claims(self.store, "w")
            self.accepted = self.store.now()
            self.ids: list[str] = []

        def calls(self, *states: State) -> list[Call]:
            found = filter(None, self.store.get_many(self.ids))
            return [call for call in found if call.state in states]

        @rule(
            organization=st.sampled_from(ORGANIZATIONS),
            user=st.sampled_from(USERS),
            gateways=gateways,
            count=st.integers(1, 3),
        )
        def accept(self, organization: str, user: str, gateways: list[str], count: int) -> None:
            for _ in range(count):
                self.accepted += 0.001
                call = _call(organization, f"{organization}{user}", gateways, self.accepted)
                self.store._run([writes.arguments(self.keys, None, call, (), 1.0)], False)
                self.ids.append(call.id)

        @precondition(lambda self: self.calls(State.DIALING))
        @rule(data=st.data())
        def end(self, data: st.DataObject) -> None:
            call = data.draw(st.sampled_from(self.calls(State.DIALING)))
            self.store.change(call, lambda c: transitions.end(c, "events_lost", at=2.0), NOTE)

        @precondition(lambda self: self.calls(State.QUEUED))
        @rule(data=st.data())
        def cancel(self, data: st.DataObject) -> None:
            call = data.draw(st.sampled_from(self.calls(State.QUEUED)))
            self.store.change(call, lambda c: transitions.request_hangup(c, at=2.0), NOTE)

        @precondition(lambda self: self.calls(State.QUEUED))
        @rule(data=st.data())
        def drop_a_party(self, data: st.DataObject) -> None:
            call = data.draw(st.sampled_from(self.calls(State.QUEUED)))
            number = call.legs[-1].number
            self.store.change(call, lambda c: transitions.hang_up_number(c, number, at=2.0), NOTE)

        @initialize(limits=st.tuples(*(LIMITS for _ in NAMES)))
        def set_limits(self, limits: tuple[Limit, ...]) -> None:
            self.limits = dict(zip(NAMES, limits, strict=True))
            self.pacer.set_switch_limit(SWITCHES[1], Limit())
            for name in SWITCHES:
                SteerStore(redis, self.keys).tell(name, Steer(until=1e12))
            for name in NAMES:
                self.set_limit(name, self.limits[name])

        @rule(name=st.sampled_from(NAMES), limit=LIMITS)
        def set_limit(self, name: str, limit: Limit) -> None:
            self.limits[name] = limit
            if name.startswith("switch:"):
                self.pacer.set_switch_limit(SWITCHES[0], limit)
            else:
                limits = {n: of for n, of in self.limits.items() if not n.startswith("switch:")}
                self.pacer.set_limits(limits)

        @rule(most=st.sampled_from((1, 2, 5)))
        def look(self, most: int) -> None:
            expected = Scan(redis, self.keys, self.calls(State.QUEUED)).claims(most)
            turn = self.claims.next({name: name for name in SWITCHES}, most)
            claimed = [call.id for call in turn.calls]
            if large:
                assert bool(claimed) == bool(expected)
            else:
                assert claimed == expected

        @invariant()
        def every_waiting_call_stands_in_one_place(self) -> None:
            waiting = {call.id: writes.lane_of(call) for call in self.calls(State.QUEUED)}
            stored: Any = redis.hgetall(self.keys.waiting)
            assert {i.decode(): lane.decode() for i, lane in stored.items()} == waiting
            assert {i.decode() for i in redis.hkeys(self.keys.claims)} == set(waiting)  # type: ignore[union-attr]
            held: Any = redis.hgetall(self.keys.prefix + "lanes")
            for lane in set(waiting.values()):
                organization = lane.split('"')[1]
                ready = self.keys.prefix + f"ready:{organization}"
                at = held.get(lane.encode())
                of = self.keys.prefix + f"held:{organization} {at.decode() if at else ''}"
                assert (redis.zscore(ready, lane) is None) == (at is not None)
                assert (redis.zscore(of, lane) is not None) == (at is not None)
            assert {lane.decode() for lane in held} <= set(waiting.values())

        def teardown(self) -> None:
            """Nothing is left of calls that are over."""
            for call in self.calls(State.QUEUED, State.DIALING):
                self.store.change(call, lambda c: transitions.request_hangup(c, at=2.0), NOTE)
                self.store.change(call, lambda c: transitions.end(c, "events_lost", at=2.0), NOTE)
            self.claims.next({}, 1)
            patterns = ("lane*", "ready*", "held*", "out*", "wakes", "looks", "waiting*", "turns")
            left = [key for each in patterns for key in redis.keys(self.keys.prefix + each)]
            assert left == []

    return Lines


NOTE = Note("event", "test")


def _call(organization: str, user: str, gateways: list[str], accepted: float) -> Call:
    call_id = secrets.token_hex(10)
    legs = [
        Leg(
            f"a{n}",
            Role.SOURCE,
            f"1550{n}",
            NumberKind.PUBLIC,
            leg_uuid(call_id, Role.SOURCE, n, 1),
        )
        for n in range(1, len(gateways) + 1)
    ]
    return Call(
        id=call_id,
        kind="simple",
        app="app",
        user=user,
        organization=organization,
        organization_name="",
        extension="0003*210",
        accepted=round(accepted, 6),
        wait_for_pickup=25,
        call_duration=60,
        queue_timeout=600,
        job_uuid=job_uuid(call_id),
        version=1,
        stamp="00000000",
        legs=tuple(legs),
    )


PROFILE = settings(
    max_examples=40,
    derandomize=True,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
    print_blob=False,
)


@pytest.mark.search
def test_lanes_claim_what_a_full_scan_claims(redis: Redis) -> None:
    run_state_machine_as_test(machine(redis, large=False), settings=PROFILE)


@pytest.mark.search
def test_large_calls_are_found_where_a_full_scan_finds_any(redis: Redis) -> None:
    run_state_machine_as_test(machine(redis, large=True), settings=PROFILE)
