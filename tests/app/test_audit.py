"""The audit: who asked for what, from where, with which result."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app.calls import transitions
from app.calls.model import Call
from app.calls.transitions import LegReport
from app.services import create_services
from app.settings import Settings
from app.store import audit
from app.store.audit import Entry, Who
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.writes import Note
from app.web import auditing
from app.web.auditing import Auditor
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, VOIPNOW, Ask
from tests.app.test_console import HEADER, SESSION
from tests.app.test_phone_calls import BODY, OTHER, SIMPLE, body
from tests.conftest import eventually

SECRETS = ("demo-user-token", "demo-organization-secret", "demo-administrator-token", "hunter2")

Entries = Callable[[], list[dict[str, str]]]


@pytest.fixture
def entries(redis: Redis) -> Entries:
    """The entries of both streams, without their ids and times, which are checked."""

    def _entries() -> list[dict[str, str]]:
        found = [dict(entry) for _, entry in audit.read(redis, Keys())]
        for entry in found:
            at = float(entry.pop("at"))
            # tests/app/test_headers.py looks at it.
            entry.pop("request_id", None)
            assert abs(at - time.time()) < 60
            assert abs(int(entry.pop("id").partition("-")[0]) / 1000 - at) < 5
        return found

    return _entries


FROM = {"address": "127.0.0.1"}
BY_USER = {"kind": "user", "app": "demo-user", "user": "12", **FROM}


def test_placing_and_hanging_up(ask: Ask, entries: Entries, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, BODY).json
    on = created["id"]
    assert ask("DELETE", f"/uapi/phoneCalls/@me/210/{on}?phoneNumber=5302040").status_code == 200
    ask("DELETE", f"/uapi/phoneCalls/12/210/{on}", token=ORGANIZATION)
    # What is hung up already is not hung up again.
    ask("DELETE", f"/uapi/phoneCalls/12/210/{on}", token=ORGANIZATION)
    about = {"on": on, "organization": "0003", "result": "accepted"}
    by_app = {"kind": "app", "app": "demo-organization", "user": "12", **FROM}
    assert entries() == [
        {**BY_USER, **about, "what": "place", "data": "5354353,5302040 > 3235742879"},
        {**BY_USER, **about, "what": "hang_up", "data": "5302040"},
        {**by_app, **about, "what": "hang_up"},
    ]
    # The timeline says who asked, too.
    requests = [entry for entry in store.timeline(on) if entry["kind"] == "request"]
    assert [(e["name"], e["app"], e["user"], e["address"]) for e in requests] == [
        ("accepted", "demo-user", "12", "127.0.0.1"),
        ("hang up", "demo-user", "12", "127.0.0.1"),
        ("hang up", "demo-organization", "12", "127.0.0.1"),
    ]


def test_an_entry_comes_with_the_call_or_not_at_all(
    ask: Ask, entries: Entries, redis: Redis
) -> None:
    body = {**BODY, "nonce": "n"}
    first = ask("POST", SIMPLE, body).json
    # The same request again places nothing.
    assert ask("POST", SIMPLE, body).json == first
    assert [entry["on"] for entry in entries()] == [first[0]["id"]]
    # Without limits Redis accepts no call.
    redis.delete(Keys().limits)
    redis.config_set("maxmemory", 1)
    try:
        assert ask("POST", SIMPLE, BODY).status_code in (500, 503)
    finally:
        redis.config_set("maxmemory", 0)
    assert len(entries()) == 1


def test_a_refused_call(ask: Ask, entries: Entries) -> None:
    view = {"source": ["5354353"], "destination": ["0099*100", "15600"]}
    answer = ask("POST", SIMPLE, {"extension": "210", "phoneCallView": [view]})
    assert answer.status_code == 400
    ask("POST", "/uapi/phoneCalls/13/simple", BODY)
    ask("POST", SIMPLE, BODY, token="hunter2")
    assert entries() == [
        {
            **BY_USER,
            "what": "place",
            "on": "210",
            "organization": "0003",
            "result": "pc_destination_invalid",
            "data": "5354353 > 0099*100,15600",
        },
        {
            **BY_USER,
            "what": "place",
            "organization": "0003",
            "on": "210",
            "result": "user_invalid",
            "data": "5354353,5302040 > 3235742879",
        },
        # The body of a stranger is not read.
        {"kind": "app", **FROM, "what": "place", "result": "access_denied"},
    ]


@pytest.mark.parametrize("token", [ORGANIZATION, VOIPNOW])
def test_a_call_that_the_app_may_not_see(ask: Ask, entries: Entries, token: str) -> None:
    path = f"/uapi/phoneCalls/@owner/@self/{'0' * 20}"
    ask("DELETE", path, token=token)
    body = {"action": "Monitor", "phoneCallViewId": "00", "sendCallTo": "024"}
    assert ask("PUT", path, body, token=token).status_code == 400
    shown = [(e["what"], e["on"], e["result"], e.get("data")) for e in entries()]
    first = ("hang_up", "0" * 20, "pc_phonecall_invalid", None)
    second = ("Monitor", "0" * 20, "pc_phonecall_invalid", "024")
    assert shown == [first, second]


def test_many_refused_requests_of_an_app_share_entries(
    client: FlaskClient, ask: Ask, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, the requests come within this time.
    monkeypatch.setattr(auditing, "_SHARED_FOR", 60)
    barred = body(destination="+19005551234")
    for _ in range(60):
        ask("POST", SIMPLE, barred)
    client.application.extensions["ringback"][Auditor].flush()
    assert [int(entry.get("count", 1)) for entry in entries()] == [1] * 50 + [10]
    assert {entry["data"] for entry in entries()} == {"5354353,5302040 > +19005551234"}


def test_an_action(ask: Ask, entries: Entries, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, BODY).json
    call = store.get(created["id"])
    assert call is not None
    store.change(call, bridged, Note("event", "test"))
    path = f"/uapi/phoneCalls/12/@self/{call.id}"
    body = {"action": "Monitor", "phoneCallViewId": "01", "sendCallTo": "0003*024"}
    # No worker is there to do it.
    assert ask("PUT", path, body, token=ORGANIZATION).status_code == 202
    by = {"kind": "app", "app": "demo-organization", "user": "12", **FROM}
    about = {"on": call.id, "organization": "0003", "result": "accepted"}
    data = "3235742879 > 0003*024"
    assert entries()[1:] == [{**by, **about, "what": "Monitor", "data": data}]
    (asked,) = (entry for entry in store.timeline(call.id) if entry["name"] == "Monitor")
    shown = {name: asked[name] for name in ("kind", "leg", "data", "app", "user", "address")}
    assert shown == {
        **{"kind": "request", "leg": "b1", "data": "0003*024"},
        **{"app": "demo-organization", "user": "12", "address": "127.0.0.1"},
    }


def bridged(call: Call) -> Call:
    """The call while its first source and its destination talk."""
    at = call.accepted
    call = transitions.claim(call, worker="w", switch="s", core_uuid="u", at=at)
    source, destination = call.sources[0].uuid, call.destinations[0].uuid
    for report in (
        LegReport(source, created=at, answered=at + 1),
        LegReport(destination, created=at + 1, answered=at + 2),
        LegReport(source, bridged=at + 2, bridged_to=destination),
    ):
        call = transitions.report_leg(call, report)
    return call


def test_reading_is_audited_only_where_it_is_refused(ask: Ask, entries: Entries) -> None:
    assert ask("GET", "/uapi/phoneCalls/@me/@self").status_code == 200
    assert ask("GET", "/uapi/cdr", token=None).status_code == 401
    assert ask("GET", "/nowhere").status_code == 404
    assert ask("GET", "/uapi/phoneCalls/@me/@self?count=0").status_code == 400
    assert entries() == [{"kind": "app", **FROM, "what": "read", "result": "access_denied"}]


def test_tokens_and_logins(ask: Ask, client: FlaskClient, entries: Entries, redis: Redis) -> None:
    def token(**form: str) -> int:
        return int(client.post("/oauth/token", data=form).status_code)

    form = {"grant_type": "client_credentials", "client_id": "demo-organization"}
    assert token(**form, client_secret="hunter2") == 401
    assert token(**form, client_secret="demo-organization-secret") == 200
    assert token(**form | {"client_id": "hunter2"}, client_secret="hunter2") == 401
    assert client.post(SESSION, json={"token": "hunter2"}, headers=HEADER).status_code == 401
    assert client.post(SESSION, json={"token": ADMINISTRATOR}, headers=HEADER).status_code == 201
    assert client.post("/console/api/switches/s/pause", json={}, headers=HEADER).status_code == 404
    assert client.delete(SESSION, headers=HEADER).status_code == 200
    # Without a session there is nothing to log out of.
    assert client.delete(SESSION, headers=HEADER).status_code == 200
    by_app = {"kind": "app", "app": "demo-organization", **FROM, "organization": "0003"}
    in_session = {"kind": "session", "app": "demo-administrator", **FROM}
    assert entries() == [
        {**by_app, "what": "token_refused", "result": "invalid_client"},
        {**by_app, "what": "token", "result": "accepted"},
        {"kind": "app", **FROM, "what": "token_refused", "result": "invalid_client"},
        {"kind": "session", **FROM, "what": "login_failed", "result": "access_denied"},
        {**in_session, "what": "login", "result": "accepted"},
        {**in_session, "what": "pause", "on": "s", "result": "request_not_found"},
        {**in_session, "what": "logout", "result": "accepted"},
    ]
    kept = repr([redis.xrange(key) for key in (Keys().audit, Keys().audit_calls)])
    assert not [secret for secret in SECRETS if secret in kept]


def test_what_the_console_does(client: FlaskClient, entries: Entries, redis: Redis) -> None:
    client.post(SESSION, json={"token": ADMINISTRATOR}, headers=HEADER)
    redis.hset(Keys().limits, "switch:one", "30.0:100")
    body = {**BODY, "extension": "0003*210"}
    (call,) = client.post("/console/api/calls/simple", json=body, headers=HEADER).json["ids"]
    drain = "/console/api/switches/one/drain"
    client.post(drain, json={"why": "a new one"}, headers=HEADER)
    client.delete(f"/console/api/calls/{call}", headers=HEADER)
    shown = [(e["kind"], e["app"], e["what"], e["on"], e["result"]) for e in entries()[1:]]
    by = ("session", "demo-administrator")
    assert shown == [
        (*by, "place", call, "accepted"),
        (*by, "drain", "one", "accepted"),
        (*by, "hang_up", call, "accepted"),
    ]


def test_call_events_are_changes_too(ask: Ask, entries: Entries) -> None:
    path = "/uapi/extensions/@me/210/phoneCallEvents"
    made = ask("POST", path, {"type": 0, "url": "http://8.8.8.8/x?key=hunter2", "method": 1}).json
    ask("DELETE", f"{path}/0/{made['id']}")
    shown = [(e["what"], e["on"], e["result"]) for e in entries()]
    assert shown == [
        ("call_event_create", "210", "accepted"),
        ("call_event_delete", "210", "accepted"),
    ]
    assert "hunter2" not in repr(entries())


def test_other_accounts_at_the_start_of_an_api(
    settings: Settings, redis: Redis, entries: Entries, accounts_file: Path
) -> None:
    create_services(settings)
    # The first accounts replace none, and the same ones none either.
    create_services(settings)
    redis.hdel(Keys().accounts, "demo")
    accounts_file.write_text(OTHER)
    assert entries() == []
    create_services(replace(settings, accounts=accounts_file))
    create_services(replace(settings, accounts=accounts_file))
    assert entries() == [
        {"kind": "operator", "app": "@api", "what": "import_accounts", "result": "accepted"}
    ]


# Floods


def test_a_flood_of_refused_requests_shares_entries(
    ask: Ask, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "_SHARED_FOR", 0.2)
    for _ in range(40):
        ask("GET", "/uapi/cdr", token=None)
    ask("POST", SIMPLE, {})
    eventually(lambda: sum(int(e.get("count", 1)) for e in entries()) == 41)
    of_flood = [entry for entry in entries() if entry["result"] == "access_denied"]
    assert len(of_flood) < 20
    # Another app, and another code, has entries of its own.
    assert [e["app"] for e in entries() if e["what"] == "place"] == ["demo-user"]


def test_a_flood_from_many_addresses_shares_entries(
    store: CallStore, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "_MOST_HELD", 4)
    auditor = Auditor(store, 3600)
    for number in range(100):
        who = Who("app", address=f"192.0.2.{number}")
        auditor.note(Entry(who, "read", result="access_denied"))
    assert len(entries()) == 5
    eventually(lambda: sum(int(e.get("count", 1)) for e in entries()) == 100)
    # At its end a process writes what waits.
    who = Who("app", address="192.0.2.1")
    for _ in range(3):
        auditor.note(Entry(who, "read", result="another"))
    auditor.flush()
    assert [e.get("count") for e in entries() if e["result"] == "another"] == [None, "2"]
    entries_before = len(entries())
    auditor.flush()
    assert len(entries()) == entries_before
    denied = [e for e in entries() if e["result"] == "access_denied"]
    assert [e.get("address") for e in denied][4:] == [None] * (len(denied) - 4)


def test_an_audit_that_cannot_be_written_fails_no_request(
    ask: Ask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    auditor = client.application.extensions["ringback"][Auditor]
    keys = Keys()
    keys.audit = keys.accounts
    monkeypatch.setattr(auditor._store, "keys", keys)
    assert ask("GET", "/uapi/cdr", token=None).status_code == 401
    assert "the audit lacks read access_denied by None from 127.0.0.1" in caplog.text


# The streams


def test_each_stream_is_trimmed_by_time(redis: Redis) -> None:
    keys, who = Keys(), Who("app", "a")
    for what, key, kept in (("place", keys.audit_calls, 10.0), ("Park", keys.audit, 1000.0)):
        now = time.time()
        # The trimming is exact in tests: Redis drops whole nodes, of 100 entries or 4 KB.
        for number in range(1000):
            redis.execute_command(*("XADD", key, f"{int(now - 2000) * 1000 + number}-0", "at", "1"))
        redis.execute_command(*audit.command(keys, Entry(who, what), now, kept))
        assert redis.xlen(key) < 102
        assert redis.xrevrange(key, count=1)[0][1][b"what"] == what.encode()


def test_refused_calls_are_kept_with_all_else(redis: Redis) -> None:
    keys, who = Keys(), Who("app", "a")
    for what in ("place", "hang_up"):
        assert audit.command(keys, Entry(who, what), 1.0, 1.0)[1] == keys.audit_calls
        assert audit.command(keys, Entry(who, what, result="x"), 1.0, 1.0)[1] == keys.audit


def test_a_reader_sees_both_streams_in_order(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_CHUNK", 3)
    keys = Keys()
    for number in range(20):
        key = keys.audit_calls if number % 3 else keys.audit
        redis.xadd(key, {"at": str(number), "what": "x"}, id=f"{1000 + number * 100}-{number}")
    read = [int(entry["at"]) for _, entry in audit.read(redis, keys)]
    assert read == list(range(20))
    newest = [int(entry["at"]) for _, entry in audit.read(redis, keys, newest=True)]
    assert newest == list(range(20))[::-1]
    some = audit.read(redis, keys, since=1.5, until=2.0)
    assert [int(entry["at"]) for _, entry in some] == [5, 6, 7, 8, 9]
    places, found = audit.follow(redis, dict.fromkeys((keys.audit, keys.audit_calls), "0"), 0.01)
    assert [int(entry["at"]) for entry in found] == list(range(20))
    assert places == audit.ends(redis, keys)
    assert audit.follow(redis, places, 0.01) == (places, [])


def test_filters() -> None:
    entry = {"app": "a", "what": "place", "result": "access_denied"}
    assert audit.matches(entry, {"app": "a", "user": None})
    assert audit.matches(entry, {"result": "refused"})
    assert not audit.matches(entry, {"user": "12"})
    assert not audit.matches({**entry, "result": "accepted"}, {"result": "refused"})


def test_words_of_a_client_stay_on_one_line() -> None:
    assert audit.plain("a\nb\x1b[2J\x9b") == "a�b�[2J�"
    assert len(audit.plain("x" * 1000)) == 200
    assert len(audit.fields(Entry(Who("app"), "x", data="y" * 300), "1")["data"]) == 200
