"""What the listener makes of the recorded traces, and of the same ones in disorder.

``traces/`` holds what a real FreeSWITCH said in 40 scenarios, trimmed to the events the
listener subscribes to and the headers it reads.
"""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.calls import transitions
from app.calls.model import Accept, Call, Leg, NumberKind, Role, State, from_hash, to_hash
from app.calls.transitions import finish_originate, report_leg
from freeswitch.commands import originate_error
from freeswitch.events import Event
from workers.leg_reports import accepted_report, leg_report

TRACES = {path.stem: path for path in sorted(Path(__file__).with_name("traces").glob("*.jsonl"))}

# How each ends: state, cause, ended_by, disposition.
ENDS = {
    "accept-caller-hangs-up": ("ended", "NORMAL_CLEARING", "source", 3),
    "accept-destination": ("ended", "NORMAL_CLEARING", "switch", 0),
    "accept-destination-hangs-up": ("ended", "NORMAL_CLEARING", "not_accepted", 3),
    "accept-destination-never": ("ended", "NO_ANSWER", "not_accepted", 3),
    "accept-destinations": ("ended", "NORMAL_CLEARING", "switch", 0),
    "accept-enterprise": ("ended", "NORMAL_CLEARING", "switch", 0),
    "accept-never": ("ended", "NO_ANSWER", "not_accepted", 3),
    "accept-ring-all": ("ended", "NORMAL_CLEARING", "switch", 0),
    "accept-source": ("ended", "NORMAL_CLEARING", "switch", 0),
    "accept-source-hangs-up": ("ended", "NORMAL_CLEARING", "not_accepted", 3),
    "bridged-then-hupall": ("ended", "NORMAL_CLEARING", "switch", 0),
    "bridged-then-source-killed": ("ended", "NORMAL_CLEARING", "switch", 0),
    "cancelled-while-destination-rings": ("ended", "MANAGER_REQUEST", "switch", 2),
    "cancelled-while-source-rings": ("ended", "NORMAL_CLEARING", "switch", 3),
    "destination-busy": ("ended", "USER_BUSY", "destination", 1),
    "destination-declines": ("ended", "CALL_REJECTED", "destination", 1),
    "destination-no-answer": ("ended", "MANAGER_REQUEST", "switch", 2),
    "destination-unavailable": ("ended", "NORMAL_TEMPORARY_FAILURE", "destination", 2),
    "destination-unknown": ("ended", "UNALLOCATED_NUMBER", "destination", 2),
    "duration-limit": ("ended", "ALLOTTED_TIMEOUT", "duration", 0),
    "ring-all-bridge-far-hangup": ("ended", "MANAGER_REQUEST", "switch", 0),
    "source-busy": ("ended", "USER_BUSY", "source", 1),
    "source-early-media": ("ended", "MANAGER_REQUEST", "switch", 2),
    "sources-all-fail": ("ended", "USER_BUSY", "source", 1),
    "sources-no-answer": ("ended", "NO_ANSWER", "timeout", 3),
}


def read(name: str) -> tuple[Call, list[Event]]:
    """The call of a trace's first originate, and the trace's events."""
    items = [json.loads(line) for line in TRACES[name].read_text().splitlines()]
    events = [
        Event(e["Event-Name"], e, e.pop("_body", None)) for i in items if (e := i.get("event"))
    ]
    command = next((item["send"] for item in items if "send" in item), "")
    legs = []
    for number, (leg, uuid, key) in enumerate(
        re.findall(
            r"leg=(\w+),origination_uuid=([0-9a-f-]{36})(?:,group_confirm_key=(\d))?", command
        )
    ):
        role = Role.SOURCE if leg.startswith("a") else Role.DESTINATION
        accept = Accept(key, "press-one").dumps() if key else None
        legs.append(
            Leg(leg, role, str(number), NumberKind.PUBLIC, uuid, gateway="pstn", accept=accept)
        )
    job = re.search(r"Job-UUID: (\S+)", command)
    call = Call(
        id="0" * 20,
        kind="simple",
        app="app",
        user="12",
        organization="3",
        organization_name="One",
        extension="0003*210",
        accepted=1795366000.0,
        wait_for_pickup=25,
        call_duration=7200,
        queue_timeout=60,
        job_uuid=job[1] if job else "",
        legs=tuple(legs),
        state=State.DIALING,
        claimed=1795366000.1,
        sent=1795366000.2,
    )
    return call, events


def feed(call: Call, events: list[Event]) -> Call:
    for event in events:
        before = call
        if event.name == "BACKGROUND_JOB":
            error = originate_error(event.body or "")
            if error and event.headers["Job-UUID"] == call.job_uuid:
                call = finish_originate(call, error=error, at=call.accepted)
            elif (report := accepted_report(event)) is not None:
                call = report_leg(call, report)
        elif (report := leg_report(event)) is not None:
            call = report_leg(call, report)
        assert call.state.rank >= before.state.rank, event
    return call


def end(call: Call) -> object:
    """The end as a client sees it. Not the exact times: a lost event takes its own with it."""
    return (
        *(call.state, call.hangup_cause, call.ended_by, call.disposition),
        *(call.answered is None, call.bridged is None),
        [
            (leg.id, leg.cause, leg.sip_disposition, leg.answered is None, leg.ended is None)
            for leg in call.legs
        ],
    )


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_each_trace(name: str) -> None:
    call = feed(*read(name))
    assert (call.state, call.hangup_cause, call.ended_by, call.disposition) == ENDS[name]


def test_the_states_on_the_way() -> None:
    call, events = read("ring-all-bridge-far-hangup")
    states = [call.state]
    for event in events:
        call = feed(call, [event])
        if call.state is not states[-1]:
            states.append(call.state)
    assert states == ["dialing", "ringing", "answered", "bridged", "ended"]
    assert call.winner is not None and call.winner.id == "a2"
    assert {leg.id: leg.cause for leg in call.sources if leg.id != "a2"} == {
        "a1": "LOSE_RACE",
        "a3": "LOSE_RACE",
    }


def test_a_source_takes_the_call_when_it_accepts() -> None:
    call, events = read("accept-ring-all")
    seen = [(call.state, call.answered)]
    for event in events:
        call = feed(call, [event])
        if call.state is not seen[-1][0]:
            seen.append((call.state, call.answered))
    assert [state for state, _ in seen] == ["dialing", "ringing", "answered", "bridged", "ended"]
    assert call.winner is not None and call.winner.id == "a2"
    # Two seconds after it was answered.
    assert seen[2][1] == call.winner.accepted
    assert 1.5 < call.winner.accepted - call.winner.answered < 3.0  # type: ignore[operator]
    assert [leg.accepted is None for leg in call.sources] == [True, False, True]


def test_early_media_is_no_answer() -> None:
    call, events = read("source-early-media")
    call = feed(call, events[:2])
    assert call.state is State.RINGING
    assert call.answered is None


@pytest.mark.parametrize(
    ("answered", "progress", "rang"),
    [(0, 7, 7.0), (9, 7, 7.0), (7, 7, 7.0), (7, 9, None), (7, 0, None)],
)
def test_a_source_does_not_ring_after_its_answer(
    answered: int, progress: int, rang: float | None
) -> None:
    """The switch notes on it when the destination rang."""
    times = {
        "Caller-Channel-Created-Time": "1000000",
        "Caller-Channel-Answered-Time": f"{answered}000000",
        "Caller-Channel-Progress-Time": f"{progress}000000",
        "Caller-Channel-Progress-Media-Time": f"{progress}000000",
    }
    report = leg_report(Event("CHANNEL_BRIDGE", {"Unique-ID": "a1", **times}, None))
    assert report is not None
    assert (report.ringing, report.early_media) == (rang, rang)


def test_a_refused_second_originate_does_not_end_the_first() -> None:
    call, events = read("duplicate-uuid")
    refused = next(e for e in events if e.body and e.body.startswith("-ERR"))
    alive = feed(call, events[: events.index(refused)])
    assert alive.state is State.ANSWERED
    # Even were it our own Job-UUID that was answered so.
    error = originate_error(refused.body or "") or ""
    assert finish_originate(alive, error=error, at=1.0).state is State.ANSWERED


def test_late_events_say_that_an_ended_call_has_talked() -> None:
    call, events = read("ring-all-bridge-far-hangup")
    ended = transitions.end(call, transitions.EVENTS_LOST, at=1.0)
    assert (ended.answered, ended.bridged, ended.disposition) == (None, None, 4)
    late = feed(ended, events)
    whole = feed(call, events)
    assert (late.answered, late.bridged) == (whole.answered, whole.bridged)
    assert (late.ended_by, late.ended, late.disposition) == (transitions.EVENTS_LOST, 1.0, 0)


def test_refused_without_a_channel() -> None:
    call, events = read("paused-and-throttled")
    call = feed(call, events[:1])
    assert (call.state, call.hangup_cause, call.ended_by, call.disposition) == (
        "ended",
        "DESTINATION_OUT_OF_ORDER",
        "switch",
        2,
    )


def streams(call: Call, events: list[Event]) -> list[list[Event]]:
    """The events of our legs, a list each in their order, and the originate's result."""
    found: dict[str, list[Event]] = {}
    ours = {leg.uuid for leg in call.legs} | {call.job_uuid}
    for event in events:
        key = event.headers.get("Unique-ID") or event.headers.get("Job-UUID", "")
        if key in ours:
            found.setdefault(key, []).append(event)
    return list(found.values())


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", sorted(TRACES))
def test_disorder_gives_the_same_end(name: str, data: st.DataObject) -> None:
    """Shuffled between legs, doubled, and dropped but for the last of each leg."""
    call, events = read(name)
    lists = streams(call, events)
    whole = end(feed(call, [event for events in lists for event in events]))
    assert end(feed(call, [e for e in events if any(e in one for one in lists)])) == whole
    rng = data.draw(st.randoms(use_true_random=False))
    mixed = []
    for events_of_leg in lists:
        kept = [e for e in events_of_leg[:-1] if rng.random() < 0.7] + events_of_leg[-1:]
        mixed.append([e for e in kept for _ in range(rng.choice((1, 1, 2)))])
    order = [index for index, one in enumerate(mixed) for _ in one]
    rng.shuffle(order)
    iterators = [iter(one) for one in mixed]
    assert end(feed(call, [next(iterators[index]) for index in order])) == whole


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(TRACES)), st.integers(0, 60), st.randoms(use_true_random=False))
def test_redis_gives_back_what_it_was_given(name: str, count: int, rng: random.Random) -> None:
    call, events = read(name)
    call = feed(call, events[:count])
    flat = list(to_hash(call).items())
    rng.shuffle(flat)
    assert from_hash(dict(flat)) == call
