"""The claim that a waiting call carries, beside the rules that it is made of."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls import transitions
from app.calls.model import Call, Leg, NumberKind, Role, State, evolve
from app.store import marks, writes
from app.store.keys import Keys
from app.store.writes import Note

KEYS = Keys()
ID = "c3a5fbf2be57af92c581"
CALL, TIMELINE = f"ringback:call:{{{ID}}}", f"ringback:call:{{{ID}}}:timeline"
WORKER, SWITCH, RUN, STAMP, NOW = (
    *({"is": name} for name in ("worker", "switch", "run", "stamp")),
    {"after": 0.0},
)
CHANGED = {
    "state": "dialing",
    "version": "8",
    "stamp": STAMP,
    "worker": WORKER,
    "switch": SWITCH,
    "core_uuid": RUN,
    "claimed": NOW,
}


def leg(name: str, number: str, **fields: Any) -> Leg:
    role = Role.SOURCE if name.startswith("a") else Role.DESTINATION
    kind = NumberKind.EXTENSION if "*" in number else NumberKind.PUBLIC
    return Leg(name, role, number, kind, f"uuid-{name}", **fields)


def call(*legs: Leg, **fields: Any) -> Call:
    return Call(
        id=ID,
        kind="simple",
        app="crm",
        user="12",
        organization="3",
        organization_name="One",
        extension="0003*210",
        accepted=1000.0,
        wait_for_pickup=25,
        call_duration=7200,
        queue_timeout=60,
        job_uuid="job",
        version=7,
        stamp="0f0f0f0f",
        legs=legs,
        **fields,
    )


PLAIN = call(leg("a1", "15500", gateway="pstn"), leg("b1", "15600", gateway="pstn"))
# An operator's own dial string, which leads through a gateway.
DIAL_STRING = call(
    leg("a1", "0003*210", dial_string="sofia/gateway/desk/210", owner="12"),
    leg("b1", "15600", gateway="pstn"),
)
ALTERNATIVES = call(
    leg("a1", "15500", gateway="pstn"),
    leg("a1.2", "15500", gateway="spare"),
    leg("b1", "15600", gateway="pstn"),
    leg("b1.2", "15600", gateway="spare"),
)
CONFERENCE = call(
    leg("a1", "15500", gateway="pstn"),
    leg("a2", "0003*211", dial_string="user/211", owner="13"),
    leg("a3", "15502", gateway="pstn"),
    conference="0003*700",
    home='{"room":"0003*700","strict":false,"wait":5}',
)
DROPPED = call(
    leg("a1", "15500", gateway="pstn"),
    leg("a2", "15501", gateway="pstn", hangup_requested=1001.0),
    leg("b1", "15600", gateway="other"),
)

HOME = call(leg("a1", "15500", gateway="pstn"), home='{"strict":true,"switch":"s2","wait":5}')

# By hand, of each call: the legs that are dialled, the limits (the name, what is taken of what is
# live, the legs), the channels that count for the switch, and those that count for each gateway.
CLAIMS: dict[str, tuple[Call, int, list[Any], list[str], dict[str, list[str]]]] = {
    "plain": (PLAIN, 2, [["gateway:pstn", 2, 2]], ["a1", "b1"], {"pstn": ["a1", "b1"]}),
    "a gateway in a dial string": (
        DIAL_STRING,
        2,
        [["gateway:desk", 1, 1], ["gateway:pstn", 1, 1]],
        ["a1", "b1"],
        {"desk": ["a1"], "pstn": ["b1"]},
    ),
    "alternative gateways": (
        ALTERNATIVES,
        2,
        [["gateway:pstn", 2, 2]],
        ["a1", "b1"],
        {"pstn": ["a1", "b1"]},
    ),
    "a conference": (
        CONFERENCE,
        3,
        [["gateway:pstn", 2, 2], [f"home:{CONFERENCE.home}", 0, 0]],
        ["a1", "a2", "a3"],
        {"pstn": ["a1", "a3"]},
    ),
    "a home": (
        HOME,
        1,
        [["gateway:pstn", 1, 1], [f"home:{HOME.home}", 0, 0]],
        ["a1"],
        {"pstn": ["a1"]},
    ),
    "a party that was dropped": (
        DROPPED,
        2,
        [["gateway:other", 1, 1], ["gateway:pstn", 1, 1]],
        ["a1", "b1"],
        {"pstn": ["a1"], "other": ["b1"]},
    ),
}

# To whom else a call may show.
OTHERS = {"a conference": '["user:13","extension:0003*211"]'}


def written(
    channels: list[str], gateways: dict[str, list[str]], others: str, room: str | None
) -> list[list[Any]]:
    """All that a claim writes, by hand: nothing else, for no call event and no index but these."""
    said = [{"is": "worker"}, " on ", {"is": "switch"}]
    note = ["at", NOW, "kind", "command", "name", "claim", "data", {"join": said}]
    change = ["at", NOW, "kind", "change", "name", "dialing"]
    event = ["call", ID, "version", "8", "at", NOW, "state", "dialing", "user", "12"]
    event += ["organization", "3", "extension", "0003*210", "app", "crm", "others", others]
    return [
        ["XADD", TIMELINE, "MAXLEN", "~", "1000", "*", *note],
        ["XADD", TIMELINE, "MAXLEN", "~", "1000", "*", *change],
        [
            "XADD",
            "ringback:events",
            "MAXLEN",
            "~",
            "1000000",
            "*",
            *event,
            "changed",
            {"json": CHANGED},
        ],
        ["ZREM", "ringback:calls:queued", ID],
        ["ZADD", {"join": ["ringback:calls:deadline:", SWITCH]}, {"after": 2.0}, ID],
        ["ZADD", {"join": ["ringback:calls:switch:", SWITCH]}, "1000.0", ID],
        ["SADD", "ringback:live:organization:3", ID],
        ["SADD", "ringback:live:user:12", ID],
        *([["HSET", f"ringback:conference:{room}", ID, SWITCH]] if room else []),
        ["LEAVE", "ringback:waiting", ID],
        [
            *("SADD", {"join": ["ringback:live:", "switch:", SWITCH]}),
            *(f"uuid-{name}" for name in channels),
        ],
        *(
            ["SADD", f"ringback:live:gateway:{name}", *(f"uuid-{of}" for of in each)]
            for name, each in gateways.items()
        ),
        ["HSET", CALL, *(word for item in CHANGED.items() for word in item)],
    ]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_stored_claim_is_this(name: str) -> None:
    waiting, _, _, channels, gateways = CLAIMS[name]
    till, fits, commands = json.loads(writes.claim_of(KEYS, waiting))
    assert (till, fits) == (1060.0, "7:0f0f0f0f")
    assert commands == written(channels, gateways, OTHERS.get(name, ""), waiting.conference)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_lane_is_this(name: str) -> None:
    waiting, legs, limits, *_ = CLAIMS[name]
    own = [["organization:3", 1, legs], ["user:12", 1, legs]]
    assert json.loads(writes.lane_of(waiting)) == ["3", legs, [*own, *limits]]


def resolved(word: Any, known: dict[str, str], at: float) -> str:
    """A word of a stored claim, as pace.lua resolves it."""
    match word:
        case {"is": name}:
            return known[name]
        case {"after": seconds}:
            return f"{at + seconds:.6f}"
        case {"join": parts}:
            return "".join(resolved(part, known, at) for part in parts)
        case {"json": fields}:
            return json.dumps({name: resolved(each, known, at) for name, each in fields.items()})
    return str(word)


# Words that look like a mark, JSON or a pattern.
WORDS = st.sampled_from(("crm", '{"is":"worker"}', "%s %1", '"', "\\", "{after}", "日本"))
TIMES = st.floats(1000, 2e9).map(lambda at: round(at, 6))


@given(
    waiting=st.sampled_from([each[0] for each in CLAIMS.values()]),
    app=WORDS,
    user=WORDS,
    nonce=st.none() | WORDS,
    version=st.integers(1, 99),
    known=st.fixed_dictionaries(dict.fromkeys(("worker", "switch", "run", "stamp"), WORDS)),
    at=TIMES,
)
def test_a_stored_claim_is_the_transition_made_then(
    waiting: Call,
    app: str,
    user: str,
    nonce: str | None,
    version: int,
    known: dict[str, str],
    at: float,
) -> None:
    """Of any worker, on any switch, at any time and of any version."""
    waiting = replace(waiting, app=app, user=user, nonce=nonce, version=version)
    _, _, stored = json.loads(writes.claim_of(KEYS, waiting))
    made = [[resolved(word, known, at) for word in command] for command in stored]
    claimed = transitions.claim(
        waiting, worker=known["worker"], switch=known["switch"], core_uuid=known["run"], at=at
    )
    claimed = evolve(claimed, version=version + 1, stamp=known["stamp"])
    note = Note("command", "claim", data=f"{known['worker']} on {known['switch']}")
    own, *others = (list(c) for c in writes.commands(KEYS, waiting, claimed, [note], at))
    assert [_comparable(c) for c in made] == [_comparable(c) for c in [*others, own]]


def _comparable(command: list[str]) -> list[Any]:
    """JSON as what it says, a score as a number."""
    if command[0] == "ZADD":
        return [*command[:2], float(command[2]), command[3]]
    if command[1] == KEYS.events:
        return [*command[:-1], json.loads(command[-1])]
    return command


def test_a_mark_becomes_no_text() -> None:
    for mark in (marks.SWITCH, marks.NOW, marks.WORKER + " on " + marks.SWITCH):
        with pytest.raises(TypeError, match="not known before the claim"):
            f"{mark}"
        with pytest.raises(TypeError, match="not known before the claim"):
            str(mark)
    with pytest.raises(TypeError):
        _ = marks.NOW > 5.0


def test_a_claimed_call_has_no_claim_of_its_own() -> None:
    claimed = transitions.claim(PLAIN, worker="w", switch="s", core_uuid="r", at=1001.0)
    assert claimed.state is State.DIALING
    names = [name for name, *_ in writes.commands(KEYS, PLAIN, claimed, (), 1001.0)]
    assert "ENTER" not in names and "LEAVE" in names
