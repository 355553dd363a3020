"""The dial policy where calls are dialled: the accounts may have changed since the acceptance."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.accounts.model import Accounts, Gateway
from app.accounts.policy import Policy
from app.accounts.store import AccountStore, read_accounts
from app.calls.actions import Request, Target, Way
from app.calls.model import Action, NumberKind, State
from app.numbers import NumberFormat
from app.store.pace import SUSPENDED
from app.store.queue import JobQueue
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, Ringback

APPS = ("voipnow", "user")
NOT_GERMANY = Policy("not-germany", deny=("+49",))


@pytest.fixture
def changing(mortal: Ringback) -> Iterator[Ringback]:
    yield mortal
    mortal.store.redis.delete(SUSPENDED)
    AccountStore(mortal.store.redis, mortal.store.keys).replace(read_accounts(None), demo=True)
    view = {"source": "15509", "destination": "15500"}
    body = {"extension": "210", "phoneCallView": [view]}
    # The API sees them within 0.1 s.
    eventually(lambda: mortal.request("POST", "@me/simple", body)[0] == 202)
    mortal.heal()


def change(ringback: Ringback, accounts: Accounts) -> None:
    AccountStore(ringback.store.redis, ringback.store.keys).replace(accounts, demo=True)


def with_policy(policy: Policy) -> Accounts:
    accounts = read_accounts(None)
    organization = replace(accounts.organizations["0003"], policy=policy.name)
    organizations = {organization.number: organization}
    return replace(accounts, organizations=organizations, policies={policy.name: policy})


def test_a_call_that_is_barred_while_it_waits_is_not_dialled(changing: Ringback) -> None:
    redis = changing.store.redis
    redis.set(SUSPENDED, 1)
    barred = changing.place("15500", "4915550109")
    dropped = changing.place(["15500", "4915550109"], "15509")
    allowed = changing.place("15509", "15500")
    # A party that is taken out of a waiting call bars nothing.
    path = f"@me/@self/{dropped}?phoneNumber=4915550109"
    assert changing.request("DELETE", path)[0] == 200
    change(changing, with_policy(NOT_GERMANY))
    redis.delete(SUSPENDED)
    call = changing.ended(barred)
    assert (call.ended_by, call.disposition) == ("policy", 5)
    assert call.hangup_cause == "OUTGOING_CALL_BARRED"
    (told,) = [
        entry[b"data"].decode()
        for _, entry in redis.xrange(changing.store.keys.timeline(barred))
        if entry[b"name"] == b"policy"
    ]
    assert "not-germany: deny +49" in told and "+4915550109 begins with +49." in told
    assert changing.ended(allowed).hangup_cause == "USER_BUSY"
    assert changing.ended(dropped).ended_by != "policy"
    dialled = {originate["job_uuid"] for originate in changing.originates()}
    calls = {call_id: changing.store.get(call_id) for call_id in (barred, dropped, allowed)}
    jobs = {call_id: call.job_uuid for call_id, call in calls.items() if call is not None}
    assert {call_id for call_id, job in jobs.items() if job in dialled} == {dropped, allowed}


def test_a_call_whose_app_has_left_the_accounts_is_not_dialled(changing: Ringback) -> None:
    redis = changing.store.redis
    redis.set(SUSPENDED, 1)
    gone, kept = (changing.place("15509", "15500", token=f"demo-{each}-token") for each in APPS)
    accounts = read_accounts(None)
    apps = {name: app for name, app in accounts.apps.items() if name != "demo-voipnow"}
    change(changing, replace(accounts, apps=apps))
    redis.delete(SUSPENDED)
    call = changing.ended(gone)
    assert (call.ended_by, call.disposition) == ("policy", 5)
    told = [entry.get("data", "") for entry in changing.store.timeline(gone)]
    assert any("The accounts no longer have the app demo-voipnow." in text for text in told)
    assert changing.ended(kept).hangup_cause == "USER_BUSY"


def test_a_worker_judges_the_target_of_an_action_again(changing: Ringback) -> None:
    call = changing.wait_state(changing.place("15500", "15600"), State.BRIDGED)
    body = {"action": "Transfer", "transferFromNumber": "15500", "sendCallTo": "+19005551234"}
    status, answer = changing.request("PUT", f"@me/@self/{call.id}", body)
    assert (status, answer["error"]["code"]) == (403, "pc_destination_barred")
    assert answer["error"]["field"] == "/sendCallTo"
    request = Request(
        id=f"{call.id}_0123456789ab",
        action=Action.MONITOR,
        leg=call.legs[0].id,
        by=None,
        target=Target("+19005551234", NumberKind.PUBLIC, (Way(gateway="pstn"),)),
        caller_id=None,
        wait_for_pickup=25,
        max_in_parking=30,
        private=False,
        file=None,
        mailbox=None,
        asked=changing.store.now(),
    )
    queue = JobQueue(changing.store.redis, changing.store.keys)
    outcome = queue.outcome(queue.act(call, request), LIMIT)
    assert outcome is not None and "The dial policy bars this number" in outcome
    now = changing.store.get(call.id)
    assert now is not None and len(now.legs) == 2


def test_a_worker_judges_the_caller_id_of_an_action_again(changing: Ringback) -> None:
    call = changing.wait_state(changing.place("15500", "15600"), State.BRIDGED)
    accounts = read_accounts(None)
    organization = replace(accounts.organizations["0003"], caller_ids=())
    change(changing, replace(accounts, organizations={organization.number: organization}))
    request = Request(
        id=f"{call.id}_0123456789ab",
        action=Action.MONITOR,
        leg=call.legs[0].id,
        target=Target("15600", NumberKind.PUBLIC, (Way(gateway="pstn"),)),
        caller_id="Bank <+15302040000>",
        asked=changing.store.now(),
    )
    queue = JobQueue(changing.store.redis, changing.store.keys)
    outcome = queue.outcome(queue.act(call, request), LIMIT)
    assert outcome == "Bank <+15302040000> must not be shown as caller id."
    now = changing.store.get(call.id)
    assert now is not None and len(now.legs) == 2


def test_a_transfer_shows_no_number_that_may_not_be_shown(changing: Ringback) -> None:
    accounts = read_accounts(None)
    organization = replace(accounts.organizations["0003"], caller_ids=())
    change(changing, replace(accounts, organizations={organization.number: organization}))
    # Otherwise whoever makes a phone answer could show its number to the next one.
    place = changing.place("15500", "15600", "?allowPublicTransfer=true")
    call = changing.wait_state(place, State.BRIDGED)
    body = {"action": "Transfer", "transferFromNumber": "15600", "sendCallTo": "15600"}
    status, answer = changing.request("PUT", f"@me/@self/{call.id}", body)
    assert status == 200, answer
    now = changing.store.get(call.id)
    assert now is not None
    (third,) = now.thirds
    shown = changing.api(f"uuid_getvar {third.uuid} origination_caller_id_number")
    assert call.caller_id is not None and call.caller_id.endswith(f"<{shown.strip()}>")


def test_the_switch_dials_the_form_of_the_gateway_and_nothing_barred(changing: Ringback) -> None:
    accounts = with_policy(NOT_GERMANY)
    organization = replace(accounts.organizations["0003"], country="US")
    gateway = Gateway("pstn", number_format=NumberFormat.NATIONAL)
    organizations = {organization.number: organization}
    change(changing, replace(accounts, organizations=organizations, gateways=(gateway,)))

    def status(number: str) -> int:
        view = {"source": "210", "destination": number}
        return changing.request(
            "POST", "@me/simple", {"extension": "210", "phoneCallView": [view]}
        )[0]

    # The API sees the accounts within 0.1 s.
    eventually(lambda: status("011 49 30 12345609") == 403)
    assert [status(number) for number in ("911", "1 900 555 0109", "+870 773 111 609")] == [403] * 3
    call = changing.ended(changing.place("tel:+1-530-204-0009", "011 44 (0)20 7946 0909"))
    assert [leg.number for leg in call.legs] == ["+15302040009", "+442079460909"]
    dialled = {
        originate["job_uuid"]: [leg["number"] for leg in originate["legs"]]
        for originate in changing.originates()
    }
    assert dialled[call.job_uuid] == ["5302040009"]
    numbers = {number for all_ in dialled.values() for number in all_}
    assert not numbers & {"911", "19005550109", "9005550109", "+870773111609", "870773111609"}
