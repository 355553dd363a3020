"""Commands in and events out, byte for byte as in the recordings of a real switch."""

import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch.simulator.events import SwitchEvent
from freeswitch.simulator.server import Command, CommandParser, EventFilter, passes

DATA = Path(__file__).parents[1] / "data"

COMMANDS = (
    b"auth ClueCon\n\n\n\napi status\r\n\r\nbgapi originate x\nJob-UUID: 1\nFoo:  b: c\n\n"
    b"sendmsg u\ncontent-length: 4\n\na\n\nbexit\n\n"
)


@given(st.lists(st.integers(0, len(COMMANDS))))
def test_commands_do_not_depend_on_segments(cuts: list[int]) -> None:
    parser = CommandParser()
    edges = [0, *sorted(cuts), len(COMMANDS)]
    commands = [
        command
        for start, end in itertools.pairwise(edges)
        for command in parser.feed(COMMANDS[start:end])
    ]
    assert commands == [
        Command("auth ClueCon"),
        Command("api status"),
        Command("bgapi originate x", {"job-uuid": "1", "foo": "b: c"}),
        Command("sendmsg u", {"content-length": "4"}),
        Command("exit"),
    ]


def test_a_command_of_ten_megabytes_is_too_long() -> None:
    with pytest.raises(ValueError, match="at most 10485760 bytes"):
        CommandParser().feed(b"x" * 10_485_761)


def recorded_events(kind: str) -> list[tuple[bytes, bytes]]:
    """The event frames of a recording, and the body of each."""
    data = (DATA / f"raw-{kind}.bin").read_bytes()
    head = rb"Content-Length: (\d+)\nContent-Type: text/event-" + kind.encode() + rb"\n\n"
    frames = []
    for match in re.finditer(head, data):
        end = match.end() + int(match[1])
        frames.append((data[match.start() : end], data[match.end() : end]))
    # The switch writes the Hangup-Cause of CHANNEL_HANGUP_COMPLETE twice, which no reader sees.
    return [(frame, body) for frame, body in frames if b"CHANNEL_HANGUP_COMPLETE" not in body]


def test_plain_events_are_written_as_by_the_switch() -> None:
    frames = recorded_events("plain")
    assert len(frames) > 2
    for frame, content in frames:
        block, _, body = content.decode().partition("\n\n")
        headers = dict(line.split(": ", 1) for line in block.split("\n"))
        has_body = headers.pop("Content-Length", None)
        decoded = {name: unquote(value) for name, value in headers.items()}
        event = SwitchEvent(decoded["Event-Name"], decoded, body if has_body else None)
        assert event.plain() == frame


def test_json_events_are_written_as_by_the_switch() -> None:
    frames = recorded_events("json")
    assert len(frames) > 2
    for frame, content in frames:
        headers = json.loads(content)
        headers.pop("Content-Length", None)
        body = headers.pop("_body", None)
        assert SwitchEvent(headers["Event-Name"], headers, body).json() == frame


def test_plain_events_leave_what_looks_encoded_alone() -> None:
    event = SwitchEvent("X", {"Event-Name": "X", "a": "100%25 %zz", "b": "", "c": ["1", "2 3"]})
    assert event.plain() == (
        b"Content-Length: 71\nContent-Type: text/event-plain\n\n"
        b"Event-Name: X\na: 100%25%20%25zz\nb: _undef_\nc: ARRAY%3A%3A1%7C%3A2%203\n\n"
    )


@given(st.dictionaries(st.text(min_size=1), st.text() | st.lists(st.text()), min_size=1))
def test_any_event_is_json(headers: dict[str, str | list[str]]) -> None:
    content = SwitchEvent("X", headers).json().partition(b"\n\n")[2]
    assert json.loads(content) == headers


def test_the_body_of_a_job() -> None:
    event = SwitchEvent("BACKGROUND_JOB", {"Event-Name": "BACKGROUND_JOB"}, "+OK é\n")
    assert event.plain().endswith(
        b"Event-Name: BACKGROUND_JOB\nContent-Length: 7\n\n+OK \xc3\xa9\n"
    )
    assert json.loads(event.json().partition(b"\n\n")[2]) == {
        "Event-Name": "BACKGROUND_JOB",
        "Content-Length": "7",
        "_body": "+OK é\n",
    }


@pytest.mark.parametrize(
    ("filters", "sent"),
    [
        ([], True),
        ([("Event-Name", "channel_answer")], True),
        ([("event-name", "CHANNEL_HANGUP")], False),
        ([("Event-Name", "CHANNEL_HANGUP"), ("Leg", "a")], True),
        ([("Leg", "a"), ("Event-Name", "-CHANNEL_ANSWER")], False),
        ([("Event-Name", "-CHANNEL_HANGUP")], False),
        ([("Event-Name", "/^CHANNEL_/")], True),
        ([("Event-Name", "/^channel_/")], False),
        ([("Event-Name", "/^channel_/i")], True),
        ([("Event-Name", "/(/")], False),
        ([("Leg", "-/a/"), ("Leg", "a")], True),
        ([("Nothing", "x")], False),
    ],
)
def test_filters(filters: list[tuple[str, str]], sent: bool) -> None:
    event = SwitchEvent("CHANNEL_ANSWER", {"Event-Name": "CHANNEL_ANSWER", "Leg": "a"})
    assert passes(event, [EventFilter.parse(header, value) for header, value in filters]) is sent
