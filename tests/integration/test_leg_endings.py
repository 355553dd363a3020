"""How legs ended, in the network's words, and dead media: on the whole stack."""

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from app.calls import endings
from app.calls.model import Call, Leg, State
from ringback_cli.up import environment
from tests.integration.conftest import SPEED, STACK, SWITCHES, Ringback
from tests.integration.test_leg_records import record

# Seconds of the switch's clock without RTP. Long enough for an action before they are over.
MEDIA_TIMEOUT = 12


def all_ended(ringback: Ringback, call_id: str) -> Call:
    """The call once all its legs have said how they ended."""
    ringback.ended(call_id)

    def over(call: Call) -> bool:
        dialled = [leg for leg in call.legs if leg.created is not None]
        return all(leg.q850_cause is not None for leg in dialled)

    return ringback.wait(call_id, over)


def leg_of(call: Call, leg_id: str) -> Leg:
    leg = call.leg_named(leg_id)
    assert leg is not None
    return leg


@pytest.mark.parametrize(
    ("number", "status", "phrase", "q850", "blocked"),
    [
        ("15509", 486, "Busy Here", 17, False),
        ("15514", 404, "Not Found", 1, False),
        ("15531", 503, "Service Unavailable", 38, False),
        ("15532", 603, "Network Blocked", 21, True),
        ("15534", 480, "Try <b>later</b>", 18, False),
    ],
)
def test_a_refusal(
    ringback: Ringback, number: str, status: int, phrase: str, q850: int, blocked: bool
) -> None:
    call = all_ended(ringback, ringback.place("15500", number))
    source, refused = leg_of(call, "a1"), leg_of(call, "b1")
    assert (refused.sip_status, refused.sip_phrase, refused.q850_cause) == (status, phrase, q850)
    assert endings.is_blocked(refused) is blocked
    assert refused.sip_call_id and refused.sip_call_id != source.sip_call_id
    # The switch copies the refusal to the source, which has answered.
    assert (source.sip_status, source.sip_phrase, source.reason) == (200, None, None)
    # The record has it without another change of the call.
    (*_, leg) = record(ringback, call.id)["legs"]
    assert (leg["sip_status"], leg["sip_phrase"], leg.get("blocked")) == (
        *(status, phrase),
        blocked or None,
    )
    (entry,) = ringback.request("GET", f"@me/@self/{call.id}")[1]["entry"]
    assert entry["phoneCallView"][1]["ending"]["sipStatus"] == status


def test_a_source_that_is_refused(ringback: Ringback) -> None:
    call = all_ended(ringback, ringback.place("15509", "15500"))
    assert (call.legs[0].sip_status, call.legs[0].sip_phrase) == (486, "Busy Here")


def test_the_reason_of_a_bye_stays_with_who_said_it(ringback: Ringback) -> None:
    call = all_ended(ringback, ringback.place("15500", "15533"))
    source, destination = leg_of(call, "a1"), leg_of(call, "b1")
    assert destination.reason == 'Q.850;cause=31;text="Normal, unspecified"'
    assert (destination.sip_status, destination.q850_cause, source.reason) == (200, 31, None)


def test_a_cancelled_leg_has_rung_for_so_long(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15508")
    ringback.wait(call_id, lambda call: bool(call.destinations[0].ringing))
    ringback.request("DELETE", f"@me/@self/{call_id}")
    call = all_ended(ringback, call_id)
    cancelled = leg_of(call, "b1")
    assert (cancelled.sip_status, cancelled.sip_phrase) == (487, None)
    delay, rang = endings.post_dial_delay(cancelled), endings.ring_seconds(cancelled)
    assert delay is not None and 0 <= delay < 60
    assert rang is not None and 0 <= rang < 60


def test_the_audio_of_a_talk(ringback: Ringback) -> None:
    seconds = int(5 * SPEED)
    one_way = ringback.place("15500", "15523", f"?callDuration={seconds}")
    both_ways = ringback.place("15500", "15600", f"?callDuration={seconds}")
    talked = all_ended(ringback, both_ways)
    for leg_id in ("a1", "b1"):
        audio = endings.quality(leg_of(talked, leg_id))
        assert audio is not None and audio["packets_in"] > 50 and audio["packets_out"] > 50
        assert audio["mos"] > 4 and "one_way" not in audio.get("marks", ())
    silent = all_ended(ringback, one_way)
    audio = endings.quality(leg_of(silent, "b1"))
    assert audio is not None and (audio["packets_in"], audio["marks"]) == (0, ["one_way"])
    audio = endings.quality(leg_of(silent, "a1"))
    assert audio is not None and "one_way" not in audio.get("marks", ())
    # The timeline and the export have them too.
    timeline = ringback.store.timeline(silent.id)
    said = [e["data"] for e in timeline if e["name"] == "CHANNEL_HANGUP_COMPLETE"]
    assert any(text.endswith("one_way") for text in said)
    export = [sys.executable, "-m", "ringback_cli", "cdr", "export", "--legs"]
    settings = environment(ringback.stack.settings)
    output = subprocess.run(export, env=settings, capture_output=True, text=True, check=True)
    rows = {(row["id"], row["leg"]): row for row in csv.DictReader(io.StringIO(output.stdout))}
    row = rows[silent.id, "b1"]
    assert (row["packets_in"], row["marks"], row["sip_status"]) == ("0", "one_way", "200")


# Dead media


@pytest.fixture(scope="module")
def strict(stacks: Callable[..., Ringback]) -> Ringback:
    return stacks(SWITCHES, **STACK, media_timeout=MEDIA_TIMEOUT)


@pytest.mark.parametrize(("source", "destination"), [("15500", "15523"), ("15535", "15500")])
def test_a_leg_without_rtp_ends_the_call(strict: Ringback, source: str, destination: str) -> None:
    call = strict.ended(strict.place(source, destination))
    assert (call.hangup_cause, call.ended_by) == ("MEDIA_TIMEOUT", "media_lost")
    assert (call.state, call.disposition) == (State.ENDED, 0)


def _put(ringback: Ringback, call_id: str, action: str, view: str) -> None:
    body: dict[str, Any] = {"action": action, "phoneCallViewId": view}
    status, answer = ringback.request("PUT", f"@me/@self/{call_id}", body)
    assert status == 200, answer


def test_a_party_that_holds_or_is_held_or_parked_is_not_dead(strict: Ringback) -> None:
    """All at once: each lasts twice as long as a phone may send no RTP."""
    query = f"?callDuration={2 * MEDIA_TIMEOUT}"
    cases = [("15500", "OnHold", "00"), ("15500", "OnHold", "01"), ("0003*210", "Park", "00")]
    calls = [strict.place(source, "15523", query) for source, *_ in cases]
    for call_id, (_, action, view) in zip(calls, cases, strict=True):
        strict.wait_state(call_id, State.BRIDGED)
        _put(strict, call_id, action, view)
    for call_id, (_, action, view) in zip(calls, cases, strict=True):
        call = strict.ended(call_id)
        said = (call.hangup_cause, call.ended_by)
        assert said == ("ALLOTTED_TIMEOUT", "duration"), (action, view)
        assert (leg_of(call, "b1").parked is not None) is (action == "Park")


def test_after_a_hold_the_media_counts_again(strict: Ringback) -> None:
    call_id = strict.place("15500", "15523")
    strict.wait_state(call_id, State.BRIDGED)
    for action in ("OnHold", "OffHold"):
        _put(strict, call_id, action, "00")
    assert strict.ended(call_id).ended_by == "media_lost"


def test_a_quiet_party_of_a_conference_is_not_dead(strict: Ringback) -> None:
    view = {"source": ["003"], "destination": ["15523"], "callerId": "Conf <3>"}
    body = {"extension": "003", "phoneCallView": [view]}
    status, answer = strict.request("POST", "@me/conferenceInvite?number=3&pin=2233", body)
    assert status in (200, 202), answer
    call_id = answer[0]["id"]
    strict.wait_state(call_id, State.BRIDGED)
    # By the end of this one, the party would be dead.
    assert strict.ended(strict.place("15500", "15523")).ended_by == "media_lost"
    call = strict.store.get(call_id)
    assert call is not None and call.state is State.BRIDGED
    strict.request("DELETE", f"@me/@self/{call_id}")
    assert strict.ended(call_id).ended_by == "api"
