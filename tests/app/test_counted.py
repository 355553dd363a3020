"""What caps count, after any history of a call, is what its legs say."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from app.calls import cost, transitions
from app.calls.model import Action, Call, Leg, NumberKind, Role, State, evolve, job_uuid, leg_uuid
from app.calls.transitions import LegReport
from app.store import counted
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.queue import JobQueue
from app.store.writes import Note
from tests.app.test_stored_claims import call as new_call

ID = "c3a5fbf2be57af92c581"
CALLER, ASKER = "organization:3", "user:99"
ALL = "legs:{0},time:{0}"
DAY = counted.DAY
# Around a midnight.
BEGUN = 20_000.0 * DAY - 30.0


def leg(role: Role, party: int, attempt: int = 1, **fields: Any) -> Leg:
    name = f"{role.letter}{party}" + (f".{attempt}" if attempt > 1 else "")
    uuid = leg_uuid(ID, role, party, attempt)
    public = NumberKind.PUBLIC
    return Leg(name, role, "15500", public, uuid, gateway="pstn", rate="0.6 0.1 6 USD", **fields)


LEGS = (
    leg(Role.SOURCE, 1),
    leg(Role.SOURCE, 2),
    leg(Role.DESTINATION, 1),
    leg(Role.DESTINATION, 1, 2),
)
THIRD = leg(Role.THIRD, 1, action=Action.TRANSFER, action_id="x", counted=ALL.format(ASKER))
UUIDS = [each.uuid for each in (*LEGS, THIRD)]
TIMES = st.integers(0, 60).map(lambda seconds: BEGUN + seconds + 0.25)
REPORTS = st.builds(
    LegReport,
    uuid=st.sampled_from(UUIDS),
    created=st.none() | TIMES,
    answered=st.none() | TIMES,
    ended=st.none() | st.none() | TIMES,
)


def claimed(call: Call, at: float) -> Call:
    return transitions.claim(call, worker="w", switch="s", core_uuid="r", at=at)


def brought(call: Call, _: float) -> Call:
    live = call.state not in (State.QUEUED, State.ENDED)
    return evolve(call, legs=(*call.legs, THIRD)) if live and not call.thirds else call


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), REPORTS, TIMES),
        st.tuples(st.sampled_from(["claim", "third", "drop", "hang up", "lost"]), st.none(), TIMES),
    ),
    max_size=12,
)


def stepped(call: Call, what: str, report: LegReport | None, at: float) -> Call:
    if what == "claim":
        return claimed(call, at)
    if what == "third":
        return brought(call, at)
    if what == "drop":
        dropped = call.leg_named("a2")
        if dropped is None or dropped.hangup_requested is not None or call.state is State.ENDED:
            return call
        return call.with_leg(evolve(dropped, hangup_requested=at))
    if what == "hang up":
        return transitions.request_hangup(call, at=at)
    if what == "lost":
        return transitions.end(call, transitions.EVENTS_LOST, at=at)
    assert report is not None
    return call if call.state is State.QUEUED else transitions.report_leg(call, report)


@settings(max_examples=150)
@given(STEPS)
def test_the_counts_are_what_the_legs_say(redis_url: str, steps: list[Any]) -> None:
    redis, keys = Redis.from_url(redis_url), Keys()
    redis.flushdb()
    redis.hset(keys.limits, "mark", "x")
    store = CallStore(redis, keys)
    fields = {"counted": f"{ALL.format(CALLER)},waiting:{ASKER}", "id": ID, "version": 0}
    call = evolve(new_call(*LEGS), accepted=BEGUN, job_uuid=job_uuid(ID), stamp=None, **fields)
    (call,) = Acceptor(store).accept([call], JobQueue(redis, keys).place_call).calls
    for what, report, at in [("", None, BEGUN), *steps]:
        if what:
            call = store.change(
                call, lambda c, s=(what, report, at): stepped(c, *s), Note("event", what)
            )
        waits = redis.smembers(keys.taken(f"waiting:{ASKER}"))
        assert bool(waits) is (call.state is State.QUEUED)
        for holder, legs in ((CALLER, [*call.sources, *call.destinations]), (ASKER, call.thirds)):
            open_parties = {leg.party for leg in legs if leg.ended is None}
            firsts = {leg.uuid for leg in legs if leg.id == leg.party and leg.party in open_parties}
            found = {uuid.decode() for uuid in redis.smembers(keys.taken(f"legs:{holder}"))}
            if call.state is State.ENDED:
                assert found == set()
            elif not any(leg.hangup_requested for leg in legs):
                assert found == firsts
            talks = {
                leg.uuid.encode()
                for leg in legs
                if leg.answered is not None and leg.ended is None and call.state is not State.ENDED
            }
            assert set(redis.hkeys(keys.running(holder))) == talks
            total: Counter[str] = Counter()
            for day in (19_999, 20_000):
                amounts: Any = redis.hgetall(keys.quota(day, holder))
                total.update({name.decode(): int(of) for name, of in amounts.items()})
            used = [cost.used(call, leg) for leg in legs]
            assert total["seconds"] == sum(seconds for seconds, _ in used)
            assert total["cost"] == sum(money for _, money in used)
