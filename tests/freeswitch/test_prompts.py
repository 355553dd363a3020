"""What a leg hears, read back by the simulator's parser, and what may not stand in a command."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from app.calls.model import MAX_ANNOUNCEMENT as OF_A_CALL
from freeswitch.dialstring import Attempt, CallerId, gateway_target, originate
from freeswitch.prompts import MAX_ANNOUNCEMENT, Gate, Sound
from freeswitch.simulator.dialstring import enterprise_parts, parse, split
from freeswitch.simulator.execution import inline

FILE = Sound("/sounds/press-one.wav")
SPOKEN = Sound(text="Dieser Anruf wird aufgezeichnet.", voice="flite|slt", language="de-DE")
KEY = Gate(key="1", prompt=FILE, seconds=16)
ANNOUNCEMENT = Gate(SPOKEN)


def attempt(gate: Gate | None = None) -> Attempt:
    return Attempt(str(uuid4()), gateway_target("pstn", "15500"), gate=gate)


def build(sources: Any, destinations: Any, **more: Any) -> tuple[str, str]:
    """What is dialled first, and what is run then."""
    command = originate(
        sources,
        destinations,
        variables={"ringback_call": "c0ffee"},
        ring_timeout=25,
        duration=600,
        source_sees=CallerId("1111"),
        destination_sees=CallerId("2222"),
        **more,
    )
    _, dialled, *then = split(command, " ", 10)
    return dialled, " ".join(then)


def variables(text: str) -> list[dict[str, str]]:
    """What each leg of a dial string has, as the switch sets it: what all share comes last."""
    shared, parts = enterprise_parts(text) or ({}, [text])
    found = []
    for part in parts:
        read = parse(part)
        peers = [peer for peers in read.alternatives for peer in peers]
        found += [{**peer.variables, **read.variables, **shared} for peer in peers]
    return found


def bridged(then: str) -> list[dict[str, str]]:
    if not then.endswith(" inline"):
        return variables(then.removeprefix("&bridge(").removesuffix(")"))
    steps = inline(then.removesuffix(" inline"))
    return [leg for name, text in steps if name == "bridge" for leg in variables(text)]


@pytest.mark.parametrize(
    "shape",
    [
        lambda *gates: [[attempt(gate)] for gate in gates],
        lambda *gates: [[attempt(gate) for gate in gates]],
        lambda *gates: [[attempt(gates[0]), attempt(gates[0])], *([attempt(g)] for g in gates[1:])],
    ],
    ids=["at once", "alternatives", "both"],
)
def test_a_key(shape: Callable[..., Any]) -> None:
    sources, destinations = build(shape(KEY, KEY), shape(KEY, KEY))
    for legs in (variables(sources), bridged(destinations)):
        for leg in legs:
            assert leg["group_confirm_key"] == "1"
            assert leg["group_confirm_file"] == "/sounds/press-one.wav"
            assert (leg["group_confirm_timeout"], leg["leg_timeout"]) == ("16", "25")
    (source, *_) = variables(sources)
    # The last phone to answer has all of its time.
    assert source["originate_timeout"] == source["call_timeout"] == "43"
    assert source["execute_on_answer"] == "sched_hangup +616 allotted_timeout"


@pytest.mark.parametrize("gates", [[KEY], [KEY, KEY], [ANNOUNCEMENT]])
def test_a_cap_counts_from_the_answer_of_a_destination_that_hears_a_prompt(
    gates: list[Gate],
) -> None:
    parties = [[attempt(gate) for gate in gates]]
    _, destinations = build([[attempt()]], parties, destination_left=4)
    for leg in bridged(destinations):
        assert leg["execute_on_answer"] == "sched_hangup +4 facility_not_subscribed"
    _, destinations = build([[attempt()]], parties)
    assert not any("execute_on_answer" in leg for leg in bridged(destinations))


def test_who_need_not_is_not_asked() -> None:
    sources, destinations = build([[attempt(KEY)], [attempt()]], [[attempt()]])
    must, free = variables(sources)
    assert must["group_confirm_key"] == "1" and "group_confirm_key" not in free
    assert free["leg_timeout"] == "25"
    (destination,) = bridged(destinations)
    assert not [name for name in destination if name.startswith("group_confirm")]
    assert must["call_timeout"] == "26"


def test_without_prompts_a_command_is_as_it_was() -> None:
    sources, destinations = build([[attempt()]], [[attempt()]])
    (source,), (destination,) = variables(sources), bridged(destinations)
    assert source["originate_timeout"] == source["call_timeout"] == "26"
    assert source["execute_on_answer"] == "sched_hangup +600 allotted_timeout"
    assert "leg_timeout" not in source and "leg_timeout" not in destination


def test_an_announcement_to_the_destination() -> None:
    _, destinations = build([[attempt()]], [[attempt(ANNOUNCEMENT)]])
    (leg,) = bridged(destinations)
    assert leg["group_confirm_key"] == "exec"
    assert leg["group_confirm_file"] == "playback say:Dieser Anruf wird aufgezeichnet."
    assert (leg["tts_engine"], leg["tts_voice"], leg["language"]) == ("flite", "slt", "de-DE")
    assert leg["group_confirm_timeout"] == "60"


def test_an_announcement_and_a_key_are_one_prompt() -> None:
    _, destinations = build([[attempt()]], [[attempt(Gate(SPOKEN, "*9", FILE, 76))]])
    (leg,) = bridged(destinations)
    assert leg["group_confirm_key"] == "*9"
    played = leg["group_confirm_file"].split(leg["playback_delimiter"])
    assert played == ["say:Dieser Anruf wird aufgezeichnet.", "/sounds/press-one.wav"]


def test_an_announcement_to_the_source() -> None:
    sources, then = build(
        [[attempt()]], [[attempt(ANNOUNCEMENT)], [attempt(KEY), attempt(KEY)]], announcement=SPOKEN
    )
    (source,) = variables(sources)
    assert (source["tts_engine"], source["language"]) == ("flite", "de-DE")
    assert then.endswith(" inline")
    (played, bridge) = inline(then.removesuffix(" inline"))
    assert played == ("playback", "say:Dieser Anruf wird aufgezeichnet.")
    assert bridge[0] == "bridge"
    assert [leg["group_confirm_key"] for leg in variables(bridge[1])] == ["exec", "1", "1"]


def test_a_language_of_the_destination_wins_over_that_of_the_source() -> None:
    spanish = Sound("phrase:grabado", language="es")
    _, then = build([[attempt()]], [[attempt(Gate(spanish))]], announcement=SPOKEN)
    ((_, (_, bridge)),) = [inline(then.removesuffix(" inline"))]
    assert parse(bridge).variables["language"] == "es"


@pytest.mark.parametrize(
    "gate",
    [
        Gate(),
        Gate(key="1"),
        Gate(key="", prompt=FILE),
        Gate(key="1", prompt=FILE, seconds=0),
        Gate(key="1", prompt=FILE, seconds=661),
        Gate(key="exec", prompt=FILE),
        Gate(key="1234567890", prompt=FILE),
        Gate(key="1,x=y", prompt=FILE),
        Gate(key="١", prompt=FILE),
        *(
            Gate(Sound(file))
            for file in (
                "",
                "a b",
                "/a/../b",
                "../b",
                "/.b",
                "a)b",
                "a,b",
                "a&b",
                "a!b",
                "${x}",
                "a]b",
                "tone_stream://%(1,1,1)",
                "silence_stream://-1",
                "http://example.com/a.wav",
                "shell_stream:///bin/sh",
                "{x=1}a",
                "say:hello",
                "a\n",
                "a:_:b",
            )
        ),
        *(
            Gate(Sound(text=text, voice="flite|slt"))
            for text in (
                "",
                " a",
                "a,b",
                "it's",
                'a"b',
                "a\\b",
                "a!b",
                "${x}",
                "a&b",
                "a|b",
                "a\nb",
            )
        ),
        *(Gate(Sound(text="a", voice=voice)) for voice in (None, "", "flite", "a|b|c", "a|b,c")),
        Gate(Sound("a", language="de,x=1")),
        Gate(Sound("a", language="DE")),
    ],
    ids=repr,
)
def test_what_cannot_stand_in_a_command_is_refused(gate: Gate) -> None:
    with pytest.raises(ValueError, match=r"prompt|gate"):
        build([[attempt(gate)]], [[attempt()]])
    with pytest.raises(ValueError, match=r"prompt|gate"):
        build([[attempt()]], [[attempt(gate)]])


def test_the_longest_announcement_is_one_number() -> None:
    assert MAX_ANNOUNCEMENT == OF_A_CALL
