"""Who may see, act on and supervise a call: the rules as pure functions of the call."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts import rights
from app.accounts.caller import Caller, Scope
from app.accounts.model import (
    Accounts,
    App,
    Extension,
    ExtensionType,
    Level,
    Organization,
    Suspension,
    User,
)
from app.accounts.scopes import AppScope
from app.calls import sight, transitions
from app.calls.model import Call, Leg, NumberKind, State
from app.calls.transitions import LegReport
from app.store import writes
from app.store.keys import Keys
from tests.app.calls.make import dialled, make_leg

KEYS = Keys("")
# Extensions by their owners: ada pays for the calls.
OWNERS = {"0003*210": "ada", "0003*211": "bob", "0003*220": "carla", "0004*210": "dora"}
ADA, BOB, CARLA, DORA = (App(name, Level.USER, user=name) for name in OWNERS.values())
OWN = App("own", Level.ORGANIZATION, organization="0003")
OTHER = App("other", Level.ORGANIZATION, organization="0004")
ADMIN = App("admin", Level.ADMINISTRATOR)


def accounts(**supervise: tuple[str, ...]) -> Accounts:
    return Accounts.of(
        [Organization(n[-1], n, n) for n in ("0003", "0004")],
        [
            User(name, number.partition("*")[0], supervise=supervise.get(name, ()))
            for number, name in OWNERS.items()
        ],
        [Extension(n, ExtensionType.PHONE_TERMINAL, name, "user/1") for n, name in OWNERS.items()],
        [ADA, BOB, CARLA, DORA, OWN, OTHER, ADMIN],
        [],
    )


def phone(leg_id: str, number: str, **fields: Any) -> Leg:
    kind = NumberKind.EXTENSION if "*" in number else NumberKind.PUBLIC
    return make_leg(leg_id, number=number, kind=kind, owner=OWNERS.get(number), **fields)


def call(*legs: Leg, **fields: Any) -> Call:
    return dialled(*legs, user="ada", **fields)


def may_act(app: App, known: Accounts, at: Call, leg: Leg) -> bool:
    return Caller(app, known).acts(at, leg)


RINGS: dict[str, Any] = {"created": 1003.0, "ringing": 1003.1}
TALKS: dict[str, Any] = {**RINGS, "answered": 1004.0}
LOST: dict[str, Any] = {**RINGS, "ended": 1004.1, "cause": "LOSE_RACE"}


@pytest.mark.parametrize(
    ("fields", "sees", "acts"),
    [
        ({}, False, False),
        ({"created": 1003.0}, True, True),
        (RINGS, True, True),
        (TALKS, True, True),
        (LOST, False, False),
        ({**TALKS, "ended": 1004.1, "cause": "LOSE_RACE"}, False, False),
        ({**TALKS, "ended": 1009.0, "cause": "NORMAL_CLEARING"}, False, False),
    ],
)
def test_another_sees_and_acts_while_the_own_leg_rings_or_talks(
    fields: dict[str, Any], sees: bool, acts: bool
) -> None:
    leg = phone("a1", "0003*211", **fields)
    other = phone("b1", "15600", created=1003.0)
    at, known = call(leg, other, state=State.RINGING), accounts()
    assert rights.sees(BOB, known, at) is sees
    assert may_act(BOB, known, at, leg) is acts
    assert not may_act(BOB, known, at, other)
    assert not rights.supervises(BOB, known, at)
    assert not rights.sees(CARLA, known, at) and not rights.sees(OTHER, known, at)
    for app in (ADA, OWN, ADMIN):
        assert rights.sees(app, known, at) and rights.supervises(app, known, at)
        assert may_act(app, known, at, other)


def test_another_organization_sees_while_its_extension_rings() -> None:
    known = accounts()
    for fields, sees in (({}, False), (RINGS, True), (LOST, False)):
        at = call(phone("a1", "15600", created=1003.0), phone("b1", "0004*210", **fields))
        for app in (OTHER, DORA):
            assert rights.sees(app, known, at) is sees
            assert not rights.supervises(app, known, at)


def test_a_phone_that_lost_the_race_is_out_before_its_end_is_heard() -> None:
    winner, loser = phone("a1", "15600", **TALKS), phone("a2", "0003*211", **RINGS)
    at = call(winner, loser, phone("b1", "15601"), state=State.ANSWERED)
    assert not rights.sees(BOB, accounts(), at)
    assert not may_act(BOB, accounts(), at, loser)
    # In a conference all that answer stay.
    assert rights.sees(BOB, accounts(), replace(at, conference="room"))


def test_an_ended_call_shows_to_the_parties_that_were_in_it_to_the_end() -> None:
    legs = (
        phone("a1", "0003*211", **TALKS, ended=1060.0, cause="NORMAL_CLEARING"),
        phone("b1", "0003*220", **TALKS, ended=1030.0, cause="NORMAL_CLEARING"),
        phone("b2", "0004*210", **LOST),
    )
    at = call(*legs, state=State.ENDED, ended=1060.01)
    seen = [rights.sees(app, accounts(), at) for app in (ADA, BOB, CARLA, DORA)]
    assert seen == [True, True, False, False]
    assert not may_act(BOB, accounts(), at, legs[0])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("0003*2*", True),
        ("0003*210", True),
        ("0003*21*", True),
        ("0003*", True),
        ("0003**", True),
        ("0003*21", False),
        ("0003*22*", False),
        ("0004*2*", False),
        ("000*", False),
        ("0003*2100", False),
    ],
)
def test_what_a_pattern_names(pattern: str, names: bool) -> None:
    assert rights.matches(pattern, "0003*210") is names
    assert not rights.matches(pattern, "00031*210")


def test_supervise_counts_by_the_charged_extension() -> None:
    at = call(phone("a1", "15600"), phone("b1", "0003*220", **RINGS))
    of_user = accounts(bob=("0003*21*",))
    assert rights.supervises(BOB, of_user, at)
    assert not rights.supervises(BOB, accounts(bob=("0003*22*",)), at)
    assert rights.supervises(replace(BOB, supervise=("0003*210",)), accounts(), at)
    assert not rights.supervises(CARLA, of_user, at)


def test_without_the_scope_to_supervise_an_app_acts_on_its_own_legs_alone() -> None:
    own, other = phone("a1", "0003*210", **TALKS), phone("b1", "0003*220", **TALKS)
    at, known = call(own, other, state=State.BRIDGED), accounts()
    for app, may in ((ADA, [True, False]), (OWN, [True, True]), (ADMIN, [False, False])):
        caller = Caller(replace(app, scopes=(AppScope.CALLS_READ, AppScope.CALLS_ACT)), known)
        assert [caller.acts(at, leg) for leg in at.legs] == may
        assert caller.sees(at) and not caller.supervises(at)
        assert caller.lacks_right(at, "").code == "scope_insufficient"


def test_accounts_that_lose_the_user_lose_nothing_for_the_others() -> None:
    at = call(phone("a1", "0003*210", **TALKS), phone("b1", "0003*211", **TALKS))
    left = replace(accounts(), users={}, extensions={})
    for app in (OWN, ADMIN):
        assert rights.supervises(app, left, at) and rights.sees(app, left, at)
    assert rights.sees(ADMIN, Accounts(), at)


def moved(known: Accounts, which: str) -> Accounts:
    """The accounts after something of them changed while ada talks."""
    ada = known.users["ada"]
    without = {n: e for n, e in known.extensions.items() if n != "0003*210"}
    organization = {n: o for n, o in known.organizations.items() if n != "0003"}
    others = {name: user for name, user in known.users.items() if user.organization == "0004"}
    to_bob = replace(known.extensions["0003*210"], owner="bob")
    suspended = Suspension("operator", 1005.0)
    return {
        "user": replace(
            known,
            users={name: user for name, user in known.users.items() if name != "ada"},
            extensions=without,
        ),
        "extension": replace(known, extensions=without),
        "extension to another user": replace(known, extensions={**without, "0003*210": to_bob}),
        "user to another organization": replace(
            known,
            users={**known.users, "ada": replace(ada, organization="0004")},
            extensions={**without, "0004*211": replace(to_bob, number="0004*211", owner="ada")},
        ),
        "organization": replace(
            known,
            organizations=organization,
            users=others,
            extensions={n: e for n, e in without.items() if e.owner in others},
        ),
        "suspended": replace(known, suspended={"organization:0003": suspended}),
    }[which]


@pytest.mark.parametrize(
    "which",
    [
        *("user", "extension", "extension to another user", "user to another organization"),
        *("organization", "suspended"),
    ],
)
def test_what_leaves_or_moves_leaves_the_call_to_its_organization_alone(which: str) -> None:
    at = call(phone("a1", "0003*210", **TALKS), phone("b1", "15600", **TALKS))
    left = moved(accounts(), which)
    held = {key for name, key, *_ in writes.commands(KEYS, None, at, [], 1010.0) if name == "ZADD"}
    # An organization that has left has no app; the administrator has the call alone.
    for app in [ADMIN] if which == "organization" else [OWN, ADMIN]:
        scope = Scope(Caller(app, left))
        assert scope.includes(at) and scope.caller.supervises(at)
        assert held & set(scope.indexes(KEYS)) and scope.topic(KEYS) in held
    # The next owner of the extension, and the next organization of the user, get nothing of it,
    # in whichever way they name them.
    for app in (BOB, OTHER):
        if app.user is not None and app.user not in left.users:
            continue
        caller = Caller(app, left)
        users = [None, *(user for user in left.users.values() if caller.may_act_for(user))]
        for scope in [
            *(Scope(caller, user) for user in users),
            *(Scope(caller, None, extension) for extension in caller.extensions()),
        ]:
            assert not scope.includes(at) and not scope.shows(at) and not scope.left(at)
        assert not caller.supervises(at)


# Any call, in any state of its legs

_times = st.one_of(st.none(), st.integers(1003, 1009).map(float))


@st.composite
def histories(draw: st.DrawFn, steps: int = 3) -> list[Call]:
    """The same call several times. Legs come, and none goes."""
    ids = draw(st.lists(st.sampled_from(["a1", "a2", "b1", "b2", "c1"]), unique=True, min_size=1))
    numbers = {leg_id: draw(st.sampled_from([*OWNERS, "15600"])) for leg_id in ids}
    known, calls = draw(st.integers(1, len(ids))), []
    for _ in range(steps):
        known = draw(st.integers(known, len(ids)))
        legs = []
        for leg_id in ids[:known]:
            created = draw(_times)
            answered = draw(_times) if created else None
            cause = draw(st.sampled_from([None, "LOSE_RACE", "NORMAL_CLEARING"]))
            facts = {"created": created, "answered": answered, "ended": draw(_times)}
            legs.append(phone(leg_id, numbers[leg_id], **facts, cause=cause))
        calls.append(call(*legs, state=draw(st.sampled_from(State)), ended=1009.0))
    return calls


any_apps = st.sampled_from([ADA, BOB, CARLA, DORA, OWN, OTHER, ADMIN])


@given(any_apps, histories(steps=1))
def test_who_may_more_may_less(app: App, history: list[Call]) -> None:
    (at,) = history
    known = accounts(carla=("0003*2*",))
    acts = [leg for leg in at.legs if may_act(app, known, at, leg)]
    if rights.supervises(app, known, at):
        assert acts == list(at.legs)
    if acts:
        assert rights.sees(app, known, at)
    if not rights.supervises(app, known, at):
        assert all(leg.live and rights.owns(app, leg) for leg in acts)
        assert not any(leg.cause == "LOSE_RACE" and leg.ended for leg in acts)


@given(histories())
def test_the_indexes_hold_what_may_be_seen(history: list[Call]) -> None:
    """The list of each app holds a live call just while the app sees it, whatever the call was
    before."""
    known = accounts(carla=("0003*21*",))
    held: set[str] = set()
    before = None
    for step, each in enumerate(history, start=1):
        each = replace(each, version=step)
        for name, key, *_ in writes.commands(KEYS, before, each, [], 1010.0):
            if name in ("ZADD", "ZREM") and key.startswith("calls:"):
                (held.add if name == "ZADD" else held.discard)(key)
        before = each
        if each.state is State.ENDED:
            assert not {k for k in held if not k.startswith(("calls:deadline:", "calls:queued"))}
            return
        for app in (ADA, BOB, CARLA, DORA, OWN, OTHER, ADMIN):
            scope = Scope(Caller(app, known))
            listed = any(key in held for key in scope.indexes(KEYS))
            assert listed == scope.includes(each) == rights.sees(app, known, each)
        there = {leg.number for leg in sight.legs_in(each) if leg.kind is NumberKind.EXTENSION}
        assert {n for n in known.extensions if KEYS.calls_in(n) in held} == there
        for number, extension in known.extensions.items():
            assert (KEYS.extension_calls(number) in held) == Scope(
                Caller(ADMIN, known), extension=extension
            ).includes(each)


# The end of one's own leg is told


def test_the_end_of_the_own_leg_says_nothing_of_the_rest() -> None:
    lost = phone("a1", "0003*211", **LOST)
    won = phone("a2", "0003*220", **TALKS, bridged=1005.0)
    at = call(lost, won, phone("b1", "15600", **TALKS), state=State.BRIDGED, answered=1004.0)
    assert Scope(Caller(BOB, accounts())).left(at) == (lost,)
    assert Scope(Caller(CARLA, accounts())).left(at) == ()
    assert Scope(Caller(ADA, accounts())).left(at) == ()
    told = sight.as_left(at, (lost,))
    assert (told.state, told.ended, told.hangup_cause) == (State.ENDED, 1004.1, "LOSE_RACE")
    assert (told.legs, told.answered) == ((lost,), None)


def test_a_leg_that_ends_brings_the_rights_to_an_end() -> None:
    at = call(phone("a1", "0003*211", **RINGS), phone("b1", "15600"))
    assert rights.sees(BOB, accounts(), at)
    over = LegReport(at.legs[0].uuid, ended=1010.0, cause="LOSE_RACE")
    assert not rights.sees(BOB, accounts(), transitions.report_leg(at, over))
