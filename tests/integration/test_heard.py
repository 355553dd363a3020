"""What a source hears while the destination is dialled, on a real switch.

The far end records what its phone receives. Its event socket is that of FREESWITCH_FAR_END_URL, by
default the lab's; both write to the same disk.
"""

import array
import json
import math
import os
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from freeswitch.address import parse_list
from freeswitch.event_socket import EventSocket
from tests.integration.conftest import LIMIT, REAL, Ringback

pytestmark = pytest.mark.skipif(not REAL, reason="the simulator has no audio")

FAR_END = os.environ.get("FREESWITCH_FAR_END_URL", "esl://:ClueCon@127.0.0.1:8022")
# It answers at once, and sends no sound of its own.
PHONE = "2000017"
# Seconds of one look, and of the shortest sound that a look finds in the middle of silence.
LOOK = 0.1
# The frequencies of the tones of the lab and of these countries.
TONES = (400, 425, 440, 450, 480, 1000)


def level(samples: Sequence[int], frequency: int, rate: int) -> float:
    """The amplitude of one frequency (Goertzel)."""
    turn = 2 * math.cos(2 * math.pi * frequency / rate)
    one = two = 0.0
    for sample in samples:
        one, two = sample + turn * one - two, one
    return 2 * math.sqrt(max(0.0, one * one + two * two - turn * one * two)) / len(samples)


@dataclass(frozen=True)
class Heard:
    """The tones in each LOOK of a recording. An empty set is silence."""

    looks: list[frozenset[int]]

    @classmethod
    def read(cls, path: Path) -> "Heard":
        with wave.open(str(path)) as file:
            rate, channels = file.getframerate(), file.getnchannels()
            samples = array.array("h", file.readframes(file.getnframes()))[::channels]
        size = int(rate * LOOK)
        looks = []
        for first in range(0, len(samples) - size + 1, size):
            levels = {f: level(samples[first : first + size], f, rate) for f in TONES}
            loudest = max(levels.values())
            loud = {f for f, found in levels.items() if found > max(200.0, loudest / 2)}
            looks.append(frozenset(loud))
        return cls(looks)

    def first(self, *tones: int) -> float:
        """The seconds until these tones are heard; infinite if they never are."""
        wanted = frozenset(tones)
        found = (at for at, look in enumerate(self.looks) if wanted <= look)
        return next(found, math.inf) * LOOK

    def longest_silence(self, before: float = math.inf) -> float:
        longest = now = 0
        for at, look in enumerate(self.looks):
            now = 0 if look else now + 1
            if at * LOOK < before:
                longest = max(longest, now)
        return longest * LOOK


@pytest.fixture(scope="module")
def far_end() -> EventSocket:
    (address,) = parse_list(f"far-end={FAR_END}")
    connection = EventSocket(address.host, address.port, address.password)
    connection.connect()
    return connection


def hear(
    ringback: Ringback,
    far_end: EventSocket,
    path: Path,
    destination: str | list[str],
    chosen: str | None = None,
) -> tuple[str, Heard]:
    """Place a call to the destination with ``waitForPickup=12``; its id, and what the source
    heard until the call was over or talked for a second."""
    file = path / "heard.wav"
    view = {} if chosen is None else {"ringback": chosen}
    call_id = ringback.place(PHONE, destination, "?waitForPickup=12&callDuration=30", **view)
    limit = time.monotonic() + LIMIT
    while not (uuid := phone_of(far_end)):
        assert time.monotonic() < limit, "the phone was not called"
    far_end.api(f"uuid_setvar {uuid} RECORD_READ_ONLY true")
    far_end.api(f"uuid_record {uuid} start {file}")
    ringback.wait(call_id, lambda call: call.ended is not None or call.bridged is not None)
    ringback.store.wait(call_id, lambda call: call.ended is not None, 1.0)
    ringback.request("DELETE", f"@me/@self/{call_id}")
    ringback.ended(call_id)
    while phone_of(far_end):
        assert time.monotonic() < limit, "the phone was not hung up"
    return call_id, Heard.read(file)


def phone_of(far_end: EventSocket) -> str | None:
    return answered_on(far_end, PHONE)


def answered_on(far_end: EventSocket, number: str) -> str | None:
    """The answered channel of a phone on the far end."""
    rows = json.loads(far_end.api("show channels as json")).get("rows", [])
    answered = (r["uuid"] for r in rows if r["dest"] == number and r["callstate"] == "ACTIVE")
    return next(answered, None)


@pytest.mark.parametrize(
    ("destination", "tones", "pause"),
    [
        # Says nothing for five seconds, then rings. Germany, Great Britain, the US.
        ("+49301234522", (425,), 4.0),
        ("+442079460922", (400, 450), 2.0),
        ("+12125550122", (440, 480), 4.0),
    ],
)
def test_the_tone_of_the_country_begins_at_once(
    ringback: Ringback,
    far_end: EventSocket,
    tmp_path: Path,
    destination: str,
    tones: tuple[int, ...],
    pause: float,
) -> None:
    _, heard = hear(ringback, far_end, tmp_path, destination)
    assert heard.first(*tones) <= 0.3
    assert heard.longest_silence() <= pause + 2 * LOOK
    # It talks at the end: the far end's own tone.
    assert heard.first(440) < math.inf


def test_an_announcement_of_the_network_is_heard(
    ringback: Ringback, far_end: EventSocket, tmp_path: Path
) -> None:
    call_id, heard = hear(ringback, far_end, tmp_path, "+49301234521")
    assert heard.first(1000) <= 0.5
    assert heard.longest_silence() <= 2 * LOOK
    call = ringback.ended(call_id)
    assert (call.bridged, call.hangup_cause, call.disposition) == (None, "UNALLOCATED_NUMBER", 2)


@pytest.mark.parametrize(
    ("chosen", "tones"), [("gb", (400, 450)), ("none", ()), ("network", (425,))]
)
def test_a_view_chooses(
    ringback: Ringback,
    far_end: EventSocket,
    tmp_path: Path,
    chosen: str,
    tones: tuple[int, ...],
) -> None:
    """The destination says nothing for five seconds, rings for five, then answers with 440 Hz."""
    _, heard = hear(ringback, far_end, tmp_path, "+49301234522", chosen)
    silence = {"gb": 2.0, "none": 10.0, "network": 5.0}[chosen]
    begins = heard.first(*(tones or (440,)))
    assert begins <= 0.3 if chosen == "gb" else silence - 0.5 <= begins <= silence + 0.5
    assert heard.longest_silence(before=begins) <= silence + 0.5


def test_several_destinations_are_a_tone(
    ringback: Ringback, far_end: EventSocket, tmp_path: Path
) -> None:
    """The network's sound of one of them is not heard."""
    _, heard = hear(ringback, far_end, tmp_path, ["+49301234521", "+49301234508"])
    assert heard.first(425) <= 0.3
    assert heard.first(1000) == math.inf


def test_a_real_phone_that_answers_is_heard(
    ringback: Ringback, far_end: EventSocket, tmp_path: Path
) -> None:
    """Early media do not count as an answer: the state is bridged only after it."""
    call_id, heard = hear(ringback, far_end, tmp_path, "+49301234516")
    call = ringback.ended(call_id)
    (destination,) = call.destinations
    assert destination.early_media and call.bridged
    if destination.answered:
        assert call.bridged >= destination.answered > destination.early_media
    assert heard.first(440) < math.inf
