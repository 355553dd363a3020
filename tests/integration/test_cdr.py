"""Every call that ended left its record."""

import re
from collections.abc import Iterator
from typing import Any

from app.calls import cdr
from app.calls.model import Call, State
from app.cdr.store import CdrStore
from app.records.model import Holder
from app.store.index import Span
from tests.conftest import eventually
from tests.integration.conftest import Ringback


def ended_calls(ringback: Ringback) -> Iterator[Call]:
    redis = ringback.store.redis
    for key in redis.scan_iter("ringback:call:*"):
        if (found := re.fullmatch(rb"ringback:call:{(\w+)}", key)) is not None:
            call = ringback.store.get(found[1].decode())
            if call is not None and call.state is State.ENDED:
                yield call


def test_every_ended_call_has_one_record_that_says_what_became_of_it(ringback: Ringback) -> None:
    placed = [
        ringback.place("15500", "15511"),
        ringback.place("15500", "15509"),
        ringback.place(["15513", "15509"], "15500"),
        ringback.place("15508", "15500", "?waitForPickup=1"),
    ]
    dispositions = [ringback.ended(call_id).disposition for call_id in placed]
    assert dispositions == [0, 1, 1, 3]
    store = CdrStore(ringback.store.redis, ringback.store.keys)

    def found() -> dict[str, dict[str, Any]]:
        parts = store.walk(Holder(), Span(), newest_first=False)
        records = [record for part in parts for record in part]
        by_id = {record["id"]: record for record in records}
        assert len(by_id) == len(records)
        assert set(placed) <= set(by_id)
        assert all(record.pop("saved") for record in records)
        return by_id

    # Those of the tests before too. What came late is in them, and may come at this moment.
    eventually(lambda: found() == {call.id: cdr.record(call) for call in ended_calls(ringback)})
    talked = found()[placed[0]]
    assert 0 < talked["billed"] <= talked["duration"]
