"""Who is dialled next, and who waits."""

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from app.calls import transitions
from app.calls.model import Call, Leg, NumberKind, Role, State, job_uuid, leg_uuid
from app.calls.transitions import LegReport
from app.store import scripts
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.pace import Asking, Claims, Limit, Pacer, Turn
from app.store.queue import JobQueue
from app.store.steering import Steer, SteerStore
from app.store.writes import Note


class Line:
    """The calls of a test, in line."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.keys = Keys()
        self.store = CallStore(redis, self.keys)
        self.pacer = Pacer(redis, self.keys)
        self.claims = Claims(self.store, "w")
        self.accepted = time.time() - 1.0
        self.lead("s")

    def call(self, organization: str = "3", user: str = "12", gateways: str = "pstn pstn") -> Call:
        call_id = secrets.token_hex(10)
        source, *destinations = gateways.split()
        self.accepted += 0.001
        call = Call(
            id=call_id,
            kind="simple",
            app="app",
            user=user,
            organization=organization,
            organization_name="",
            extension="0003*210",
            accepted=round(self.accepted, 6),
            wait_for_pickup=25,
            call_duration=60,
            queue_timeout=60,
            job_uuid=job_uuid(call_id),
            legs=(
                leg(call_id, Role.SOURCE, 1, source),
                *(leg(call_id, Role.DESTINATION, n, g) for n, g in enumerate(destinations, 1)),
            ),
        )
        return (
            Acceptor(self.store).accept([call], JobQueue(self.redis, self.keys).place_call).calls[0]
        )

    def calls(self, count: int, **of: str) -> list[Call]:
        return [self.call(**of) for _ in range(count)]

    def lead(self, name: str, **of: Any) -> None:
        """The leader of a switch says this of it for the next hour."""
        of.setdefault("until", time.time() + 3600)
        SteerStore(self.redis, self.keys).tell(name, Steer(**of))

    def turn(self, switches: Sequence[str] = ("s",), most: int = 100) -> Turn:
        """What may be dialled, claimed: each switch has its name for its run, and a leader."""
        for name in switches:
            self.pacer.keep_switch_limit(name, Limit())
            if not self.redis.hexists(self.keys.steer, name):
                self.lead(name)
        return self.claims.next({name: name for name in switches}, most)

    def next(self, most: int = 100, switches: Sequence[str] = ("s",)) -> list[str]:
        return ids(*self.turn(switches, most).calls)

    def job(self, call_id: str) -> Job:
        return Job.fetch(call_id, connection=self.redis, serializer=JSONSerializer)

    def cancelled(self, call: Call) -> None:
        self.store.change(
            call, lambda c: transitions.request_hangup(c, at=3.0), Note("request", "hang up")
        )

    def ended(self, call: Call) -> None:
        """The call is over."""
        self.store.change(
            call, lambda c: transitions.end(c, "events_lost", at=2.0), Note("event", "end")
        )


def leg(call_id: str, role: Role, party: int, gateway: str) -> Leg:
    letter = "a" if role is Role.SOURCE else "b"
    uuid = leg_uuid(call_id, role, party, 1)
    number = f"15{letter}00{party}".replace("a", "5").replace("b", "6")
    return Leg(f"{letter}{party}", role, number, NumberKind.PUBLIC, uuid, gateway=gateway)


def ids(*calls: Call) -> list[str]:
    return [call.id for call in calls]


@pytest.fixture
def line(redis: Redis) -> Line:
    return Line(redis)


def test_without_limits_all_go_at_once_in_order(line: Line) -> None:
    calls = line.calls(5)
    turn = line.turn()
    assert ids(*turn.calls) == ids(*calls)
    assert turn.again is None
    assert line.next() == []


def test_what_exceeds_the_rate_waits(line: Line) -> None:
    # So few that a test does not outlast one of them.
    line.pacer.set_switch_limit("s", Limit(legs_per_second=0.02))
    calls = line.calls(3)
    turn = line.turn()
    assert ids(*turn.calls) == ids(calls[0])
    assert turn.again is not None and 0 < turn.again <= 0.1
    assert set(line.redis.hkeys(line.keys.waiting)) == {i.encode() for i in ids(*calls[1:])}
    assert line.next() == []
    line.pacer.set_switch_limit("s", Limit())
    assert line.next() == ids(*calls[1:])


def test_a_clock_that_is_stepped_back_holds_nothing_up(line: Line) -> None:
    line.pacer.set_switch_limit("s", Limit(legs_per_second=50))
    line.redis.hset(line.keys.pace, "switch:s", f"{(time.time() + 3600) * 1e6:.0f}")
    (call,) = line.calls(1)
    assert line.next() == ids(call)


@pytest.mark.parametrize("name", ["gateway:pstn", "organization:3"])
def test_others_do_not_wait_for_a_rate_that_is_not_theirs(line: Line, name: str) -> None:
    line.pacer.set_limits({name: Limit(legs_per_second=0.02)})
    first, second = line.calls(2)
    other = line.call(organization="4", gateways="other other")
    assert line.next() == ids(first, other)
    line.pacer.set_limits({})
    assert line.next() == ids(second)


def test_organizations_take_turns(line: Line) -> None:
    many, few = line.calls(6), line.calls(2, organization="4")
    order = line.next(most=4)
    assert sorted(order) == sorted(ids(*many[:2], *few))
    assert line.next() == ids(*many[2:])


def test_who_comes_late_is_given_no_more_than_the_others(line: Line) -> None:
    line.calls(20)
    line.next(most=10)
    late = line.calls(4, organization="4")
    assert len({*line.next(most=4)} & {*ids(*late)}) in (2, 3)


@pytest.mark.parametrize(
    ("kind", "name", "most"),
    [("organization", "3", 2), ("user", "12", 2), ("gateway", "pstn", 4), ("switch", "s", 4)],
)
def test_what_is_live_at_a_time(line: Line, kind: str, name: str, most: int) -> None:
    if kind == "switch":
        line.pacer.set_switch_limit(name, Limit(most=most))
    else:
        line.pacer.set_limits({f"{kind}:{name}": Limit(most=most)})
    calls = line.calls(4)
    assert line.next() == ids(*calls[:2])
    assert line.next() == []
    line.ended(calls[0])
    assert line.next() == ids(calls[2])


def test_a_call_larger_than_a_limit_goes_alone(line: Line) -> None:
    line.pacer.set_limits({"gateway:pstn": Limit(most=2)})
    call = line.call(gateways="pstn pstn pstn pstn")
    assert line.next() == ids(call)


def test_a_user_at_the_limit_is_passed_by_others(line: Line) -> None:
    line.pacer.set_limits({"user:12": Limit(most=1)})
    calls = [*line.calls(3), line.call(user="13")]
    assert line.next() == ids(calls[0], calls[3])


def test_without_limits_nothing_is_claimed(line: Line) -> None:
    call = line.call()
    line.redis.hdel(line.keys.limits, "mark")
    turn = line.turn()
    assert turn.calls == () and turn.again == 0.1
    assert line.pacer.set_limits({}, only_missing=True)
    assert not line.pacer.set_limits({"user:12": Limit(most=1)}, only_missing=True)
    line.redis.hdel(line.keys.limits, "switch:s")
    assert line.claims.next({"s": "s"}, 1).calls == (), "a switch without a limit gets no call"
    assert line.next() == ids(call)


def test_while_workers_are_suspended_nothing_is_claimed(line: Line) -> None:
    call = line.call()
    suspend(line.redis)
    assert line.next() == []
    resume(line.redis)
    assert line.next() == ids(call)


def test_a_rate_is_a_rate_however_small(line: Line) -> None:
    line.pacer.set_limits({"organization:3": Limit(legs_per_second=1e-9)})
    calls = line.calls(2)
    assert line.next() == ids(calls[0])
    assert line.next() == []


def test_a_call_that_loses_a_party_keeps_its_place(line: Line) -> None:
    line.pacer.set_limits({"organization:3": Limit(most=1)})
    blocker = line.call()
    assert line.next() == ids(blocker)
    first, second = line.call(gateways="pstn pstn other"), line.call()
    line.store.change(
        first,
        lambda c: transitions.hang_up_number(c, c.legs[-1].number, at=3.0),
        Note("request", "hang up"),
    )
    line.ended(blocker)
    assert line.next() == ids(first)
    assert line.redis.scard(line.keys.taken("gateway:pstn")) == 2
    assert line.redis.exists(line.keys.taken("gateway:other")) == 0
    line.ended(line.store.get(first.id))  # type: ignore[arg-type]
    assert line.next() == ids(second)


def test_a_cancelled_call_leaves_the_line(line: Line) -> None:
    first, second, third = line.calls(3)
    line.cancelled(first)
    line.cancelled(third)
    assert line.next() == ids(second)
    leftover = [*line.redis.keys("ringback:waiting*"), *line.redis.keys("ringback:turns")]
    assert leftover == []


def test_nothing_is_left_of_an_ended_call(line: Line) -> None:
    call = line.call()
    line.next()
    assert line.redis.keys("ringback:live:*")
    line.ended(call)
    assert line.redis.keys("ringback:live:*") == []


def test_the_switch_with_the_most_room(line: Line) -> None:
    line.pacer.set_switch_limit("small", Limit(most=4))
    line.pacer.set_switch_limit("large", Limit(most=400))
    chosen = []
    for _ in range(3):
        line.call()
        (claimed,) = line.turn(["small", "large"]).calls
        chosen.append(claimed.switch)
    # Each gets the call that leaves it the most of its own.
    assert chosen == ["large", "large", "large"]
    line.pacer.set_switch_limit("large", Limit(most=8))
    line.call()
    (claimed,) = line.turn(["small", "large"]).calls
    assert claimed.switch == "small"


def test_shares_follow_the_weights(line: Line) -> None:
    line.lead("light", weight=100)
    line.lead("heavy", weight=300)
    line.calls(40)
    chosen = [call.switch for call in line.turn(["light", "heavy"]).calls]
    assert chosen.count("light") == 10
    # They take turns: neither gets its share at once.
    assert {"light", "heavy"} == set(chosen[:4])


def test_a_switch_that_nobody_leads_gets_no_call(line: Line) -> None:
    line.lead("s", until=time.time() - 1)
    (call,) = line.calls(1)
    turn = line.turn(["s"])
    assert turn.calls == () and turn.again is not None and turn.again <= 0.1
    line.lead("s", closed="paused by fsctl")
    assert line.next() == []
    line.redis.hset(line.keys.steer, "s", "not JSON")
    assert line.next() == []
    line.lead("s")
    assert line.next() == ids(call)


def test_a_leader_of_the_version_before_says_nothing(line: Line) -> None:
    line.pacer.set_switch_limit("s", Limit())
    calls = line.calls(2)
    # The lease lasts for longer than the word of a leader of this version.
    line.lead("s", until=time.time() - 5)
    line.redis.set(line.keys.switch_lease("s"), "old", ex=100)
    assert line.next() == []
    line.lead("s", until=time.time() - 11)
    assert line.next(1) == ids(calls[0])
    line.redis.hdel(line.keys.steer, "s")
    claimed = line.claims.next({"s": "s"}, 1).calls
    assert ids(*claimed) == ids(calls[1])


def test_sessions_of_other_programs_leave_less_room(line: Line) -> None:
    line.lead("s", room=5)
    line.lead("t", room=0)
    calls = line.calls(4)
    assert line.next(switches=["s", "t"]) == ids(*calls[:2])
    line.lead("t", room=1)
    # A call that is larger than the room gets all of it.
    assert line.next(switches=["s", "t"]) == ids(calls[2])


def test_no_more_calls_are_set_up_than_the_window_holds(line: Line) -> None:
    line.lead("s", window=2)
    calls = line.calls(5)
    turn = line.turn()
    assert ids(*turn.calls) == ids(*calls[:2])
    assert turn.again is not None and 0 < turn.again <= 0.05
    setup = line.keys.setup("s")
    line.redis.zrem(setup, calls[0].id)
    assert line.next() == ids(calls[2])
    # One whose leader never took it out holds a place for so long and no longer.
    line.redis.zadd(setup, {calls[1].id: (time.time() - 31) * 1e6})
    assert line.next() == ids(calls[3])
    line.lead("s")
    assert line.next() == ids(calls[4])
    assert line.redis.zscore(setup, calls[4].id) is None


def eject(line: Line, field: str, until: float, *, probing: bool = False) -> None:
    entry = {"until": until, "since": 0, "why": "refused", "times": 1, "probing": probing}
    line.redis.hset(line.keys.ejected, field, json.dumps(entry))


def chosen(line: Line, switches: Sequence[str] = ("s", "t"), **of: str) -> list[str | None]:
    line.call(**of)
    return [call.switch for call in line.turn(switches).calls]


def test_what_is_ejected_is_passed_over_where_there_is_another(line: Line) -> None:
    later = time.time() + 60
    eject(line, "s", later)
    assert [chosen(line) for _ in range(2)] == [["t"]] * 2
    assert chosen(line, ["s"]) == ["s"]
    line.redis.delete(line.keys.ejected)
    eject(line, "t pstn", later)
    assert [chosen(line) for _ in range(3)] == [["s"]] * 3
    assert chosen(line, gateways="other other") == ["t"], "only what needs the gateway"
    eject(line, "nonsense", later)
    line.redis.hset(line.keys.ejected, "s", "no JSON")
    assert chosen(line) == ["s"]


@pytest.mark.parametrize(("until", "probing"), [(0.0, False), (60.0, True)])
def test_what_is_tried_again_gets_one_call_at_a_time(
    line: Line, until: float, probing: bool
) -> None:
    eject(line, "s", time.time() + until, probing=probing)
    found = [chosen(line)[0] for _ in range(4)]
    assert sorted(filter(None, found)) == ["s", "t", "t", "t"]


def test_a_refused_call_goes_to_another_switch_once(line: Line) -> None:
    line.call()
    (call,) = line.turn(["s"]).calls
    held = {"live:switch:s": 2, "live:switch:t": 0, "calls:switch:s": 1}

    def refuse(call: Call) -> Call:
        change = transitions.refuse(
            call, error="GATEWAY_DOWN", job_uuid=call.job_uuid, at=5.0, again=True
        )
        return line.store.change(call, lambda _: change, Note("reply", "originate"))

    def counted() -> dict[str, int]:
        redis: Any = line.redis
        card = {"live": redis.scard, "call": redis.zcard}
        return {name: card[name[:4]](f"ringback:{name}") for name in held}

    assert counted() == held
    call = line.store.change(
        call,
        lambda c: transitions.mark_sent(c, at=4.0, job_uuid=c.job_uuid),
        Note("command", "originate"),
    )
    waits = refuse(call)
    assert counted() == dict.fromkeys(held, 0), "it gives back what it took"
    assert (waits.waits, waits.state, waits.switch) == (True, State.DIALING, "s")
    assert line.store.get(waits.id) == waits
    assert not {leg.uuid for leg in waits.legs} & {leg.uuid for leg in call.legs}
    (again,) = line.turn(["s", "t"]).calls
    assert (again.id, again.switch, again.waits, again.sent) == (call.id, "t", False, None)
    assert counted() == {"live:switch:s": 0, "live:switch:t": 2, "calls:switch:s": 0}
    # What is still said of the first originate changes nothing.
    for late in (
        transitions.mark_sent(again, at=6.0, job_uuid=call.job_uuid),
        transitions.refuse(again, error="X", job_uuid=call.job_uuid, at=6.0, again=True),
    ):
        assert late is again
    ended = refuse(again)
    assert (ended.state, ended.ended_by, ended.hangup_cause) == (
        State.ENDED,
        "switch",
        "GATEWAY_DOWN",
    )


def test_a_refused_call_ends_where_no_other_switch_has_room(line: Line) -> None:
    call, other = line.calls(2)
    line.pacer.set_switch_limit("t", Limit(most=2))
    (first,) = line.turn(["t"]).calls
    (second,) = line.turn(["s"]).calls
    assert (first.id, second.id) == (call.id, other.id)
    refused = transitions.refuse(
        second, error="GATEWAY_DOWN", job_uuid=second.job_uuid, at=5.0, again=True
    )
    line.store.change(second, lambda _: refused, Note("reply", "originate"))
    behind = line.call()
    turn = line.turn(["s", "t"])
    assert turn.late == (other.id,)
    assert ids(*turn.calls) == [behind.id], "it holds up nobody"
    over = transitions.end_queued(refused, at=6.0)
    assert (over.ended_by, over.hangup_cause) == ("switch", "GATEWAY_DOWN")


def test_where_a_call_stands(line: Line) -> None:
    line.next()
    own, other = line.calls(5), line.calls(2, organization="4")
    places = line.pacer.places([own[0], own[4], other[1], replace(own[0], id="0" * 20)])
    assert {i: place.ahead for i, place in places.items()} == {
        own[0].id: 1,
        own[4].id: 6,
        other[1].id: 3,
    }
    assert all(place.seconds >= 0 for place in places.values())


def test_a_claim_is_written_as_the_store_writes_it(line: Line) -> None:
    """pace.lua claims; what a claim is, and what the store keeps with it, is said in Python."""
    accepted = line.accepted

    def kept(call: Call) -> str:
        """All that Redis holds of the one call, without what tells it from another."""
        redis: Any = line.redis
        found: dict[str, Any] = {}
        of_pacing = "ringback:turn", "ringback:pace", "ringback:waiting", "ringback:limits"
        of_pacing += ("ringback:steer",)
        for name in sorted(map(bytes.decode, redis.scan_iter("ringback:*"))):
            if name.startswith(of_pacing):
                continue
            match redis.type(name):
                case b"hash":
                    found[name] = sorted(redis.hgetall(name).items())
                case b"zset":
                    found[name] = redis.zrange(name, 0, -1, withscores=True)
                case b"set":
                    found[name] = sorted(redis.smembers(name))
                case b"stream":
                    found[name] = [entry for _, entry in redis.xrange(name)]
                    for entry in found[name]:
                        del entry[b"at"]
                        if entry.get(b"version") == b"2":
                            entry[b"changed"] = sorted(json.loads(entry[b"changed"]).items())
                        else:
                            entry.pop(b"changed", None)
        text = repr(found)
        for leg in call.legs:
            text = text.replace(leg.uuid, leg.id)
        for word in (call.job_uuid, call.id, call.stamp or ""):
            text = text.replace(word, "")
        redis.flushall()
        redis.hset(line.keys.limits, "mark", "test")
        line.accepted = accepted
        return text

    claim = {"worker": "w", "switch": "s", "core_uuid": "s"}
    line.call(gateways="pstn other")
    (claimed,) = line.turn().calls
    assert claimed == line.store.get(claimed.id)
    assert claimed.claimed is not None
    by_script = kept(claimed)
    written = line.store.change(
        line.call(gateways="pstn other"),
        lambda c: transitions.claim(c, **claim, at=claimed.claimed),
        Note("command", "claim", data="w on s"),
    )
    assert by_script == kept(written)


def test_what_was_claimed_is_told_again_where_the_answer_was_lost(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Asking("token")
    calls = line.calls(3)
    line.pacer.set_switch_limit("s", Limit())
    line.redis.eval(scripts.PACE.text, *line.claims.words(lost, {"s": "s"}, 1))
    line.claims.lost(lost)
    turn = line.turn()
    assert ids(*turn.calls) == ids(calls[0]) and turn.asked == lost.at
    assert turn.again == 0.0
    assert line.next() == ids(*calls[1:])

    def fails(*_: object) -> None:
        raise RedisConnectionError

    with monkeypatch.context() as patch, pytest.raises(RedisConnectionError):
        patch.setattr(line.claims, "turn", fails)
        line.next()
    fourth = line.call()
    assert line.next() == [], "the answer was that nothing is claimed"
    assert line.next() == ids(fourth)


def test_who_stood_still_claims_nothing(line: Line) -> None:
    asking = Asking("token")
    asking.at -= 10.0
    line.claims.lost(asking)
    call = line.call()
    turn = line.turn()
    assert (turn.calls, turn.again) == ((), 0.1)
    assert line.next() == ids(call)


def test_who_has_waited_too_long_is_not_dialled(line: Line) -> None:
    line.accepted -= 40.0
    call = line.call()
    line.accepted -= 40.0
    late = line.call()
    turn = line.turn()
    assert (ids(*turn.calls), turn.late) == (ids(call), (late.id,))
    assert line.redis.keys("ringback:waiting*") == []
    found = line.store.get(late.id)
    assert found is not None and found.state is State.QUEUED


def test_who_was_held_back_is_not_given_what_others_got_meanwhile(line: Line) -> None:
    line.pacer.set_limits({"organization:held": Limit(most=1)})
    held = line.calls(2, organization="held")
    assert line.next() == ids(held[0])
    line.calls(100, organization="busy")
    while line.next():
        pass
    line.pacer.set_limits({})
    assert line.next() == ids(held[1])
    line.calls(10, organization="late")
    busy = line.calls(10, organization="busy")
    assert len({*line.next(most=10)} & {*ids(*busy)}) >= 4


def test_a_large_call_is_not_passed_for_ever_by_small_ones(line: Line) -> None:
    line.pacer.set_switch_limit("s", Limit(most=6))
    small = line.calls(3)
    line.next()
    large = line.call(gateways="pstn pstn pstn pstn")
    line.calls(2)
    assert line.next() == []
    line.ended(small[0])
    assert line.next() == []
    line.ended(small[1])
    assert line.next() == ids(large)


def test_what_a_cancelled_large_call_waited_for_others_get(line: Line) -> None:
    line.pacer.set_limits({"gateway:pstn": Limit(most=3)})
    for _ in range(2):
        line.call(gateways="pstn")
    line.next()
    large, small = line.call(gateways="pstn pstn"), line.call(gateways="pstn")
    assert line.next() == []
    line.cancelled(large)
    assert line.next() == ids(small)


def test_room_that_a_call_cannot_use_another_gets(line: Line) -> None:
    line.pacer.set_limits({"gateway:g": Limit(most=1), "gateway:h": Limit(most=1)})
    first = line.call(gateways="g")
    line.call(gateways="h")
    line.next()
    line.call(gateways="g h")
    other = line.call(organization="4", gateways="g")
    assert line.next() == []
    line.ended(first)
    assert line.next() == ids(other)


def test_room_that_a_cancelled_call_was_to_have_another_gets(line: Line) -> None:
    line.pacer.set_limits({"gateway:g": Limit(most=1)})
    first = line.call(gateways="g")
    line.next()
    second, third = line.call(gateways="g"), line.call(organization="4", gateways="g")
    assert line.next() == []
    line.ended(first)
    line.pacer.set_switch_limit("full", Limit(most=1))
    line.redis.sadd(line.keys.taken("switch:full"), "a leg")
    assert line.next(switches=["full"]) == []
    line.cancelled(second)
    assert line.next() == ids(third)


def test_an_organization_at_its_limit_takes_no_room_from_others(line: Line) -> None:
    line.pacer.set_limits({"organization:3": Limit(most=1), "gateway:g": Limit(most=1)})
    first, blocker = line.call(gateways="h"), line.call(organization="5", gateways="g")
    assert line.next() == ids(first, blocker)
    # Held at the gateway, then with all that the organization has.
    waits = line.call(gateways="g")
    other = line.call(organization="4", gateways="g")
    assert line.next() == []
    line.ended(blocker)
    assert line.next() == ids(other)
    line.ended(first)
    assert line.next() == []
    line.ended(other)
    assert line.next() == ids(waits)


def test_users_far_behind_one_at_his_limit_are_found(line: Line) -> None:
    line.pacer.set_limits({"user:12": Limit(most=1)})
    calls, other = line.calls(80), line.call(user="13")
    assert line.next() == ids(calls[0], other)


def test_a_call_that_cannot_be_read_takes_no_other_with_it(line: Line) -> None:
    good, bad = line.call(), line.call()
    line.redis.hset(line.keys.call(bad.id), "accepted", "soon")
    line.redis.hset(line.keys.call(bad.id), "leg:a1:created", "never")
    line.redis.hset(line.keys.call(bad.id), "accepted", "1.0")
    assert line.next() == ids(good)


@pytest.mark.parametrize("what", ["timeline", "call", "claim", "commands"])
def test_what_is_wrong_with_one_call_costs_no_other_anything(
    line: Line, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, bad, last = line.call(organization="4"), line.call(), line.call()
    key = line.keys.call(bad.id)
    match what:
        case "claim":
            line.redis.hdel(line.keys.claims, bad.id)
        case "commands":
            claim: Any = line.redis.hget(line.keys.claims, bad.id)
            line.redis.hset(line.keys.claims, bad.id, claim.replace(b"ZADD", b"ZOO"))
        case "timeline":
            line.redis.set(line.keys.timeline(bad.id), "no stream")
        case "call":
            line.redis.set(key, "no hash")
    found = line.next()
    assert sorted(found) == sorted(ids(first, last))
    assert [record.call for record in caplog.records] == [bad.id]  # type: ignore[attr-defined]
    assert line.next() == []
    state: Any = line.redis.hget(key, "state") if what != "call" else b"queued"
    assert state == b"queued"


def test_another_attempt_counts_for_its_own_gateway(line: Line) -> None:
    call = line.call()
    line.next()
    line.ended(call)
    call_id = call.id
    second = replace(
        leg(call_id, Role.SOURCE, 1, "spare"),
        id="a1.2",
        uuid=leg_uuid(call_id, Role.SOURCE, 1, 2),
    )
    call = replace(call, id=secrets.token_hex(10), legs=(call.legs[0], second, call.legs[1]))
    call = Acceptor(line.store).accept([call], JobQueue(line.redis, line.keys).place_call).calls[0]

    def live() -> dict[str, int]:
        keys = line.redis.keys("ringback:live:*")
        return {key.decode().partition("live:")[2]: line.redis.scard(key) for key in keys}

    def change(change: Callable[[Call], Call]) -> None:
        nonlocal call
        call = line.store.change(call, change, Note("event", "test"))

    (call,) = line.turn().calls
    assert live() == {"organization:3": 1, "user:12": 1, "switch:s": 2, "gateway:pstn": 2}
    first = call.legs[0].uuid
    change(lambda c: transitions.report_leg(c, LegReport(first, created=2.0)))
    change(lambda c: transitions.report_leg(c, LegReport(first, ended=3.0, cause="NO_ROUTE")))
    change(lambda c: transitions.report_leg(c, LegReport(second.uuid, created=3.0)))
    assert live() == {
        **{"organization:3": 1, "user:12": 1, "switch:s": 2},
        **{"gateway:pstn": 1, "gateway:spare": 1},
    }
    change(lambda c: transitions.end(c, "events_lost", at=9.0))
    assert live() == {}
