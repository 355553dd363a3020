"""Rights inside an organization, from outside: what each app sees, may do, and is told."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.accounts.model import Accounts
from app.accounts.store import AccountStore, read_accounts
from app.calls.actions import Request
from app.calls.model import Action, Call, Leg, State
from app.store.queue import JobQueue
from ringback import Client
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, Ringback

# Ada pays for the calls. The last two digits of a dial string say how the phone behaves: 00
# answers, 08 rings for two minutes, 12 answers after two seconds.
OFFICE = """
[[organizations]]
id = "3"
number = "0003"
name = "Office"

[[routes]]
prefix = ""
gateways = ["pstn"]
"""
USERS = {"ada": (), "bob": (), "carla": (), "lead": ("0003*21*",), "second": ()}
EXTENSIONS = {
    "0003*210": ("ada", "15600"),
    "0003*219": ("ada", "15600"),
    "0003*220": ("bob", "15600"),
    "0003*221": ("bob", "15608"),
    "0003*222": ("bob", "15600"),
    "0003*230": ("carla", "15608"),
    "0003*231": ("carla", "15600"),
    "0003*240": ("lead", "15600"),
    "0003*250": ("second", "15600"),
}
SILENT = {"0003*231"}
APPS = {
    "organization": 'level = "organization"\norganization = "0003"',
    "administrator": 'level = "administrator"',
    "bob-voipnow": 'level = "user"\nuser = "bob"\ncompatibility = "voipnow"',
    "deputy": 'level = "user"\nuser = "second"\nsupervise = ["0003*210"]',
}


def token(app: str) -> str:
    return f"the-long-token-of-{app}"


def office() -> str:
    lines = [OFFICE]
    for user, patterns in USERS.items():
        lines.append(f'[[users]]\nid = "{user}"\norganization = "0003"')
        lines.append(f"supervise = {json.dumps(patterns)}")
    for number, (owner, dialled) in EXTENSIONS.items():
        lines.append(f'[[extensions]]\nnumber = "{number}"\ntype = "phone_terminal"')
        lines.append(f'owner = "{owner}"\ndial_string = "sofia/gateway/pstn/{dialled}"')
        lines.append(f"may_record = {json.dumps(number not in SILENT)}")
    users = {user: f'level = "user"\nuser = "{user}"' for user in USERS}
    for app, words in (users | APPS).items():
        lines.append(f'[[apps]]\nid = "{app}"\ntoken = "{token(app)}"\n{words}')
    return "\n".join(lines)


@dataclass
class Office:
    ringback: Ringback
    accounts: AccountStore
    usual: Accounts

    def ask(self, app: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return self.ringback.request(method, path, body, token(app))

    def place(self, source: Any, destination: Any, query: str = "") -> str:
        view = {"source": source, "destination": destination}
        body = {"extension": "210", "phoneCallView": [view]}
        status, answer = self.ask("ada", "POST", f"@me/simple{query}", body)
        assert status == 202, answer
        call_id: str = answer[0]["id"]
        return call_id

    def legs(self, call_id: str, until: Callable[[dict[str, Leg]], object]) -> dict[str, Leg]:
        def holds(call: Call) -> bool:
            return bool(until({leg.id: leg for leg in call.legs}))

        return {leg.id: leg for leg in self.ringback.wait(call_id, holds).legs}

    def talking(self, source: Any, destination: Any, query: str = "") -> str:
        call_id = self.place(source, destination, query)
        self.ringback.wait_state(call_id, State.BRIDGED)
        return call_id

    def put(self, app: str, call_id: str, action: str, **fields: Any) -> tuple[int, Any]:
        user = "@owner" if app in ("organization", "administrator") else "@me"
        return self.ask(app, "PUT", f"{user}/@self/{call_id}", {"action": action, **fields})

    def seen(self, app: str, call_id: str) -> bool:
        """Whether the app sees the call, which list and GET agree on."""
        user = "@owner" if app in ("organization", "administrator") else "@me"
        _, one = self.ask(app, "GET", f"{user}/@self/{call_id}")
        _, some = self.ask(app, "GET", f"{user}/@self?count=100")
        listed = [entry["id"] for entry in some["entry"]]
        assert some["totalResults"] == len(listed)
        assert (call_id in listed) == bool(one.get("entry"))
        return bool(one.get("entry"))

    def client(self, app: str, user: str = "@me") -> Client:
        host, port = self.ringback.stack.settings.http_address
        return Client(f"http://{host}:{port}", token(app), user=user)


@pytest.fixture(scope="module")
def at_office(ringback: Ringback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    path = tmp_path_factory.mktemp("accounts") / "accounts.toml"
    path.write_text(office())
    accounts = AccountStore(ringback.store.redis, ringback.store.keys)
    before, usual = accounts.current(), read_accounts(path)
    accounts.replace(usual, demo=True)
    there = Office(ringback, accounts, usual)
    yield there
    accounts.replace(before, demo=True)
    eventually(lambda: ringback.request("GET", "@me/@self")[0] == 200)


@pytest.fixture(autouse=True)
def no_calls_left(at_office: Office) -> Iterator[None]:
    at_office.accounts.replace(at_office.usual, demo=True)
    eventually(lambda: at_office.ask("ada", "GET", "@me/210")[0] == 200)
    yield
    eventually(lambda: at_office.ask("administrator", "DELETE", "@owner/@self")[0] == 200)


def code(answer: tuple[int, Any]) -> tuple[int, str]:
    status, body = answer
    return status, body["error"]["code"]


INSUFFICIENT = 403, "rights_insufficient"
UNKNOWN = 400, "pc_phonecall_invalid"


def test_a_call_shows_from_the_ring_to_the_end_of_the_own_leg(at_office: Office) -> None:
    """Bob's phone rings last, and carla's not at all before it."""
    call_id = at_office.place("15612", "0003*220", "?waitForPickup=60")
    assert at_office.seen("ada", call_id) and at_office.seen("organization", call_id)
    assert at_office.seen("administrator", call_id)
    assert not at_office.seen("bob", call_id) and not at_office.seen("carla", call_id)
    assert code(at_office.ask("bob", "DELETE", f"@me/@self/{call_id}")) == UNKNOWN
    at_office.legs(call_id, lambda legs: legs["b1"].created)
    assert at_office.seen("bob", call_id) and not at_office.seen("carla", call_id)
    for path, total in (("@me/0003*220", 1), ("@me/0003*222", 0), ("@me/220", 1)):
        assert at_office.ask("bob", "GET", path)[1]["totalResults"] == total
    assert at_office.ask("organization", "GET", "bob/@self")[1]["totalResults"] == 1
    at_office.legs(call_id, lambda legs: legs["b1"].bridged)
    # Bob goes, and ada's phone talks to another.
    moved = at_office.put("bob", call_id, "Transfer", phoneCallViewId="01", sendCallTo="250")
    assert moved[0] == 200
    at_office.legs(call_id, lambda legs: legs["b1"].ended and legs["c1"].bridged)
    assert not at_office.seen("bob", call_id) and at_office.seen("second", call_id)
    assert at_office.seen("ada", call_id)
    body = {"action": "OnHold", "phoneCallViewId": "01"}
    assert code(at_office.ask("bob", "PUT", f"@me/@self/{call_id}", body)) == UNKNOWN


def test_a_phone_that_lost_the_race_has_no_right_and_is_told_its_end(at_office: Office) -> None:
    with at_office.client("carla").events() as events:
        call_id = at_office.place(["0003*230", "0003*220"], "15600")
        at_office.legs(call_id, lambda legs: legs["a1"].ended)
        told = next(event for event in events if event.left)
    assert (told.call_id, told.state, told.call.hangup_cause) == (call_id, "ended", "LOSE_RACE")
    assert "15600" not in json.dumps(told.call.raw) and "0003*220" not in json.dumps(told.call.raw)
    at_office.ringback.wait_state(call_id, State.BRIDGED)
    assert not at_office.seen("carla", call_id)
    for action, fields in (
        ("Monitor", {"phoneCallViewId": "00", "sendCallTo": "231"}),
        ("BargeIn", {"sendCallTo": "231"}),
        ("PickUp", {"sendCallTo": "231"}),
        ("OnHold", {"phoneCallViewId": "00"}),
    ):
        assert code(at_office.put("carla", call_id, action, **fields)) == UNKNOWN
    assert code(at_office.ask("carla", "DELETE", f"@me/@self/{call_id}")) == UNKNOWN
    assert at_office.ask("carla", "DELETE", "@me/@self") == (200, [])
    assert at_office.ringback.store.get(call_id).state is State.BRIDGED  # type: ignore[union-attr]


def test_acting_is_for_the_own_party(at_office: Office) -> None:
    call_id = at_office.talking("15600", "0003*220", "?allowPublicTransfer=true")
    for action, fields in (
        ("OnHold", {"phoneCallViewId": "00"}),
        ("Park", {"phoneCallViewId": "00"}),
        ("Transfer", {"phoneCallViewId": "00", "sendCallTo": "222"}),
        ("Transfer", {"transferFromNumber": "15600", "sendCallTo": "222"}),
        ("Transfer", {"transferNumber": "15600", "sendCallTo": "222"}),
        ("TransferToVoicemail", {"phoneCallViewId": "00", "sendCallTo": "222"}),
        ("Transfer", {"phoneCallViewId": "01", "sendCallTo": "15601"}),
        ("Transfer", {"transferFromNumber": "220", "sendCallTo": "15601"}),
        ("Monitor", {"phoneCallViewId": "01", "sendCallTo": "222"}),
        ("Whisper", {"phoneCallViewId": "01", "sendCallTo": "222"}),
        ("BargeIn", {"phoneCallViewId": "01", "sendCallTo": "222"}),
        ("StartRecording", {"phoneCallViewId": "01"}),
        ("StopRecording", {"phoneCallViewId": "01"}),
    ):
        answer = at_office.put("bob", call_id, action, **fields)
        assert code(answer) == INSUFFICIENT, (action, fields)
        # Programs written for VoipNow take 403 for a dead token.
        answer = at_office.put("bob-voipnow", call_id, action, **fields)
        assert code(answer) == (400, "pc_action_invalid"), (action, fields)
        assert answer[1]["error"]["reason"] == "rights_insufficient"
    other = f"@me/@self/{call_id}?phoneNumber=15600"
    assert code(at_office.ask("bob", "DELETE", other)) == INSUFFICIENT
    call = at_office.ringback.store.get(call_id)
    assert call is not None and not call.thirds and call.hangup_requested is None
    assert not any(leg.hangup_requested or leg.held or leg.recording for leg in call.legs)
    for action in ("OnHold", "OffHold"):
        assert at_office.put("bob", call_id, action, phoneCallViewId="01")[0] == 200
    assert at_office.put("bob", call_id, "Park", phoneCallViewId="01")[0] == 200
    legs = at_office.legs(call_id, lambda legs: legs["b1"].ended and legs["a1"].parked)
    assert legs["a1"].ended is None
    assert code(at_office.put("bob", call_id, "UnPark", phoneCallViewId="00")) == (
        400,
        "pc_sendcallto_invalid",
    )
    assert code(
        at_office.put("bob", call_id, "UnPark", phoneCallViewId="00", sendCallTo="220")
    ) == (UNKNOWN)


def test_a_parked_party_takes_itself_back(at_office: Office) -> None:
    call_id = at_office.talking("15600", "0003*220")
    assert at_office.put("ada", call_id, "Park", phoneCallViewId="00")[0] == 200
    at_office.legs(call_id, lambda legs: legs["b1"].parked and legs["a1"].ended)
    taken = at_office.put("bob", call_id, "UnPark", phoneCallViewId="01", sendCallTo="222")
    assert taken[0] == 200
    at_office.legs(call_id, lambda legs: "c2" in legs and legs["c2"].bridged)


def test_who_acts_hangs_up_the_own_party_alone(at_office: Office) -> None:
    """Two phones of bob and carla's ring for a source; by id, by number, and all at once."""
    first = at_office.place(["0003*221", "0003*230"], "15600", "?waitForPickup=60")
    second = at_office.place(["0003*221", "0003*230"], "15600", "?waitForPickup=60")
    for call_id in (first, second):
        at_office.legs(call_id, lambda legs: legs["a1"].ringing and legs["a2"].ringing)
    assert code(at_office.ask("bob", "DELETE", f"@me/@self/{first}?phoneNumber=230")) == (
        INSUFFICIENT
    )
    assert at_office.ask("bob", "DELETE", f"@me/@self/{first}")[0] == 200
    legs = at_office.legs(first, lambda legs: legs["a1"].ended)
    assert legs["a2"].ended is None and legs["a2"].hangup_requested is None
    status, answer = at_office.ask("bob", "DELETE", "@me/@self")
    assert (status, [entry["id"] for entry in answer]) == (200, [second])
    legs = at_office.legs(second, lambda legs: legs["a1"].ended)
    assert legs["a2"].ended is None
    assert not at_office.seen("bob", first) and at_office.seen("carla", second)
    # Ada's own calls end as a whole.
    assert at_office.ask("ada", "DELETE", "@me/@self")[0] == 200
    for call_id in (first, second):
        assert at_office.ringback.ended(call_id).ended_by == "api"


def test_the_last_party_of_a_side_ends_the_call(at_office: Office) -> None:
    call_id = at_office.talking("15600", "0003*220")
    with at_office.client("bob").events() as events:
        assert at_office.ask("bob", "DELETE", f"@me/@self/{call_id}")[0] == 200
        assert next(event.state for event in events if event.state == "ended")
    assert at_office.ringback.ended(call_id).ended_by == "api"
    # In the call to its end: found by its id, and in no list.
    _, one = at_office.ask("bob", "GET", f"@me/@self/{call_id}")
    assert [entry["state"] for entry in one["entry"]] == ["ended"]
    assert at_office.ask("bob", "GET", "@me/@self")[1]["totalResults"] == 0


def test_the_right_is_looked_at_again_when_the_action_is_carried_out(at_office: Office) -> None:
    call_id = at_office.talking("15600", "0003*220")
    assert (
        at_office.put("ada", call_id, "Transfer", phoneCallViewId="01", sendCallTo="222")[0] == 200
    )
    at_office.legs(call_id, lambda legs: legs["b1"].ended and legs["c1"].bridged)
    store = at_office.ringback.store
    call = store.get(call_id)
    assert call is not None
    queue = JobQueue(store.redis, store.keys)
    # As the API sent them while bob's phone was in the call.
    for number, action in enumerate((Action.ON_HOLD, Action.PARK), start=1):
        asked = Request(f"{call_id}_{number}", action, "a1", own="b1", asked=store.now())
        assert queue.outcome(queue.act(call, asked), LIMIT) == "Your own party has left the call."


def test_the_accounts_are_looked_at_again_too(at_office: Office) -> None:
    call_id = at_office.talking("15600", "0003*220")
    store = at_office.ringback.store
    call = store.get(call_id)
    assert call is not None
    queue = JobQueue(store.redis, store.keys)
    for number, (app, why) in enumerate(
        (("carla", "no right to supervise"), ("nobody", "no longer in the accounts"), ("lead", ""))
    ):
        asked = Request(f"{call_id}_{number}", Action.ON_HOLD, "a1", app=app, asked=store.now())
        outcome = queue.outcome(queue.act(call, asked), LIMIT)
        assert outcome is not None and why in outcome and bool(why) == bool(outcome)


@pytest.mark.parametrize("app", ["organization", "ada", "lead", "deputy"])
def test_who_supervises_may_do_all(at_office: Office, app: str) -> None:
    call_id = at_office.talking("15600", "0003*220")
    assert at_office.seen(app, call_id)
    for action, fields in (
        ("OnHold", {"phoneCallViewId": "00"}),
        ("OffHold", {"phoneCallViewId": "00"}),
        ("StartRecording", {"phoneCallViewId": "00"}),
        ("StopRecording", {"phoneCallViewId": "00"}),
        ("Monitor", {"phoneCallViewId": "00", "sendCallTo": "250"}),
        ("Transfer", {"phoneCallViewId": "01", "sendCallTo": "250"}),
    ):
        assert at_office.put(app, call_id, action, **fields)[0] == 200, action
    user = "@owner" if app == "organization" else "@me"
    assert at_office.ask(app, "DELETE", f"{user}/@self/{call_id}")[0] == 200
    assert at_office.ringback.ended(call_id).ended_by == "api"


def test_what_supervise_names_is_listed_like_one_s_own(at_office: Office) -> None:
    """The lead's own calls, ada's, and one in which the lead's phone rings for ada: each once."""
    placed = [at_office.place("15608", "15600", "?waitForPickup=60") for _ in range(5)]
    placed.append(at_office.talking("15600", "0003*240"))
    body = {"extension": "240", "phoneCallView": [{"source": "15608", "destination": "15600"}]}
    status, answer = at_office.ask("lead", "POST", "@me/simple", body)
    assert status == 202
    placed.append(answer[0]["id"])
    second = {**body, "extension": "250"}
    assert at_office.ask("second", "POST", "@me/simple", second)[0] == 202
    found: list[str] = []
    for start in range(0, 9, 3):
        _, page = at_office.ask("lead", "GET", f"@me/@self?count=3&startIndex={start}")
        assert page["totalResults"] == 7
        found += [entry["id"] for entry in page["entry"]]
    assert found == placed[::-1]
    _, oldest = at_office.ask("lead", "GET", "@me/@self?count=3&sortOrder=asc")
    assert [entry["id"] for entry in oldest["entry"]] == placed[:3]
    # The app of another user, with the pattern of its own, and none for the user's other app.
    assert at_office.ask("deputy", "GET", "@me/@self")[1]["totalResults"] == 7
    assert at_office.ask("second", "GET", "@me/@self")[1]["totalResults"] == 1
    status, _ = at_office.ask("lead", "DELETE", "@me/@self")
    assert status == 200
    for call_id in placed:
        at_office.ringback.ended(call_id)
    assert at_office.ask("lead", "GET", "@me/@self")[1]["totalResults"] == 0
    assert at_office.ask("second", "GET", "@me/@self")[1]["totalResults"] == 1


def test_the_stream_of_who_supervises(at_office: Office) -> None:
    with at_office.client("lead").events() as events:
        body = {"extension": "250", "phoneCallView": [{"source": "15609", "destination": "15600"}]}
        assert at_office.ask("second", "POST", "@me/simple", body)[0] == 202
        call_id = at_office.place("15609", "15600")
        seen = []
        for event in events:
            seen.append(event.call_id)
            if event.state == "ended":
                break
    assert set(seen) == {call_id}


def test_pick_up_needs_sight_of_the_call(at_office: Office) -> None:
    call_id = at_office.place("15600", "0003*221", "?waitForPickup=60")
    at_office.legs(call_id, lambda legs: legs["b1"].ringing)
    assert code(at_office.put("carla", call_id, "PickUp", sendCallTo="231")) == UNKNOWN
    assert at_office.put("bob", call_id, "PickUp", sendCallTo="222")[0] == 200
    at_office.legs(call_id, lambda legs: "c1" in legs and legs["c1"].bridged)
    second = at_office.place("15600", "0003*221", "?waitForPickup=60")
    at_office.legs(second, lambda legs: legs["b1"].ringing)
    assert at_office.put("organization", second, "PickUp", sendCallTo="231")[0] == 200


def test_a_public_number_is_charged_to_the_user_that_asks(at_office: Office) -> None:
    for app, charged in (("ada", None), ("lead", "lead"), ("organization", None)):
        call_id = at_office.talking("0003*210", "0003*220")
        moved = at_office.put(app, call_id, "Transfer", phoneCallViewId="01", sendCallTo="15601")
        assert moved[0] == 200
        legs = at_office.legs(call_id, lambda legs: "c1" in legs)
        assert legs["c1"].charged == charged
    # An organization's app that names a user asks for that user.
    call_id = at_office.talking("0003*210", "0003*220")
    body = {"action": "Transfer", "phoneCallViewId": "01", "sendCallTo": "15601"}
    assert at_office.ask("organization", "PUT", f"bob/@self/{call_id}", body)[0] == 200
    assert at_office.legs(call_id, lambda legs: "c1" in legs)["c1"].charged == "bob"


def test_may_record_is_about_the_parties_recorded(at_office: Office) -> None:
    call_id = at_office.talking("15600", "0003*231")
    for view in ("00", "01"):
        answer = at_office.put("ada", call_id, "StartRecording", phoneCallViewId=view)
        assert code(answer) == (400, "pc_action_invalid")
        assert "0003*231" in answer[1]["error"]["reason"]
    assert (
        at_office.put("ada", call_id, "Transfer", phoneCallViewId="01", sendCallTo="220")[0] == 200
    )
    at_office.legs(call_id, lambda legs: legs["b1"].ended and legs["c1"].bridged)
    assert at_office.put("ada", call_id, "StartRecording", phoneCallViewId="00")[0] == 200
    back = at_office.put("ada", call_id, "Transfer", transferFromNumber="220", sendCallTo="231")
    assert code(back) == (400, "pc_action_invalid")
    assert at_office.put("ada", call_id, "StopRecording", phoneCallViewId="00")[0] == 200
    back = at_office.put("ada", call_id, "Transfer", transferFromNumber="220", sendCallTo="231")
    assert back[0] == 200


def test_a_recording_hears_just_the_parties_that_were_asked_for(at_office: Office) -> None:
    call_id = at_office.talking("15600", "0003*231")
    store = at_office.ringback.store
    call = store.get(call_id)
    assert call is not None
    queue = JobQueue(store.redis, store.keys)
    asked = Request(
        *(f"{call_id}_1", Action.START_RECORDING, "a1"),
        file="/x.wav",
        asked=store.now(),
        recorded=("15600", "0003*220"),
    )
    assert queue.outcome(queue.act(call, asked), LIMIT) == "The parties of the call have changed."


# What leaves the accounts during a call


def without(accounts: Accounts, user: str) -> Accounts:
    numbers = [n for n, e in accounts.extensions.items() if e.owner == user]
    return Accounts.of(
        accounts.organizations.values(),
        [u for u in accounts.users.values() if u.id != user],
        [e for e in accounts.extensions.values() if e.number not in numbers],
        [a for a in accounts.apps.values() if a.user != user],
        accounts.routes,
        accounts.gateways,
    )


@pytest.mark.parametrize("app", ["organization", "administrator"])
@pytest.mark.parametrize("which", ["one", "all"])
def test_a_user_that_leaves_during_a_call(at_office: Office, app: str, which: str) -> None:
    call_id = at_office.talking("0003*210", "15600")
    at_office.accounts.replace(without(at_office.usual, "ada"), demo=True)
    eventually(lambda: at_office.ask("ada", "GET", "@me/@self")[0] == 401)
    assert at_office.seen(app, call_id)
    with at_office.client(app, "@owner").events() as events:
        path = f"@owner/@self/{call_id}" if which == "one" else "@owner/@self"
        status, answer = at_office.ask(app, "DELETE", path)
        assert (status, [entry["id"] for entry in answer]) == (200, [call_id])
        assert next(event.call_id for event in events if event.state == "ended") == call_id
    legs = at_office.legs(call_id, lambda legs: all(leg.ended for leg in legs.values()))
    assert len(legs) == 2
    assert not at_office.ringback.store.redis.exists(at_office.ringback.store.keys.calls)


def test_an_organization_that_leaves_during_a_call(at_office: Office) -> None:
    call_id = at_office.talking("0003*210", "15600")
    administrator = at_office.usual.apps["administrator"]
    at_office.accounts.replace(Accounts.of([], [], [], [administrator], []), demo=True)
    eventually(lambda: at_office.ask("organization", "GET", "@owner/@self")[0] == 401)
    assert at_office.seen("administrator", call_id)
    assert at_office.put("administrator", call_id, "OnHold", phoneCallViewId="00")[0] == 200
    assert at_office.ask("administrator", "DELETE", f"@owner/@self/{call_id}")[0] == 200
    assert at_office.ringback.ended(call_id).ended_by == "api"


def test_an_extension_that_leaves_during_a_call(at_office: Office) -> None:
    call_id = at_office.talking("0003*210", "0003*220")
    usual = at_office.usual
    left = {n: e for n, e in usual.extensions.items() if n not in ("0003*210", "0003*220")}
    at_office.accounts.replace(replace(usual, extensions=left), demo=True)
    eventually(lambda: "error" in at_office.ask("ada", "GET", "@me/210")[1])
    for app in ("ada", "bob", "organization", "administrator"):
        assert at_office.seen(app, call_id)
    assert at_office.ask("organization", "DELETE", f"@owner/@self/{call_id}")[0] == 200
    at_office.ringback.ended(call_id)


def test_a_pattern_of_another_organization_is_refused(tmp_path: Path) -> None:
    from app.settings import SettingsError

    for old, new in (('["0003*21*"]', '["0004*21*"]'), ('["0003*210"]', '["0004*"]')):
        path = tmp_path / "accounts.toml"
        assert old in office()
        path.write_text(office().replace(old, new))
        with pytest.raises(SettingsError, match="is not of its own organization, 0003"):
            read_accounts(path)
