"""What a reader is shown of the end of a leg."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.calls import endings
from app.calls.model import Leg, NumberKind, Role, evolve
from app.calls.transitions import LegReport, report_leg
from tests.app.test_store import new_call

LEG = Leg("b1", Role.DESTINATION, "15500", NumberKind.PUBLIC, "u", gateway="pstn")


def leg(**changes: Any) -> Leg:
    return evolve(LEG, **changes)


@given(st.text(max_size=2000), st.integers(1, 300))
def test_a_clean_text_is_short_and_has_no_control_characters(text: str, most: int) -> None:
    found = endings.clean(text, most)
    if found is None:
        return
    assert 0 < len(found) <= most and found == found.strip()
    dropped = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not dropped & set(map(unicodedata.category, found))
    assert endings.clean(found, most) == found


def test_clean_keeps_what_can_be_read() -> None:
    assert endings.clean("Busy Here", 100) == "Busy Here"
    assert endings.clean("Ocupado: número\r\n\x1b[31m‮", 100) == "Ocupado: número[31m"
    assert endings.clean("\x00\r\n ", 100) is None


@pytest.mark.parametrize(
    ("status", "phrase", "reason", "blocked"),
    [
        (603, "Network Blocked", None, True),
        (603, "network blocked", None, True),
        (603, "Decline", 'SIP;cause=603;text="v=analytics1;url=https://a.example"', True),
        (603, "Decline", None, False),
        (608, "Rejected", None, True),
        (607, "Unwanted", None, False),
        (486, "Network Blocked", 'SIP;cause=603;text="v=analytics1"', False),
        (None, None, None, False),
    ],
)
def test_blocked(status: int | None, phrase: str | None, reason: str | None, blocked: bool) -> None:
    found = leg(sip_status=status, sip_phrase=phrase, reason=reason)
    assert endings.is_blocked(found) is blocked


def test_delays_count_from_the_invite_and_from_the_first_18x() -> None:
    rang = leg(created=10.0, early_media=11.25, ringing=12.0, answered=15.5, ended=20.0)
    assert (endings.post_dial_delay(rang), endings.ring_seconds(rang)) == (1.25, 4.25)
    missed = leg(created=10.0, ringing=12.0, ended=20.0)
    assert (endings.post_dial_delay(missed), endings.ring_seconds(missed)) == (2.0, 8.0)
    at_once = leg(created=10.0, answered=10.5, ended=20.0)
    assert (endings.post_dial_delay(at_once), endings.ring_seconds(at_once)) == (None, None)


def test_the_first_ending_stays() -> None:
    call = new_call()
    uuid = call.legs[0].uuid
    first = LegReport(uuid, ended=call.accepted + 1, cause="USER_BUSY", ending={"sip_status": 486})
    later = LegReport(uuid, ended=call.accepted + 2, ending={"sip_status": 503, "reason": "x"})
    call = report_leg(report_leg(call, first), later)
    assert (call.legs[0].sip_status, call.legs[0].reason) == (486, "x")


def test_in_words() -> None:
    refused = {"sip_status": 486, "sip_phrase": "Busy Here", "reason": "Q.850;cause=17"}
    assert endings.in_words("USER_BUSY", refused) == (
        "USER_BUSY, SIP 486 Busy Here, Reason Q.850;cause=17"
    )
    talked = {"sip_status": 200, "quality": '{"packets_in":0,"marks":["one_way"]}'}
    assert endings.in_words("NORMAL_CLEARING", talked) == "NORMAL_CLEARING, one_way"


def test_the_api_names_the_values_of_a_leg() -> None:
    found = endings.as_api(
        endings.of_leg(leg(sip_status=608, quality='{"loss_percent":4.0,"packets_in":10}'))
    )
    assert found["sipStatus"] == 608 and found["blocked"] is True
    assert found["quality"] == {"lossPercent": 4.0, "packetsIn": 10}
