"""The hash form of a call, and what a call says of its own legs."""

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.calls.model import (
    LOST_THE_RACE,
    Action,
    Asked,
    Call,
    Leg,
    NumberKind,
    Phase,
    Role,
    State,
    call_id_of,
    changed_fields,
    evolve,
    from_hash,
    gateway_of,
    job_uuid,
    leg_id,
    leg_uuid,
    to_hash,
)
from tests.app.calls.make import CALL_ID, dialled, make_call, make_leg

# As the switch stamps its events: whole microseconds.
MOMENTS = st.integers(0, 4 * 10**15).map(lambda micros: micros / 1e6)
# Clients' words may look like anything that the hash itself holds.
WORDS = st.text(max_size=12) | st.sampled_from(["", "1", "0", "None", "leg:a1:uuid", "a1,b1", "%"])
OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "str": WORDS,
    "int": st.integers(0, 10**9),
    "float": MOMENTS,
    "bool": st.booleans(),
    "State": st.sampled_from(State),
    "Role": st.sampled_from(Role),
    "NumberKind": st.sampled_from(NumberKind),
    "Action": st.sampled_from(Action),
}


def values(field: Field[Any], *, absent: bool) -> st.SearchStrategy[Any]:
    """Values of a field's type; None where that is allowed and ``absent``."""
    assert isinstance(field.type, type) or hasattr(field.type, "__args__"), field
    types = getattr(field.type, "__args__", (field.type,))
    found = st.one_of(*(OF_TYPE[t.__name__] for t in types if t is not type(None)))
    return st.none() | found if absent and type(None) in types else found


@st.composite
def legs(draw: st.DrawFn, name: str) -> Leg:
    drawn = {f.name: draw(values(f, absent=True)) for f in fields(Leg) if f.name != "id"}
    return Leg(name, **drawn)


asked = st.builds(Asked, **{f.name: values(f, absent=True) for f in fields(Asked)})


@st.composite
def calls(draw: st.DrawFn) -> Call:
    names = draw(st.lists(st.sampled_from(["a1", "a1.2", "a2", "b1", "c12"]), unique=True))
    own = [f for f in fields(Call) if f.name not in ("legs", "actions")]
    drawn = {f.name: draw(values(f, absent=True)) for f in own}
    # The hash of a call that is dialled again has the time 0.
    drawn["sent"] = drawn["sent"] if round(drawn["sent"] or 0.0, 6) else None
    drawn["actions"] = tuple(draw(st.lists(asked, max_size=12)))
    return Call(**drawn, legs=tuple(draw(legs(name)) for name in names))


@given(calls(), st.randoms(use_true_random=False))
def test_a_hash_is_read_back_as_the_call_that_was_written(call: Call, rng: Any) -> None:
    flat = list(to_hash(call).items())
    rng.shuffle(flat)
    assert from_hash(dict(flat)) == call
    assert all(isinstance(name, str) and isinstance(text, str) for name, text in flat)


@pytest.mark.parametrize("of", [Call, Leg])
def test_every_field_survives_by_itself(of: type[Any]) -> None:
    """A new field that no loader knows comes back as text."""
    samples = {"str": "x", "int": 7, "float": 1000.000001, "bool": True}
    samples |= {"State": State.ANSWERED, "Role": Role.THIRD, "NumberKind": NumberKind.SANDBOX}
    samples["Action"] = Action.PICK_UP
    for field in fields(of):
        if field.name in ("legs", "actions", "id"):
            continue
        name = getattr(field.type, "__args__", (field.type,))[0].__name__
        change = {field.name: samples[name]}
        leg = make_leg("a1")
        call = make_call(replace(leg, **change)) if of is Leg else make_call(leg, **change)
        read = from_hash(to_hash(call))
        assert read == call, field.name
        found = getattr(read.legs[0] if of is Leg else read, field.name)
        assert type(found) is type(samples[name]), field.name


def test_the_hash_that_back_ends_poll() -> None:
    leg = make_leg("b1.2", created=1003.25, action=Action.MONITOR)
    flat = to_hash(dialled("a1", leg, video=True, disposition=0))
    shown = ("state", "legs", "sent", "video", "allow_public_transfer", "disposition")
    assert [flat[name] for name in shown] == ["dialing", "a1,b1.2", "1002.000000", "1", "0", "0"]
    assert flat["leg:b1.2:created"] == "1003.250000"
    assert (flat["leg:b1.2:role"], flat["leg:b1.2:action"]) == ("destination", "Monitor")
    # What has no value is no field, and a leg's id is in no field of its own.
    assert "answered" not in flat and "leg:a1:created" not in flat and "leg:a1:id" not in flat


def test_fields_of_a_newer_version_are_left_alone() -> None:
    call = make_call("a1")
    assert from_hash({**to_hash(call), "colour": "blue", "leg:a1:colour": "red"}) == call


def test_a_call_without_legs_has_none() -> None:
    call = replace(make_call("a1"), legs=())
    assert to_hash(call)["legs"] == "" and from_hash(to_hash(call)) == call


@given(st.data())
def test_what_changed_makes_the_new_hash_of_the_old(data: st.DataObject) -> None:
    """Fields get values and legs come in; neither ever goes."""
    old = data.draw(calls())
    changes = {}
    for field in fields(Call):
        if field.name not in ("id", "legs", "actions") and data.draw(st.booleans()):
            changes[field.name] = data.draw(values(field, absent=False))
    found = list(old.legs)
    for place, leg in enumerate(found):
        if data.draw(st.booleans()):
            field = data.draw(st.sampled_from([f for f in fields(Leg) if f.name != "id"]))
            found[place] = replace(leg, **{field.name: data.draw(values(field, absent=False))})
    if data.draw(st.booleans()):
        found.append(data.draw(legs("c99")))
    said = list(old.actions)
    if said and data.draw(st.booleans()):
        said[-1] = replace(said[-1], result=data.draw(WORDS))
    said += data.draw(st.lists(asked, max_size=2))
    new = replace(old, **changes, legs=tuple(found), actions=tuple(said))
    changed = changed_fields(old, new)
    assert to_hash(old) | changed == to_hash(new)
    assert all(to_hash(old).get(name) != text for name, text in changed.items())


def test_all_of_a_new_call_is_changed() -> None:
    call = make_call()
    assert changed_fields(None, call) == to_hash(call)
    assert changed_fields(call, evolve(call)) == {}


@settings(max_examples=20)
@given(calls(), st.data())
def test_to_evolve_is_to_replace(call: Call, data: st.DataObject) -> None:
    for value in (call, *call.legs):
        field = data.draw(st.sampled_from(fields(value)))
        several = field.name in ("legs", "actions")
        other = data.draw(st.just(()) if several else values(field, absent=True))
        assert evolve(value, **{field.name: other}) == replace(value, **{field.name: other})


def test_to_evolve_what_is_no_field_fails() -> None:
    with pytest.raises(TypeError):
        evolve(make_call(), colour="blue")


CALL_IDS = st.from_regex(r"[0-9a-f]{20}", fullmatch=True)


@given(CALL_IDS, st.sampled_from(Role), st.integers(1, 99), st.integers(1, 99))
def test_a_uuid_tells_its_call(call_id: str, role: Role, party: int, attempt: int) -> None:
    uuid = leg_uuid(call_id, role, party, attempt)
    assert len(uuid) == 36 and [len(part) for part in uuid.split("-")] == [8, 4, 4, 4, 12]
    assert call_id_of(uuid) == call_id_of(job_uuid(call_id)) == call_id


def test_no_two_channels_of_a_call_have_the_same_uuid() -> None:
    uuids = [leg_uuid(CALL_ID, role, p, n) for role in Role for p in range(1, 100) for n in (1, 9)]
    assert len({*uuids, job_uuid(CALL_ID)}) == len(uuids) + 1


def test_what_the_ids_of_legs_look_like() -> None:
    assert leg_id(Role.SOURCE, 1, 1) == "a1" and leg_id(Role.DESTINATION, 12, 3) == "b12.3"
    assert make_leg("b12.3").party == "b12" and make_leg("a1").party == "a1"


def test_states_are_in_their_order() -> None:
    assert sorted(State, key=lambda state: state.rank) == list(State)
    assert (State.QUEUED.rank, State.ENDED.rank) == (0, 5)


@pytest.mark.parametrize(
    ("dial_string", "gateway"),
    [
        ("sofia/gateway/pstn/15500", "pstn"),
        ("sofia/gateway/pstn/15500/more", "pstn"),
        ("sofia/gateway/pstn", None),
        ("sofia/internal/1000@host", None),
        ("user/1000", None),
        ("", None),
    ],
)
def test_the_gateway_of_a_dial_string(dial_string: str, gateway: str | None) -> None:
    assert gateway_of(dial_string) == gateway
    leg = make_leg("a1", gateway=None, dial_string=dial_string or None)
    assert leg.trunk == gateway
    assert make_leg("a1", dial_string=dial_string).trunk == "pstn"


@pytest.mark.parametrize(
    ("begin", "over", "lasts"),
    [
        ("held", "unheld", lambda leg: leg.on_hold),
        ("parked", "unparked", lambda leg: leg.in_lot),
        ("recording", "recorded", lambda leg: leg.is_recorded),
    ],
)
def test_what_is_done_to_a_leg_lasts_from_its_last_begin_to_its_last_end(
    begin: str, over: str, lasts: Callable[[Leg], bool]
) -> None:
    def leg(begun: float | None, ended: float | None) -> Leg:
        return make_leg("a1", **{begin: begun, over: ended})

    assert not lasts(leg(None, None))
    assert lasts(leg(10.0, None)) and lasts(leg(12.0, 11.0))
    assert not lasts(leg(10.0, 11.0)) and not lasts(leg(10.0, 10.0))


def test_a_leg_lives_from_its_channel_to_its_end() -> None:
    assert not make_leg("a1").live
    assert make_leg("a1", created=0.0).live
    assert not make_leg("a1", created=1.0, ended=2.0).live


def test_the_winner_is_the_first_source_that_answered_and_was_kept() -> None:
    lost = make_leg("a1", answered=5.0, cause="LOSE_RACE")
    first, second = make_leg("a2", answered=6.0), make_leg("a3", answered=7.0)
    ringing = make_leg("a4", ringing=4.0)
    destination = make_leg("b1", answered=1.0)
    assert make_call(lost, second, ringing, first, destination).winner == first
    assert make_call(lost, ringing, destination).winner is None


def test_who_is_in_the_call() -> None:
    extension = {"kind": NumberKind.EXTENSION}
    call = make_call(
        make_leg("a1", number="0003*211", owner="13", **extension),
        make_leg("b1", number="0004*300", owner="21", **extension),
        make_leg("b2", number="15600"),
        make_leg("c1", number="0003*211", owner="13", action=Action.MONITOR, **extension),
        make_leg("c2", number="0003*212", owner="12", action=Action.TRANSFER, **extension),
    )
    assert call.extensions == ("0003*210", "0003*211", "0004*300", "0003*212")
    assert call.users == ("12", "13", "21")
    assert call.organizations == ("0003", "0004")
    assert [leg.id for leg in call.parties] == ["a1", "b1", "b2", "c2"]
    assert [[leg.id for leg in of] for of in (call.sources, call.destinations, call.thirds)] == [
        *(["a1"], ["b1", "b2"], ["c1", "c2"]),
    ]


def test_a_leg_is_found_and_put_back() -> None:
    call = make_call("a1", "a1.2", "b1")
    second = call.legs[1]
    assert call.leg(second.uuid) is second is call.leg_named("a1.2")
    assert call.leg("no uuid") is None and call.leg_named("z9") is None
    assert call.leg_named(None) is None
    changed = call.with_leg(evolve(second, created=5.0))
    assert [leg.created for leg in changed.legs] == [None, 5.0, None]


def test_only_what_must_be_given_has_no_default() -> None:
    """from_hash fails without these: a hash of an older version has them all."""
    needed = {f.name for f in fields(Leg) if f.default is MISSING}
    assert needed == {"id", "role", "number", "kind", "uuid"}
    for name in needed - {"id"}:
        flat = to_hash(make_call("a1"))
        del flat[f"leg:a1:{name}"]
        with pytest.raises(TypeError):
            from_hash(flat)


@pytest.mark.parametrize(
    ("times", "phase"),
    [
        ("", Phase.QUEUED),
        ("created", Phase.DIALING),
        ("created early_media", Phase.RINGING),
        ("created ringing", Phase.RINGING),
        ("created answered", Phase.ANSWERED),
        ("created ringing answered bridged", Phase.BRIDGED),
        ("created ringing answered bridged ended", Phase.ENDED),
        ("ended", Phase.ENDED),
    ],
)
def test_what_a_leg_does_now(times: str, phase: Phase) -> None:
    leg = make_leg("a1", **dict.fromkeys(times.split(), 1.0))
    assert leg.phase is phase


def test_a_leg_that_lost_the_race_did_not_win() -> None:
    answered = make_leg("a1", answered=1.0)
    assert answered.won
    assert not evolve(answered, cause=LOST_THE_RACE).won
    assert not make_leg("a1").won
