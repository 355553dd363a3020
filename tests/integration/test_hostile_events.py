"""What a switch may send that no listener expects: the next event is heard."""

import pytest

from app.calls.model import State
from tests.integration.conftest import REAL, Ringback

pytestmark = pytest.mark.skipif(bool(REAL), reason="a real switch sends no such frames")


@pytest.mark.parametrize("kind", ["nested", "large", "no-colon", "notice"])
def test_the_next_event_is_heard(ringback: Ringback, kind: str) -> None:
    assert ringback.api(f"simulator send {kind}").startswith("+OK ")
    call = ringback.wait_state(ringback.place("15500", "15500"), State.BRIDGED)
    ringback.request("DELETE", f"@me/@self/{call.id}")
    assert ringback.ended(call.id).ended_by not in ("events_lost", "worker_lost")
    entries = ringback.store.timeline(call.id)
    heard = {entry["name"] for entry in entries if entry["kind"] == "event"}
    assert {"CHANNEL_ANSWER", "CHANNEL_HANGUP_COMPLETE"} <= heard
