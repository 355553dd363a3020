"""Call detail records: one for every ended call, found, paged and written out."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from app.calls import cdr, transitions
from app.calls.model import Call, Role, State, evolve
from app.calls.transitions import LegReport
from app.store import index
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.writes import Note
from app.web import turns
from app.web.listing import parse_date
from app.web.resource import date
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, USER, VOIPNOW, Ask
from tests.app.test_phone_calls import BODY, SIMPLE, is_error
from tests.app.test_store import new_call

CDR = "/uapi/cdr/@me"
NOTE = Note("event", "test")
NOON = parse_date("2026-11-20T12:00:00Z")


def talked(call: Call, *, ring: float = 2.0, wait: float = 3.0, talk: float = 60.4) -> Call:
    """The call after the first source answered, the destination did, and all hung up."""
    at = call.accepted
    call = transitions.claim(call, worker="w", switch="s", core_uuid="u", at=at)
    call = transitions.mark_sent(call, at=at, job_uuid=call.job_uuid)
    answered, bridged = at + ring, at + ring + wait
    source, destination = call.sources[0], call.destinations[0]
    for report in (
        LegReport(source.uuid, created=at, ringing=at, answered=answered),
        LegReport(destination.uuid, created=answered, answered=bridged),
        LegReport(source.uuid, bridged=bridged, bridged_to=destination.uuid),
        LegReport(destination.uuid, ended=bridged + talk, cause="NORMAL_CLEARING"),
        LegReport(source.uuid, ended=bridged + talk, cause="NORMAL_CLEARING"),
    ):
        call = transitions.report_leg(call, report)
    for leg in call.legs:
        if leg.ended is None:
            lost = LegReport(leg.uuid, ended=bridged, cause="LOSE_RACE")
            call = transitions.report_leg(call, lost)
    assert call.state is State.ENDED
    return call


def refused(call: Call) -> Call:
    """The call after its first source answered, and its destination was blocked."""
    at = call.accepted
    call = transitions.claim(call, worker="w", switch="s", core_uuid="u", at=at)
    source, destination = call.sources[0], call.destinations[0]
    audio = '{"mos":4.5,"packets_in":100,"packets_out":99,"marks":["one_way"]}'
    said = {
        "sip_status": 603,
        "sip_phrase": "Network Blocked",
        "q850_cause": 21,
        "reason": "=SIP;cause=603",
        "sip_call_id": "abc",
        "quality": audio,
    }
    for report in (
        LegReport(source.uuid, created=at, answered=at + 1),
        LegReport(destination.uuid, created=at + 1, ringing=at + 2.5),
        LegReport(destination.uuid, ended=at + 4, cause="CALL_REJECTED", ending=said),
        *(LegReport(leg.uuid, ended=at + 4, cause="CALL_REJECTED") for leg in call.sources),
    ):
        call = transitions.report_leg(call, report)
    assert call.state is State.ENDED
    return call


def cancelled(call: Call) -> Call:
    return transitions.request_hangup(call, at=call.accepted + 5)


def make(store: CallStore, how: Callable[[Call], Call], at: float, **changes: Any) -> Call:
    call = evolve(new_call(), accepted=at, **changes)
    Acceptor(store).accept([call], lambda call, pipe: None)
    call = store.change(call, how, NOTE)
    save(store, call, call.ended or at)
    return call


def save(store: CallStore, call: Call, at: float) -> None:
    """As if the record had been written then."""
    key: Any = store.keys.record(call.id)
    text: Any = store.redis.get(key)
    if text is not None:
        store.redis.set(key, orjson.dumps({**orjson.loads(text), "saved": at}), keepttl=True)


@pytest.fixture
def recent(store: CallStore) -> float:
    """A time that is kept, on a whole second."""
    return float(int(store.now()) - 50_000)


# The record


def test_a_leg_says_how_the_network_ended_it(ask: Ask, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, {**BODY}).json
    call = store.get(created["id"])
    assert call is not None
    call = store.change(call, refused, NOTE)
    said = {
        "cause": "CALL_REJECTED",
        "sipStatus": 603,
        "sipPhrase": "Network Blocked",
        "q850Cause": 21,
        "reason": "=SIP;cause=603",
        "blocked": True,
        "sipCallId": "abc",
        "postDialDelay": 1.5,
        "ringSeconds": 1.5,
        "quality": {"mos": 4.5, "packetsIn": 100, "packetsOut": 99, "marks": ["one_way"]},
    }
    leg = ask("GET", CDR).json["entry"][call.id]["legs"][-1]
    assert {name: leg[name] for name in said} == said
    # The call itself says so for as long as Redis keeps it.
    (entry,) = ask("GET", f"/uapi/phoneCalls/@me/210/{call.id}").json["entry"]
    _, view = entry["phoneCallView"]
    assert view["ending"] == said


def test_the_record_of_a_call_that_talked(ask: Ask, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, {**BODY, "nonce": "n"}).json
    call = store.get(created["id"])
    assert call is not None
    assert ask("GET", CDR).json["entry"] == {}
    call = store.change(call, talked, NOTE)
    answer = ask("GET", CDR).json
    record = answer["entry"].pop(call.id)
    assert answer == {"totalResults": 1, "startIndex": 0, "itemsPerPage": 20, "entry": {}}
    times = [record.pop(name) for name in ("published", "ended")]
    assert parse_date(times[1]) - parse_date(times[0]) in (65, 66)
    (view,) = record["phoneCallView"]
    assert record.pop("answered") == view.pop("answered")
    won, lost, called = record.pop("legs")
    asked_by = {"app": "demo-user", "user": "12"}
    assert won.pop("created") <= won.pop("answered") <= won.pop("ended")
    assert 63 <= won.pop("seconds") <= 64
    assert won == {
        "id": "a1",
        "number": "5354353",
        "role": "source",
        "gateway": "pstn",
        "askedBy": asked_by,
        "cause": "NORMAL_CLEARING",
        "postDialDelay": 0.0,
        "ringSeconds": 2.0,
    }
    # The switch never dialled it.
    assert {name: lost[name] for name in ("number", "seconds", "askedBy")} == {
        "number": "5302040",
        "seconds": 0,
        "askedBy": asked_by,
    }
    assert "answered" not in lost and "created" not in lost
    assert (called["role"], called["number"]) == ("destination", "3235742879")
    assert 60 <= called["seconds"] <= 61
    assert record == {
        "id": call.id,
        "extension": "0003*210",
        "ownerId": "3",
        "ownerName": "Default Organization",
        "nonce": "n",
        "phoneCallView": [
            {
                "id": "00",
                "extension": "0003*210",
                "source": "5354353",
                "destination": "3235742879",
                "flow": 4,
                "duration": 64,
                "disposition": 0,
            }
        ],
        "userId": "12",
        "app": "demo-user",
        "kind": "simple",
        # A second begun is a whole one.
        "duration": 64,
        "billed": 61,
        "hangupCause": "NORMAL_CLEARING",
        "endedBy": "switch",
        "callerId": "John Doe <4242425>",
        "callerIdDestination": "Demo Desk <0003210>",
    }
    assert ask("GET", CDR, fields="id,billed").json["entry"] == {
        call.id: {"id": call.id, "billed": 61}
    }


def test_the_record_of_a_call_that_nobody_answered(ask: Ask) -> None:
    (created,) = ask("POST", SIMPLE, BODY, token=VOIPNOW).json
    ask("DELETE", f"/uapi/phoneCalls/@me/210/{created['id']}", token=VOIPNOW)
    # Gone from the list of calls there, and kept here.
    record = ask("GET", CDR, token=VOIPNOW).json["entry"][created["id"]]
    assert (record["duration"], record["billed"], record["endedBy"]) == (0, 0, "api")
    assert "answered" not in record
    (view,) = record["phoneCallView"]
    assert (view["source"], view["disposition"]) == ("5354353,5302040", 3)


def test_what_comes_late_changes_the_record_and_makes_no_other(
    store: CallStore, redis: Redis, recent: float
) -> None:
    def lose(call: Call) -> Call:
        return transitions.end(call, transitions.EVENTS_LOST, at=recent + 100)

    call = make(store, lose, recent)
    assert (read(redis, store, call)["disposition"], read(redis, store, call)["billed"]) == (4, 0)
    source, destination = call.legs
    late = LegReport(
        *(source.uuid,), answered=recent + 10, bridged=recent + 20, bridged_to=destination.uuid
    )
    store.change(call, lambda c: transitions.report_leg(c, late), NOTE)
    record = read(redis, store, call)
    assert (record["disposition"], record["duration"], record["billed"]) == (0, 90, 80)
    keys = store.keys
    for key in (keys.records, keys.user_records("12"), keys.organization_records("0003")):
        assert redis.zrange(key, 0, -1) == [call.id.encode()]


def test_whoever_fetches_what_is_new_gets_what_came_late(
    ask: Ask, store: CallStore, recent: float
) -> None:
    def lose(call: Call) -> Call:
        return transitions.end(call, transitions.EVENTS_LOST, at=recent + 100)

    call = make(store, lose, recent)
    now = date(int(store.now()))
    assert found(ask, saveStartDate=now) == []
    late = LegReport(call.legs[0].uuid, answered=recent + 10)
    store.change(call, lambda c: transitions.report_leg(c, late), NOTE)
    assert found(ask, saveStartDate=now) == [call.id]
    # It may come long after the end, as long as the call is kept.
    save(store, call, recent + 259_200 + 3600)
    assert found(ask, saveStartDate=date(recent + 259_200 + 3600)) == [call.id]


def test_a_record_that_is_gone_leaves_the_index(ask: Ask, store: CallStore, recent: float) -> None:
    calls = [make(store, cancelled, recent + n) for n in range(3)]
    for call in calls[:2]:
        store.redis.delete(store.keys.record(call.id))
    key = store.keys.user_records("12")
    assert found(ask, count=2) == [calls[2].id]
    assert store.redis.zcard(key) == 2
    assert found(ask, disposition=3) == [calls[2].id]
    assert store.redis.zcard(key) == 1 == ask("GET", CDR).json["totalResults"]


def test_nothing_is_written_again_that_is_the_same(
    store: CallStore, redis: Redis, recent: float
) -> None:
    call = make(store, cancelled, recent)
    redis.delete(store.keys.record(call.id))
    # What the record does not tell.
    late = LegReport(call.legs[0].uuid, ringing=recent + 1)
    store.change(call, lambda c: transitions.report_leg(c, late), NOTE)
    assert not redis.exists(store.keys.record(call.id))


def test_a_record_outlives_its_call_and_goes_in_its_time(
    store: CallStore, redis: Redis, ask: Ask
) -> None:
    now, day = store.now(), 86_400
    call = make(store, cancelled, now - 100, retention=60, cdr_retention=5 * day)
    key = store.keys.record(call.id)
    assert abs(redis.ttl(key) - (5 * day - 100)) < 30
    assert redis.ttl(store.keys.call(call.id)) <= 60
    # The next to end takes from the indexes what is gone.
    old = make(store, cancelled, now - 6 * day, cdr_retention=6 * day + 60)
    assert redis.zcard(store.keys.records) == 2
    make(store, cancelled, now - 10, cdr_retention=5 * day)
    for index_key in (store.keys.records, store.keys.user_records("12")):
        assert redis.zscore(index_key, old.id) is None
        assert redis.zcard(index_key) == 2
        assert 0 < redis.ttl(index_key) <= 5 * day


def read(redis: Redis, store: CallStore, call: Call) -> Any:
    text: Any = redis.get(store.keys.record(call.id))
    assert len(text) < 1100
    return orjson.loads(text)


def test_what_a_client_asked_is_in_the_record(ask: Ask, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, BODY).json
    path = f"/uapi/phoneCalls/@me/210/{created['id']}"
    # The organization's app hangs up one of two sources, then the user's app the call.
    dropped = f"/uapi/phoneCalls/12/210/{created['id']}?phoneNumber=5302040"
    for _ in range(2):
        ask("DELETE", dropped, token=ORGANIZATION)
    ask("DELETE", path)
    ask("DELETE", path)
    record = ask("GET", CDR).json["entry"][created["id"]]
    assert all(parse_date(asked.pop("at")) for asked in record["actions"])
    assert record["actions"] == [
        {
            "action": "HangUp",
            "number": "5302040",
            "askedBy": {"app": "demo-organization", "user": "12"},
        },
        {"action": "HangUp", "askedBy": {"app": "demo-user", "user": "12"}},
    ]
    assert record["endedBy"] == "api"
    (picked,) = ask("GET", CDR, fields="id,actions").json["entry"].values()
    assert (picked["id"], len(picked["actions"]), len(picked)) == (created["id"], 2, 2)


def test_a_record_of_an_older_version_has_no_legs(
    ask: Ask, store: CallStore, redis: Redis, recent: float
) -> None:
    call = make(store, cancelled, recent)
    older = {name: value for name, value in read(redis, store, call).items() if name != "legs"}
    redis.set(store.keys.record(call.id), orjson.dumps(older))
    (record,) = ask("GET", CDR).json["entry"].values()
    assert "legs" not in record and record["id"] == call.id


def test_a_leg_counts_the_seconds_of_the_clock() -> None:
    """As FreeSWITCH's billsec: 0.2 s over the change of a second are one, 0.9 s within none."""
    call = talked(evolve(new_call(), accepted=1000.0))
    source, _ = call.legs

    def seconds(answered: float | None, ended: float | None) -> int:
        leg = evolve(source, answered=answered, ended=ended)
        return int(cdr.record(call.with_leg(leg))["legs"][0]["seconds"])

    assert seconds(1001.9, 1002.1) == 1
    assert seconds(1001.05, 1001.95) == 0
    assert seconds(1001.5, 1061.4) == 60
    assert seconds(None, 1061.4) == 0


def test_a_leg_whose_end_is_not_heard_yet_ends_with_its_call() -> None:
    call = talked(evolve(new_call(), accepted=1000.0))
    listener = evolve(
        call.legs[0], id="c1", role=Role.THIRD, answered=1020.0, ended=None, cause=None
    )
    call = evolve(call, legs=(*call.legs, listener))
    leg = cdr.record(call)["legs"][-1]
    assert (leg["ended"], leg["seconds"]) == (call.ended, 45)
    assert "cause" not in leg


def test_a_conference_calls_those_who_are_invited() -> None:
    call = new_call()
    call = evolve(call, conference="room", legs=call.sources, ended=call.accepted + 5)
    record = cdr.record(call)
    found = record["source"], record["destination"], record["flow"]
    assert found == (["0003*210"], ["15500"], cdr.OUTGOING)


TIMES = st.none() | st.floats(1e9, 1e9 + 1e5)


@given(answered=TIMES, bridged=TIMES, ended=st.floats(1e9, 1e9 + 1e5))
def test_a_record_is_json_and_bills_what_was_talked(
    answered: float | None, bridged: float | None, ended: float
) -> None:
    call = evolve(new_call(), state=State.ENDED, answered=answered, bridged=bridged, ended=ended)
    record = orjson.loads(orjson.dumps(cdr.record(call)))
    assert record["billed"] >= 0 and record["duration"] >= 0
    if bridged is not None:
        assert 0 <= record["billed"] - max(0.0, ended - bridged) < 1
        if answered is not None and answered <= bridged:
            assert record["billed"] <= record["duration"]


# Lists


def found(ask: Ask, path: str = CDR, **query: Any) -> list[str]:
    answer = ask("GET", path, **query)
    assert answer.status_code == 200, answer.json
    assert answer.json["totalResults"] >= len(answer.json["entry"])
    return list(answer.json["entry"])


def test_pages_and_dates(ask: Ask, store: CallStore, recent: float) -> None:
    made = [make(store, cancelled, recent + 1000 * n + 0.5).id for n in range(5)]
    newest = made[::-1]
    first = ask("GET", f"{CDR}/", count=2).json
    assert (list(first["entry"]), first["totalResults"]) == (newest[:2], 5)
    assert list(ask("GET", first["paging"]["next"]).json["entry"]) == newest[2:4]
    assert found(ask, sortOrder="ascending", startIndex=3) == made[3:]

    assert found(ask, startDate=date(recent + 2000)) == newest[:3]
    assert found(ask, endDate=date(recent + 2000)) == made[2::-1]
    assert found(ask, startDate=date(recent + 1000), endDate=date(recent + 2000)) == [
        made[2],
        made[1],
    ]
    # They were saved when they ended, five seconds later than accepted.
    assert found(ask, saveStartDate=date(recent + 2005)) == newest[:3]
    assert found(ask, saveEndDate=date(recent + 2005)) == made[2::-1]
    assert found(ask, saveEndDate=date(recent + 2004)) == made[1::-1]
    by = {"filterBy": "published", "filterValue": date(recent + 1000)}
    assert found(ask, **by) == [made[1]]
    assert found(ask, **by, filterOp="greaterThan", endDate=date(recent + 3000)) == [
        made[3],
        made[2],
    ]
    assert found(ask, filterBy="published", filterOp="startsWith", filterValue="20") == newest
    # What others see of it.
    assert found(ask, "/uapi/cdr/12", token=ORGANIZATION) == newest
    for path in ("/uapi/cdr/@owner", "/uapi/cdr", "/unifiedapi/cdr/"):
        for token in (USER, ORGANIZATION, ADMINISTRATOR):
            assert found(ask, path, token=token) == newest
    is_error(ask("GET", CDR, token=ORGANIZATION), 400, "user_invalid")
    is_error(ask("GET", "/uapi/cdr/13"), 400, "user_invalid")
    is_error(ask("GET", CDR, token=None), 401, "access_denied")


def test_a_user_brings_no_records_into_another_organization(
    ask: Ask, store: CallStore, recent: float
) -> None:
    before = make(store, cancelled, recent, extension="0004*210").id
    now = [make(store, cancelled, recent + n).id for n in (1, 2)][::-1]
    for query in ({}, {"count": 1}, {"count": 1, "startIndex": 1}, {"disposition": 3}):
        answer = ask("GET", "/uapi/cdr/12", token=ORGANIZATION, **query).json
        assert answer["totalResults"] == 2 and before not in answer["entry"]
    # The user has come back, and the record between is the other organization's.
    between = make(store, cancelled, recent - 1, extension="0003*210").id
    assert found(ask, "/uapi/cdr/12", token=ORGANIZATION) == [*now, between]
    # The user and the administrator have all of them.
    for token in (USER, ADMINISTRATOR):
        assert found(ask, "/uapi/cdr/12", token=token) == [*now, before, between]


@pytest.mark.parametrize("chunk", [2, 500])
def test_parameters(
    ask: Ask, store: CallStore, recent: float, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(index, "CHUNK", chunk)
    quiet = [make(store, cancelled, recent + n).id for n in range(3)][::-1]
    (loud,) = [make(store, talked, recent + 10).id]
    (created,) = ask(
        "POST",
        SIMPLE,
        {"extension": "024", "phoneCallView": [{"source": ["211"], "destination": ["210"]}]},
    ).json
    ask("DELETE", f"/uapi/phoneCalls/@me/@self/{created['id']}")
    local = created["id"]
    assert found(ask, disposition=0) == [loud]
    assert found(ask, disposition=3, count=2) == [local, quiet[0]]
    assert ask("GET", CDR, disposition=3, count=2).json["totalResults"] == 4
    assert found(ask, disposition=3, startIndex=2, sortOrder="asc") == [quiet[0], local]
    assert found(ask, flow=2) == [local]
    assert found(ask, flow=8) == []
    assert found(ask, source="211") == found(ask, source="0003*211") == [local]
    assert found(ask, destination="+15500") == [loud, *quiet]
    assert found(ask, destination="15500", disposition=0) == [loud]
    by = {"filterBy": "source", "filterOp": "startsWith", "filterValue": "0003*"}
    assert found(ask, **by) == [local]
    some = {"filterBy": "destination", "filterOp": "inArray", "filterValue": "0003*210,1"}
    assert found(ask, **some) == [local]
    assert found(ask, filterBy="answered", filterOp="present") == [loud]
    later = {"filterOp": "greaterThan", "filterValue": date(recent)}
    assert found(ask, filterBy="answered", **later) == [loud]


def test_searches_of_an_app_take_turns(
    ask: Ask, store: CallStore, recent: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONGEST_WAIT", 0.01)
    call = make(store, cancelled, recent)
    with turns.LISTS.of("demo-user"):
        # What an index tells needs no turn.
        assert found(ask) == found(ask, startDate=date(recent)) == [call.id]
        for query in ({"disposition": 0}, {"count": turns.ROWS + 1}, {"metadata": "a:b"}):
            answer = ask("GET", CDR, **query)
            is_error(answer, 503, "service_unavailable")
            assert answer.headers["Retry-After"] == "5"
        # Another app does not wait.
        assert found(ask, token=ORGANIZATION, path="/uapi/cdr", disposition=3) == [call.id]
    assert found(ask, disposition=3) == [call.id]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"startDate": "soon"}, "cdr_start_date_invalid"),
        ({"endDate": "2026-13-01"}, "cdr_end_date_invalid"),
        ({"saveStartDate": ""}, "cdr_save_start_date_invalid"),
        ({"saveEndDate": "1"}, "cdr_save_end_date_invalid"),
        ({"startDate": "2026-02-01", "endDate": "2026-01-01"}, "cdr_invalid_date_parameters"),
        (
            {"saveStartDate": "2026-02-01", "saveEndDate": "2026-01-01"},
            "cdr_invalid_date_parameters",
        ),
        ({"source": "Alice"}, "cdr_source_invalid"),
        ({"destination": "1x2"}, "cdr_destination_invalid"),
        ({"disposition": 6}, "cdr_disposition_invalid"),
        ({"disposition": "ANSWERED"}, "cdr_disposition_invalid"),
        ({"flow": 3}, "cdr_flow_invalid"),
        ({"filterBy": "published", "filterValue": "x"}, "cdr_invalid_filter_by_published"),
        ({"filterBy": "answered", "filterValue": "x"}, "cdr_invalid_filter_by_answered"),
        ({"filterBy": "source"}, "cdr_invalid_filter_by_source"),
        ({"filterBy": "destination"}, "cdr_invalid_filter_by_destination"),
        ({"filterBy": "flow", "filterValue": "2"}, "filterby_invalid"),
        ({"fields": "colour"}, "fields_invalid"),
        ({"count": 0}, "count_invalid"),
    ],
)
def test_bad_parameters(ask: Ask, query: dict[str, Any], code: str) -> None:
    is_error(ask("GET", CDR, **query), 400, code)
