"""A phone that is called does not choose what is dialled: REFER and 302, on a real switch."""

import time
from collections.abc import Sequence

import pytest

from app.calls.model import State
from freeswitch.event_socket import EventSocket
from tests.integration.conftest import LIMIT, REAL, Ringback
from tests.integration.test_heard import answered_on
from tests.integration.test_heard import far_end as far_end

pytestmark = pytest.mark.skipif(not REAL, reason="the simulator speaks no SIP")

# Two phones that answer at once, one that says it has moved (302), and the number where it says
# that a call should go instead.
SOURCE, DESTINATION, MOVED, ELSEWHERE = "2000017", "3000017", "3000025", "3150666"


def channel_on(far_end: EventSocket, number: str) -> str:
    limit = time.monotonic() + LIMIT
    while not (uuid := answered_on(far_end, number)):
        assert time.monotonic() < limit, f"{number} was not called"
    return uuid


@pytest.mark.parametrize("by", [SOURCE, DESTINATION])
def test_a_phone_that_transfers_the_call_ends_it(
    ringback: Ringback, far_end: EventSocket, by: str
) -> None:
    call_id = ringback.place(SOURCE, DESTINATION)
    ringback.wait_state(call_id, State.BRIDGED)
    uuid = channel_on(far_end, by)
    far_end.api(f"uuid_deflect {uuid} sip:{ELSEWHERE}@127.0.0.1", timeout=LIMIT)
    call = ringback.ended(call_id)
    assert call.disposition == 0
    assert {leg.number for leg in call.legs} == {SOURCE, DESTINATION}
    assert all(leg.ended for leg in call.legs)
    assert f",{ELSEWHERE}," not in ringback.api("show channels")


@pytest.mark.parametrize(
    ("source", "destination"),
    [([MOVED], [DESTINATION]), ([SOURCE], [MOVED]), ([SOURCE], [MOVED, "3000009"])],
)
def test_a_phone_that_has_moved_is_not_followed(
    ringback: Ringback, far_end: EventSocket, source: Sequence[str], destination: Sequence[str]
) -> None:
    call = ringback.ended(ringback.place(source, destination))
    (moved,) = [leg for leg in call.legs if leg.number == MOVED]
    assert (moved.cause, moved.answered, call.bridged) == ("REQUESTED_CHAN_UNAVAIL", None, None)
    assert call.disposition in (1, 2)
    assert f",{ELSEWHERE}," not in far_end.api("show channels")
