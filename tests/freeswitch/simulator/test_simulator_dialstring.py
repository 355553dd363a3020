"""Dial strings as FreeSWITCH 1.10.12 reads them: every example was tried on one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch.simulator.dialstring import (
    DialStringError,
    Peer,
    application,
    enterprise_parts,
    parse,
    split,
)

TARGET = "sofia/gateway/pstn/15500"


def words(command: str) -> str:
    """The dial string of an originate command: its first word, unquoted."""
    return split(f"{command} &park()", " ", 10)[0]


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("{a=1,b=2}", {"a": "1", "b": "2"}),
        ("{a='x y',b=2}", {"a": "x y", "b": "2"}),
        (r"{a=it\'s,b=2}", {"a": "it's", "b": "2"}),
        (r"{a='it\'s',b=2}", {"a": "it's", "b": "2"}),
        ("{a=a=b=c}", {"a": "a=b=c"}),
        ("{^^:a=a,b:b=3}", {"a": "a,b", "b": "3"}),
        ("{a=1}{b=2}", {"a": "1", "b": "2"}),
        ("{a=1,a=2}", {"a": "2"}),
        ("{a=1,A=2}", {"A": "2"}),
        ("{a=,b=1}", {"b": "1"}),
        ("{a,b=1}", {"b": "1"}),
        ("<a=1><b=2>{c=3}", {"a": "1", "b": "2", "c": "3"}),
        ("{a={x},b=2}", {"a": "{x}", "b": "2"}),
        ("{a=José,b=日本}", {"a": "José", "b": "日本"}),
    ],
)
def test_variables_of_the_whole_attempt(text: str, variables: dict[str, str]) -> None:
    assert parse(words(text + TARGET)).variables == variables


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("[a=1,b=2]", {"a": "1", "b": "2"}),
        (r"[a=a\,b,b=2]", {"a": "a,b", "b": "2"}),
        ("[^^:a='a,b':b=2]", {"a": "a,b", "b": "2"}),
        ("[^^;a=1,2;b=3]", {"a": "1,2", "b": "3"}),
        ("[a=1][b=2]", {"a": "1", "b": "2"}),
        (r"[a='O\'Brien\, Jr',b=2]", {"a": "O'Brien, Jr,b=2"}),
    ],
)
def test_variables_of_a_leg(text: str, variables: dict[str, str]) -> None:
    [[peer]] = parse(words(text + TARGET)).alternatives
    assert (peer.endpoint, peer.data) == ("sofia", "gateway/pstn/15500")
    assert peer.variables == variables


def test_alternatives_and_peers() -> None:
    dialled = parse("{x=1}[a=1]loopback/1,user/2|[b=2]sofia/gateway/g/3")
    assert dialled.alternatives == [
        [Peer("loopback", "1", {"a": "1"}), Peer("user", "2")],
        [Peer("sofia", "gateway/g/3", {"b": "2"})],
    ]


def test_a_value_can_cut_an_alternative() -> None:
    dialled = parse(f"[a=x|y]{TARGET}|{TARGET}")
    assert [len(peers) for peers in dialled.alternatives] == [0, 1, 1]


def test_blanks_between_braces_are_not_skipped() -> None:
    [[peer]] = parse(f"{{a=1}} {{b=2}}{TARGET}").alternatives
    assert peer.endpoint == "{b=2}sofia"


def test_128_peers_and_what_sticks_to_the_last() -> None:
    [peers] = parse(",".join(f"loopback/{number}" for number in range(130))).alternatives
    assert len(peers) == 128
    assert peers[-1].data == "127,loopback/128,loopback/129"


@pytest.mark.parametrize("text", ["", "{a=1}", "{a=1", "<a=1"])
def test_nobody_to_dial(text: str) -> None:
    with pytest.raises(DialStringError, match="DESTINATION_OUT_OF_ORDER"):
        parse(text)


def test_nested_variables_are_allowed_by_a_text_anywhere() -> None:
    assert not parse("{a=${x}}loopback/1").nested_variables
    assert parse("[b=origination_nested_vars=true]loopback/1").nested_variables


def test_enterprise() -> None:
    assert enterprise_parts(TARGET) is None
    assert enterprise_parts(f"<a=1>{{b=2}}{TARGET}:_:{TARGET}") == (
        {"a": "1"},
        [f"{{b=2}}{TARGET}", TARGET],
    )
    assert enterprise_parts("{a=x:_:y}loopback/1") == ({}, ["{a=x", "y}loopback/1"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("&park()", ("park", "")),
        ("&park", ("park", "")),
        ("&bridge(sofia/gateway/g/(1),x)", ("bridge", "sofia/gateway/g/(1")),
        ("&", None),
        ("1000", None),
    ],
)
def test_application(text: str, expected: tuple[str, str] | None) -> None:
    assert application(text) == expected


def test_an_unpaired_quote_swallows_the_rest_of_the_command() -> None:
    assert split("{a=it's}loopback/1 &park()", " ", 10) == ["{a=it's}loopback/1 &park()"]
    assert split("a 'b c' d\\ e", " ", 10) == ["a", "b c", "d\\ e"]


NASTY = st.text(
    st.sampled_from(list("ab'\\,|=<>{}[]() ^:;/$\"\n\x01\x02é")) | st.characters(codec="utf-8"),
    max_size=60,
)


@given(NASTY)
def test_no_text_breaks_the_reader(text: str) -> None:
    application(text)
    for part in enterprise_of(text):
        try:
            dialled = parse(part)
        except DialStringError:
            continue
        assert all(isinstance(peer, Peer) for peers in dialled.alternatives for peer in peers)


def enterprise_of(text: str) -> list[str]:
    try:
        parts = enterprise_parts(text)
    except DialStringError:
        return []
    return parts[1] if parts else [text]


@given(NASTY, st.sampled_from(list(" ,|=:^'\\")), st.integers(1, 5))
def test_no_text_breaks_splitting(text: str, delimiter: str, limit: int) -> None:
    assert len(split(text, delimiter, limit)) <= limit


@given(st.lists(st.text(st.sampled_from("abc 123éü"), min_size=1).map(str.strip), min_size=1))
def test_plain_values_come_out_as_they_went_in(values: list[str]) -> None:
    named = {f"v{number}": value for number, value in enumerate(values) if value}
    text = ",".join(f"{name}='{value}'" for name, value in named.items())
    assert parse(f"{{{text},z=1}}loopback/1").variables == {**named, "z": "1"}
