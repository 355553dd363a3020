"""What a create takes as metadata, status callback and headers, and what a call's changes tell."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from app.calls import transitions
from app.calls.model import Call, State, from_hash
from app.calls.status_callback import EVENTS, outbox
from app.calls.transitions import LegReport, report_leg
from app.phone_calls import extras
from app.store.calls import CallStore
from freeswitch.dialstring import check_headers
from tests.app.conftest import Ask
from tests.app.test_call_events import CALLED, DESK, PUBLIC, REPORTS, TALK, report
from tests.app.test_call_events import call as plain_call
from tests.app.test_phone_calls import BODY, LIST, SIMPLE, is_error, only_call

URL = "https://crm.example.com/status?key=a%20b"
METADATA = {"order": "4711", "who": 'Zoë "O\'Neill"\n\\ 😀'}


def call(*events: str, sources: Sequence[str] = (DESK,)) -> Call:
    callback = {"url": URL, "events": list(events or EVENTS), "method": "POST", "target": "t"}
    made = plain_call(sources, [CALLED])
    return replace(made, status_callback=json.dumps(callback), request_digest="secret")


def told(current: Call, *reports: LegReport) -> tuple[Call, list[dict[str, str]]]:
    entries: list[dict[str, str]] = []
    for one in reports:
        changed = report_leg(current, one)
        entries += outbox(current, changed)
        current = changed
    return current, entries


def names(entries: Sequence[dict[str, str]]) -> list[str]:
    return [entry["event"] for entry in entries]


def test_a_call_tells_each_status_once() -> None:
    ended, entries = told(call(), *TALK)
    assert names(entries) == list(EVENTS)
    assert [float(entry["time"]) for entry in entries] == [1002, 1003, 1006, 1016]
    assert told(ended, *TALK)[1] == []
    callback = {"url": URL, "method": "POST", "target": "t", "app": "app"}
    for entry, state in zip(entries, EVENTS, strict=True):
        assert json.loads(entry["callback"]) == callback
        shown = from_hash(json.loads(entry["call"]))
        assert shown.state == state
        # The message carries the URL once, and no digest.
        assert shown.status_callback is None and shown.request_digest is None


def test_only_what_was_asked_for_and_nothing_without_a_callback() -> None:
    assert names(told(call("ended", "bridged"), *TALK)[1]) == ["bridged", "ended"]
    assert told(plain_call([DESK], [CALLED]), *TALK)[1] == []


def test_several_statuses_in_one_change() -> None:
    """The listener writes at once what it heard in a moment."""
    current = call()
    changed = current
    for one in TALK[:7]:
        changed = report_leg(changed, one)
    assert names(list(outbox(current, changed))) == ["ringing", "answered", "bridged"]


def test_a_status_that_comes_late_is_not_told_after_a_later_one() -> None:
    answered, entries = told(call(), report("a1", 1003, "created", "answered"))
    assert names(entries) == ["answered"]
    assert told(answered, report("a1", 1002, "ringing"))[1] == []


@pytest.mark.parametrize(
    "end",
    [
        lambda call: transitions.end_queued(call, at=1060.0),
        lambda call: transitions.request_hangup(call, at=1005.0),
        lambda call: transitions.end(call, transitions.BY_POLICY, at=1001.0),
        lambda call: transitions.end(call, transitions.NOT_REPLICATED, at=1001.0),
    ],
)
def test_a_call_that_was_never_dialled(end: Any) -> None:
    queued = replace(call(), state=State.QUEUED)
    assert list(outbox(None, queued)) == []
    (entry,) = outbox(queued, end(queued))
    assert entry["event"] == "ended"
    assert from_hash(json.loads(entry["call"])).state is State.ENDED


@given(
    st.lists(st.sampled_from([DESK, "0003*211", PUBLIC]), min_size=2, max_size=2),
    st.lists(REPORTS, max_size=40),
)
def test_whatever_comes_in_whatever_order(sources: list[str], reports: list[LegReport]) -> None:
    """Each status once at most, in their order, and the end of every call once."""
    current, entries = told(call(sources=sources), *reports)
    ended = transitions.end(current, transitions.EVENTS_LOST, at=2000.0)
    entries += outbox(current, ended)
    order = [EVENTS.index(name) for name in names(entries)]
    assert order == sorted(set(order))
    assert names(entries)[-1] == "ended"


def test_metadata_comes_back_and_the_url_does_not(ask: Ask, redis: Redis, store: CallStore) -> None:
    asked = {**BODY, "metadata": METADATA, "statusCallback": {"url": URL}}
    answer = ask("POST", SIMPLE, asked)
    assert answer.status_code == 202, answer.json
    made = only_call(redis, store)
    assert json.loads(made.metadata) == METADATA
    assert json.loads(made.status_callback) == {
        "url": URL,
        "events": ["ringing", "answered", "bridged", "ended"],
        "method": "POST",
        "target": "demo-user https://crm.example.com:443",
    }
    (shown,) = ask("GET", f"{LIST}/{made.id}", fields="metadata").json["entry"]
    assert shown == {"metadata": METADATA}
    everything = ask("GET", f"{LIST}/{made.id}").get_data(as_text=True)
    assert "crm.example.com" not in everything
    (entry,) = [fields for _, fields in redis.xrange("ringback:events")]
    assert b"crm.example.com" not in entry[b"changed"] and b"4711" in entry[b"changed"]


def test_a_retry_is_the_same_request(ask: Ask) -> None:
    asked = {**BODY, "nonce": "n", "metadata": METADATA, "statusCallback": {"url": URL}}
    (first,) = ask("POST", SIMPLE, asked).json
    same = {
        "statusCallback": {"url": URL, "method": None},
        "metadata": dict(reversed(METADATA.items())),
    }
    (again,) = ask("POST", SIMPLE, {**asked, **same}).json
    assert first["id"] == again["id"]
    for other in ({"metadata": {"order": "4712"}}, {"statusCallback": {"url": URL + "c"}}):
        is_error(ask("POST", SIMPLE, {**asked, **other}), 400, "pc_nonce_invalid")


def test_the_order_of_events_and_empty_headers_change_nothing(ask: Ask) -> None:
    (view,) = BODY["phoneCallView"]

    def placed(events: list[str], **more: Any) -> str:
        callback = {"url": URL, "events": events}
        body = {**BODY, "nonce": "n", "statusCallback": callback}
        (made,) = ask("POST", SIMPLE, {**body, "phoneCallView": [{**view, **more}]}).json
        call_id: str = made["id"]
        return call_id

    first = placed(["ended", "answered"])
    assert first == placed(["answered", "ended", "ended"])
    for headers in ({}, {"source": {}}, {"source": {}, "destination": {}}):
        assert first == placed(["ended", "answered"], headers=headers)


@pytest.mark.parametrize("fits", [True, False])
def test_the_most_metadata(ask: Ask, fits: bool) -> None:
    # {"k":"…"} with two bytes for each letter.
    text = "é" * ((2048 - 8) // 2) + ("" if fits else "x")
    answer = ask("POST", SIMPLE, {**BODY, "metadata": {"k": text}})
    if fits:
        assert answer.status_code == 202
    else:
        is_error(answer, 400, "pc_metadata_invalid")
        assert answer.json["error"]["reason"] == "metadata takes at most 2048 bytes of JSON."


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ("text", "/metadata"),
        ([], "/metadata"),
        (7, "/metadata"),
        ({"a": 7}, "/metadata/a"),
        ({"a": None}, "/metadata/a"),
        ({"a": {"b": "c"}}, "/metadata/a"),
        ({"": "x"}, "/metadata/"),
        ({"a:b": "x"}, "/metadata/a:b"),
        ({"a\n": "x"}, "/metadata/a\n"),
        ({"k" * 65: "x"}, "/metadata/" + "k" * 65),
        ({"a": "\ud800"}, "/metadata/a"),
    ],
)
def test_metadata_that_is_refused(ask: Ask, redis: Redis, metadata: Any, field: str) -> None:
    answer = ask("POST", SIMPLE, {**BODY, "metadata": metadata})
    is_error(answer, 400, "pc_metadata_invalid")
    assert answer.json["error"]["field"] == field and answer.json["error"]["reason"]
    assert not redis.keys("ringback:call:*")


@pytest.mark.parametrize(
    ("callback", "field"),
    [
        ("https://crm.example.com", "/statusCallback"),
        ({}, "/statusCallback/url"),
        ({"url": 7}, "/statusCallback/url"),
        ({"url": "ftp://crm.example.com"}, "/statusCallback/url"),
        ({"url": "https://me:secret@crm.example.com"}, "/statusCallback/url"),
        ({"url": "https://crm.example.com/#a"}, "/statusCallback/url"),
        ({"url": "https://crm.example.com/a b"}, "/statusCallback/url"),
        ({"url": "https://crm.example.com/" + "a" * 2048}, "/statusCallback/url"),
        ({"url": URL, "events": []}, "/statusCallback/events"),
        ({"url": URL, "events": "ended"}, "/statusCallback/events"),
        ({"url": URL, "events": ["ended", "busy"]}, "/statusCallback/events/1"),
        ({"url": URL, "method": "GET"}, "/statusCallback/method"),
    ],
)
def test_a_callback_that_is_refused(ask: Ask, redis: Redis, callback: Any, field: str) -> None:
    answer = ask("POST", SIMPLE, {**BODY, "statusCallback": callback})
    is_error(answer, 400, "pc_callback_invalid")
    assert answer.json["error"]["field"] == field and answer.json["error"]["reason"]
    assert not redis.keys("ringback:call:*")


def test_headers_are_kept_for_the_dial_string_alone(
    ask: Ask, redis: Redis, store: CallStore
) -> None:
    headers = {"source": {"X-Account": "42"}, "destination": {"X-Order": "a b; c=d"}}
    (view,) = BODY["phoneCallView"]
    asked = {**BODY, "nonce": "n", "phoneCallView": [{**view, "headers": headers}]}
    first, again = ask("POST", SIMPLE, asked), ask("POST", SIMPLE, asked)
    assert first.status_code == 202 and first.json == again.json
    made = only_call(redis, store)
    assert json.loads(made.sip_headers) == headers
    assert "X-Account" not in ask("GET", f"{LIST}/{made.id}").get_data(as_text=True)
    (entry,) = [fields for _, fields in redis.xrange("ringback:events")]
    assert b"X-Account" not in entry[b"changed"]
    other = {**asked, "phoneCallView": [{**view, "headers": {"source": {"X-Account": "43"}}}]}
    is_error(ask("POST", SIMPLE, other), 400, "pc_nonce_invalid")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ("text", "headers"),
        ({"source": ["X-A"]}, "headers/source"),
        ({"source": {f"X-{n}": "a" for n in range(11)}}, "headers/source"),
        ({"source": {"Via": "a"}}, "headers/source/Via"),
        ({"destination": {"X-FS-Support": "a"}}, "headers/destination/X-FS-Support"),
        ({"destination": {"X-A": "1", "X-a": "1"}}, "headers/destination/X-a"),
        ({"destination": {"X-A": 7}}, "headers/destination/X-A"),
        ({"destination": {"X-A": "a,b"}}, "headers/destination/X-A"),
        ({"destination": {"X-A": "${system(touch x)}"}}, "headers/destination/X-A"),
        ({"destination": {"X-A": "a:_:b"}}, "headers/destination/X-A"),
        ({"destination": {"X-A": "a\r\nVia: b"}}, "headers/destination/X-A"),
    ],
)
def test_headers_that_are_refused(ask: Ask, redis: Redis, headers: Any, field: str) -> None:
    (view,) = BODY["phoneCallView"]
    answer = ask("POST", SIMPLE, {**BODY, "phoneCallView": [{**view, "headers": headers}]})
    is_error(answer, 400, "pc_headers_invalid")
    assert answer.json["error"]["field"] == f"/phoneCallView/0/{field}"
    assert answer.json["error"]["reason"]
    assert not redis.keys("ringback:call:*")


@given(st.text(max_size=12), st.text("aX :_=%,'|$([{<^`\\\"\n\r;&-", max_size=20))
def test_the_door_and_the_dial_string_take_the_same_headers(name: str, value: str) -> None:
    for named in (name, f"X-{name}", "X-A"):
        taken = True
        try:
            check_headers({named: value})
        except ValueError:
            taken = False
        assert (extras._header_refusal(named, value, set()) is None) is taken
