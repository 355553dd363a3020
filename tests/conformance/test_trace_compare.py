"""The comparison finds what it is there to find."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trace_compare import Item, differences
from trace_replay import load

TRACE = Path(__file__).parent / "traces" / "bridged-then-destination-killed.jsonl"

Change = Callable[[list[Item]], Any]


def event(items: list[Item], name: str, leg: str) -> Item:
    return next(
        item
        for item in items
        if item.get("event", {}).get("Event-Name") == name
        and item["event"].get("variable_leg") == leg
    )


def swap(items: list[Item], one: tuple[str, str], other: tuple[str, str]) -> None:
    first, second = items.index(event(items, *one)), items.index(event(items, *other))
    items[first], items[second] = items[second], items[first]


def test_a_trace_agrees_with_itself() -> None:
    assert differences(load(TRACE), load(TRACE)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda items: items.remove(event(items, "CHANNEL_PROGRESS", "b")),
        lambda items: items.append(copy.deepcopy(event(items, "CHANNEL_ANSWER", "a1"))),
        lambda items: event(items, "CHANNEL_HANGUP", "b")["event"].update({"Hangup-Cause": "X"}),
        lambda items: event(items, "CHANNEL_BRIDGE", "a1")["event"].pop("Other-Leg-Unique-ID"),
        lambda items: event(items, "CHANNEL_ANSWER", "b")["event"].update(
            {"Caller-Channel-Answered-Time": "0"}
        ),
        lambda items: event(items, "CHANNEL_DESTROY", "b")["event"].update(
            {"variable_sip_hangup_disposition": "recv_bye"}
        ),
        lambda items: next(item for item in items if "reply" in item).update({"reply": "-ERR"}),
        lambda items: swap(items, ("CHANNEL_ANSWER", "a1"), ("CHANNEL_PROGRESS", "a1")),
        lambda items: swap(items, ("CHANNEL_EXECUTE", "a1"), ("CHANNEL_CREATE", "b")),
        lambda items: swap(items, ("CHANNEL_BRIDGE", "a1"), ("CHANNEL_ANSWER", "b")),
    ],
)
def test_a_change_is_a_difference(change: Change) -> None:
    changed = load(TRACE)
    change(changed)
    assert differences(load(TRACE), changed)


def test_each_of_several_events_of_a_kind_counts() -> None:
    path = TRACE.with_stem("valet-park-and-retrieve")
    changed = load(path)
    fetched = next(item for item in changed if item.get("event", {}).get("Action") == "bridge")
    fetched["event"]["Valet-Extension"] = "5902"
    assert differences(load(path), changed)


def test_the_order_between_legs_is_free() -> None:
    changed = load(TRACE)
    swap(changed, ("CHANNEL_UNBRIDGE", "a1"), ("CHANNEL_HANGUP_COMPLETE", "b"))
    assert differences(load(TRACE), changed) == []
