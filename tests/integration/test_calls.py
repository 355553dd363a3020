"""Calls through the whole stack: HTTP, Redis, worker, switch, listener, and back."""

import threading
from collections import Counter

import pytest

from app.calls.model import State
from tests.conftest import eventually
from tests.integration.conftest import REAL, Ringback

simulator_only = pytest.mark.skipif(bool(REAL), reason="reads the simulator's own record")

# Names that dial strings choke on, each of which must arrive as it was sent.
NAMES = [
    "John Doe",
    "O'Brien",
    "rock 'n' roll",
    "Smith, John",
    "50% discount",
    "100%",
    "a:_:b|c",
    "$ystem(touch x)",
    "(z) [y] {x=1}",
    "José 日本語 😀",
    "&park() ^^:x",
]


def test_from_the_request_to_the_end(ringback: Ringback) -> None:
    call_id = ringback.place(["5354353", "5302012"], ["3235742800"], callerId="J <4242425>")
    ringback.wait_state(call_id, State.BRIDGED)
    status, collection = ringback.request("GET", f"@me/210/{call_id}")
    (entry,) = collection["entry"]
    assert status == 200
    assert (entry["state"], [v["status"] for v in entry["phoneCallView"]]) == ("bridged", [5, 5])
    assert entry["phoneCallView"][0]["source"] == ["5354353"]
    status, (answer,) = ringback.request("DELETE", f"@me/210/{call_id}")
    assert (status, answer["state"], answer["endedBy"]) == (200, "ended", "api")
    call = ringback.ended(call_id)
    assert (call.hangup_cause, call.disposition) == ("NORMAL_CLEARING", 0)
    causes = {leg.id: leg.cause for leg in call.legs}
    assert causes == {"a1": "NORMAL_CLEARING", "a2": "LOSE_RACE", "b1": "NORMAL_CLEARING"}
    times = [call.accepted, call.claimed, call.sent, call.answered, call.bridged, call.ended]
    assert times == sorted(times)  # type: ignore[type-var]
    assert ringback.request("GET", "@me/@self")[1]["entry"] == []


@pytest.mark.parametrize(
    ("source", "destination", "query", "end"),
    [
        ("15500", "15509", "", ("USER_BUSY", 1, "destination")),
        ("15500", "15513", "", ("CALL_REJECTED", 1, "destination")),
        ("15500", "15514", "", ("UNALLOCATED_NUMBER", 2, "destination")),
        ("15500", "15515", "", ("NORMAL_TEMPORARY_FAILURE", 2, "destination")),
        ("15500", "15508", "?waitForPickup=4", ("NO_ANSWER", 3, "timeout")),
        ("15500", "15511", "", ("NORMAL_CLEARING", 0, "destination")),
        ("15511", "15500", "", ("NORMAL_CLEARING", 0, "source")),
        ("15500", "15517", "?callDuration=3", ("ALLOTTED_TIMEOUT", 0, "duration")),
        ("15509", "15500", "", ("USER_BUSY", 1, "source")),
        ("15513", "15500", "", ("CALL_REJECTED", 1, "source")),
        ("15508", "15500", "?waitForPickup=3", ("NO_ANSWER", 3, "timeout")),
        ("15516", "15500", "?waitForPickup=3", ("NO_ANSWER", 3, "timeout")),
        (["15508", "15509"], "15500", "?waitForPickup=3", ("NO_ANSWER", 3, "timeout")),
        (["15509", "15513", "15514"], "15500", "", ("USER_BUSY", 1, "source")),
        ("15500", ["15609", "15611"], "", ("NORMAL_CLEARING", 0, "destination")),
    ],
)
def test_how_calls_end(
    ringback: Ringback,
    source: str | list[str],
    destination: str | list[str],
    query: str,
    end: tuple[str, int, str],
) -> None:
    call = ringback.ended(ringback.place(source, destination, query))
    assert (call.hangup_cause, call.disposition, call.ended_by) == end


def test_the_status_of_the_views_on_the_way(ringback: Ringback) -> None:
    # Each stays at its step until it is hung up.
    for source, destination, holds, statuses in (
        ("15508", "15600", lambda call: call.state is State.RINGING, [3, 4]),
        ("15500", "15608", lambda call: call.destinations[0].ringing, [4, 3]),
    ):
        call_id = ringback.place(source, destination, "?waitForPickup=600")
        ringback.wait(call_id, holds)
        (entry,) = ringback.request("GET", f"@me/@self/{call_id}")[1]["entry"]
        assert [view["status"] for view in entry["phoneCallView"]] == statuses
        ringback.request("DELETE", f"@me/@self/{call_id}")
        call = ringback.ended(call_id)
        assert (call.ended_by, call.disposition) == ("api", 3)


def test_cancelled_while_the_sources_ring(ringback: Ringback) -> None:
    call_id = ringback.place(["15508", "15608"], "15500")
    ringback.wait(call_id, lambda call: all(leg.ringing for leg in call.sources))
    assert ringback.request("DELETE", f"@me/@self/{call_id}")[0] == 200
    call = ringback.ended(call_id)
    assert (call.ended_by, call.disposition) == ("api", 3)
    assert [leg.cause for leg in call.sources] == ["NORMAL_CLEARING", "NORMAL_CLEARING"]


def test_one_number_hung_up(ringback: Ringback) -> None:
    call_id = ringback.place(["15508", "15608"], "15500")
    ringback.wait(call_id, lambda call: all(leg.ringing for leg in call.sources))
    status, answer = ringback.request("DELETE", f"@me/@self/{call_id}?phoneNumber=15508")
    assert (status, answer[0]["state"]) == (200, "ringing")
    # In a call that the number is not in, nothing is hung up.
    assert ringback.request("DELETE", f"@me/@self/{call_id}?phoneNumber=15599") == (200, [])
    ringback.request("DELETE", f"@me/@self/{call_id}?phoneNumber=15608")
    call = ringback.ended(call_id)
    assert call.ended_by == "api"
    assert call.sources[0].ended < call.sources[1].ended  # type: ignore[operator]


def test_a_destination_hung_up_before_it_is_dialled(ringback: Ringback) -> None:
    """It does not ring on; the other destination is called all the same."""
    call_id = ringback.place("15512", ["15508", "15612"])
    ringback.wait_state(call_id, State.RINGING)
    status, answer = ringback.request("DELETE", f"@me/@self/{call_id}?phoneNumber=15508")
    assert status in (200, 202) and len(answer) == 1
    call = ringback.wait_state(call_id, State.BRIDGED)
    call = ringback.wait(call_id, lambda call: call.destinations[0].ended is not None)
    assert call.destinations[0].cause == "NORMAL_CLEARING"
    assert call.destinations[1].bridged
    assert ringback.request("DELETE", f"@me/@self/{call_id}")[0] == 200


def test_callback(ringback: Ringback) -> None:
    view = {"source": ["3334411"], "destination": ["3235742800"]}
    status, answer = ringback.request(
        "POST", "@me/callback", {"extension": "212", "phoneCallView": [view]}
    )
    assert status == 202
    call = ringback.ended(answer[0]["id"])
    assert (call.kind, call.extension, call.ended_by) == ("callback", "0003*212", "source")


@simulator_only
def test_sandbox_numbers(ringback: Ringback) -> None:
    calls = {
        number: ringback.place("0003*210", f"0003*{number}", "?callDuration=12&waitForPickup=10")
        for number in ("00", "08", "09")
    }
    ends = {n: (c := ringback.ended(i)).hangup_cause and c.disposition for n, i in calls.items()}
    assert ends == {"00": 0, "08": 3, "09": 1}


@simulator_only
@pytest.mark.parametrize("name", NAMES)
def test_caller_names_arrive_as_sent(ringback: Ringback, name: str) -> None:
    call_id = ringback.place(
        "15500", "15509", callerId=f"{name} <1111>", callerIdDestination=f"{name}! <+2222>"
    )
    ringback.ended(call_id)
    (record,) = [o for o in ringback.originates() if call_id in o["command"]]
    shown = [(leg["caller_id_name"], leg["caller_id_number"]) for leg in record["legs"]]
    assert shown == [(name, "1111"), (f"{name}!", "+2222")]


def test_the_timeline_tells_it_all(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15608", "?waitForPickup=8")

    def told() -> list[tuple[str, str]]:
        return [(entry["kind"], entry["name"]) for entry in ringback.store.timeline(call_id)]

    # The worker notes what it has sent a moment later (_GATHER), while the destination rings.
    eventually(lambda: ("command", "originate") in told())
    ringback.ended(call_id)
    assert told()[:4] == [
        ("request", "accepted"),
        ("change", "queued"),
        ("command", "claim"),
        ("change", "dialing"),
    ]
    assert ("event", "CHANNEL_ANSWER") in told()
    assert told()[-1] == ("change", "ended")
    times = [float(entry["at"]) for entry in ringback.store.timeline(call_id)]
    assert times == sorted(times)


def test_a_burst(ringback: Ringback) -> None:
    """200 calls at once: every one reaches the end that its number says, and is dialled once."""
    ends = {
        "15511": ("ended", 0),
        "15609": ("ended", 1),
        "15613": ("ended", 1),
        "15614": ("ended", 2),
    }
    placed: dict[str, str] = {}

    def place(first: int) -> None:
        for index in range(first, 200, 8):
            destination = list(ends)[index % len(ends)]
            placed[ringback.place("15500", destination)] = destination

    threads = [threading.Thread(target=place, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(placed) == 200
    calls = [ringback.ended(call_id) for call_id in placed]
    found = Counter((placed[c.id], (c.state.value, c.disposition)) for c in calls)
    assert found == Counter((number, ends[number]) for number in placed.values())
    if not REAL:
        dialled = Counter(record["job_uuid"] for record in ringback.originates())
        assert {dialled[call.job_uuid] for call in calls} == {1}
    # Nothing is left behind but what is kept.
    redis = ringback.store.redis
    assert redis.keys("ringback:calls:deadline*") == []
    kept = ringback.store.keys.metadata_calls("*", "*").encode().removesuffix(b"*:*")
    assert all(key.startswith(kept) for key in redis.scan_iter("ringback:calls:*"))
