"""What both parties hear while one is asked for a key, and of announcements, on a real switch."""

import array
import math
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.calls.model import Call
from freeswitch.event_socket import EventSocket
from tests.integration.conftest import LIMIT, REAL, Ringback
from tests.integration.test_accept import hang_up, place, with_prompts
from tests.integration.test_heard import LOOK, Heard, answered_on
from tests.integration.test_heard import far_end as far_end

pytestmark = pytest.mark.skipif(not REAL, reason="the simulator has no audio")

# Both answer at once, and send no sound of their own.
SOURCE, DESTINATION = "3150017", "3150117"
RATE = 8000
# Seconds of the prompt, and of the pause in which the switch waits for the key.
LONG, PAUSE = 2, 5
PROMPT, TONE = 1000, (440, 480)


@pytest.fixture(scope="module")
def ringback(ringback: Ringback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ringback]:
    """The prompt is a tone of 1,000 Hz."""
    folder = tmp_path_factory.mktemp("prompts")
    turn = 2 * math.pi * PROMPT / RATE
    with wave.open(str(folder / "prompt.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        samples = (int(8000 * math.sin(turn * at)) for at in range(LONG * RATE))
        file.writeframes(array.array("h", samples).tobytes())
    prompts = f'[[prompts]]\nname = "tone"\nfile = "{folder}/prompt.wav"\n'
    with with_prompts(ringback, folder, prompts) as ringback:
        yield ringback


def record(far_end: EventSocket, number: str, file: Path) -> None:
    """Record what a phone hears from its answer on."""
    limit = time.monotonic() + LIMIT
    while not (uuid := answered_on(far_end, number)):
        assert time.monotonic() < limit, f"{number} was not called"
    far_end.api(f"uuid_setvar {uuid} RECORD_READ_ONLY true")
    far_end.api(f"uuid_record {uuid} start {file}")


def end(ringback: Ringback, far_end: EventSocket, call_id: str) -> Call:
    call = hang_up(ringback, call_id)
    limit = time.monotonic() + LIMIT
    while any(answered_on(far_end, number) for number in (SOURCE, DESTINATION)):
        assert time.monotonic() < limit, "a phone was not hung up"
    return call


def test_the_destination_hears_the_prompt_and_the_source_the_tone(
    ringback: Ringback, far_end: EventSocket, tmp_path: Path
) -> None:
    accept = {"prompt": "tone", "of": "destination", "timeout": 20}
    call_id = place(ringback, SOURCE, DESTINATION, accept=accept)
    record(far_end, SOURCE, tmp_path / "source.wav")
    record(far_end, DESTINATION, tmp_path / "destination.wav")
    call = ringback.wait(call_id, lambda call: any(leg.unaccepted for leg in call.legs))
    # Long enough to hear the prompt a second time.
    ringback.store.wait(call_id, lambda call: call.bridged is not None, LONG + PAUSE + 1.0)
    ringback.api(f"uuid_recv_dtmf {call.destinations[0].uuid} 1")
    ringback.wait(call_id, lambda call: call.bridged is not None)
    end(ringback, far_end, call_id)
    source = Heard.read(tmp_path / "source.wav")
    assert source.first(*TONE) <= 0.3 and source.first(PROMPT) == math.inf
    # The pause of the tone itself.
    assert source.longest_silence() <= 4.0 + 2 * LOOK
    destination = Heard.read(tmp_path / "destination.wav")
    assert destination.first(PROMPT) <= 0.5 and destination.first(440) == math.inf
    assert PAUSE - 0.5 <= destination.longest_silence() <= PAUSE + 0.5


def test_the_source_hears_its_announcement_first(
    ringback: Ringback, far_end: EventSocket, tmp_path: Path
) -> None:
    """Then the tone: the destination rings."""
    announce = {"prompt": "tone", "to": "source"}
    call_id = place(ringback, SOURCE, "3150108", announce=announce)
    record(far_end, SOURCE, tmp_path / "source.wav")
    ringback.wait(call_id, lambda call: call.destinations[0].ringing is not None)
    ringback.store.wait(call_id, lambda call: call.ended is not None, 2.0)
    end(ringback, far_end, call_id)
    heard = Heard.read(tmp_path / "source.wav")
    assert heard.first(PROMPT) <= 0.3
    assert LONG - 0.5 <= heard.first(*TONE) <= LONG + 0.5
