"""Channels that Redis does not know: told, adopted and hung up."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.calls.model import Call, Leg, NumberKind, Role, State, job_uuid, leg_uuid
from app.store.unknown import UnknownChannels
from freeswitch.event_socket import EventSocket
from tests.conftest import eventually
from tests.integration.conftest import REAL, Ringback
from tests.integration.test_cli import Run, runner
from workers.dial_command import originate_command
from workers.runtime import switch_addresses

pytestmark = pytest.mark.skipif(bool(REAL), reason="orders of the simulator")
SWITCH = "simulator"
OTHERS = "0f9f4f3e-9d7e-4c37-8a3a-7c1c3c1c3c1c"
CALL = Call(
    id="0" * 20,
    kind="simple",
    app="crm",
    user="12",
    organization="3",
    organization_name="",
    extension="0003*210",
    accepted=1.0,
    wait_for_pickup=25,
    call_duration=3600,
    queue_timeout=60,
    job_uuid="",
    caller_id="<0003*210>",
)


def dial(ringback: Ringback, call_id: str) -> Call:
    """A call that Ringback dialled, and of which Redis has lost everything."""
    legs = tuple(
        Leg(
            f"{role.letter}1",
            role,
            number,
            NumberKind.PUBLIC,
            leg_uuid(call_id, role, 1, 1),
            "pstn",
        )
        for role, number in ((Role.SOURCE, "15517"), (Role.DESTINATION, "15517"))
    )
    call = replace(CALL, id=call_id, job_uuid=job_uuid(call_id), legs=legs)
    send(ringback, originate_command(call, ""), call.job_uuid)
    return call


def send(ringback: Ringback, command: str, job: str) -> None:
    address = switch_addresses(ringback.stack.settings)[0]
    switch = EventSocket(address.host, address.port, address.password)
    switch.connect()
    switch.bgapi(command, job)
    switch.close()


def listed(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("calls", "unknown", "--json").stdout)
    return found


def uuids(legs: Sequence[Leg]) -> set[str]:
    return {leg.uuid for leg in legs}


def test_unknown_channels_are_told_adopted_and_hung_up(mortal: Ringback) -> None:
    run, store = runner(mortal), mortal.store
    # Of another program, which Ringback leaves alone and does not tell of.
    target = "{origination_uuid=" + OTHERS + "}sofia/gateway/pstn/15517 &park"
    send(mortal, f"originate {target}", OTHERS)
    call, other = dial(mortal, "a" * 20), dial(mortal, "b" * 20)
    wanted = uuids(call.legs) | uuids(other.legs)

    def talk() -> bool:
        found = listed(run)
        talking = {each["uuid"] for each in found if each["state"] == "ACTIVE"}
        return talking == wanted and len(found) == 4

    eventually(talk, 20.0)
    (row,) = [each for each in listed(run) if each["uuid"] == call.legs[0].uuid]
    told = row["call"], row["switch"], row["number"], row["caller"]
    assert told == (call.id, SWITCH, "15517", "0003*210") and row["answered"] > row["created"]
    # One is adopted, with the channel that it talks to.
    said = json.loads(run("calls", "adopt", call.legs[1].uuid, "--json").stdout)
    assert (said["id"], said["extension"]) == (call.id, "0003*210")
    adopted = mortal.wait_state(call.id, State.BRIDGED)
    assert {leg.id: leg.uuid for leg in adopted.legs} == {leg.id: leg.uuid for leg in call.legs}
    (note,) = [each for each in store.timeline(call.id) if each["name"] == "adopted"]
    assert note["app"] == "@command-line" and "@" in note["user"]
    assert store.redis.scard(store.keys.taken(f"switch:{SWITCH}")) >= 2
    # An action works on it, and it ends with a record.
    status, answer = mortal.request("DELETE", f"@me/@self/{call.id}")
    assert status == 200, answer
    ended = mortal.ended(call.id)
    assert (ended.ended_by, ended.disposition) == ("api", 0)
    record = json.loads(store.redis.get(store.keys.record(call.id)) or "{}")
    assert record["id"] == call.id and record["disposition"] == 0
    assert store.redis.zcard(store.keys.deadlines(SWITCH)) == 0
    # The other one is hung up.
    result = run("calls", "hangup", *uuids(other.legs))
    assert result.exit_code == 0, result.output

    def gone(uuid: str) -> bool:
        return mortal.api(f"uuid_exists {uuid}") == "false"

    eventually(lambda: all(map(gone, uuids(other.legs))) and not listed(run))
    # What is not listed is refused.
    result = run("calls", "hangup", OTHERS)
    assert result.exit_code == 1 and "No switch has an unknown channel" in result.stderr
    assert not gone(OTHERS)
    mortal.api(f"uuid_kill {OTHERS}")
    assert UnknownChannels(store.redis, store.keys).all([SWITCH]) == []
