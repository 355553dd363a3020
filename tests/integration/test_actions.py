"""PUT actions through the whole stack: HTTP, job, worker, switch, listener, and back."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.calls.model import Call, Leg, NumberKind, Role, State, evolve, leg_uuid
from app.store.queue import JobQueue
from app.store.writes import Note
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, REAL, SPEED, Ringback


class Talk:
    """A call between extension 210 and a public number, and what is asked of it."""

    def __init__(self, ringback: Ringback, destination: str = "15600", query: str = "") -> None:
        self.ringback = ringback
        self.id = ringback.place("0003*210", destination, query)

    def bridged(self) -> "Talk":
        self.ringback.wait_state(self.id, State.BRIDGED)
        return self

    def put(self, action: str, **fields: Any) -> dict[str, Any]:
        """What the answer says of the call; the switch has done it by then."""
        status, (answer,) = self.ringback.request("PUT", self.path, {"action": action, **fields})
        assert status == 200
        assert isinstance(answer, dict)
        return answer

    def refused(self, action: str, **fields: Any) -> str:
        """The code of the answer."""
        status, answer = self.ringback.request("PUT", self.path, {"action": action, **fields})
        assert status == 400
        code: str = answer["error"]["code"]
        return code

    @property
    def path(self) -> str:
        return f"@me/@self/{self.id}"

    def view(self, view: str) -> dict[str, Any]:
        (entry,) = self.ringback.request("GET", self.path)[1]["entry"]
        return next(each for each in entry["phoneCallView"] if each["id"] == view)

    def wait(self, until: Callable[[dict[str, Leg]], object]) -> dict[str, Leg]:
        """The legs by their ids once that holds of them."""

        def holds(call: Call) -> bool:
            return bool(until({leg.id: leg for leg in call.legs}))

        return {leg.id: leg for leg in self.ringback.wait(self.id, holds).legs}

    def hang_up(self) -> Call:
        self.ringback.request("DELETE", self.path)
        return self.ringback.ended(self.id)


@pytest.fixture
def talk(ringback: Ringback) -> Iterator[Talk]:
    talk = Talk(ringback).bridged()
    yield talk
    call = talk.hang_up()
    # Nothing that an action brought in is left behind.
    ringback.wait(talk.id, lambda call: not any(leg.live for leg in call.legs))
    assert call.disposition == 0


def test_hold(talk: Talk) -> None:
    own, other = talk.put("OnHold", phoneCallViewId="00")["phoneCallView"]
    assert (own["holder"], own["onHold"], "holder" in other) == (1, other["onHold"], False)
    own, other = talk.put("OffHold", phoneCallViewId="00")["phoneCallView"]
    assert "onHold" not in own and "onHold" not in other
    assert talk.refused("OffHold", phoneCallViewId="00") == "pc_action_invalid"
    own, other = talk.put("OnHold", phoneCallViewId="01")["phoneCallView"]
    assert (other["holder"], "holder" in own) == (1, False)


def test_recording(talk: Talk) -> None:
    assert "recording" in talk.put("StartRecording", phoneCallViewId="00")["phoneCallView"][0]
    assert talk.refused("StartRecording", phoneCallViewId="00") == "pc_action_invalid"
    assert "recording" not in talk.put("StopRecording", phoneCallViewId="00")["phoneCallView"][0]
    assert talk.refused("StopRecording", phoneCallViewId="00") == "pc_action_invalid"
    talk.put("StartRecording", phoneCallViewId="01", format="wav49")
    files = [leg.recording_file for leg in talk.wait(lambda legs: legs["b1"].recording).values()]
    assert [name and name.rpartition(".")[2] for name in files] == ["wav", "gsm"]
    assert all(name and f"/3/{name.split('/')[-2]}/{talk.id}-" in name for name in files)


@pytest.mark.parametrize(
    ("fields", "left", "stays"),
    [
        ({"transferFromNumber": "210", "transferNumber": "15600"}, "a1", "b1"),
        ({"transferFromNumber": "15600"}, "b1", "a1"),
        ({"transferNumber": "0003*210"}, "b1", "a1"),
        ({"phoneCallViewId": "01"}, "b1", "a1"),
    ],
)
def test_transfer(talk: Talk, fields: dict[str, str], left: str, stays: str) -> None:
    """The three forms of the request: who does it leaves, and the other talks to the target."""
    answer = talk.put("Transfer", sendCallTo="024", **fields)
    assert answer["phoneCallView"][2]["extension"] == "0003*024"
    legs = talk.wait(lambda legs: legs[left].ended and "c1" in legs and legs["c1"].bridged)
    assert legs[stays].ended is None
    assert talk.view("02")["status"] == 5
    # It stands in the target's list too.
    listed = talk.ringback.request("GET", "@me/0003*024")[1]["entry"]
    assert talk.id in [entry["id"] for entry in listed]
    # Away again, from there.
    talk.put("Transfer", sendCallTo="211", transferFromNumber="024")
    talk.wait(lambda legs: "c2" in legs and legs["c2"].bridged and legs["c1"].ended)


def test_a_transfer_between_public_numbers_is_the_call_s_to_allow(ringback: Ringback) -> None:
    talk = Talk(ringback).bridged()
    fields = {"sendCallTo": "15609", "phoneCallViewId": "00"}
    assert talk.refused("Transfer", **fields) == "pc_transfer_invalid"
    talk.hang_up()
    allowed = Talk(ringback, query="?allowPublicTransfer=true").bridged()
    allowed.put("Transfer", **fields)
    # The number is busy, and the call over.
    call = ringback.ended(allowed.id)
    assert (call.hangup_cause, call.ended_by) == ("USER_BUSY", "third_party")
    assert call.disposition == 0


@pytest.mark.parametrize("view", ["00", "01"])
def test_the_target_of_a_transfer_rings_for_as_long_as_was_asked(
    ringback: Ringback, view: str
) -> None:
    talk = Talk(ringback, query="?allowPublicTransfer=true").bridged()
    talk.put("Transfer", sendCallTo="15608", phoneCallViewId=view, waitForPickup=2)
    call = ringback.ended(talk.id)
    assert (call.hangup_cause, call.ended_by) == ("NO_ANSWER", "timeout")
    (target,) = call.thirds
    assert target.created is not None and target.ended is not None
    # A channel's time is that of the wall clock; the simulator counts faster seconds.
    assert SPEED * (target.ended - target.created) + 0.1 >= 2


@pytest.mark.parametrize(("by", "parked"), [("00", "01"), ("01", "00")])
def test_park_and_unpark(talk: Talk, by: str, parked: str) -> None:
    talk.put("Park", phoneCallViewId=by, maxInParking=600)
    view = talk.view(parked)
    assert 5901 <= view["parkedPos"] <= 5999
    assert view["parkedBy"] == {"00": "0003*210", "01": "15600"}[by]
    # Hung up by the switch, a moment later.
    eventually(lambda: talk.view(by)["status"] == 0)
    assert talk.refused("Park", phoneCallViewId=parked) == "pc_action_invalid"
    talk.put("UnPark", phoneCallViewId=parked, sendCallTo="024", waitForPickup="20")
    talk.wait(lambda legs: "c2" in legs and legs["c2"].bridged)
    assert "parkedPos" not in talk.view(parked)
    assert talk.refused("UnPark", phoneCallViewId=parked, sendCallTo="024") == "pc_action_invalid"


def test_a_parked_call_goes_back_to_who_parked_it(talk: Talk) -> None:
    talk.put("Park", phoneCallViewId="00", maxInParking="10")
    legs = talk.wait(lambda legs: legs["c1"].bridged)
    assert (legs["c1"].number, legs["c1"].action) == ("0003*210", "Park")
    assert legs["b1"].ended is None


def test_pick_up(ringback: Ringback) -> None:
    talk = Talk(ringback, "15608")
    talk.wait(lambda legs: legs["b1"].ringing)
    assert talk.refused("OnHold", phoneCallViewId="00") == "pc_action_invalid"
    talk.put("PickUp", sendCallTo="211")
    legs = talk.wait(lambda legs: "c1" in legs and legs["c1"].bridged and legs["a1"].bridged)
    assert legs["b1"].answered is None
    assert talk.refused("PickUp", sendCallTo="024") == "pc_action_invalid"
    assert talk.hang_up().ended_by == "api"


@pytest.mark.parametrize(
    ("action", "fields"),
    [("BargeIn", {}), ("Whisper", {"private": "0"}), ("Whisper", {"private": 1}), ("Monitor", {})],
)
def test_who_listens_is_in_the_call_and_not_a_party(
    talk: Talk, action: str, fields: dict[str, Any]
) -> None:
    talk.put(action, phoneCallViewId="01", sendCallTo="024", callerId="The Boss <4242>", **fields)
    talk.wait(lambda legs: "c1" in legs and legs["c1"].answered)
    assert talk.view("02")["status"] == 5
    status, _ = talk.ringback.request("DELETE", f"{talk.path}?phoneNumber=024")
    assert status == 200
    legs = talk.wait(lambda legs: legs["c1"].ended)
    assert legs["a1"].ended is None and legs["b1"].ended is None


def test_who_listens_goes_when_the_parties_do(talk: Talk) -> None:
    talk.put("Monitor", phoneCallViewId="00", sendCallTo="024")
    talk.wait(lambda legs: "c1" in legs and legs["c1"].answered)
    talk.ringback.api(f"uuid_kill {talk.wait(bool)['b1'].uuid}")
    talk.wait(lambda legs: all(leg.ended for leg in legs.values()))


@pytest.mark.skipif(bool(REAL), reason="reads the simulator's own record")
def test_an_action_whose_job_is_run_twice_dials_once(talk: Talk) -> None:
    talk.put("Monitor", phoneCallViewId="00", sendCallTo="024")
    leg = talk.wait(lambda legs: "c1" in legs and legs["c1"].answered)["c1"]
    queue = JobQueue(talk.ringback.store.redis, talk.ringback.store.keys)
    first = queue.actions.fetch_job(leg.action_id or "")
    assert first is not None
    again = queue.actions.enqueue_call(first.func_name, args=first.args)
    assert queue.outcome(again, LIMIT) == ""
    commands = [each["command"] for each in talk.ringback.originates()]
    assert sum(leg.uuid in command for command in commands) == 1


def test_conference_invite(ringback: Ringback) -> None:
    def invite(query: str, destination: str) -> tuple[int, Any]:
        view = {"source": ["003"], "destination": [destination], "callerId": "Conf <3>"}
        body = {"extension": "003", "phoneCallView": [view]}
        return ringback.request("POST", f"@me/conferenceInvite{query}", body)

    calls = []
    for destination in ("15500", "0003*024"):
        status, answer = invite("?number=3&pin=2233", destination)
        assert status == 202
        calls.append(ringback.wait_state(answer[0]["id"], State.BRIDGED))
    uuids = {call.sources[0].uuid for call in calls}

    def in_the_room() -> bool:
        listing = ringback.api("conference ringback-0003-003-3 list")
        return all(uuid in listing for uuid in uuids)

    eventually(in_the_room)
    (entry,) = ringback.request("GET", f"@me/@self/{calls[1].id}")[1]["entry"]
    conference, invited = entry["phoneCallView"]
    assert (conference["source"], conference["destination"]) == (["0003*003"], ["0003*024"])
    assert (conference["status"], invited["status"], invited["extension"]) == (5, 5, "0003*024")
    for call in calls:
        ringback.request("DELETE", f"@me/@self/{call.id}")
        assert ringback.ended(call.id).disposition == 0
    status, answer = invite("", "15509")
    call = ringback.ended(answer[0]["id"])
    assert (call.hangup_cause, call.disposition) == ("USER_BUSY", 1)
    assert invite("?number=3&pin=1", "15500")[1]["error"]["code"] == "pc_pin_invalid"
    assert invite("?number=4", "15500")[1]["error"]["code"] == "pc_number_invalid"


def test_what_cannot_be_done_is_refused_with_a_code(talk: Talk) -> None:
    for code, action, fields in [
        ("pc_action_invalid", "Nonsense", {}),
        ("pc_view_invalid", "OnHold", {}),
        ("pc_view_invalid", "OnHold", {"phoneCallViewId": "07"}),
        ("pc_sendcallto_invalid", "Transfer", {"phoneCallViewId": "00"}),
        ("pc_sendcallto_invalid", "BargeIn", {"sendCallTo": "15600"}),
        ("pc_sendcallto_invalid", "BargeIn", {"sendCallTo": "0003*212"}),
        ("pc_sendcallto_invalid", "Monitor", {"sendCallTo": "0099*210", "phoneCallViewId": "00"}),
        ("pc_callerid_invalid", "BargeIn", {"sendCallTo": "024", "callerId": 'a"b <1>'}),
        ("pc_timeout_invalid", "PickUp", {"sendCallTo": "024", "waitForPickup": 0}),
        ("pc_parking_invalid", "Park", {"phoneCallViewId": "00", "maxInParking": 9}),
        ("pc_private_invalid", "Whisper", {"sendCallTo": "024", "private": "x"}),
        ("pc_format_invalid", "StartRecording", {"phoneCallViewId": "00", "format": "mp3"}),
        ("pc_transfernumber_invalid", "Transfer", {"sendCallTo": "211", "transferNumber": "1"}),
        ("pc_sendcallto_invalid", "TransferToVoicemail", {"sendCallTo": "15600"}),
        # Nothing says which party leaves.
        ("pc_transfernumber_invalid", "Transfer", {"sendCallTo": "211"}),
        ("pc_transfernumber_invalid", "TransferToVoicemail", {"sendCallTo": "211"}),
    ]:
        assert talk.refused(action, **fields) == code, (action, fields)
    unknown = f"@me/@self/{'0' * 20}"
    status, answer = talk.ringback.request("PUT", unknown, {"action": "OnHold"})
    assert (status, answer["error"]["code"]) == (400, "pc_view_invalid")
    body = {"action": "OnHold", "phoneCallViewId": "00"}
    assert talk.ringback.request("PUT", unknown, body)[1]["error"]["code"] == "pc_phonecall_invalid"


def test_voicemail(talk: Talk) -> None:
    if talk.ringback.api("module_exists mod_voicemail").strip() != "true":
        pytest.skip("this switch has no mod_voicemail")
    talk.put("TransferToVoicemail", sendCallTo="211", transferNumber="15600")
    legs = talk.wait(lambda legs: legs["a1"].ended)
    assert legs["b1"].voicemail and legs["b1"].ended is None


def test_the_last_third_party_that_a_call_takes(talk: Talk) -> None:
    def joined_by_98(call: Call) -> Call:
        uuid = leg_uuid(call.id, Role.THIRD, 98, 1)
        at = call.accepted
        gone = Leg("c98", Role.THIRD, "15600", NumberKind.PUBLIC, uuid, created=at, ended=at)
        return evolve(call, legs=(*call.legs, gone))

    store = talk.ringback.store
    call = store.get(talk.id)
    assert call is not None
    store.change(call, joined_by_98, Note("request", "98 third parties"))
    talk.put("Monitor", phoneCallViewId="00", sendCallTo="024")
    talk.wait(lambda legs: legs["c99"].answered)
    refused = talk.refused("Monitor", phoneCallViewId="00", sendCallTo="024")
    assert refused == "pc_action_invalid"
