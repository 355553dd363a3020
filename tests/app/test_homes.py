"""Calls go where the phone, the gateway and the room are."""

import json
import secrets
import time
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from marshmallow import ValidationError
from redis import Redis

from app.accounts.schemas import GatewaySchema
from app.accounts.store import AccountStore, read_accounts
from app.calls import homes, transitions
from app.calls.homes import Wish
from app.calls.model import Call, Leg, NumberKind, Role, State, evolve, job_uuid, leg_uuid
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.pace import Claims, Limit, Pacer, Turn
from app.store.queue import JobQueue
from app.store.registrations import Registration, Registrations
from app.store.writes import Note
from app.web.services import EXTENSION
from tests.app.conftest import Ask
from tests.conftest import eventually

ANYWHERE = Wish()


@pytest.mark.parametrize(
    ("dial_string", "phone"),
    [
        ("user/210@Example.com", "210@example.com"),
        ("sofia/internal/210%example.com", "210@example.com"),
        # These name a host, a gateway or no domain, so no registration of the switch counts.
        ("sofia/internal/210@10.0.0.5", None),
        ("sofia/gateway/registrar/210", None),
        ("user/210", None),
        (None, None),
    ],
)
def test_the_phone_of_a_dial_string(dial_string: str | None, phone: str | None) -> None:
    assert homes.phone_of(dial_string) == phone


@pytest.mark.parametrize(
    ("parties", "organization", "home"),
    [
        ([ANYWHERE, ANYWHERE], ANYWHERE, None),
        ([ANYWHERE, Wish(("s2",))], ANYWHERE, {"switch": "s2", "strict": True}),
        # Most parties count, then the first of them.
        ([Wish(("s1",)), Wish(("s2",)), Wish(("s2",))], ANYWHERE, {"switch": "s2", "strict": True}),
        ([Wish(("s1",)), Wish(("s2",))], ANYWHERE, {"switch": "s1", "strict": True}),
        # A phone at two switches goes where another one is.
        ([Wish(("s1", "s2")), Wish(("s2",))], ANYWHERE, {"switch": "s2", "strict": True}),
        # The organization's comes last.
        ([Wish(("s1",))], Wish(("s2",)), {"switch": "s1", "strict": True}),
        ([ANYWHERE], Wish(("s2",), elsewhere=True), {"switch": "s2", "strict": False}),
        (
            [Wish(tags=("eu",)), Wish(tags=("tls",), elsewhere=True)],
            Wish(tags=("eu",)),
            {"tags": ["eu", "tls"], "strict": True},
        ),
        ([Wish(tags=("eu",))], Wish(("s1",), elsewhere=True), {"switch": "s1", "strict": False}),
    ],
)
def test_the_home_of_a_call(
    parties: list[Wish], organization: Wish, home: dict[str, Any] | None
) -> None:
    found = homes.home(parties, organization, wait=5)
    assert (found and json.loads(found)) == (home and {**home, "wait": 5})


class World:
    """Calls that wait, and switches as their leaders tell of them."""

    def __init__(self, redis: Redis) -> None:
        self.redis, self.keys = redis, Keys()
        self.store = CallStore(redis, self.keys)
        self.claims = Claims(self.store, "w")
        self.pacer = Pacer(redis, self.keys)
        self.accepted = time.time() - 1.0
        for name, tag in (("s1", "eu"), ("s2", "us"), ("s3", "eu")):
            self.tell(name, tag)

    def tell(self, name: str, *tags: str, closed: str = "", until: float = 60.0) -> None:
        self.pacer.keep_switch_limit(name, Limit())
        word = {"until": time.time() + until, "weight": 100, "closed": closed, "tags": tags}
        self.redis.hset("ringback:steer", name, json.dumps({**word, "window": None, "room": None}))

    def call(self, *parties: Wish, organization: str = "3", **of: Any) -> Call:
        call_id, room = secrets.token_hex(10), of.get("conference")
        self.accepted += 0.001
        home = homes.home(parties, ANYWHERE, room=room, wait=of.pop("wait", 5))
        uuid = leg_uuid(call_id, Role.SOURCE, 1, 1)
        call = Call(
            id=call_id,
            kind="simple",
            app="app",
            user="12",
            organization=organization,
            organization_name="",
            extension="0003*210",
            accepted=round(self.accepted, 6),
            wait_for_pickup=25,
            call_duration=60,
            queue_timeout=60,
            job_uuid=job_uuid(call_id),
            legs=(Leg("a1", Role.SOURCE, "15500", NumberKind.PUBLIC, uuid, gateway="pstn"),),
            home=home,
            **of,
        )
        queue = JobQueue(self.redis, self.keys)
        return Acceptor(self.store).accept([call], queue.place_call).calls[0]

    def turn(self, *given: str) -> Turn:
        return self.claims.next(dict.fromkeys(given or ("s1", "s2", "s3"), "run"), 100)

    def where(self, *given: str) -> list[str | None]:
        """The switches of what is claimed now, in order."""
        return [call.switch for call in self.turn(*given).calls]

    def eventually_where(self, count: int, *given: str) -> list[str | None]:
        """The switches of so many claims, in their order."""
        found: list[str | None] = []

        def is_claimed() -> bool:
            found.extend(self.where(*given))
            return len(found) >= count

        eventually(is_claimed)
        return found

    def end(self, call: Call) -> None:
        self.store.change(
            call, lambda c: transitions.end(c, "events_lost", at=2.0), Note("event", "end")
        )


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


def test_calls_go_to_their_switch(world: World) -> None:
    for _ in range(20):
        world.call(Wish(("s2",)))
    assert world.where() == ["s2"] * 20
    assert world.redis.hlen("ringback:waiting") == 0


def test_calls_go_to_a_switch_with_all_tags(world: World) -> None:
    world.tell("s3", "eu", "tls")
    for _ in range(4):
        world.call(Wish(tags=("eu",)))
    world.call(Wish(tags=("eu", "tls")))
    *some, last = world.where()
    assert (set(some), last) == ({"s1", "s3"}, "s3")


def test_the_room_is_where_its_first_call_is(world: World) -> None:
    calls = [world.call(conference="0003*700") for _ in range(6)]
    at, *others = world.where()
    assert others == [at] * 5
    other = "s1" if at != "s1" else "s2"
    # A party's home does not move the room.
    calls.append(world.call(Wish((other,)), conference="0003*700"))
    assert world.where() == [at]
    for call in calls:
        world.end(call)
    # A room that is left is anywhere.
    assert world.redis.keys("ringback:conference:*") == []
    world.call(Wish((other,)), conference="0003*700")
    assert world.where() == [other]


def test_a_call_that_waits_for_its_home_holds_up_no_other(world: World) -> None:
    world.pacer.set_switch_limit("s2", Limit(most=1))
    talking = [world.call(Wish(("s2",))) for _ in range(3)]
    world.call()
    world.call(organization="4")
    first, *others = world.where()
    assert first == "s2" and set(others) <= {"s1", "s3"} and len(others) == 2
    world.end(talking[0])
    assert world.eventually_where(1) == ["s2"]


def test_a_call_whose_home_is_full_may_go_elsewhere(world: World) -> None:
    world.pacer.set_switch_limit("s2", Limit(most=1))
    for _ in range(2):
        world.call(Wish(("s2",), elsewhere=True))
    first, second = world.where()
    assert first == "s2" and second in ("s1", "s3")


def test_a_call_whose_home_is_down_goes_elsewhere_or_ends(world: World) -> None:
    world.tell("s2", "us", closed="shutdown")
    world.call(Wish(("s2",), elsewhere=True))
    lost = world.call(Wish(("s2",)), wait=0)
    kept = world.call(Wish(("s2",)), wait=60)
    turn = world.turn("s1", "s3")
    assert [call.switch in ("s1", "s3") for call in turn.calls] == [True]
    assert turn.late == (lost.id,)
    ended = transitions.end_queued(lost, at=5.0, fault=transitions.HOME_UNAVAILABLE)
    assert (ended.state, ended.ended_by, ended.disposition) == (
        State.ENDED,
        "home_unavailable",
        transitions.FAILED,
    )
    # It comes back.
    world.tell("s2", "us")
    assert world.eventually_where(1) == ["s2"]
    assert world.store.get(kept.id).switch == "s2"  # type: ignore[union-attr]


def test_a_home_that_another_worker_reaches_is_waited_for(world: World) -> None:
    waiting = world.call(Wish(("s2",)), wait=0)
    turn = world.turn("s1", "s3")
    assert (turn.calls, turn.late) == ((), ())
    assert turn.again is not None and turn.again <= 0.5
    [claimed] = world.eventually_where(1)
    assert claimed == "s2"
    world.end(world.store.get(waiting.id))  # type: ignore[arg-type]
    left = {key.decode() for key in world.redis.keys("ringback:*")}
    gone = ("held:", "lane", "looks", "out:", "ready", "claims", "waiting", "turns")
    assert not [key for key in left if key.removeprefix("ringback:").startswith(gone)]


def test_many_organizations_wait_for_one_home(world: World) -> None:
    """Each has its turn, and no look does more than its steps."""
    world.tell("s2", "us", closed="paused")
    for organization in range(40):
        world.call(Wish(("s2",)), wait=60, organization=str(organization))
    assert world.where("s1", "s3") == []
    world.tell("s2", "us")
    assert world.eventually_where(40) == ["s2"] * 40


def test_the_home_stays_with_the_call(world: World) -> None:
    call = world.call(Wish(("s2",)))
    kept = world.store.get(call.id)
    assert kept is not None and kept.home == call.home
    assert evolve(kept, home=None).home is None


# Acceptance


def test_accounts_have_homes(redis: Redis) -> None:
    accounts = read_accounts(None)
    (number, organization), *_ = accounts.organizations.items()
    homed = replace(organization, tags=("eu",), elsewhere=True)
    written = replace(accounts, organizations={number: homed})
    AccountStore(redis, Keys()).replace(written, demo=True)
    read = AccountStore(redis, Keys()).current()
    assert read.organizations[number].wish == Wish((), ("eu",), elsewhere=True)
    assert read.extensions == accounts.extensions


@pytest.mark.parametrize(
    "home", [{"switch": "s1", "tags": ["eu"]}, {"elsewhere": True}, {"switch": "s 1"}]
)
def test_a_home_that_is_none_is_refused(home: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GatewaySchema().load({"name": "pstn", **home})


def test_a_new_call_has_the_home_of_its_party(ask: Ask, client: FlaskClient, redis: Redis) -> None:
    accounts = read_accounts(None)
    phone = accounts.extensions["0003*210"]
    named = accounts.extensions["0003*211"]
    table = accounts.extensions | {
        phone.number: replace(phone, dial_string="user/210@example.com"),
        named.number: replace(named, switch="s1", elsewhere=True),
    }
    services = client.application.extensions[EXTENSION]
    services[AccountStore].replace(replace(accounts, extensions=table), demo=True)
    redis.hset("ringback:switches", mapping={"s1": "{}", "s2": "{}"})
    registrations = Registrations(redis, Keys())
    at = Registration("210@example.com", "one")
    registrations.write("s1", {at: time.time() - 1.0})
    registrations.write("s2", {at: time.time() + 60.0})

    def home(source: str, destination: str) -> Any:
        view = {"source": [source], "destination": [destination]}
        answer = ask("POST", "/uapi/phoneCalls/@me/simple", body_of(view))
        assert answer.status_code == 202, answer.json
        return json.loads(redis.hget(f"ringback:call:{{{answer.json[0]['id']}}}", "home") or "{}")

    assert home("0003*210", "15600") == {"switch": "s2", "strict": True, "wait": 5}
    assert home("15500", "0003*211") == {"switch": "s1", "strict": False, "wait": 5}
    # One each: the source comes first.
    assert home("0003*210", "0003*211")["switch"] == "s2"
    assert home("15500", "15600") == {}
    # The phone has left.
    registrations.write("s2", {}, [at])
    assert home("0003*210", "15600") == {}
    registrations.expire("s1", time.time())
    assert redis.keys("ringback:regist*") == []


def body_of(view: dict[str, Any]) -> dict[str, Any]:
    return {"extension": "210", "phoneCallView": [view]}
