"""Calls on a fast simulator: telephones, chance, limits, and the switch's own record.

What a real switch says to the same commands is in tests/conformance.
"""

import asyncio
import json
import random

import pytest
from blocking_client import LIMIT, Client
from hypothesis import given, settings
from hypothesis import strategies as st

from freeswitch.simulator import GATEWAYS, Simulator, api, make_switch, telephones


@pytest.mark.parametrize(
    ("number", "answers", "refusal"),
    [
        ("15500", 0.3, None),
        ("+4915512", 2.0, None),
        ("15511", 0.2, None),
        ("15517", 0.04, None),
        ("7", 0.3, None),
        ("15508", None, "NORMAL_CLEARING"),
        ("15509", None, "USER_BUSY"),
        ("15513", None, "CALL_REJECTED"),
        ("15514", None, "UNALLOCATED_NUMBER"),
        ("15515", None, "NORMAL_TEMPORARY_FAILURE"),
        ("15516", None, None),
        ("bob", None, "NO_ROUTE_DESTINATION"),
        ("", None, "NO_ROUTE_DESTINATION"),
    ],
)
def test_manners_of_the_network(number: str, answers: float | None, refusal: str | None) -> None:
    manner = telephones.network(number)
    assert (manner.answer_after, manner.refusal) == (answers, refusal)


@pytest.mark.parametrize("ending", range(5))
def test_the_first_sandbox_numbers_answer_after_one_to_five_seconds(ending: int) -> None:
    for number in (f"0003*0{ending}", f"0{ending}"):
        manner = telephones.sandbox(number, random.Random(0))
        assert (manner.answer_after, manner.talk) == (ending + 1.0, 180.0)


def test_sandbox_numbers_of_chance() -> None:
    for ending, after in (("05", 3.0), ("06", 5.0)):
        manners = [telephones.sandbox(ending, random.Random(seed)) for seed in range(200)]
        assert {manner.answer_after for manner in manners} == {after, None}
        assert 60 < sum(manner.refusal == "USER_BUSY" for manner in manners) < 140
    waits = [telephones.sandbox("07", random.Random(seed)).answer_after for seed in range(200)]
    assert all(wait is not None and 0 <= wait <= 20 for wait in waits)
    assert telephones.sandbox("08", random.Random()).refuse_after == 120
    assert telephones.sandbox("09", random.Random()).refusal == "USER_BUSY"
    assert telephones.sandbox("10", random.Random()).refusal == "NO_ROUTE_DESTINATION"


def outcomes(seed: int) -> list[str]:
    """How sixteen calls to a number of chance end, placed all at once."""
    with Simulator(speed=200, seed=seed) as simulator:
        client = Client(simulator.port)
        client.command("event json BACKGROUND_JOB")
        for number in range(16):
            client.originate("loopback/05/ringback-sandbox &hangup()", str(number))
        results = [client.result(str(number)).split()[0] for number in range(16)]
        client.close()
        return results


def test_the_same_seed_is_the_same_chance() -> None:
    assert outcomes(1) == outcomes(1)
    assert len({tuple(outcomes(seed)) for seed in range(4)}) > 1


def test_speed_shortens_what_takes_time() -> None:
    # An answered sandbox call lasts three minutes: 0.9 s at this speed.
    with Simulator(speed=200) as simulator:
        client = Client(simulator.port)
        client.command("event json ALL")
        client.originate("[leg=a]loopback/00/ringback-sandbox &park()", "job")
        ended = client.named("CHANNEL_HANGUP_COMPLETE")
        client.close()
    assert ended["Hangup-Cause"] == "NORMAL_CLEARING"
    lasted = int(ended["Caller-Channel-Hangup-Time"]) - int(ended["Caller-Channel-Answered-Time"])
    assert 0.88e6 < lasted < 60e6


def test_a_loopback_leg(client: Client) -> None:
    client.originate("[leg=a]loopback/03/ringback-sandbox &hangup(USER_BUSY)", "job")
    created = client.named("CHANNEL_CREATE")
    assert created["Channel-Name"] == "loopback/03-a"
    assert (created["Caller-Source"], created["Caller-Context"]) == (
        "mod_loopback",
        "ringback-sandbox",
    )
    assert created["variable_loopback_leg"] == "A"
    ended = client.named("CHANNEL_DESTROY")
    assert ended["variable_hangup_cause"] == "USER_BUSY"
    assert "variable_sip_hangup_disposition" not in ended


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("sofia/gateway/pstn", "INVALID_URL"),
        ("sofia/nosuch/1@host", "INVALID_PROFILE"),
        ("sofia/external/1", "USER_NOT_REGISTERED"),
        ("sofia/gateway/pstn2/15500", "NORMAL_TEMPORARY_FAILURE"),
        ("loopback/00/elsewhere", "NO_ROUTE_DESTINATION"),
        ("loopback/09/ringback-sandbox", "USER_BUSY"),
        ("user/nobody", "SUBSCRIBER_ABSENT"),
        ("user/209@example.com", "USER_BUSY"),
        ("sofia/external/15509@example.com", "USER_BUSY"),
        ("error/USER_BUSY", "USER_BUSY"),
        ("{a=1", "DESTINATION_OUT_OF_ORDER"),
    ],
)
def test_who_cannot_be_reached(client: Client, target: str, cause: str) -> None:
    client.originate(f"{target} &park()", "job")
    assert client.result("job") == f"-ERR {cause}\n"


def test_users_and_addresses_answer_too(client: Client) -> None:
    for job, target in enumerate(("user/210", "user/210@x", "sofia/external/210@x:5060")):
        client.originate(f"{target} &hangup()", str(job))
        assert client.result(str(job)).startswith("+OK ")


def test_a_gateway_that_is_down() -> None:
    with Simulator(gateways={"g": "down"}) as simulator:
        client = Client(simulator.port)
        answer = client.command("api originate sofia/gateway/g/1 &park()")
        assert answer == "-ERR GATEWAY_DOWN\n"
        client.close()


def test_a_full_switch_refuses(client: Client) -> None:
    client.command("api fsctl max_sessions 1")
    client.originate("[leg=a]loopback/00/ringback-sandbox &park()", "1")
    assert client.result("1").startswith("+OK")
    client.originate("loopback/00/ringback-sandbox &park()", "2")
    assert client.result("2") == "-ERR DESTINATION_OUT_OF_ORDER\n"
    client.originate("{no_throttle_limits=true}loopback/00/ringback-sandbox &hangup()", "3")
    assert client.result("3").startswith("+OK")


def test_what_was_dialled_is_on_record(simulator: Simulator, client: Client) -> None:
    command = (
        "{origination_caller_id_name=O%27Brien%2C%20Jr,origination_caller_id_number=4711,"
        "effective_caller_id_name=Jos%C3%A9,effective_caller_id_number=4242}"
        "sofia/gateway/pstn2/15500|sofia/gateway/pstn/15517 &bridge(sofia/gateway/pstn/15609)"
    )
    client.originate(command, "job")
    answer = client.result("job")
    client.event(lambda event: event.get("Hangup-Cause") == "USER_BUSY")
    [record] = simulator.originates
    assert (record.job_uuid, record.result) == ("job", answer)
    assert record.command == command
    assert [
        (leg.number, leg.gateway, leg.caller_id_name, leg.caller_id_number) for leg in record.legs
    ] == [
        ("15500", "pstn2", "O'Brien, Jr", "4711"),
        ("15517", "pstn", "O'Brien, Jr", "4711"),
        ("15609", "pstn", "José", "4242"),
    ]
    [told] = json.loads(client.command("api simulator originates"))
    assert [leg["uuid"] for leg in told["legs"]] == [leg.uuid for leg in record.legs]


def test_variables_are_read_and_set(client: Client) -> None:
    client.originate("{origination_uuid=u1,note=a}loopback/00/ringback-sandbox &park()", "job")
    assert client.result("job") == "+OK u1\n"
    assert client.command("api uuid_getvar u1 note") == "a"
    assert client.command("api uuid_setvar u1 note b") == "+OK\n"
    assert client.command("api uuid_getvar u1 note") == "b"
    assert client.command("api uuid_getvar u1 nosuch") == "_undef_"
    dump = json.loads(client.command("api uuid_dump u1 json"))
    assert (dump["Event-Name"], dump["variable_note"]) == ("CHANNEL_DATA", "b")
    assert client.command("api hupall CALL_REJECTED note b") == (
        "+OK hangup all channels matching [note]=[b] with cause: CALL_REJECTED\n"
    )
    assert client.named("CHANNEL_DESTROY")["Hangup-Cause"] == "CALL_REJECTED"
    assert client.command("api uuid_exists u1") == "false"


def test_a_dump_tells_how_a_bridged_call_stands(client: Client) -> None:
    """As FreeSWITCH 1.10.12 does."""

    def dump(leg: str) -> dict[str, str]:
        return json.loads(client.command(f"api uuid_dump {leg} json"))

    source = "{{origination_uuid={0},leg={0}}}sofia/gateway/pstn/15500 &bridge({1})"
    destination = "[origination_uuid={0},leg={0}]sofia/gateway/pstn/156{1}"
    client.originate(source.format("c", destination.format("d", "08")), "1")
    client.named("CHANNEL_PROGRESS", "d")
    ringing = dump("d")
    assert (ringing["Channel-Call-State"], ringing["Answer-State"]) == ("RINGING", "ringing")
    assert ringing["Other-Leg-Unique-ID"] == "c"
    assert ringing["Caller-Channel-Progress-Time"] > ringing["Caller-Channel-Created-Time"] > "1"
    assert ringing["Caller-Channel-Answered-Time"] == "0"
    # Who is called is no other leg yet.
    assert "Other-Leg-Unique-ID" not in dump("c")
    client.originate(source.format("a", destination.format("b", "00")), "2")
    client.named("CHANNEL_BRIDGE")
    for leg, other in (("a", "b"), ("b", "a")):
        bridged = dump(leg)
        assert (bridged["Channel-Call-State"], bridged["Answer-State"]) == ("ACTIVE", "answered")
        assert bridged["Other-Leg-Unique-ID"] == bridged["variable_bridge_uuid"] == other
        assert bridged["Caller-Channel-Bridged-Time"] > bridged["Caller-Channel-Answered-Time"]
        assert not {"Hangup-Cause", "Bridge-B-Unique-ID"} & set(bridged)
    # Once hung up it is found no more, whatever is still to be reported of it.
    client.command("api uuid_kill a")
    assert client.command("api uuid_dump a json") == "-ERR No such channel!\n"
    assert client.command("api uuid_exists a") == "false"
    assert client.command("api uuid_kill a") == "-ERR No such channel!\n"


def test_a_hangup_can_be_scheduled(client: Client) -> None:
    for job, when in (("1", "+1"), ("2", "+0")):
        client.originate(f"{{origination_uuid=u{job}}}loopback/00/ringback-sandbox &park()", job)
        client.result(job)
        assert client.command(f"api sched_hangup {when} u{job} user_busy") == "+OK\n"
        ended = client.event(
            lambda event, job=job: (
                event["Event-Name"] == "CHANNEL_DESTROY" and event["Unique-ID"] == f"u{job}"
            )
        )
        assert ended["Hangup-Cause"] == "USER_BUSY"


def test_many_calls_at_once(client: Client) -> None:
    for job in range(60):
        client.originate(
            "{hangup_after_bridge=true,rtp_timer_name=soft}"
            "sofia/gateway/pstn/15517,sofia/gateway/pstn/15500"
            " &bridge(sofia/gateway/pstn/15511)",
            str(job),
        )
    assert all(client.result(str(job)).startswith("+OK") for job in range(60))
    client.until("CHANNEL_DESTROY", 180)
    assert client.command("api show channels count") == "\n0 total.\n"


PIECES = [
    *"ab1'\\,|=<>{}[]() ^:_/$&\"\n²é",
    *("loopback/09/ringback-sandbox", "sofia/gateway/pstn/15509", ":_:", "${a}"),
    *("fail_on_single_reject=", "originate_timeout=", "leg_timeout=", "call_timeout="),
]
NASTY = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@settings(deadline=None)
@given(NASTY, NASTY)
def test_whatever_is_originated_is_answered(dial_string: str, application: str) -> None:
    async def answer() -> str:
        switch = make_switch(speed=10_000, seed=0, gateways=GATEWAYS)
        command = f"{dial_string}loopback/09/ringback-sandbox &bridge({application})"
        said = await asyncio.wait_for(api.execute(switch, "originate", command), LIMIT)
        await switch.close()
        return said

    assert asyncio.run(answer()).startswith(("+OK ", "-ERR ", "-USAGE: "))


@settings(deadline=None)
@given(NASTY)
def test_whatever_is_bridged_ends(dial_string: str) -> None:
    async def channels_left() -> int:
        switch = make_switch(speed=10_000, seed=0, gateways=GATEWAYS)
        command = f"loopback/00/ringback-sandbox &bridge({dial_string}loopback/09/ringback-sandbox)"
        await api.execute(switch, "originate", command)
        while switch.channels:
            await switch.clock.sleep(1)
        await switch.close()
        return len(switch.channels)

    assert asyncio.run(asyncio.wait_for(channels_left(), LIMIT)) == 0
