"""A route's gateways are tried in order where one fails, and only then."""

import math
from collections.abc import Iterator

import pytest

from app.accounts.store import AccountStore, read_accounts
from app.calls.model import State
from app.store.pace import SUSPENDED
from tests.conftest import eventually
from tests.integration.conftest import REAL, SPEED, Ringback
from tests.own_accounts import own_accounts

TOKEN = "the-gateways-user-token"


def is_known(ringback: Ringback, token: str) -> bool:
    return ringback.request("GET", "@me/@self", token=token)[0] == 200


@pytest.fixture(scope="module")
def ringback(ringback: Ringback, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ringback]:
    """Public numbers go through pstn2, where nobody answers SIP, then pstn, then pstn again."""
    path = tmp_path_factory.mktemp("accounts") / "accounts.toml"
    text = own_accounts("the-gateways")
    path.write_text(text.replace('["pstn"]', '["pstn2", "pstn", "pstn"]'))
    accounts = AccountStore(ringback.store.redis, ringback.store.keys)
    before = accounts.current()
    accounts.replace(read_accounts(path), demo=True)
    eventually(lambda: is_known(ringback, TOKEN))
    yield ringback
    accounts.replace(before, demo=True)
    eventually(lambda: is_known(ringback, "demo-user-token"))


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (["15500"], ["15600"]),
        (["15500", "15512"], ["15600"]),
        (["15500"], ["15600", "15612"]),
    ],
)
def test_the_next_gateway_is_tried(
    ringback: Ringback, source: list[str], destination: list[str]
) -> None:
    call_id = ringback.place(source, destination, token=TOKEN)
    call = ringback.wait_state(call_id, State.BRIDGED)
    legs = {leg.id: leg for leg in call.legs}
    assert (legs["a1"].gateway, legs["a1"].cause) == ("pstn2", "NORMAL_TEMPORARY_FAILURE")
    assert (legs["b1"].gateway, legs["b1"].cause) == ("pstn2", "NORMAL_TEMPORARY_FAILURE")
    assert legs["a1.2"].bridged and legs["b1.2"].bridged
    ringback.request("DELETE", f"@me/@self/{call_id}", token=TOKEN)
    assert ringback.ended(call_id).disposition == 0


@pytest.mark.parametrize("number", ["15509", "15513"])
def test_a_party_that_answered_no_is_not_called_again(ringback: Ringback, number: str) -> None:
    """Busy or declined through the second gateway: the third is not tried."""
    call = ringback.ended(ringback.place([number], ["15600"], token=TOKEN))
    assert (call.disposition, call.ended_by) == (1, "source")
    assert [leg.created is not None for leg in call.sources] == [True, True, False]
    call = ringback.ended(ringback.place(["15500", "15512"], [number], token=TOKEN))
    assert (call.disposition, call.ended_by) == (1, "destination")
    assert [leg.created is not None for leg in call.destinations] == [True, True, False]


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (["15508"], ["15600"]),
        (["15508", "15608"], ["15600"]),
        (["15500"], ["15608"]),
        (["15500"], ["15508", "15608"]),
    ],
)
def test_the_ringing_is_bounded_through_whatever_gateway(
    ringback: Ringback, source: list[str], destination: list[str]
) -> None:
    """And whoever did not answer is not called again through the third."""
    call = ringback.ended(ringback.place(source, destination, "?waitForPickup=3", TOKEN))
    assert (call.disposition, call.ended_by) == (3, "timeout")
    silent = call.destinations if call.answered else call.sources
    assert {leg.id for leg in silent if leg.created} == {
        leg.id for leg in silent if not leg.id.endswith(".3")
    }
    rang = max(leg.ended or 0 for leg in silent) - min(leg.created or math.inf for leg in silent)
    assert 3 <= SPEED * rang < 9


def test_all_gateways_share_the_time(ringback: Ringback) -> None:
    """The second gateway fails late or rings first, or says nothing; the third rings on."""
    asked = {"15541": 6, "15542": 6, "15543": 8}
    sides = [(n, wait, side) for n, wait in asked.items() for side in ("source", "destination")]
    calls = [
        ringback.place(
            *([number], ["15600"]) if side == "source" else (["15500"], [number]),
            f"?waitForPickup={wait}",
            TOKEN,
        )
        for number, wait, side in sides
    ]
    for call_id, (number, wait, side) in zip(calls, sides, strict=True):
        call = ringback.ended(call_id)
        legs = call.sources if side == "source" else call.destinations
        first, second, third = legs
        if REAL and second.answered:
            pytest.skip("the far end has no numbers of these manners (freeswitch.simulator)")
        assert (call.disposition, call.ended_by, call.hangup_cause) == (3, "timeout", "NO_ANSWER")
        assert first.cause == "NORMAL_TEMPORARY_FAILURE"
        left = "PROGRESS_TIMEOUT" if number == "15543" else "NORMAL_TEMPORARY_FAILURE"
        assert (second.cause, third.cause) == (left, "NO_ANSWER")
        assert first.created and third.ended
        # Without that limit the third would fail by itself, or ring on.
        assert wait <= SPEED * (third.ended - first.created) < wait + (1.2 if REAL else 6), number


def test_ways_that_are_never_dialled_are_not_waited_for(ringback: Ringback) -> None:
    """Those of a party that left while the call waited, and those behind the one that rings."""
    redis = ringback.store.redis
    redis.set(SUSPENDED, 1)
    try:
        call_id = ringback.place(["15500"], ["15508", "15608", "15708"], token=TOKEN)
        path = f"@me/@self/{call_id}"
        assert ringback.request("DELETE", f"{path}?phoneNumber=15508", token=TOKEN)[0] == 200
    finally:
        redis.delete(SUSPENDED)
    ringback.wait(call_id, lambda call: sum(bool(leg.ringing) for leg in call.destinations) == 2)
    assert ringback.request("DELETE", f"{path}?phoneNumber=15608", token=TOKEN)[0] == 200
    assert ringback.request("DELETE", path, token=TOKEN)[0] == 200
    call = ringback.ended(call_id)
    assert {leg.party for leg in call.destinations if leg.created} == {"b2", "b3"}
