"""The simulator's clock for media. What a real switch counts is in tests/conformance."""

from typing import Any

import pytest

from freeswitch.simulator.media import Media


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def media(clock: Any, sound: float | None) -> Media:
    found = Media(clock, sound)
    found.begin()
    found.read_limits("3000", "60000")
    return found


def test_a_phone_that_sends_is_never_missed(clock: Clock) -> None:
    assert media(clock, None).due_in(held=False) is None


def test_a_silent_phone_is_missed_after_its_limit(clock: Clock) -> None:
    silent, fading = media(clock, 0.0), media(clock, 2.0)
    assert (silent.due_in(held=False), fading.due_in(held=False)) == (3.0, 5.0)
    clock.at += 1
    assert (silent.due_in(held=False), fading.due_in(held=False)) == (2.0, 4.0)
    # A hold has its own limit, and the switch counts anew after it.
    assert silent.due_in(held=True) == 59.0
    silent.begin_again()
    assert silent.due_in(held=False) == 3.0


def test_a_limit_of_zero_changes_nothing_and_no_hold_limit_is_ten_times_it(clock: Clock) -> None:
    silent = media(clock, 0.0)
    silent.read_limits("0", None)
    silent.read_limits(None, None)
    assert silent.due_in(held=False) == 3.0
    silent.read_limits("4000", None)
    assert (silent.due_in(held=False), silent.due_in(held=True)) == (4.0, 40.0)


def test_without_rtp_nothing_is_counted_or_missed(clock: Any) -> None:
    found = Media(clock, 0.0)
    assert found.variables() == {} and found.due_in(held=False) is None


def test_packets_are_counted_both_ways(clock: Clock) -> None:
    fading, loud = media(clock, 2.0), media(clock, None)
    clock.at += 1
    fading.join(loud)
    loud.join(fading)
    clock.at += 5
    said = {
        name: [each.variables()[f"variable_rtp_audio_{name}"] for each in (fading, loud)]
        for name in ("in_packet_count", "out_packet_count", "in_flaw_total", "in_mos")
    }
    assert said["in_packet_count"] == ["100", "300"]
    # The loud phone hears the second that was left.
    assert said["out_packet_count"] == ["250", "50"]
    # Two seconds without packets pass before they count.
    assert said["in_flaw_total"] == ["100", "0"]
    assert said["in_mos"] == ["1.00", "4.50"]
    for each in (fading, loud):
        each.part()
    clock.at += 5
    assert loud.variables()["variable_rtp_audio_out_packet_count"] == "50"
