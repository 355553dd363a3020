"""Calls under way that are held, moved, parked, listened to and recorded.

What a real switch says of these stands in the traces of tests/conformance; here is what takes a
long time there, and that no order of commands leaves a channel behind.
"""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from blocking_client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from freeswitch.simulator import GATEWAYS, Simulator, api, make_switch
from freeswitch.simulator.events import SwitchEvent
from freeswitch.simulator.execution import inline

NUMBER = "sofia/gateway/pstn/15500"


def dial(client: Client, uuid: str, destination: str, variables: str = "") -> None:
    """Originate a leg and wait until it is answered."""
    blocks = f"{{origination_uuid={uuid},leg={uuid}{variables}}}"
    client.originate(f"{blocks}{NUMBER} {destination}", f"job-{uuid}")
    assert client.result(f"job-{uuid}") == f"+OK {uuid}\n"


def talk(client: Client) -> None:
    """Bring two legs, a and b, together."""
    bridge = f"&bridge([leg=b,origination_uuid=b]{NUMBER})"
    dial(client, "a", bridge, ",hangup_after_bridge=true")
    client.named("CHANNEL_BRIDGE", "a")


def valet(client: Client, action: str, leg: str) -> dict[str, Any]:
    return client.event(
        lambda event: (
            event.get("Event-Subclass") == "valet_parking::info"
            and (event["Action"], event["variable_leg"]) == (action, leg)
        )
    )


def test_hold_is_timed(client: Client) -> None:
    talk(client)
    assert client.command("api uuid_hold b") == "+OK Success\n"
    held = client.named("CHANNEL_HOLD", "b")
    assert held["Channel-Call-State"] == "HELD"
    assert int(held["Caller-Channel-Last-Hold"]) > int(held["Caller-Channel-Bridged-Time"])
    assert held["Caller-Channel-Hold-Accum"] == "0"
    assert client.command("api uuid_hold off b") == "+OK Success\n"
    assert int(client.named("CHANNEL_UNHOLD", "b")["Caller-Channel-Hold-Accum"]) > 0


def test_who_waits_too_long_in_a_lot_goes_elsewhere(client: Client) -> None:
    orbit = "valet_parking_orbit_exten=hangup:NO_ANSWER,valet_parking_orbit_dialplan=inline"
    dial(
        client,
        "a",
        "'valet_park:lot auto in 5901 5902' inline",
        f",valet_parking_timeout=9,{orbit}",
    )
    assert valet(client, "hold", "a")["Valet-Extension"] == "5901"
    valet(client, "exit", "a")
    assert client.named("CHANNEL_HANGUP", "a")["Hangup-Cause"] == "NO_ANSWER"
    assert client.command("api valet_info lot") == '<lots>\n  <lot name="lot">\n  </lot>\n</lots>\n'


def test_who_waits_too_long_in_a_lot_without_another_place_goes_on(client: Client) -> None:
    dial(client, "a", "'valet_park:lot 1,hangup:USER_BUSY' inline", ",valet_parking_timeout=5")
    assert client.named("CHANNEL_HANGUP", "a")["Hangup-Cause"] == "USER_BUSY"


def test_who_is_sent_to_an_extension_finds_none(client: Client) -> None:
    dial(client, "a", "'park:' inline")
    assert client.command("api uuid_transfer a 5000") == "+OK\n"
    assert client.named("CHANNEL_HANGUP", "a")["Hangup-Cause"] == "NO_ROUTE_DESTINATION"


def test_the_voice_mail_ends(client: Client) -> None:
    dial(client, "a", "'voicemail:default example.com 200' inline")
    assert client.named("CHANNEL_HANGUP", "a")["Hangup-Cause"] == "NORMAL_CLEARING"


def test_a_scheduled_hangup_outlives_a_transfer(client: Client) -> None:
    talk(client)
    assert client.command("api sched_hangup +3 b") == "+OK\n"
    assert client.command("api uuid_transfer b park: inline") == "+OK\n"
    assert client.named("CHANNEL_HANGUP", "b")["Hangup-Cause"] == "ALLOTTED_TIMEOUT"
    assert client.named("CHANNEL_HANGUP", "a")["Hangup-Cause"] == "NORMAL_CLEARING"


def test_scheduled_hangups_add_up_until_they_are_deleted(client: Client) -> None:
    # As a switch does (1.10.12): none replaces another, and sched_del deletes all of a channel.
    talk(client)
    for when in ("+2", "+60"):
        assert client.command(f"api sched_hangup {when} b facility_not_subscribed") == "+OK\n"
    assert client.command("api sched_del b") == "+OK Deleted: 2\n"
    assert client.command("api sched_del b") == "+OK Deleted: 0\n"
    assert client.command("api sched_hangup +60 b") == "+OK\n"
    assert client.command("api sched_hangup +2 b facility_not_subscribed") == "+OK\n"
    assert client.named("CHANNEL_HANGUP", "b")["Hangup-Cause"] == "FACILITY_NOT_SUBSCRIBED"
    assert client.named("CHANNEL_HANGUP", "a")["Hangup-Cause"] == "FACILITY_NOT_SUBSCRIBED"


def test_a_recording_has_its_limit(client: Client) -> None:
    talk(client)
    assert client.command("api uuid_record a start /var/lib/call.wav 3") == "+OK Success\n"
    for name in ("RECORD_START", "RECORD_STOP"):
        assert client.named(name, "a")["Record-File-Path"] == "/var/lib/call.wav"
    assert client.command("api uuid_record a stop all") == "-ERR Cannot stop record session!\n"


def test_an_exported_variable_is_set_on_who_is_dialled(client: Client) -> None:
    dial(client, "a", f"'export:nolocal:note=x,bridge:[leg=b]{NUMBER}' inline")
    assert client.named("CHANNEL_CREATE", "b")["variable_note"] == "x"


def test_who_is_transferred_too_often_is_hung_up(client: Client) -> None:
    dial(client, "a", "&park()", ",max_forwards=2")
    assert client.command("api uuid_transfer a park: inline") == "+OK\n"
    assert client.command("api uuid_transfer a park: inline") == "-ERR\n"
    assert client.named("CHANNEL_HANGUP", "a")["Hangup-Cause"] == "EXCHANGE_ROUTING_ERROR"


def test_the_floor_passes_on(client: Client) -> None:
    for leg in ("a", "b"):
        dial(client, leg, "&conference(room@default)")
    assert client.command("api conference room kick 1") == "+OK kicked 1\n"
    client.event(
        lambda event: (event.get("Action"), event.get("Unique-ID")) == ("floor-change", "b")
    )
    (member,) = client.command("api conference room list").splitlines()
    assert member.split(";")[:3] == ["2", "sofia/external/15500", "b"]
    client.command("api uuid_kill b")
    client.named("CHANNEL_DESTROY", "b")
    assert client.command("api conference list") == "+OK No active conferences.\n"


def test_subclasses_are_asked_for_by_name(simulator: Simulator) -> None:
    other, parking = Client(simulator.port), Client(simulator.port)
    parking.command("event json CHANNEL_DESTROY CUSTOM valet_parking::info")
    parking.command("filter variable_leg a")
    other.command("event json CHANNEL_DESTROY CUSTOM conference::maintenance valet_parking::info")
    other.command("nixevent CUSTOM valet_parking::info")
    for leg in ("b", "a"):
        dial_line = f"{{origination_uuid={leg},leg={leg}}}{NUMBER} 'valet_park:lot {leg}' inline"
        assert parking.command(f"api originate {dial_line}") == f"+OK {leg}\n"
        parking.command(f"api uuid_kill {leg}")
    assert valet(parking, "exit", "a")["Event-Name"] == "CUSTOM"
    parking.until("CHANNEL_DESTROY", 1)
    assert {event["variable_leg"] for event in parking.events} == {"a"}
    other.until("CHANNEL_DESTROY", 2)
    assert {event["Event-Name"] for event in other.events} == {"CHANNEL_DESTROY"}
    other.close()
    parking.close()


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("park", [("park", "")]),
        ("set:a=b, park:", [("set", "a=b"), ("park", "")]),
        (r"bridge:[a=1\,b=2]user/1,hangup", [("bridge", "[a=1,b=2]user/1"), ("hangup", "")]),
        ("m:^:set:a=1,2^hangup:USER_BUSY", [("set", "a=1,2"), ("hangup", "USER_BUSY")]),
    ],
)
def test_inline(text: str, steps: list[tuple[str, str]]) -> None:
    assert inline(text) == steps


class Ear:
    """A listener that keeps the names of each channel's events."""

    def __init__(self) -> None:
        self.muted: set[str] = set()
        self.names: dict[str, list[str]] = {}

    def wants(self, name: str) -> bool:
        return True

    def deliver(self, event: SwitchEvent) -> None:
        channel_uuid = event.header("Unique-ID")
        if isinstance(channel_uuid, str):
            self.names.setdefault(channel_uuid, []).append(event.name)

    def flush_soon(self) -> None: ...

    def cut(self) -> None: ...

    def mute(self, ways: Collection[str]) -> None: ...


LEG = st.sampled_from("abxy")
COMMANDS = st.one_of(
    st.builds("uuid_bridge {} {}".format, LEG, LEG),
    st.builds("uuid_park {}".format, LEG),
    st.builds("uuid_hold {}".format, LEG),
    st.builds("uuid_kill {} USER_BUSY".format, LEG),
    st.builds("uuid_record {} start /var/lib/{}.wav".format, LEG, LEG),
    st.builds("uuid_setvar {} park_after_bridge {}".format, LEG, st.booleans()),
    st.builds("uuid_setvar {} transfer_after_bridge {}".format, LEG, st.just("park:inline")),
    st.builds(
        "uuid_transfer {} {} '{}' inline".format,
        LEG,
        st.sampled_from(["", "-bleg", "-both"]),
        st.one_of(
            st.sampled_from(["park", "sleep:50", "conference:room", f"bridge:{NUMBER}"]),
            st.builds("valet_park:lot {}".format, LEG),
            st.builds("eavesdrop:{}".format, LEG),
            st.builds("intercept:{}".format, LEG),
        ),
    ),
    st.just(""),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(COMMANDS, max_size=12))
def test_no_order_of_commands_leaves_a_channel_behind(commands: list[str]) -> None:
    asyncio.run(_carry_out(commands))


async def _carry_out(commands: list[str]) -> None:
    switch = make_switch(speed=500, seed=0, gateways=GATEWAYS)
    ear = Ear()
    switch.listeners.append(ear)
    for one, other in ("ab", "xy"):
        bridge = f"&bridge([origination_uuid={other}]{NUMBER})"
        await api.execute(switch, "originate", f"{{origination_uuid={one}}}{NUMBER} {bridge}")
    for command in commands:
        # Nothing: time passes.
        if command:
            await api.execute(switch, *command.split(" ", 1))
        else:
            await switch.clock.sleep(0.4)
    await switch.clock.sleep(1)
    while switch.channels:
        # Who is dialled this moment is not there yet.
        switch.hang_up_all("MANAGER_REQUEST", {})
        await switch.clock.sleep(0.1)
    for names in ear.names.values():
        assert names.count("CHANNEL_CREATE") == 1
        assert names.count("CHANNEL_HANGUP") == 1
        assert names[-2:] == ["CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"]
        assert names.count("CHANNEL_DESTROY") == 1
        assert names.count("CHANNEL_PARK") == names.count("CHANNEL_UNPARK")
        assert names.count("CHANNEL_BRIDGE") == names.count("CHANNEL_UNBRIDGE")
        assert names.count("RECORD_START") == names.count("RECORD_STOP")
    assert await api.execute(switch, "conference", "list") == "+OK No active conferences.\n"
    await switch.close()
