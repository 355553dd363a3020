"""Frames and events from the bytes of a real switch, however the network cuts them."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freeswitch.events import Event
from freeswitch.framing import MAX_BODY, MAX_EVENT, MAX_HEADERS, Frame, FrameParser, FramingError

DATA = Path(__file__).parent / "data"
RECORDED = {form: (DATA / f"raw-{form}.bin").read_bytes() for form in ("plain", "json")}
FRAMES = {form: FrameParser().feed(data) for form, data in RECORDED.items()}


def events() -> list[Event]:
    return [Event.from_json(f.body) for f in FRAMES["json"] if f.content_type == "text/event-json"]


@pytest.mark.parametrize("form", RECORDED)
def test_a_recorded_connection_is_read_to_its_last_byte(form: str) -> None:
    frames = FRAMES[form]
    assert frames[0] == Frame({"Content-Type": "auth/request"})
    assert frames[1].headers["Reply-Text"] == "+OK accepted"
    assert frames[-1].content_type == "text/disconnect-notice"
    assert frames[-1].body.endswith(b"http://www.cluecon.com/\n")
    spelled = "".join(
        "".join(f"{key}: {value}\n" for key, value in frame.headers.items())
        + "\n"
        + frame.body.decode()
        for frame in frames
    )
    assert spelled.encode() == RECORDED[form]


@pytest.mark.parametrize("form", RECORDED)
def test_split_in_two_at_every_offset(form: str) -> None:
    data = RECORDED[form]
    for offset in range(len(data) + 1):
        parser = FrameParser()
        assert parser.feed(data[:offset]) + parser.feed(data[offset:]) == FRAMES[form], offset


@settings(deadline=None)
@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_any_chunks_give_the_same_frames(form: str, choice: st.DataObject) -> None:
    data = RECORDED[form]
    cuts = choice.draw(st.lists(st.integers(0, len(data)), max_size=60).map(sorted))
    parser, frames = FrameParser(), []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        frames += parser.feed(data[start:end])
    assert frames == FRAMES[form]


@pytest.mark.parametrize("form", RECORDED)
def test_byte_by_byte(form: str) -> None:
    parser = FrameParser()
    frames = [frame for byte in RECORDED[form] for frame in parser.feed(bytes([byte]))]
    assert frames == FRAMES[form]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(deadline=None)
@given(st.lists(st.dictionaries(text, text), max_size=5), st.integers(1, 50))
def test_any_json_body_comes_back(bodies: list[dict[str, str]], size: int) -> None:
    spelled = [json.dumps(b, ensure_ascii=False, indent=1).encode() for b in bodies]
    data = b"".join(
        b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (len(s), s) for s in spelled
    )
    parser, frames = FrameParser(), []
    for start in range(0, len(data), size):
        frames += parser.feed(data[start : start + size])
    assert [frame.body for frame in frames] == spelled


def test_outer_headers_are_taken_as_they_are() -> None:
    data = "Content-Type: command/reply\nReply-Text: 100%25 %0A: a: b \x0b\x85\u2028c\r\n\n"
    (frame,) = FrameParser().feed(data.encode())
    assert frame.headers["Reply-Text"] == "100%25 %0A: a: b \x0b\x85\u2028c\r"
    (frame,) = FrameParser().feed(b"Reply-Text: \n\n")
    assert frame.headers == {"Reply-Text": ""}
    (frame,) = FrameParser().feed(b"Reply-Text:\nContent-Type: command/reply\n\n")
    assert frame.headers == {"Reply-Text": "", "Content-Type": "command/reply"}


@pytest.mark.parametrize("size", [1000, 10**9])
def test_a_body_that_nobody_asked_for_is_dropped_if_it_is_too_long(size: int) -> None:
    long = b"Content-Type: text/event-json\nContent-Length: %d\n\n" % (MAX_EVENT + 1)
    data = long + b"x" * (MAX_EVENT + 1) + b"Reply-Text: +OK\n\n"
    parser, frames, kept = FrameParser(), [], 0
    for start in range(0, len(data), size):
        frames += parser.feed(data[start : start + size])
        kept = max(kept, len(parser._buffer))
    dropped, reply = frames
    assert (dropped.body, dropped.dropped) == (b"", MAX_EVENT + 1)
    assert reply.headers == {"Reply-Text": "+OK"}
    assert kept <= 2 * size


@pytest.mark.parametrize(
    "data",
    [
        b"no header\n\n",
        b"\n\n",
        b"\nContent-Type: a\n\n",
        b"Content-Type:a\n\n",
        b": a\n\n",
        b"A: b\nc\n\n",
        b"A: b\nA: b\n\n",
        b'{"A": "b"}\n\n',
        b"A b: c\n\n",
        b"Content-Length: \n\n",
        b"Content-Length: -1\n\n",
        b"Content-Length: +1\n\n",
        b"Content-Length: 1_0\n\n",
        b"Content-Length: 0x10\n\n",
        "Content-Length: ٣\n\n".encode(),
        b"Content-Length: %d\n\n" % (MAX_BODY + 1),
        b"Content-Length: " + b"9" * 9999 + b"\n\n",
        b"a: " + b"b" * MAX_HEADERS,
        b"a: " + b"b" * MAX_HEADERS + b"\n\n",
    ],
)
def test_bytes_that_are_no_frames(data: bytes) -> None:
    parser = FrameParser()
    with pytest.raises(FramingError) as raised:
        parser.feed(b"A: b\n\n" + data)
    assert raised.value.frames == [Frame({"A": "b"})]


def test_the_largest_body_comes_in_small_pieces() -> None:
    parser, piece = FrameParser(), b"x" * 4096
    head = b"Content-Type: api/response\nContent-Length: %d\n\n"
    assert parser.feed(head % MAX_BODY) == []
    frames = [f for _ in range(MAX_BODY // len(piece)) for f in parser.feed(piece)]
    assert [len(f.body) for f in frames] == [MAX_BODY]


def test_the_recorded_events() -> None:
    assert [event.name for event in events()] == [
        "CHANNEL_CREATE",
        "CHANNEL_ANSWER",
        "BACKGROUND_JOB",
        "CHANNEL_HANGUP_COMPLETE",
    ]
    assert events()[0].headers["variable_note"] == "café"


def test_the_result_of_a_background_job_is_its_body() -> None:
    job = events()[2]
    assert job.body is not None
    assert job.body.startswith("+OK ")
    assert job.headers["Content-Length"] == str(len(job.body)) == "41"
    assert "_body" not in job.headers
    assert events()[0].body is None


@settings(deadline=None)
@given(text, text)
def test_a_json_value_is_only_a_value(name: str, body: str) -> None:
    value = f"{name}\nUnique-ID: forged\n\n%0AUnique-ID%3A%20forged"
    data = json.dumps({"Event-Name": "CUSTOM", "variable_name": value, "_body": body})
    event = Event.from_json(data.encode())
    assert event == Event("CUSTOM", {"Event-Name": "CUSTOM", "variable_name": value}, body)


def test_a_name_in_latin_1_costs_no_event() -> None:
    event = Event.from_json(b'{"Event-Name":"CUSTOM","name":"Jos\xe9","array":["a","b"]}')
    assert dict(event.headers) == {"Event-Name": "CUSTOM", "name": "Jos\ufffd", "array": ["a", "b"]}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"1", b"{}", b'{"Event-Name":1}', b"\xff\xfe"),
        pytest.param(b"[" * 100_000, id="nested"),
        pytest.param(b'{"Event-Name":"CUSTOM","a":' + b'{"b":' * 100_000, id="nested objects"),
        pytest.param(b'{"Event-Name":"CUSTOM","a":' + b"[" * 900 + b"]" * 900 + b"}", id="900"),
        *(b'{"Event-Name":"CUSTOM","a":%b}' % value for value in (b"1", b"null", b"{}", b"[1]")),
        b'{"Event-Name":"CUSTOM","_body":["a"]}',
        b'{"Event-Name":"CUSTOM","a":NaN}',
        pytest.param(b'{"Event-Name":"CUSTOM","a":%b}' % (b"9" * 5000), id="digits"),
    ],
)
def test_no_event_in_json(data: bytes) -> None:
    with pytest.raises(ValueError):
        Event.from_json(data)


letters = st.characters() | st.sampled_from('"\\,:[]{}\n\0')


def texts(headers: dict[str, object]) -> bool:
    """Whether every value is a text or a list of texts, and the body a text."""
    return all(
        isinstance(value, str)
        or (name != "_body" and isinstance(value, list) and all(isinstance(v, str) for v in value))
        for name, value in headers.items()
    )


words = st.text(letters, max_size=8) | st.sampled_from(("Unique-ID", "_body", "Event-Name"))


@settings(deadline=None, max_examples=500)
@given(
    st.lists(st.tuples(words, words | st.lists(words, max_size=3)), max_size=6),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 1000), st.binary(max_size=2)), max_size=2),
)
def test_json_is_read_as_python_reads_it(
    pairs: list[tuple[str, str | list[str]]], escaped: bool, damage: list[tuple[int, bytes]]
) -> None:
    """Names that come twice, arrays, what is no UTF-8 or no JSON at all."""
    spelled = [
        f"{json.dumps(name, ensure_ascii=escaped)}:{json.dumps(value, ensure_ascii=escaped)}"
        for name, value in [("Event-Name", "CUSTOM"), *pairs]
    ]
    data = ("{" + ",".join(spelled) + "}").encode(errors="surrogatepass")
    for offset, junk in damage:
        data = data[:offset] + junk + data[offset:]
    try:
        headers = json.loads(data.decode(errors="replace"), strict=False)
        whole = re.sub("[\ud800-\udfff]", "\ufffd", json.dumps(headers, ensure_ascii=False))
        headers = json.loads(whole)
    except ValueError:
        headers = None
    if headers is None or not isinstance(headers.get("Event-Name"), str) or not texts(headers):
        with pytest.raises(ValueError):
            Event.from_json(data)
    else:
        body = headers.pop("_body", None)
        assert Event.from_json(data) == Event(headers["Event-Name"], headers, body)
