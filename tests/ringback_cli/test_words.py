"""Calls as the commands show and draw them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.model import Accounts, Level
from app.accounts.store import read_accounts
from app.calls.model import Call, Leg, State, changed_fields
from ringback_cli import words
from ringback_cli.placing import caller, exit_status
from ringback_cli.timeline import SIGNS, call_phases, columns, lanes, leg_phases
from tests.app.test_call_events import CALLED, DESK, call

TIMES = st.floats(1000.0, 90_000.0) | st.none()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.0 s"),
        (3.24, "3.2 s"),
        (59.99, "1 min 0 s"),
        (250.0, "4 min 10 s"),
        (7500.0, "2 h 5 min"),
        (273_600.0, "3 d 4 h"),
    ],
)
def test_an_age_in_two_units(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


@given(st.lists(st.floats(0, 1e6), min_size=2, unique=True).map(sorted), st.integers(1, 200))
def test_moments_keep_their_order_and_fill_the_width(moments: list[float], width: int) -> None:
    found = columns(moments, width)
    assert found[0] == 0 and found[-1] == width
    assert found == sorted(found)
    if len(moments) <= width:
        assert len(set(found)) == len(found), "each has a column of its own"


@st.composite
def talked(draw: st.DrawFn) -> Call:
    """Any times, in any order: the switch's clock is another."""
    placed = call(DESK.split(), [CALLED])
    names = ("created", "early_media", "ringing", "answered", "bridged", "held", "unheld", "ended")
    legs = [replace(each, **{name: draw(TIMES) for name in names}) for each in placed.legs]
    times = {name: draw(TIMES) for name in ("claimed", "answered", "bridged", "ended")}
    return replace(placed, legs=tuple(legs), **times)


@given(talked(), st.integers(40, 200))
def test_every_lane_is_as_wide_as_it_may_be(drawn: Call, width: int) -> None:
    *rows, axis, _ = lanes(drawn, (), 90_001.0, width)
    assert len(rows) == 1 + len(drawn.legs)
    assert all(row.cell_len <= width for row in [*rows, axis])
    assert rows[0].cell_len <= axis.cell_len
    assert axis.plain.endswith(" s")


def test_phases_of_a_call_that_was_held() -> None:
    leg = replace(
        call([DESK], [CALLED]).legs[0],
        created=1001.0,
        ringing=1002.0,
        answered=1003.0,
        bridged=1004.0,
        held=1007.0,
        unheld=1008.0,
        ended=1009.0,
    )
    known = [(1001.0, "dialled"), (1002.0, "ringing"), (1003.0, "answered"), (1004.0, "bridged")]
    last = [(1007.0, "on hold"), (1008.0, "bridged"), (1009.0, "")]
    assert leg_phases(leg) == [*known, *last]
    notes = [
        {"at": str(at), "kind": "event", "name": name, "leg": leg.id}
        for at, name in ((1005.0, "CHANNEL_HOLD"), (1006.0, "CHANNEL_UNHOLD"))
    ]
    held = leg_phases(leg, [*notes, {"at": "1005.5", "kind": "change", "name": "bridged"}])
    assert held == [*known, (1005.0, "on hold"), (1006.0, "bridged"), (1009.0, "")]


def test_a_drawn_call() -> None:
    placed = call([DESK], [CALLED])
    source, destination = placed.legs
    ended = replace(
        placed,
        claimed=1001.0,
        ended=1010.0,
        legs=(
            replace(source, created=1001.0, ringing=1002.0, ended=1010.0),
            destination,
        ),
    )
    assert call_phases(ended)[-1] == (1010.0, "")
    rows = [row.plain for row in lanes(ended, (), 2000.0, 40)]
    queued, dialled, ringing = (SIGNS[name][0] for name in ("queued", "dialled", "ringing"))
    assert rows[0].split() == ["call", queued * 3 + dialled * 3 + ringing * 21]
    assert rows[1].split() == ["a1", DESK, dialled * 3 + ringing * 21]
    assert rows[2].split() == ["b1", CALLED]
    assert rows[3].split() == ["0.0", "2.0", "10.0", "s"]
    assert rows[4].split() == [queued * 2, "queued", dialled * 2, "dialled", ringing * 2, "ringing"]


def test_what_is_told_of_a_change() -> None:
    before = call([DESK], [CALLED])
    source, destination = before.legs
    numbers = {"a1": DESK, "b1": CALLED}
    after = replace(
        before,
        state=State.ENDED,
        disposition=1,
        hangup_cause="USER_BUSY",
        legs=(replace(source, ended=1001.0, cause="USER_BUSY"), replace(destination, created=1.0)),
    )
    assert list(words.told(changed_fields(before, after), numbers)) == [
        f"leg a1   {DESK:12} has ended  USER_BUSY",
        f"leg b1   {CALLED:12} is dialled",
        "call has ended: busy, USER_BUSY",
    ]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, ""),
        ({"created": 1.0}, "dialled"),
        ({"created": 1.0, "early_media": 2.0}, "early media"),
        ({"created": 1.0, "ringing": 2.0}, "ringing"),
        ({"created": 1.0, "answered": 2.0, "bridged": 3.0}, "bridged"),
        ({"bridged": 3.0, "held": 4.0}, "bridged, holds"),
        ({"bridged": 3.0, "parked": 4.0, "parked_pos": "5901"}, "parked 5901"),
        ({"bridged": 3.0, "ended": 4.0, "cause": "NORMAL_CLEARING"}, "ended NORMAL_CLEARING"),
    ],
)
def test_what_a_leg_does_now(fields: dict[str, object], word: str) -> None:
    leg: Leg = replace(call([DESK], [CALLED]).legs[0], **fields)  # type: ignore[arg-type]
    assert words.leg_state(leg)[0] == word


@pytest.mark.parametrize(("disposition", "status"), [(0, 0), (1, 11), (5, 15), (None, 14)])
def test_the_exit_status_tells_the_disposition(disposition: int | None, status: int) -> None:
    assert exit_status(replace(call([DESK], [CALLED]), disposition=disposition)) == status


def test_who_asks() -> None:
    demo = read_accounts(None)
    assert caller(demo).app.organization == "0003", "the only one, whose short numbers are meant"
    second = replace(demo.organizations["0003"], id="4", number="0004")
    two = replace(demo, organizations={**demo.organizations, "0004": second})
    assert caller(two).app.level is Level.ADMINISTRATOR
    assert caller(two, numbers=(None, "0004*210")).app.organization == "0004"
    assert caller(two, user="12").app.organization == "0003"
    assert caller(two, numbers=("0009*1",)).app.level is Level.ADMINISTRATOR
    assert caller(Accounts()).app.level is Level.ADMINISTRATOR
