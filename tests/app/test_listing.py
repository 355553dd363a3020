"""Lists of calls: pages, filters, and what they cost."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from app.calls import transitions
from app.calls.ending_many import EndMany
from app.calls.model import Call, Leg, NumberKind, Role, evolve, leg_uuid
from app.calls.transitions import LegReport
from app.store import index
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.index import Span
from app.store.queue import ACTIONS
from app.store.writes import Note
from app.web import turns
from app.web.listing import Filter, Kind, parse_date
from app.web.resource import date
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, VOIPNOW, Ask
from tests.app.test_phone_calls import BODY, LIST, SIMPLE, is_error
from tests.app.test_store import new_call

NOTE = Note("event", "test")


def create(ask: Ask, count: int = 1, **body: Any) -> list[str]:
    """Ids, newest first."""
    return [ask("POST", SIMPLE, {**BODY, **body}).json[0]["id"] for _ in range(count)][::-1]


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json
    return [entry["id"] for entry in answer.json["entry"]]


def end(store: CallStore, call_id: str) -> None:
    call = store.get(call_id)
    assert call is not None
    store.change(call, lambda c: transitions.request_hangup(c, at=c.accepted + 1), NOTE)


# Pages


def test_the_pages_of_a_list(ask: Ask) -> None:
    made = create(ask, 7)
    first = ask("GET", f"{LIST}/", count=3, fields="id").json
    assert {name: value for name, value in first.items() if name not in ("entry", "paging")} == {
        "totalResults": 7,
        "startIndex": 0,
        "itemsPerPage": 3,
    }
    assert set(first["paging"]) == {"next"}
    address = urlsplit(first["paging"]["next"])
    assert address[:3] == ("http", "localhost", f"{LIST}/")
    assert parse_qs(address.query) == {"count": ["3"], "fields": ["id"], "startIndex": ["3"]}
    second = ask("GET", first["paging"]["next"]).json
    third = ask("GET", second["paging"]["next"]).json
    assert set(third["paging"]) == {"prev"}
    assert [e["id"] for page in (first, second, third) for e in page["entry"]] == made
    back = ask("GET", ask("GET", third["paging"]["prev"]).json["paging"]["prev"]).json
    assert back["entry"] == first["entry"]
    # Behind the end, and all on one page.
    beyond = ask("GET", LIST, startIndex=5000, count=5).json
    assert (beyond["entry"], beyond["totalResults"], beyond["paging"].keys()) == ([], 7, {"prev"})
    assert ids(ask("GET", beyond["paging"]["prev"])) == made[2:]
    assert "paging" not in ask("GET", LIST).json


@pytest.mark.parametrize("token", [None, VOIPNOW])
def test_sort_order(ask: Ask, token: str | None) -> None:
    made = create(ask, 3)
    more = {"token": token} if token else {}
    for order in ("desc", "descending"):
        assert ids(ask("GET", LIST, sortOrder=order, **more)) == made
    for order in ("asc", "ascending"):
        assert ids(ask("GET", LIST, sortOrder=order, **more)) == made[::-1]
        assert ids(ask("GET", LIST, sortOrder=order, startIndex=1, count=1, **more)) == [made[1]]
    if token:
        # What nothing reads.
        assert ids(ask("GET", LIST, sortBy="answered", sortOder="asc", **more)) == made


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"count": 0}, "count_invalid"),
        ({"count": 5001}, "count_invalid"),
        ({"count": "1_0"}, "count_invalid"),
        ({"startIndex": -1}, "startindex_invalid"),
        ({"startIndex": 5001}, "startindex_invalid"),
        ({"sortOrder": "up"}, "sortorder_invalid"),
        ({"fields": "id,colour"}, "fields_invalid"),
        ({"filterBy": "colour", "filterValue": "red"}, "filterby_invalid"),
        ({"filterBy": "", "filterValue": "red"}, "filterby_invalid"),
        ({"filterBy": "id", "filterOp": "is", "filterValue": "1"}, "filterop_invalid"),
        ({"filterBy": "id", "filterOp": "lessThan", "filterValue": "1"}, "filterop_invalid"),
        ({"filterBy": "id"}, "filtervalue_invalid"),
        ({"filterBy": "id", "filterValue": ""}, "filtervalue_invalid"),
        ({"filterBy": "id", "filterValue": ["1", "2"]}, "filtervalue_invalid"),
        ({"filterBy": "id", "filterOp": "inArray", "filterValue": '["1"'}, "filtervalue_invalid"),
        ({"filterBy": "id", "filterOp": "inArray", "filterValue": "[{}]"}, "filtervalue_invalid"),
        ({"filterBy": "id", "filterOp": "inArray", "filterValue": ","}, "filtervalue_invalid"),
        ({"filterBy": "published", "filterValue": "yesterday"}, "filtervalue_invalid"),
    ],
)
def test_bad_parameters(ask: Ask, query: dict[str, Any], code: str) -> None:
    is_error(ask("GET", LIST, **query), 400, code)
    is_error(ask("GET", LIST, token=VOIPNOW, **query), 400, code)


# Filters


def test_a_filter_by_id(ask: Ask, store: CallStore) -> None:
    made = create(ask, 4)
    end(store, made[3])

    def found(op: str, value: Any, path: str = LIST, **more: Any) -> list[str]:
        return ids(ask("GET", path, filterBy="id", filterOp=op, filterValue=value, **more))

    assert ids(ask("GET", LIST, filterBy="id", filterValue=made[1])) == [made[1]]
    # Named one by one, also what has ended, as by its path; but for VoipNow's programs.
    assert found("inArray", [made[3], made[0], "0" * 20]) == [made[0], made[3]]
    assert found("inArray", json.dumps([made[0], made[2]]), sortOrder="asc") == [made[2], made[0]]
    assert found("inArray", f"{made[0]},{made[3]}", token=VOIPNOW) == [made[0]]
    assert found("startsWith", made[2][:12]) == [made[2]]
    assert found("contains", made[2][3:15]) == [made[2]]
    assert found("contains", made[3][3:15]) == []
    assert ids(ask("GET", LIST, filterBy="id", filterOp="present")) == made[:3]
    # As 4PSA's client sends it.
    assert found("equals", made[1], f"{LIST}/{made[1]}/") == [made[1]]
    assert found("equals", made[2], f"{LIST}/{made[1]}/") == []


def test_a_filter_by_time(ask: Ask, store: CallStore, redis: Redis) -> None:
    made = create(ask, 3)
    # Accepted at noon, a second and a day later.
    noon = parse_date("2026-03-01T12:00:00Z")
    for call_id, at in zip(made, (noon + 86_400.2, noon + 1.9, noon + 0.5), strict=True):
        redis.hset(store.keys.call(call_id), "accepted", at)
        redis.zadd(store.keys.user_calls("12"), {call_id: at})

    def found(op: str, value: Any) -> list[str]:
        return ids(ask("GET", LIST, filterBy="published", filterOp=op, filterValue=value))

    assert found("equals", "2026-03-01T12:00:01Z") == [made[1]]
    assert found("equals", "2026-03-01T13:00:01 01:00") == [made[1]]
    assert found("greaterThan", "2026-03-01T12:00:00Z") == made[:2]
    assert found("lessThan", "2026-03-01T12:00:01Z") == [made[2]]
    assert found("greaterThan", "2026-03-02") == [made[0]]
    assert found("startsWith", "2026-03-01T") == made[1:]
    assert found("contains", ":00:01") == [made[1]]
    assert found("inArray", ["2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z"]) == [made[0], made[2]]
    assert ids(ask("GET", LIST, filterBy="published", filterOp="present", count=1)) == [made[0]]


def test_a_filter_by_nonce(ask: Ask, store: CallStore) -> None:
    (one,), (two,), (none,) = (create(ask, nonce=nonce) for nonce in ("n,1", "n2", None))
    end(store, one)

    def found(op: str, value: Any = "", **more: Any) -> list[str]:
        return ids(ask("GET", LIST, filterBy="nonce", filterOp=op, filterValue=value, **more))

    assert found("equals", "n,1") == [one]
    assert found("equals", "n,1", token=VOIPNOW) == []
    assert found("inArray", ["n,1", "n2", "n3"]) == [two, one]
    assert found("startsWith", "n") == found("present") == [two]
    assert none not in found("contains", "n")
    (labelled,) = (ask("POST", SIMPLE, {**BODY, "nonce": "n2"}, token=VOIPNOW).json[0]["id"],)
    assert found("equals", "n2", token=VOIPNOW) == [labelled, two]


# Whose calls


def test_every_call_of_an_extension_a_user_and_an_organization(
    ask: Ask, store: CallStore, redis: Redis
) -> None:
    (call_id,) = create(ask)
    call = store.get(call_id)
    assert call is not None
    paths = {"/uapi/phoneCalls/12/@self": ORGANIZATION, "/uapi/phoneCalls/@owner/@self": None}
    for path, token in paths.items():
        assert ids(ask("GET", path, token=token or ADMINISTRATOR)) == [call_id]
    assert ids(ask("GET", "/uapi/phoneCalls/@owner/@self", token=ORGANIZATION)) == [call_id]
    assert ids(ask("GET", "/uapi/phoneCalls/@me/024")) == []
    # Another user's extension of another organization comes in later, as an action has it.
    third = Leg(
        *("c1", Role.DESTINATION, "0003*024", NumberKind.EXTENSION),
        *(leg_uuid(call_id, Role.DESTINATION, 9, 1),),
        owner="13",
    )
    far = evolve(third, id="c2", number="0004*100", uuid=leg_uuid(call_id, Role.DESTINATION, 8, 1))
    call = store.change(call, lambda c: evolve(c, legs=(*c.legs, third, far)), NOTE)
    keys = store.keys
    late = keys.user_calls("13"), keys.extension_calls("0004*100"), keys.organization_calls("0004")
    # The call shows to others only while their legs ring or talk.
    assert ids(ask("GET", "/uapi/phoneCalls/@me/024")) == []
    assert not redis.exists(*late)
    ringing = LegReport(third.uuid, created=2.0), LegReport(far.uuid, created=2.0)
    for report in ringing:
        call = store.change(call, partial(transitions.report_leg, report=report), NOTE)
    assert ids(ask("GET", "/uapi/phoneCalls/@me/024")) == [call_id]
    for key in late:
        assert redis.zrange(key, 0, -1) == [call_id.encode()]
    over = LegReport(far.uuid, ended=3.0, cause="LOSE_RACE")
    store.change(call, partial(transitions.report_leg, report=over), NOTE)
    assert redis.zrange(late[0], 0, -1) == [call_id.encode()]
    assert not redis.exists(*late[1:])
    store.change(call, lambda c: transitions.end(c, "events_lost", at=4.0), NOTE)
    assert redis.keys("ringback:calls:*") == []


def test_a_claim_writes_one_index(store: CallStore, redis: Redis, ask: Ask) -> None:
    (call_id,) = create(ask)
    call = store.get(call_id)
    assert call is not None
    before = commands(redis)
    claim = {"worker": "w", "switch": "s", "core_uuid": "u", "at": call.accepted}
    store.change(call, lambda c: transitions.claim(c, **claim), NOTE)
    # The switch's, and the deadline.
    assert commands(redis)["zadd"] - before["zadd"] == 2


def test_what_cannot_be_read_hurts_no_other(
    ask: Ask, store: CallStore, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    made = create(ask, 3)
    redis.hset(store.keys.call(made[0]), "state", "asleep")
    redis.delete(store.keys.call(made[1]))
    redis.set(store.keys.call(made[1]), "no hash")
    assert store.get_many(made)[:2] == [None, None]
    assert caplog.text.count("cannot be read") == 2
    answer = ask("GET", LIST)
    assert (ids(answer), answer.json["totalResults"]) == ([made[2]], 1)
    # The watchdog looks again: another process may be able to read them.
    for call_id in made:
        store.forget_deadline(call_id)
    assert redis.zcard(store.keys.queued) == 3
    redis.delete(store.keys.call(made[1]))
    store.forget_deadline(made[1])
    assert redis.zcard(store.keys.queued) == 2


def test_the_nonce_of_a_call_that_cannot_be_read_is_not_new(
    ask: Ask, store: CallStore, redis: Redis
) -> None:
    (call_id,) = create(ask, nonce="n")
    redis.hset(store.keys.call(call_id), "state", "asleep")
    is_error(ask("POST", SIMPLE, {**BODY, "nonce": "n"}), 500, "internal_server_error")
    assert redis.zcard(store.keys.calls) == 1


# What it costs


def commands(redis: Redis) -> dict[str, int]:
    stats: Any = redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in stats.items()}


def cost(redis: Redis, ask: Ask, path: str, **query: Any) -> tuple[int, int]:
    """Commands that a request takes, and kilobytes that Redis answers with."""
    redis.config_resetstat()
    assert ask("GET", path, **query).status_code == 200
    counted = commands(redis)
    number = sum(counted.get(name, 0) for name in ("hgetall", "zrange", "zcount", "mget"))
    sent: Any = redis.info("stats")
    return number, sent["total_net_output_bytes"] // 1024


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"count": 10, "startIndex": 7},
        {"filterBy": "published", "filterOp": "greaterThan", "filterValue": "2001-01-01"},
    ],
)
@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("/uapi/phoneCalls/@me/210", None),
        (LIST, None),
        ("/uapi/phoneCalls/@owner/@self", ORGANIZATION),
        ("/uapi/phoneCalls/@owner/@self", ADMINISTRATOR),
    ],
)
def test_a_page_costs_the_same_however_many_calls_there_are(
    redis: Redis, ask: Ask, store: CallStore, path: str, token: str | None, query: dict[str, Any]
) -> None:
    create(ask, 30)
    if token is not None:
        query = {**query, "token": token}
    few = cost(redis, ask, path, **query)
    # As many more live ones as one of these indexes may hold, and as many ended ones kept.
    older = {f"{number:020x}": 1e9 + number for number in range(20_000)}
    keys = store.keys
    with redis.pipeline(transaction=False) as pipe:
        for key in (
            *(keys.calls, keys.organization_calls("0003"), keys.user_calls("12")),
            *(keys.extension_calls("0003*210"), keys.records, keys.user_records("12")),
        ):
            pipe.zadd(key, older)
        pipe.execute()
    many = cost(redis, ask, path, **query)
    assert few[0] == many[0] <= query.get("count", 20) + 4
    # Give and take what is asked now and then whatever the request.
    assert abs(many[1] - few[1]) <= 1


# The parts


@given(st.floats(0, 4e9), st.booleans())
def test_a_date_is_read_as_it_is_shown(at: float, zone: bool) -> None:
    shown = date(math.floor(at) or 1)
    assert shown is not None
    assert parse_date(shown if zone else shown[:-1]) == (math.floor(at) or 1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2015-01-23", "2015-01-23T00:00:00Z"),
        ("2015-01-23T04:56:22Z", "2015-01-23T04:56:22Z"),
        ("2012-06-27T16:08:55+03:00", "2012-06-27T13:08:55Z"),
        ("2012-06-27T16:08:55 03:00", "2012-06-27T13:08:55Z"),
        ("2012-06-27T16:08:55-0300", "2012-06-27T19:08:55Z"),
        ("2012-06-27 16:08", "2012-06-27T16:08:00Z"),
        ("2012-06-27T16:08:55.5Z", "2012-06-27T16:08:55Z"),
    ],
)
def test_the_forms_of_a_date(text: str, shown: str) -> None:
    assert date(parse_date(text)) == shown


@given(st.text() | st.text("0123456789-:TZ+. ", max_size=30))
def test_what_is_no_date_is_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_date(text) <= datetime(9999, 1, 1, tzinfo=UTC).timestamp()


@given(
    st.sampled_from(["equals", "greaterThan", "lessThan", "present"]),
    st.integers(0, 20).map(lambda half: half / 2),
    st.floats(1, 12),
)
def test_the_span_of_a_filter_is_what_it_matches(op: str, time: float, at: float) -> None:
    times = () if op == "present" else (time,)
    by = Filter("published", op, ("text",) if times else (), Kind.DATE, times)
    span = by.span
    assert span is not None
    assert (span.low <= at < span.high) is by.matches(at)


@pytest.fixture(scope="module")
def members(redis_url: str) -> Iterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    client.close()


@given(
    scores=st.lists(st.integers(0, 3), max_size=30),
    low=st.integers(-1, 3),
    high=st.integers(0, 5),
    newest_first=st.booleans(),
)
def test_a_walk_sees_each_once_and_a_page_what_is_between(
    members: Redis, scores: list[int], low: int, high: int, newest_first: bool
) -> None:
    members.delete("walk")
    if scores:
        members.zadd("walk", {f"{number:02}": score for number, score in enumerate(scores)})
    span = Span(low, high)
    wanted = [
        f"{number:02}"
        for score, number in sorted((score, number) for number, score in enumerate(scores))
        if low <= score < high
    ]
    if newest_first:
        wanted.reverse()
    kept, index.CHUNK = index.CHUNK, 3
    try:
        parts = list(index.walk(members, "walk", span, newest_first=newest_first))
    finally:
        index.CHUNK = kept
    assert [name for part in parts for name, _ in part] == wanted
    assert all(len(part) <= 3 for part in parts)
    page, total = index.page(members, "walk", span, 2, 4, newest_first=newest_first)
    assert ([name for name, _ in page], total) == (wanted[2:6], len(wanted))
    # The same by the place of the second.
    if len(wanted) > 1:
        place = wanted[1], float(scores[int(wanted[1])])
        after = index.page(members, "walk", span, 0, 4, newest_first=newest_first, after=place)
        assert after == (page, total)


@given(
    scores=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    gone=st.sets(st.integers(0, 11)),
    after=st.integers(1, 3),
    newest_first=st.booleans(),
)
def test_a_walk_misses_nothing_that_stays(
    members: Redis, scores: list[int], gone: set[int], after: int, newest_first: bool
) -> None:
    members.delete("walk")
    names = [f"{number:02}" for number in range(len(scores))]
    members.zadd("walk", dict(zip(names, scores, strict=True)))
    leaving = {names[number] for number in gone if number < len(names)}
    kept, index.CHUNK = index.CHUNK, 3
    read: list[str] = []
    try:
        walk = index.walk(members, "walk", newest_first=newest_first)
        for number, part in enumerate(walk, start=1):
            read += [name for name, _ in part]
            if number == after and leaving:
                members.zrem("walk", *leaving)
    finally:
        index.CHUNK = kept
    assert len(set(read)) == len(read)
    assert set(names) - leaving <= set(read)


@given(
    scores=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=12),
    count=st.integers(1, 5),
    newest_first=st.booleans(),
)
def test_pages_by_place_are_those_of_one_index_or_of_several(
    members: Redis, scores: list[tuple[int, str]], count: int, newest_first: bool
) -> None:
    members.delete("a", "b")
    places = [(f"{n:02}", float(score)) for n, (score, _) in enumerate(scores)]
    for (name, score), (_, key) in zip(places, scores, strict=True):
        # Those of b are in both.
        for each in "ab" if key == "b" else "a":
            members.zadd(each, {name: score})
    wanted = sorted(places, key=index.in_order, reverse=newest_first)
    for keys in (["a"], ["a", "b"]):
        found: list[index.Place] = []
        while True:
            page, total = index.page_of(
                *(members, keys, index.ALL, 0, count),
                newest_first=newest_first,
                after=found[-1] if found else None,
            )
            assert total == len(wanted) and len(page) <= count
            if not page:
                break
            found += page
        assert found == wanted


def test_long_lists_and_searches_of_an_app_take_turns(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONGEST_WAIT", 0.01)
    (one,) = create(ask, nonce="n1")
    others = LIST.replace("@me", "@owner")
    contains = {"filterBy": "id", "filterOp": "contains", "filterValue": one[:4]}
    with turns.LISTS.of("demo-user"):
        for query in ({"count": turns.ROWS + 1}, {"state": "queued"}, contains):
            answer = ask("GET", LIST, **query)
            is_error(answer, 503, "service_unavailable")
            assert answer.headers["Retry-After"] == "5"
            # Another app does not wait, though the calls are the same.
            assert ids(ask("GET", others, token=ADMINISTRATOR, **query)) == [one]
        # Nor does what needs no search.
        by_id = {"filterBy": "id", "filterValue": one}
        for query in ({"count": turns.ROWS}, {"nonce": "n1"}, by_id):
            assert ids(ask("GET", LIST, **query)) == [one]
        assert ids(ask("GET", f"{LIST}/{one}", count=100)) == [one]
    assert ids(ask("GET", LIST, count=turns.ROWS + 1)) == [one]


def test_all_of_a_long_list_are_hung_up(ask: Ask, store: CallStore, redis: Redis) -> None:
    calls: list[Call] = [new_call() for _ in range(index.CHUNK + 1)]
    Acceptor(store).accept(calls, lambda call, pipe: None)
    answer = ask("DELETE", LIST)
    assert (answer.status_code, len(answer.json)) == (202, len(calls))
    # Workers do it.
    jobs = Queue(ACTIONS, connection=redis, serializer=JSONSerializer).jobs
    wanted = [EndMany.loads(*job.args).calls for job in jobs]
    assert {call_id for each in wanted for call_id in each} == {call.id for call in calls}
