"""Parties that accept a call by a key, and announcements, from the request to the record."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.accounts.store import AccountStore, read_accounts
from app.calls.model import Call, State
from ringback import Client
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, SPEED, Ringback
from tests.integration.test_cli import runner
from tests.own_accounts import own_accounts

TOKEN = "the-prompts-user-token"
# Numbers that begin with 2 go through pstn2 first, where nobody answers SIP.
ACCOUNTS = """
[[routes]]
prefix = "2"
gateways = ["pstn2", "pstn"]

[[prompts]]
name = "press-one"
file = "silence_stream://2000"

[[prompts]]
name = "recorded"
file = "silence_stream://1000"
"""
ACCEPT = {"prompt": "press-one"}
SHORT = {**ACCEPT, "timeout": 2, "attempts": 2}
BOTH = {**ACCEPT, "of": "both"}
DESTINATION = {**ACCEPT, "of": "destination"}
# Numbers by what they do (freeswitch/simulator/telephones.py).
STAYS, RINGS, HANGS_UP, LATE = "15500", "15508", "15511", "15512"
PRESSES, ROBOT, ACCEPTS_SOON, HANGS_UP_AS_IT_ACCEPTS = "15524", "15561", "15562", "15563"


@contextmanager
def with_prompts(ringback: Ringback, folder: Path, prompts: str) -> Iterator[Ringback]:
    """The demo's accounts under another token, with these rows."""
    path = folder / "accounts.toml"
    path.write_text(own_accounts("the-prompts") + prompts)
    accounts = AccountStore(ringback.store.redis, ringback.store.keys)
    before = accounts.current()
    accounts.replace(read_accounts(path), demo=True)
    eventually(lambda: ringback.request("GET", "@me/@self", token=TOKEN)[0] == 200)
    yield ringback
    accounts.replace(before, demo=True)
    eventually(lambda: ringback.request("GET", "@me/@self", token="demo-user-token")[0] == 200)


@pytest.fixture(scope="module")
def ringback(ringback: Ringback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ringback]:
    with with_prompts(ringback, tmp_path_factory.mktemp("accounts"), ACCOUNTS) as ringback:
        yield ringback


def place(ringback: Ringback, source: Any, destination: Any, query: str = "", **view: Any) -> str:
    return ringback.place(source, destination, query, token=TOKEN, **view)


def hang_up(ringback: Ringback, call_id: str) -> Call:
    assert ringback.request("DELETE", f"@me/@self/{call_id}", token=TOKEN)[0] == 200
    return ringback.ended(call_id)


def record_of(ringback: Ringback, call: Call) -> dict[str, Any]:
    (view,) = ringback.request("GET", f"@me/@self/{call.id}", token=TOKEN)[1]["entry"]
    found: dict[str, Any] = view
    return found


def talked(call: Call) -> bool:
    return call.bridged is not None and sum(leg.bridged is not None for leg in call.legs) == 2


@pytest.mark.parametrize("source", [PRESSES, "25524", [STAYS, PRESSES], [RINGS, "25524", STAYS]])
def test_the_source_that_presses_the_key_takes_the_call(
    ringback: Ringback, source: str | list[str]
) -> None:
    call_id = place(ringback, source, STAYS, accept=ACCEPT)
    asked = ringback.wait(call_id, lambda call: any(leg.unaccepted for leg in call.sources))
    assert (asked.state, asked.answered, asked.winner) == (State.RINGING, None, None)
    assert not any(leg.created for leg in asked.destinations)
    call = ringback.wait_state(call_id, State.BRIDGED)
    assert call.winner is not None and call.winner.number.endswith("24")
    assert call.answered == call.winner.accepted
    assert call.answered - call.winner.answered > 1.5 / SPEED  # type: ignore[operator]
    call = hang_up(ringback, call_id)
    assert talked(call) and call.disposition == 0
    others = {leg.cause for leg in call.sources if leg.answered and leg is not call.winner}
    assert others <= {"LOSE_RACE"}


@pytest.mark.parametrize("destination", [PRESSES, "25524", [STAYS, PRESSES], [RINGS, "25524"]])
def test_the_destination_that_presses_the_key_is_connected(
    ringback: Ringback, destination: str | list[str]
) -> None:
    call_id = place(ringback, STAYS, destination, accept=DESTINATION)
    asked = ringback.wait(call_id, lambda call: any(leg.unaccepted for leg in call.destinations))
    assert (asked.state, asked.bridged) == (State.ANSWERED, None)
    call = ringback.wait_state(call_id, State.BRIDGED)
    (taken,) = [leg for leg in call.destinations if leg.won]
    assert taken.number.endswith("24") and taken.accepted == call.bridged
    assert taken.accepted - taken.answered > 1.5 / SPEED  # type: ignore[operator]
    call = hang_up(ringback, call_id)
    assert talked(call) and call.disposition == 0


def test_both_sides_accept(ringback: Ringback) -> None:
    call_id = place(ringback, PRESSES, "15624", accept=BOTH)
    ringback.wait_state(call_id, State.BRIDGED)
    assert talked(hang_up(ringback, call_id))


@pytest.mark.parametrize(
    ("source", "destination", "rule", "end"),
    [
        # A mailbox, a robot that presses another key, and one that hangs up in the prompt.
        (STAYS, STAYS, SHORT, ("NO_ANSWER", 3, "not_accepted")),
        (ROBOT, STAYS, SHORT, ("NO_ANSWER", 3, "not_accepted")),
        (HANGS_UP, STAYS, SHORT, ("NORMAL_CLEARING", 3, "not_accepted")),
        ("25500", STAYS, SHORT, ("NO_ANSWER", 3, "not_accepted")),
        (["15500", "15509"], STAYS, SHORT, ("NO_ANSWER", 3, "not_accepted")),
        (STAYS, STAYS, {**SHORT, "of": "destination"}, ("NO_ANSWER", 3, "not_accepted")),
        (STAYS, ROBOT, {**SHORT, "of": "destination"}, ("NO_ANSWER", 3, "not_accepted")),
        (STAYS, HANGS_UP, {**SHORT, "of": "destination"}, ("NORMAL_CLEARING", 3, "not_accepted")),
        (STAYS, ["15500", "15600"], {**SHORT, "of": "both"}, ("NO_ANSWER", 3, "not_accepted")),
        # Who rings out was never asked.
        (RINGS, STAYS, SHORT, ("NO_ANSWER", 3, "timeout")),
        (STAYS, RINGS, {**SHORT, "of": "destination"}, ("NO_ANSWER", 3, "timeout")),
        (STAYS, "15509", {**SHORT, "of": "destination"}, ("USER_BUSY", 1, "destination")),
        # The phone that accepted hangs up.
        (HANGS_UP_AS_IT_ACCEPTS, RINGS, ACCEPT, None),
    ],
)
def test_nobody_accepts(
    ringback: Ringback,
    source: str | list[str],
    destination: str | list[str],
    rule: dict[str, Any],
    end: tuple[str, int, str] | None,
) -> None:
    call_id = place(ringback, source, destination, "?waitForPickup=4", accept=rule)
    call = ringback.ended(call_id)
    assert call.bridged is None and not any(leg.live for leg in call.legs)
    if end is None:
        assert call.ended_by in ("source", "not_accepted") and call.disposition == 3
        return
    assert (call.hangup_cause, call.disposition, call.ended_by) == end
    if call.ended_by == "not_accepted":
        (leg,) = [leg for leg in call.legs if leg.unaccepted][:1]
        assert leg.ended > leg.answered  # type: ignore[operator]
        if leg in call.sources:
            assert call.answered is None
            assert not any(each.created for each in call.destinations)


def test_the_prompt_takes_nothing_from_the_ringing(ringback: Ringback) -> None:
    """A phone that answers late has all of its time to accept, and one that rings has not."""
    call_id = place(
        ringback, [LATE, RINGS], STAYS, "?waitForPickup=3", accept={**ACCEPT, "timeout": 4}
    )
    call = ringback.ended(call_id)
    late, rings = call.sources
    asked = SPEED * (late.ended - late.answered)  # type: ignore[operator]
    rang = SPEED * (rings.ended - rings.ringing)  # type: ignore[operator]
    assert 8.0 <= asked <= 10.5 and 2.9 <= rang <= 5.5
    assert late.cause == "ALLOTTED_TIMEOUT"
    assert (call.ended_by, call.disposition) == ("not_accepted", 3)


def test_cancelled_in_the_prompt(ringback: Ringback) -> None:
    for view in ({"accept": ACCEPT}, {"accept": DESTINATION}):
        call_id = place(ringback, STAYS, STAYS, **view)
        ringback.wait(call_id, lambda call: any(leg.unaccepted for leg in call.legs))
        call = hang_up(ringback, call_id)
        assert (call.ended_by, call.disposition, call.bridged) == ("api", 3, None)
        assert not any(leg.live for leg in call.legs)


def test_extensions_accept_only_if_the_rule_says_so(ringback: Ringback) -> None:
    call_id = place(ringback, "211", STAYS, accept=ACCEPT)
    ringback.wait_state(call_id, State.BRIDGED)
    hang_up(ringback, call_id)
    call_id = place(ringback, "211", STAYS, accept={**SHORT, "extensions": True})
    assert ringback.ended(call_id).ended_by == "not_accepted"


@pytest.mark.parametrize(
    ("source", "destination"),
    [(STAYS, STAYS), ([STAYS, LATE], [STAYS, LATE]), ("25500", ["25500", RINGS])],
)
@pytest.mark.parametrize("to", ["source", "destination", "both"])
def test_announcements(
    ringback: Ringback, source: str | list[str], destination: str | list[str], to: str
) -> None:
    rule = {"prompt": "recorded", "to": to}
    call_id = place(ringback, source, destination, announce=rule)
    call = ringback.wait_state(call_id, State.BRIDGED)
    (answered,) = [leg for leg in call.destinations if leg.bridged]
    source_waits = (answered.created or 0.0) - (call.answered or 0.0)
    destination_waits = (call.bridged or 0.0) - (answered.answered or 0.0)
    assert (source_waits >= 0.9 / SPEED) is (to != "destination")
    assert (destination_waits >= 0.9 / SPEED) is (to != "source")
    assert talked(hang_up(ringback, call_id))


def test_hung_up_in_the_announcement(ringback: Ringback) -> None:
    for to, source, destination, by in (
        ("source", "15563", STAYS, "source"),
        ("destination", STAYS, "15563", "destination"),
    ):
        rule = {"prompt": "press-one", "to": to}
        call = ringback.ended(place(ringback, source, destination, announce=rule))
        assert (call.ended_by, call.disposition, call.bridged) == (by, 3, None)
        assert not any(leg.live for leg in call.legs)


def test_an_announcement_and_a_key(ringback: Ringback) -> None:
    announce = {"prompt": "recorded", "to": "both"}
    call_id = place(ringback, PRESSES, "15624", accept=BOTH, announce=announce)
    ringback.wait_state(call_id, State.BRIDGED)
    assert talked(hang_up(ringback, call_id))


def test_what_a_record_says_of_a_mailbox(ringback: Ringback) -> None:
    client = Client(ringback.stack.url, TOKEN)
    call = client.simple("210", [STAYS, ACCEPTS_SOON], HANGS_UP, accept=ACCEPT, announce=False)
    client.wait_until(call.id, "ended", LIMIT)
    (record,) = [each for each in client.cdr() if each.id == call.id]
    mailbox, person, other = record.raw["legs"]
    assert (mailbox["accepted"], mailbox["cause"]) == (False, "LOSE_RACE")
    assert mailbox["answered"] and (person["accepted"], "accepted" in other) == (True, False)


def test_from_the_command_line(ringback: Ringback) -> None:
    run = runner(ringback)
    placed = run("call", ACCEPTS_SOON, HANGS_UP, "--extension", "0003*210", "--accept", "press-one")
    assert placed.exit_code == 0, placed.output
    words = ("call", STAYS, HANGS_UP, "--extension", "0003*210", "--announce", "nosuch")
    refused = run(*words)
    assert refused.exit_code != 0 and "no prompt" in refused.output
