"""Erasing a person's number: from everything in Redis, however it is written."""

import base64
import json
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from rq import Queue
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from app.accounts.model import Accounts, Extension, ExtensionType, Organization, User
from app.accounts.store import AccountStore
from app.calls import transitions
from app.calls.erasing import erased, in_value
from app.calls.model import Asked, Call, State, evolve
from app.privacy.erasing import digest, finish
from app.privacy.person import NotFound, Person, find
from app.recording_files import RecordingFiles
from app.store import streams
from app.store.accepting import Acceptor
from app.store.audit import Who
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.queue import REQUESTS, JobQueue
from app.store.writes import Note
from ringback_cli.main import main
from tests.app.test_store import new_call

NUMBER, DIGITS = "+4915550109", "4915550109"
OTHER = "+4915550209"
NO_FILES = RecordingFiles("/r/{call}-{time}.{format}", None)
Run = Callable[..., Any]


@pytest.fixture
def run(redis_url: str, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`ringback privacy erase`, with the demo's accounts in Redis."""
    monkeypatch.setenv("RINGBACK_REDIS_URL", redis_url)

    def _run(*arguments: str) -> Any:
        result = CliRunner().invoke(main, ["privacy", "erase", *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return _run


def everything(redis: Any) -> dict[str, list[str]]:
    """All texts in Redis by the names of their keys, written by nothing that erases."""
    found = {}
    readers: dict[bytes, Callable[[Any], list[bytes]]] = {
        b"hash": lambda key: [word for item in redis.hgetall(key).items() for word in item],
        b"string": lambda key: [redis.get(key)],
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": lambda key: sorted(redis.smembers(key)),
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"stream": lambda key: [
            word
            for entry_id, entry in redis.xrange(key)
            for word in (entry_id, *(each for item in entry.items() for each in item))
        ],
    }
    for key in redis.scan_iter():
        texts = []
        for data in readers[redis.type(key)](key):
            with suppress(zlib.error):
                data = zlib.decompress(data)
            texts.append(data.decode(errors="replace"))
        found[key.decode()] = texts
    return found


def holders(redis: Redis, digits: str = DIGITS) -> list[str]:
    """The keys that hold these digits, whatever stands between them."""
    return sorted(
        key
        for key, texts in everything(redis).items()
        if any(digits in re.sub(r"%20|\\u00a0|[^0-9]", "", text) for text in (key, *texts))
    )


def placed(redis: Redis, number: str = NUMBER, *, ends: bool = True, **fields: Any) -> Call:
    """A call to a number, as the API and a worker write it."""
    store = CallStore(redis, Keys())
    call = new_call(fields.get("nonce"))
    source, destination = call.legs
    legs = (source, evolve(destination, number=number, dialled=number.removeprefix("+")))
    call = evolve(call, legs=legs, retention=100, **fields)
    nonce = (call.app, call.nonce) if call.nonce else None
    who = Who("user", "demo-user", "12", "127.0.0.1")
    (call,) = (
        Acceptor(store)
        .accept([call], JobQueue(redis, Keys()).place_call, nonce=nonce, who=who)
        .calls
    )
    store.note(call.id, Note("command", "originate", data=f"{{x=1}}sofia/gateway/pstn/{number})"))
    return end(redis, call) if ends else call


def end(redis: Redis, call: Call) -> Call:
    store = CallStore(redis, Keys())

    now = store.now()
    return store.change(
        call, lambda old: transitions.request_hangup(old, at=now), Note("request", "hang up")
    )


def fill(redis: Redis) -> tuple[Call, Call, Call]:
    """Everything that may hold the number: a call that has ended, one that lives, and one without
    the number."""
    keys = Keys()
    metadata = json.dumps({"phone": "+49\u00a01555-0109", "order": "7"})
    call = placed(
        *(redis, NUMBER),
        caller_id=f"Jane Roe <{NUMBER}>",
        metadata=metadata,
        nonce=f"order 7 for {NUMBER}",
        request_digest="0" * 64,
        actions=(Asked("x", "Transfer", 1.0, "demo-user", "12", "b1", NUMBER),),
    )
    live = placed(redis, NUMBER, ends=False)
    other = placed(redis, OTHER, metadata=json.dumps({"phone": OTHER}))
    redis.set(keys.record("a" * 20), redis.get(keys.record(call.id)), ex=50)
    parameters = {"CallID": call.id, "CallerNumber": NUMBER, "CalleeName": "Jane"}
    message = {"id": "m", "attempts": 1, "extension": "0003*210", "parameters": parameters}
    letter = {"target": "demo-user a.example", "lane": call.id, "reason": "500"}
    letter["message"] = json.dumps(message)
    for key in (keys.dead_letters, keys.dead_letters_of("demo-user")):
        redis.xadd(key, letter)
    redis.hset(f"{keys.webhooks}sizes", "demo-user", sum(map(len, (*letter, *letter.values()))))
    redis.rpush(f"{keys.webhooks}lane:{call.id}|demo-user|x", json.dumps(message))
    redis.xadd(keys.outbox, {"CallID": call.id, "type": "2", "CallerNumber": NUMBER})
    redis.xadd(keys.audit, {"at": "1.0", "kind": "app", "what": "Transfer", "data": NUMBER})
    queue = Queue(REQUESTS, connection=redis, serializer=JSONSerializer)
    for status, registry in (
        (JobStatus.FAILED, queue.failed_job_registry),
        (JobStatus.FINISHED, queue.finished_job_registry),
    ):
        view = {"source": ["210"], "destination": ["+49 (1555) 0109"]}
        job = queue.create_job("ringback.place", kwargs={"body": {"phoneCallView": [view]}})
        job.set_status(status)
        job.save()
        registry.add(job, ttl=1000)
        redis.set(keys.request(job.id), "[]")
    # A job without the number, whose error has it, and one that waits.
    traceback = base64.b64encode(zlib.compress(f"ValueError: {NUMBER}".encode()))
    redis.xadd("rq:results:x", {"type": "2", "exc_string": traceback})
    queue.create_job("ringback.place", args=[OTHER], status=JobStatus.QUEUED).save()
    redis.set(f"{keys.prefix}quota:window:app:demo-user calls_to {NUMBER}", "1")
    return call, live, other


def test_it_is_gone_from_everything(run: Run, redis: Redis) -> None:
    call, live, other = fill(redis)
    keys, store = Keys(), CallStore(redis, Keys())
    before, was = everything(redis), store.get(call.id)
    said = run("+49 (1555) 0109")
    assert everything(redis) == before
    done = run("0049 1555-0109", "--yes")
    assert redis.hlen(keys.erasing) == 1
    # What it has said is what it has done.
    assert said | {"erased": True, "digest": done["digest"]} == done
    assert {
        name: done[name] for name in ("calls", "records", "dead_letters", "jobs", "nonces")
    } == {
        "calls": 1,
        "records": 2,
        "dead_letters": 2,
        "jobs": 3,
        "nonces": 1,
    }
    assert done["live_calls"] == [live.id] and done["audit"] == 3
    of_live = [key for key in holders(redis) if live.id in key]
    assert holders(redis) == sorted([*of_live, keys.events, keys.erasing])
    assert everything(redis)[keys.call(live.id)] == before[keys.call(live.id)]
    assert redis.exists("rq:results:x") == 0 and run(OTHER)["waiting_jobs"] == 1
    # A call without the number is as it was, to the byte.
    after = everything(redis)
    for key in (keys.call(other.id), keys.timeline(other.id), keys.record(other.id)):
        assert after[key] == before[key]
    # Times, costs and causes stay.
    now = store.get(call.id)
    assert now is not None and was is not None and now.version == was.version + 1
    assert now == evolve(
        *(was,),
        **{
            n: getattr(now, n) for n in ("version", "stamp", "legs", "actions", "nonce", "metadata")
        },
        caller_id="erased",
        request_digest="erased",
    )
    assert [leg.number for leg in now.legs] == ["15500", "erased"]
    assert (now.caller_id, now.request_digest) == ("erased", "erased")
    assert json.loads(now.metadata or "") == {"phone": "erased", "order": "7"}
    record = json.loads(redis.get(keys.record(call.id)))
    assert (record["destination"], record["published"]) == (["erased"], now.accepted)
    assert 0 < redis.ttl(keys.call(call.id)) <= 100
    assert 0 < redis.ttl(keys.record("a" * 20)) <= 50
    audit = [entry for key in (keys.audit, keys.audit_calls) for entry in after[key]]
    assert sum(f"erased:{done['digest']}" in text for text in audit) == 3

    (letter,) = streams.walk(redis, keys.dead_letters_of("demo-user"))
    size = sum(len(word) for item in letter.items() for word in item)
    assert redis.hget(f"{keys.webhooks}sizes", "demo-user") == str(size).encode()

    # The live call, once it has ended.
    accounts = AccountStore(redis, keys).current()
    assert finish(redis, keys, accounts, NO_FILES, Who("operator", "@api")) == 0
    end(redis, live)
    # What it has told meanwhile, as the webhooks process keeps it for each app.
    about = {"CallID": live.id, "CallerNumber": NUMBER}
    text = json.dumps({"id": "n", "attempts": 0, "extension": "0003*210", "parameters": about})
    target = "demo-user http://a.example:80"
    lane = f"{live.id}|{target}"
    letter = {"target": target, "lane": lane, "message": text, "reason": "500"}
    redis.xadd(keys.dead_letters_of("demo-user"), letter)
    redis.rpush(f"{keys.webhooks}lane:{lane}", text)
    redis.zadd(f"{keys.webhooks}due:{target}", {lane: 1.0})
    redis.zadd(keys.webhook_targets_of("demo-user"), {target: 1.0})
    redis.zadd(keys.webhook_apps, {"demo-user": 1.0})
    redis.xadd(keys.audit, {"at": "1.0", "kind": "app", "what": "hang_up", "data": NUMBER})
    assert finish(redis, keys, accounts, NO_FILES, Who("operator", "@api")) == 1
    assert holders(redis) == []
    assert run(NUMBER)["live_calls"] == []
    # A late event writes nothing back.
    store.change(live, lambda old: evolve(old, originate_error="X"), Note("event", "late"))
    assert holders(redis) == []


def test_an_entry_of_the_audit_may_be_of_two_persons(run: Run, redis: Redis) -> None:
    redis.xadd(Keys().audit, {"at": "1.0", "what": "place", "data": f"{NUMBER} > {OTHER}"})
    first, second = (run(number, "--yes")["digest"] for number in (NUMBER, OTHER))
    entry = next(streams.walk(redis, Keys().audit))
    assert entry[b"data"].decode() == f"erased:{first} > erased:{second}"


def test_a_user_with_the_extensions(run: Run, redis: Redis) -> None:
    call = placed(redis, "0003*211", caller_id="Demo Desk <0003210>")
    keys, store = Keys(), CallStore(redis, Keys())
    assert run("12", "--yes")["calls"] == 1
    found = store.get(call.id)
    assert found is not None
    assert (found.user, found.extension, found.organization) == ("erased", "0003*erased", "3")
    assert [leg.number for leg in found.legs] == ["15500", "0003*erased"]
    texts = everything(redis)
    held = [key for key, words in texts.items() if any("0003*21" in word for word in words)]
    assert set(held) <= {keys.account_rows, keys.limits, keys.hooked}
    assert redis.zscore(keys.user_records("12"), call.id) is None
    assert redis.zscore(keys.organization_records("0003"), call.id) is not None


def test_a_digest_cannot_be_tried(run: Run, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    person = find(NUMBER, Accounts())
    assert digest(person, None) != digest(person, None)
    key = "k" * 32
    assert digest(person, key) == digest(find("0049 1555 0109", Accounts()), key)
    assert digest(person, key) != digest(person, "l" * 32)
    monkeypatch.setenv("RINGBACK_PRIVACY_KEY", key)
    assert run(NUMBER)["digest"] == digest(person, key)


# How people write a number

MARKS = st.sampled_from(
    ["", "", " ", "-", ".", "/", ") ", " (", "\u00a0", "\u2011", "%20", "%2D", "_", r"\s"]
)


@given(
    st.sampled_from(["+", "%2B", "", "00", "011", "tel:+", "sip:+", "'+", ">"]),
    st.lists(MARKS, min_size=len(DIGITS) - 1, max_size=len(DIGITS) - 1),
    st.sampled_from(["", "@host", "'", ",", " x", ")", "+4915550209", ". "]),
)
def test_any_spelling_is_erased(before: str, marks: list[str], behind: str) -> None:
    person = find(NUMBER, Accounts())
    written = DIGITS[0] + "".join(m + d for m, d in zip(marks, DIGITS[1:], strict=True))
    hidden = person.hide(f"a {before}{written}{behind} 12")
    assert "erased" in hidden and hidden.endswith(f"{behind} 12")
    assert not re.search("[0-9]", re.sub("%2[0BD]", "", hidden.removesuffix(f"{behind} 12")))
    assert person.hide(hidden) == hidden


def test_a_name_goes_with_the_number_in_what_is_told_of_a_call() -> None:
    person = find(NUMBER, Accounts())
    event = {"CallerIDNum": NUMBER, "CallerIDName": "Max", "CalledNumber": "5354311"}
    assert in_value({"parameters": event}, person) == {
        "parameters": {"CallerIDNum": "erased", "CallerIDName": "erased", "CalledNumber": "5354311"}
    }
    call = json.dumps({"caller_id": f"Max <{NUMBER}>", "caller_id_destination": "Eva <210>"})
    assert json.loads(in_value({"status": {"call": call}}, person)["status"]["call"]) == {
        "caller_id": "erased",
        "caller_id_destination": "Eva <210>",
    }


@given(st.text("0123456789abcdef", min_size=20, max_size=20), st.floats(1e9, 9e9))
def test_ids_and_times_stay(call_id: str, at: float) -> None:
    person = Person("x", numbers=(call_id[:10],)) if call_id[:10].isdecimal() else Person("x")
    person = replace(person, numbers=(*person.numbers, f"{at:.0f}"))
    for text in (call_id, f"{at:.6f}", f"{call_id[:8]}-{call_id[8:12]}-{call_id[12:16]}"):
        if text.count("-") != 2:
            assert person.hide(f"x {text} y") == f"x {text} y"


def accounts_of(*countries: str | None) -> Accounts:
    return Accounts(
        organizations={
            f"000{n}": Organization(str(n), f"000{n}", "x", country=country)
            for n, country in enumerate(countries, start=3)
        }
    )


def test_a_national_number_is_one_where_a_plan_tells() -> None:
    accounts = accounts_of("DE", "FR")
    person = find("030 12345678", accounts_of("DE"))
    assert person == replace(find("+493012345678", accounts_of("DE")), name="030 12345678")
    for text in ("03012345678", "+49 (0)30 12345678", "004930 12345678", "0049 30/1234-5678"):
        assert "12345678" not in re.sub("[^0-9]", "", person.hide(text))
    # In another country the national form is another number.
    assert find("+493012345678", accounts).hide("03012345678", "FR") == "03012345678"
    with pytest.raises(NotFound, match="Give one of them"):
        find("0612345678", accounts_of("FR", "IT"))
    with pytest.raises(NotFound, match="no user of the accounts"):
        find("Jane", accounts)


@pytest.mark.parametrize(
    "written",
    [
        *("+4915550109", "4915550109", "004915550109", "+49 (0)1555 0109", "0049 (0) 1555-0109"),
        *(
            "tel:+49-1555-0109",
            " +49.1555.0109 ",
            "＋４９１５５５０１０９",
            "+49\u00a01555\u00a00109",
        ),
    ],
)
def test_the_command_takes_any_spelling(written: str) -> None:
    person = find(written, Accounts())
    assert person.key == DIGITS
    for text in (NUMBER, DIGITS, f"00{DIGITS}", "+49 (1555) 01-09"):
        assert person.hide(text) == "erased"


def test_a_short_number_stands_alone() -> None:
    person = find("15500", Accounts())
    assert person.hide("sofia/gateway/pstn/15500 115500 10.0.0.1:15500 1.15500") == (
        "sofia/gateway/pstn/erased 115500 10.0.0.1:15500 1.15500"
    )


def test_an_extension_is_one_of_its_organization() -> None:
    desk = Extension("0003*210", ExtensionType.PHONE_TERMINAL, "12", dial_string="user/desk-210")
    accounts = replace(
        accounts_of(None),
        users={"12": User("12", "0003", "x")},
        extensions={desk.number: desk},
    )
    person = find("210", accounts)
    assert person == replace(find("0003*210", accounts), name="210")
    assert person.hide("to 0003*210, 0003*2101, user/desk-210") == (
        "to 0003*erased, 0003*2101, erased"
    )
    assert (person.word("210", "0003"), person.word("210", "0004")) == ("erased", "210")


def test_a_call_without_the_person_is_the_same_object() -> None:
    call = evolve(new_call(), metadata='{"a":"b"}', caller_id="A <1>", state=State.ENDED)
    assert erased(call, find(NUMBER, Accounts())) is call


# Streams


def test_a_stream_keeps_ids_groups_and_age(redis: Redis) -> None:
    ids = [redis.xadd("s", {"n": str(n)}) for n in range(1200)]
    redis.expire("s", 1000)
    redis.xgroup_create("s", "g", ids[9])
    redis.xreadgroup("g", "one", {"s": ">"}, count=3)
    redis.xdel("s", ids[-1])

    def change(entry: Any) -> Any:
        return {b"n": b"x"} if entry[b"n"] in (b"7", b"1100") else None

    assert streams.rewrite(redis, "s", change, write=False) == 2
    assert streams.rewrite(redis, "s", change) == 2
    assert streams.rewrite(redis, "s", change) == 0
    entries: Any = redis.xrange("s")
    assert [entry_id for entry_id, _ in entries] == ids[:-1]
    assert [n for n, (_, entry) in enumerate(entries) if entry[b"n"] == b"x"] == [7, 1100]
    (group,) = redis.xinfo_groups("s")
    assert (group["pending"], group["last-delivered-id"]) == (3, ids[12])
    pending: Any = redis.xpending_range("s", "g", "-", "+", 10)
    assert [(p["message_id"], p["consumer"], p["times_delivered"]) for p in pending] == [
        (ids[n], b"one", 1) for n in (10, 11, 12)
    ]
    assert 0 < redis.ttl("s") <= 1000
    assert redis.keys("s:*") == []
    # The next id comes after one that was deleted.
    assert redis.xadd("s", {"n": "y"}) > ids[-1]


def test_what_comes_while_a_stream_is_written_anew_is_kept(redis: Redis) -> None:
    for n in range(3):
        redis.xadd("s", {"n": str(n)})
    more = iter(range(3, 6))

    def change(entry: Any) -> Any:
        # Others write between any two steps.
        for n in more:
            redis.xadd("s", {"n": str(n)})
            break
        return {b"n": b"x"} if entry[b"n"] == b"1" else None

    streams.rewrite(redis, "s", change)
    entries: Any = redis.xrange("s")
    assert [entry[b"n"] for _, entry in entries] == [b"0", b"x", b"2", b"3", b"4", b"5"]
