"""What we build, read back by the simulator's parser, which knows FreeSWITCH's rules alone."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch.dialstring import (
    GATEWAY_FAILURES,
    Attempt,
    CallerId,
    Ringback,
    bridge_inline,
    bring_in,
    check_headers,
    check_name,
    check_target,
    conference_invite,
    gateway_target,
    intercept,
    listen,
    originate,
    sandbox_target,
    valet_park_inline,
    voicemail_inline,
)
from freeswitch.simulator.dialstring import application, enterprise_parts, parse, split
from freeswitch.simulator.execution import inline

NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters='"\\'),
    min_size=1,
    max_size=64,
).filter(lambda name: not re.search(r"%[0-9A-Fa-f]{2}|\$\{", name))
NUMBERS = st.from_regex(r"\A\+?[0-9*#]{1,20}\Z")
GATEWAYS = st.from_regex(r"\A[A-Za-z0-9_.-]{1,16}\Z")
CHANNELS = st.builds(
    lambda gateway, number: Attempt(str(uuid4()), gateway_target(gateway, number)),
    GATEWAYS,
    NUMBERS,
)
PARTIES = st.lists(st.lists(CHANNELS, min_size=1, max_size=3), min_size=1, max_size=4)


def build(
    sources: list[list[Attempt]], destinations: list[list[Attempt]], name: str = "A", **more: Any
) -> str:
    given = {"variables": {"ringback_call": "c0ffee"}, "video_codecs": "PCMU,H264", **more}
    return originate(
        sources,
        destinations,
        ring_timeout=25,
        duration=600,
        source_sees=CallerId("1111", name),
        destination_sees=CallerId("+2222", name),
        **given,
    )


def read(text: str) -> tuple[dict[str, str], list[list[list[tuple[str, str]]]]]:
    """The variables of all, and the parties, each a list of alternatives (uuid, target)."""
    enterprise = enterprise_parts(text)
    if enterprise is not None:
        shared, parts = enterprise
        parties = [party for part in parts for party in read(part)[1]]
        return shared, parties
    dialled = parse(text)
    rows = [
        [(peer.variables["origination_uuid"], f"{peer.endpoint}/{peer.data}") for peer in peers]
        for peers in dialled.alternatives
    ]
    for peers in dialled.alternatives:
        for peer in peers:
            dialled.variables.update(
                {k: v for k, v in peer.variables.items() if k != "origination_uuid"}
            )
    if len(rows) == 1:
        return dialled.variables, [[row] for row in rows[0]]
    # Alternatives of one party.
    return dialled.variables, [[row for (row,) in rows]]


def destination_of(then: list[str]) -> str:
    """The dial string of the destinations: that of the one bridge, or the alternatives of bridges
    that follow each other."""
    if then[1:] != ["inline"]:
        (bridge,) = then
        called = application(bridge)
        assert called is not None and called[0] == "bridge"
        return called[1]
    first, *steps = inline(then[0])
    assert first == ("set", "continue_on_fail=" + ",".join(GATEWAY_FAILURES))
    assert steps.pop(-2) == ("set", "continue_on_fail=false")
    assert {name for name, _ in steps} == {"bridge"}
    shared, _, leg = steps[0][1].partition("}")
    legs = [argument.removeprefix(shared + "}") for _, argument in steps[1:]]
    return "|".join([f"{shared}}}{leg}", *legs])


def expected(parties: list[list[Attempt]]) -> list[list[tuple[str, str]]]:
    return [[(channel.uuid, channel.target) for channel in party] for party in parties]


@pytest.mark.parametrize(
    ("source", "destination", "timer", "next_timer"),
    [
        (None, None, "+600 allotted_timeout", None),
        (30, None, "+30 facility_not_subscribed", None),
        (600, 20, "+600 allotted_timeout", "+20 facility_not_subscribed"),
        (0, 900, "+1 facility_not_subscribed", None),
    ],
)
def test_the_sooner_of_call_and_cap_is_the_timer(
    source: int | None, destination: int | None, timer: str, next_timer: str | None
) -> None:
    command = build(
        [[Attempt(str(uuid4()), "user/210")]],
        [[Attempt(str(uuid4()), "user/211")]],
        source_left=source,
        destination_left=destination,
    )
    _, dialled, _ = split(command, " ", 8)
    variables, _ = read(dialled)
    assert variables["execute_on_answer"] == f"sched_hangup {timer}"
    assert variables.get("bridge_pre_execute_bleg_data") == next_timer
    assert ("bridge_pre_execute_bleg_app" in variables) is (next_timer is not None)


@given(PARTIES, PARTIES, NAMES)
def test_it_is_read_as_it_was_meant(
    sources: list[list[Attempt]], destinations: list[list[Attempt]], name: str
) -> None:
    command = build(sources, destinations, name)
    # The API splits its arguments at blanks: nothing else may stand beside these two.
    verb, dialled, *then = split(command, " ", 8)
    assert verb == "originate"
    bridge = destination_of(then)
    variables, parties = read(dialled)
    assert parties == expected(sources)
    shown = {
        key: unquote(value) for key, value in variables.items() if key.endswith("_caller_id_name")
    }
    assert shown == {"origination_caller_id_name": name, "effective_caller_id_name": name}
    assert variables["origination_caller_id_number"] == "1111"
    assert variables["effective_caller_id_number"] == "+2222"
    assert variables["execute_on_answer"] == "sched_hangup +600 allotted_timeout"
    assert (variables["originate_timeout"], variables["call_timeout"]) == ("26", "26")
    assert variables["ringback_call"] == "c0ffee"
    inner, parties = read(bridge)
    assert parties == expected(destinations)
    # What a client sent never stands where the switch expands ${system(...)}.
    assert inner.pop("no_throttle_limits") == "true"
    for name in [name for name in inner if name.startswith("api_on_")]:
        assert re.fullmatch(r"sched_(api|del)( [+\w-]+)+", inner.pop(name))
    assert set(inner) <= {
        *("ringback_call", "absolute_codec_string", "fail_on_single_reject", "leg_timeout"),
        *("rtp_timer_name", "outbound_redirect_fatal", "force_transfer_context"),
        *("instant_ringback", "ignore_early_media", "bridge_early_media"),
    }
    assert "$" not in command and "\n" not in command and '"' not in command


@pytest.mark.parametrize("ways", [2, 3])
@pytest.mark.parametrize("of", ["source", "destination"])
def test_all_gateways_of_a_party_share_its_time(of: str, ways: int) -> None:
    """An attempt has the later ones hung up when the time is over, and an answer deletes that."""
    one = [[Attempt(str(uuid4()), "user/1")]]
    party = [Attempt(str(uuid4()), f"sofia/gateway/g{n}/1", 5) for n in range(ways)]
    command = build(*([[party], one] if of == "source" else [one, [party]]))
    _, dialled, *then = split(command, " ", 8)
    text = dialled if of == "source" else destination_of(then)
    uuids = [attempt.uuid for attempt in party]
    for at, (peer,) in enumerate(parse(text).alternatives, start=1):
        own = peer.variables
        found = {own[name] for name in own if name.startswith("api_on_originate")}
        task = f"sched_api +26 {uuids[0]}-ring uuid_kill"
        assert found == {f"{task} {uuid} NO_ANSWER" for uuid in uuids[at:]}
        assert own["api_on_answer"] == f"sched_del {uuids[0]}-ring"
        # The last one has all the time that is left.
        assert own.get("leg_progress_timeout") == (None if at == ways else "5")


@pytest.mark.parametrize(
    ("hears", "parties", "of_source", "of_bridge"),
    [
        (
            Ringback("%(400,200,400,450);%(400,2000,400,450)"),
            1,
            "%(400,200,400,450);%(400,2000,400,450)",
            ["bridge_early_media", "ignore_early_media", "instant_ringback"],
        ),
        (Ringback("%(1000,4000,425)"), 2, "%(1000,4000,425)", ["instant_ringback"]),
        (
            Ringback("%(1000,4000,425)", at_once=False),
            1,
            "%(1000,4000,425)",
            ["bridge_early_media", "ignore_early_media"],
        ),
        (
            Ringback("local_stream://moh", network=False),
            1,
            "local_stream://moh",
            ["instant_ringback"],
        ),
        (Ringback("", at_once=False, network=False), 1, None, []),
    ],
)
def test_what_a_source_hears(
    hears: Ringback, parties: int, of_source: str | None, of_bridge: list[str]
) -> None:
    command = build(
        [[Attempt(str(uuid4()), "user/1")]],
        [[Attempt(str(uuid4()), f"user/{n}")] for n in range(parties)],
        hears=hears,
    )
    _, dialled, *then = split(command, " ", 8)
    source, bridge = parse(dialled).variables, parse(destination_of(then)).variables
    assert source.get("transfer_ringback") == of_source
    assert source["ignore_early_media"] == "true"
    assert sorted(name for name in bridge if "early" in name or "ringback" in name) == of_bridge
    assert bridge.get("ignore_early_media") in (None, "false")


@pytest.mark.parametrize("plays", ["a b", "x'y", "${x}", "%(1,2", "a,b", "/x|y", "%(1,2,3))"])
def test_a_sound_that_is_none_is_refused(plays: str) -> None:
    one = [[Attempt(str(uuid4()), "user/1")]]
    with pytest.raises(ValueError):
        build(one, one, hears=Ringback(plays))


@given(st.text())
def test_no_number_or_gateway_gets_through(text: str) -> None:
    for make in (lambda: gateway_target("pstn", text), lambda: gateway_target(text, "1")):
        try:
            make()
        except ValueError:
            continue
        assert text.isascii() and not set(text) & set(" ,|:{}[]()<>'\"\\$&^%;=@/\n")


@given(st.text())
def test_a_target_is_one_endpoint(text: str) -> None:
    try:
        check_target(text)
    except ValueError:
        return
    command = build([[Attempt(str(uuid4()), text)]], [[Attempt(str(uuid4()), text)]])
    _, dialled, rest = split(command, " ", 8)
    assert [len(party) for party in read(dialled)[1]] == [1]
    assert destination_of([rest])


@pytest.mark.parametrize(
    "name", ['say "hi"', "back\\slash", "a\nb", "zero\0", "x" * 65, "\ud800", "%0A", "a%41", "${x}"]
)
def test_a_name_that_would_not_arrive_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        check_name(name)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "user",
        "user/1,user/2",
        "user/1|user/2",
        "a/b:_:c/d",
        "[x=1]user/1",
        "user/$1",
        "user/1 &",
    ],
)
def test_a_target_that_is_more_is_refused(target: str) -> None:
    with pytest.raises(ValueError):
        check_target(target)


def test_a_limit_on_silence_stands_with_its_leg() -> None:
    watched, other = (
        Attempt(str(uuid4()), gateway_target("pstn", number), media_timeout=seconds)
        for number, seconds in (("1", 30), ("2", 0))
    )
    for command in (
        build([[watched, other]], [[other]]),
        build([[other]], [[other, watched]]),
        bridge_inline([other, watched], variables={}, ring_timeout=5, shows="1"),
    ):
        limits = re.findall(r"media_timeout_audio=(\d+)\\?,media_hold_timeout_audio=(\d+)", command)
        # A held phone is quiet: the second must be set, and larger.
        assert limits == [("30000", "86400000")]


def test_a_call_needs_two_sides_and_fits_one_originate() -> None:
    one = [[Attempt(str(uuid4()), sandbox_target("0003*00"))]]
    for sources, destinations in (([], one), (one, []), (one, [[]]), (one * 128, one)):
        with pytest.raises(ValueError):
            build(sources, destinations)


@pytest.mark.parametrize("value", ["a,b", "a}b", "${x}", "a b", "a:_:b", "a'b"])
def test_a_variable_that_needs_quoting_is_refused(value: str) -> None:
    one = [[Attempt(str(uuid4()), "user/1")]]
    with pytest.raises(ValueError):
        build(one, one, variables={"x": value})


@given(PARTIES, NAMES)
def test_who_is_brought_in_is_dialled_as_it_was_meant(
    parties: list[list[list[Attempt]]], name: str
) -> None:
    (party, *_) = parties
    uuid = str(uuid4())
    command = bring_in(
        party,
        listen(uuid, to_it=True),
        variables={"ringback_call": "c0ffee"},
        ring_timeout=25,
        duration=600,
        shows=CallerId("1111", name),
    )
    verb, dialled, what = split(command, " ", 3)
    assert (verb, application(what)) == ("originate", ("eavesdrop", uuid))
    variables, dialled_parties = read(dialled)
    assert unquote(variables["origination_caller_id_name"]) == name
    assert variables["eavesdrop_whisper_bleg"] == "true"
    assert "eavesdrop_whisper_aleg" not in variables
    assert dialled_parties == [[(channel.uuid, channel.target) for channel in party]]


def test_where_a_party_is_sent() -> None:
    uuid = "d40e8e7e-b145-45ab-ac8a-6c36ea74265c"
    there = bridge_inline(
        [Attempt(uuid, gateway_target("pstn", "15700"))],
        variables={"ringback_call": "c0ffee"},
        ring_timeout=25,
        shows="0003*210",
    )
    name, _, argument = there.partition(":")
    assert name == "bridge" and "," not in argument.replace("\\,", "")
    dialled = parse(argument.replace("\\,", ","))
    ((peer,),) = dialled.alternatives
    assert peer.variables["origination_uuid"] == uuid
    assert peer.variables["ringback_call"] == "c0ffee"
    assert valet_park_inline("ringback-3", 5901, 5999) == "valet_park:ringback-3 auto in 5901 5999"
    assert voicemail_inline("211@example.com") == "voicemail:default example.com 211"


@pytest.mark.parametrize(
    "build_it",
    [
        lambda: intercept("not-a-uuid"),
        lambda: listen("x) ${system(touch x)}"),
        lambda: valet_park_inline("a b", 1, 2),
        lambda: voicemail_inline("211 default"),
        lambda: voicemail_inline("a'b@example.com"),
        lambda: conference_invite(
            [[Attempt(str(uuid4()), "user/1")]],
            "room+pin",
            variables={},
            ring_timeout=1,
            duration=1,
            shows=CallerId("1"),
        ),
    ],
)
def test_nothing_else_gets_into_an_application(build_it: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        build_it()


HEADER_NAMES = st.text("ABab09-", min_size=1, max_size=40).map(lambda text: f"X-{text}")
HEADER_VALUES = (
    st.text("ABYZabyz0189 _.%~+*#@:!/=;?&-", min_size=1, max_size=256)
    .map(lambda text: text.strip() or "x")
    .filter(lambda text: ":_:" not in text)
)
HEADERS = st.dictionaries(HEADER_NAMES, HEADER_VALUES, max_size=3).filter(
    lambda headers: len({name.lower() for name in headers}) == len(headers)
)


def of_legs(text: str) -> list[dict[str, str]]:
    """The variables of each leg alone."""
    _, parts = enterprise_parts(text) or ({}, [text])
    alternatives = [peers for part in parts for peers in parse(part).alternatives]
    return [peer.variables for peers in alternatives for peer in peers]


def without_headers(legs: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{n: v for n, v in leg.items() if not n.startswith("sip_")} for leg in legs]


@given(PARTIES, PARTIES, HEADERS, HEADERS)
def test_headers_stand_on_the_legs_of_their_side_alone(
    sources: list[list[Attempt]],
    destinations: list[list[Attempt]],
    of_source: dict[str, str],
    of_destination: dict[str, str],
) -> None:
    plain, command = (
        build(sources, destinations, **headers)
        for headers in (
            {},
            {"source_headers": of_source, "destination_headers": of_destination},
        )
    )
    (_, dialled, *then), (_, plain_dialled, *plain_then) = (
        split(text, " ", 8) for text in (command, plain)
    )
    for text, without, headers in (
        (dialled, plain_dialled, of_source),
        (destination_of(then), destination_of(plain_then), of_destination),
    ):
        legs = of_legs(text)
        # Without the first one the destination would send the source's headers too.
        own = {f"sip_h_{name}": value for name, value in headers.items()}
        own |= {"sip_copy_custom_headers": "false"} if headers else {}
        assert all({n: v for n, v in leg.items() if n.startswith("sip_")} == own for leg in legs)
        assert without_headers(legs) == of_legs(without)
        assert len(legs) == sum(len(party) for party in read(without)[1])
        # They are no variables of all legs: a switch would give these to the other side.
        assert text[: text.index("[")] == without[: without.index("[")]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-": "a"},
        {"Via": "a"},
        {"x-Account": "a"},
        {"X-FS-Support": "update_display"},
        {"X-fs-Channel-Name": "a"},
        {"X-AUTH-IP": "192.0.2.1"},
        {"X-Ringback-Call": "a"},
        {"X-A=b,origination_uuid": "a"},
        {"X-A_b": "a"},
        {"X-" + "a" * 41: "a"},
        {"X-A": "a", "X-a": "b"},
        {f"X-{n}": "a" for n in range(11)},
        {"X-A": ""},
        {"X-A": "a" * 257},
        {"X-A": " a"},
        {"X-A": "a "},
        {"X-A": "ARRAY::a"},
        {"X-A": "a:_:b"},
        *({"X-A": f"a{letter}b"} for letter in "\"'\\,|()[]{}<>$^`\r\n\t\0\x7fé"),
    ],
)
def test_headers_that_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        check_headers(headers)
