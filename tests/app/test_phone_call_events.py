"""The PhoneCallEvents of an extension, over HTTP and in Redis."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from app.phone_call_events.model import PhoneCallEvent
from app.phone_call_events.store import EventStore
from app.store.keys import Keys
from tests.app.conftest import VOIPNOW
from tests.app.test_phone_calls import ADMINISTRATOR, ORGANIZATION, USER, is_error

EVENTS = "/uapi/extensions/@me/0003*210/phoneCallEvents"
URL = "https://example.com/hook?of=calls"
BODY = {"type": "0", "method": "1", "url": URL, "status": "1", "note": "for the CRM"}

Ask = Callable[..., Any]


def create(ask: Ask, **changes: Any) -> dict[str, Any]:
    answer = ask("POST", EVENTS, {**BODY, **changes})
    assert answer.status_code == 200, answer.json
    event: dict[str, Any] = answer.json
    return event


def test_an_event_is_created_listed_updated_and_deleted(ask: Ask, redis: Redis) -> None:
    event = create(ask)
    assert re.fullmatch("[0-9a-f]{20}", event["id"])
    assert event == {
        **BODY,
        "id": event["id"],
        "modified": event["modified"],
        "links": {"self": f"http://localhost{EVENTS}/0/{event['id']}"},
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["modified"])
    assert redis.smembers("ringback:hooked") == {b"0003*210"}
    for path in (EVENTS, f"{EVENTS}/0/", f"{EVENTS}/0/{event['id']}"):
        answer = ask("GET", path).json
        assert (answer["totalResults"], answer["entry"]) == (1, [event])
    # A subset of the fields, numbers as numbers.
    changed = ask("PUT", f"{EVENTS}/0/{event['id']}", {"status": 0, "note": None}).json
    assert changed == {**event, "status": "0", "modified": changed["modified"]}
    assert ask("DELETE", f"{EVENTS}/0/{event['id']}").json == [changed]
    assert ask("GET", EVENTS).json["entry"] == []
    assert not redis.exists("ringback:hooked", "ringback:phoneCallEvents:0003*210")


def test_an_extensions_next_owner_has_none_of_the_events_before(ask: Ask, redis: Redis) -> None:
    old = create(ask)
    key = "ringback:phoneCallEvents:0003*210"
    kept = json.loads(redis.hget(key, old["id"]))  # type: ignore[arg-type]
    assert kept["owner"] == "12"
    # As if the user 99 had owned the extension when the event was created.
    redis.hset(key, old["id"], json.dumps({**kept, "owner": "99"}))
    assert ask("GET", EVENTS).json["entry"] == []
    path = f"{EVENTS}/0/{old['id']}"
    is_error(ask("PUT", path, {"note": "x"}), 400, "pce_id_invalid")
    is_error(ask("POST", f"{path}/test"), 400, "pce_id_invalid")
    is_error(ask("DELETE", path), 400, "pce_id_invalid")
    assert ask("DELETE", EVENTS).json == []
    # Nor does it count towards what the extension may have.
    new = create(ask)
    assert redis.hkeys(key) == [new["id"].encode()]


def test_the_type_is_in_the_path_or_in_the_body(ask: Ask) -> None:
    without = {name: value for name, value in BODY.items() if name != "type"}
    assert ask("POST", f"{EVENTS}/4", without).json["type"] == "4"
    assert ask("POST", f"{EVENTS}/4/", {**BODY, "type": 4}).json["type"] == "4"
    is_error(ask("POST", f"{EVENTS}/4", BODY), 400, "pcet_type_invalid")
    is_error(ask("POST", EVENTS, without), 400, "pcet_type_invalid")


def test_what_is_left_out_on_creation(ask: Ask) -> None:
    event = ask("POST", EVENTS, {"type": 2, "url": URL}).json
    assert (event["method"], event["status"], event["note"]) == ("0", "1", "")


@pytest.mark.parametrize("prefix", ["/uapi", "/unifiedapi"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_under_both_names_and_with_a_slash(ask: Ask, prefix: str, slash: str) -> None:
    path = EVENTS.replace("/uapi", prefix)
    event = ask("POST", path + slash, BODY).json
    one = f"{path}/0/{event['id']}{slash}"
    assert ask("PUT", one, {"note": "x"}).json["note"] == "x"
    assert ask("GET", one).json["totalResults"] == 1
    assert len(ask("DELETE", path + slash).json) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *(({"type": value}, "pcet_type_invalid") for value in ("5", 5, -1, "x", "", True, [0])),
        *(({"method": value}, "pce_method_invalid") for value in ("2", "GET", 1.5, False)),
        *(({"status": value}, "pce_status_invalid") for value in ("2", "on", {})),
        *(({"note": value}, "pce_note_invalid") for value in (1, "x" * 1025)),
        *(
            ({"url": value}, "pce_url_invalid")
            for value in (
                None,
                5,
                "",
                "example.com",
                "ftp://example.com/",
                "file:///etc/passwd",
                "javascript:alert(1)",
                "http://",
                "http:///path",
                "http://example.com:99999/",
                "http://example.com:0/",
                "http://user:secret@example.com/",
                "http://example.com/a b",
                "http://example.com/%zz",
                "http://example.com/\r\nX: y",
                "http://example.com/#fragment",
                "http://exämple.com/",
                "http://[::1/",
                "http://example.com/" + "x" * 2048,
            )
        ),
    ],
)
def test_what_cannot_be(ask: Ask, change: dict[str, Any], code: str) -> None:
    is_error(ask("POST", EVENTS, {**BODY, **change}), 400, code)
    event = create(ask)
    (value,) = change.values()
    if value is not None:
        of_update = code.replace("pcet", "pce")
        is_error(ask("PUT", f"{EVENTS}/0/{event['id']}", change), 400, of_update)


@pytest.mark.parametrize("url", ["http://[2606:4700::1111]:8080/x?y=%20", "https://example.com"])
def test_urls_that_can_be(ask: Ask, url: str) -> None:
    assert create(ask, url=url)["url"] == url


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("extension", ["0003*212", "212", "0003*999", "0004*210", "@all"])
def test_extensions_that_have_no_events(ask: Ask, method: str, extension: str) -> None:
    path = EVENTS.replace("0003*210", extension)
    is_error(ask(method, path, BODY), 400, "extension_invalid")


@pytest.mark.parametrize("extension", ["@self", "@organization", "@app"])
def test_programs_written_for_voipnow_name_an_extension(ask: Ask, extension: str) -> None:
    path = EVENTS.replace("0003*210", extension)
    is_error(ask("POST", path, BODY, token=VOIPNOW), 400, "extension_invalid")


@pytest.mark.parametrize(
    ("path", "token", "holder"),
    [
        ("@me/@self", USER, "user:12"),
        ("12/@self", ORGANIZATION, "user:12"),
        ("12/@self", ADMINISTRATOR, "user:12"),
        ("@owner/@organization", ORGANIZATION, "organization:0003"),
        ("12/@organization", ADMINISTRATOR, "organization:0003"),
        ("@me/@app", USER, "app:demo-user"),
        ("@owner/@app", ADMINISTRATOR, "app:demo-administrator"),
    ],
)
def test_events_of_all_calls_of_a_holder(
    ask: Ask, redis: Redis, path: str, token: str, holder: str
) -> None:
    path = f"/uapi/extensions/{path}/phoneCallEvents"
    event = ask("POST", path, BODY, token=token).json
    assert event["links"]["self"] == f"http://localhost{path}/0/{event['id']}"
    assert redis.smembers("ringback:hooked") == {holder.encode()}
    (kept,) = map(json.loads, redis.hvals(f"ringback:phoneCallEvents:{holder}"))
    # The id of the organization: its number may be given to another one.
    assert kept["owner"] == ("3" if "organization" in holder else "")
    assert ask("GET", path, token=token).json["entry"] == [event]
    assert ask("GET", EVENTS).json["entry"] == []
    one = f"{path}/0/{event['id']}"
    assert ask("PUT", one, {"status": 0}, token=token).json["status"] == "0"
    assert len(ask("DELETE", one, token=token).json) == 1
    assert not redis.exists("ringback:hooked", f"ringback:phoneCallEvents:{holder}")


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        ("@me/@organization", USER, 403, "rights_insufficient"),
        ("@owner/@self", USER, 400, "user_invalid"),
        ("@owner/@self", ORGANIZATION, 400, "user_invalid"),
        ("13/@self", ORGANIZATION, 400, "user_invalid"),
        ("13/@app", USER, 400, "user_invalid"),
        ("@owner/@organization", ADMINISTRATOR, 400, "user_invalid"),
    ],
)
def test_holders_that_an_app_may_not_follow(
    ask: Ask, method: str, path: str, token: str, status: int, code: str
) -> None:
    path = f"/uapi/extensions/{path}/phoneCallEvents"
    is_error(ask(method, path, BODY, token=token), status, code)


def test_two_apps_have_events_of_their_own_calls(ask: Ask) -> None:
    path = "/uapi/extensions/@owner/@app/phoneCallEvents"
    ask("POST", path, BODY, token=ORGANIZATION)
    assert ask("GET", path, token=ADMINISTRATOR).json["entry"] == []


def test_a_holder_has_so_many_events(ask: Ask, redis: Redis) -> None:
    store, keys = EventStore(redis, Keys()), Keys()
    for number in range(100):
        event = PhoneCallEvent(f"e{number}", 0, URL, 1, 1, "", 1.0, "demo-user")
        assert store.replace("user:12", None, event)
    path = "/uapi/extensions/@me/@self/phoneCallEvents"
    is_error(ask("POST", path, BODY), 400, "pce_limit_exceeded")
    assert redis.smembers(keys.hooked) == {b"user:12"}


def test_a_test_is_sent_and_its_result_told(ask: Ask, redis: Redis) -> None:
    """By the process that delivers; here its part is played."""
    event = create(ask)
    answer = ask("POST", f"{EVENTS}/0/{event['id']}/test")
    assert answer.status_code == 202 and answer.json["result"] == "waiting"
    ((_, entry),) = redis.xrange("ringback:outbox")  # type: ignore[misc, union-attr]
    told = {name.decode(): text.decode() for name, text in entry.items()}
    expected = {"type": "0", "extension": "0003*210", "for": "0003*210", "test": event["id"]}
    assert {name: told[name] for name in expected} == expected
    assert told["Test"] == "1" and told["CallStatus"] == "CALLING"
    assert answer.json["id"] == f"{told['CallID']}-0-0003*210-{event['id']}"
    is_error(ask("POST", f"{EVENTS}/1/{event['id']}/test"), 400, "pce_id_invalid")
    is_error(ask("POST", f"{EVENTS}/x/{event['id']}/test"), 400, "pce_type_invalid")


def test_users_and_apps(ask: Ask) -> None:
    is_error(ask("GET", EVENTS, token="nobodys"), 401, "access_denied")
    is_error(ask("GET", EVENTS, token=ORGANIZATION), 400, "user_invalid")
    event = create(ask)
    for user, extension, token in (
        ("@viewer", "210", USER),
        ("@owner", "210", ORGANIZATION),
        ("12", "0003*210", ADMINISTRATOR),
    ):
        path = f"/uapi/extensions/{user}/{extension}/phoneCallEvents"
        (found,) = ask("GET", path, token=token).json["entry"]
        assert found["id"] == event["id"]
        assert found["links"]["self"] == f"http://localhost{path}/0/{event['id']}"


def test_ids_and_types_in_the_path(ask: Ask) -> None:
    event = create(ask)
    is_error(ask("GET", f"{EVENTS}/7"), 400, "pce_type_invalid")
    is_error(ask("GET", f"{EVENTS}/0/no-id"), 400, "pce_id_invalid")
    assert ask("GET", f"{EVENTS}/0/unknown").json["entry"] == []
    for method in ("PUT", "DELETE"):
        is_error(ask(method, f"{EVENTS}/0/unknown", {}), 400, "pce_id_invalid")
        is_error(ask(method, f"{EVENTS}/1/{event['id']}", {}), 400, "pce_id_invalid")
        is_error(ask(method, f"{EVENTS}/x/{event['id']}", {}), 400, "pce_type_invalid")
    # The type stays what it is; the same again is no harm.
    is_error(ask("PUT", f"{EVENTS}/0/{event['id']}", {"type": 1}), 400, "pce_type_invalid")
    assert ask("PUT", f"{EVENTS}/0/{event['id']}", {"type": "0"}).status_code == 200


def test_deleting_by_type_or_all(ask: Ask) -> None:
    for kind in (0, 1, 1, 2):
        create(ask, type=kind)
    assert {event["type"] for event in ask("DELETE", f"{EVENTS}/1").json} == {"1"}
    assert ask("GET", EVENTS).json["totalResults"] == 2
    assert len(ask("DELETE", f"{EVENTS}/").json) == 2
    assert ask("DELETE", EVENTS).json == []


def test_lists_go_by_url_in_pages_and_may_be_filtered(ask: Ask) -> None:
    for letter in "bca":
        create(ask, url=f"http://example.com/{letter}", note=letter)

    def notes(**query: Any) -> str:
        return "".join(event["note"] for event in ask("GET", EVENTS, **query).json["entry"])

    # As the client of v5 asks, with its slip.
    assert notes(count=20, startIndex=0) == "abc"
    assert notes(sortOrder="descending") == "cba"
    first = ask("GET", EVENTS, count=2).json
    assert (first["totalResults"], first["itemsPerPage"], len(first["entry"])) == (3, 2, 2)
    assert "startIndex=2" in first["paging"]["next"]
    assert notes(count=2, startIndex=2) == "c"
    assert notes(filterBy="note", filterValue="b") == "b"
    assert notes(filterBy="type", filterValue="0") == "abc"
    assert notes(filterBy="url", filterOp="contains", filterValue="com/a") == "a"
    assert notes(filterBy="modified", filterOp="lessThan", filterValue="2001-01-01") == ""
    (event,) = ask("GET", EVENTS, fields="id,url", count=1).json["entry"]
    assert set(event) == {"id", "url"}
    for query, code in (
        ({"count": 0}, "count_invalid"),
        ({"filterBy": "colour", "filterValue": "x"}, "filterby_invalid"),
        ({"fields": "colour"}, "fields_invalid"),
        ({"sortOrder": "up"}, "sortorder_invalid"),
    ):
        is_error(ask("GET", EVENTS, **query), 400, code)


def test_an_extension_has_so_many_events_at_most(ask: Ask) -> None:
    for _ in range(100):
        create(ask)
    is_error(ask("POST", EVENTS, BODY), 400, "pce_limit_exceeded")


def test_who_says_where_to_is_whose_secret_signs(ask: Ask, redis: Redis) -> None:
    event = create(ask)
    path = f"/uapi/extensions/@owner/0003*210/phoneCallEvents/0/{event['id']}"

    def app() -> str:
        (text,) = redis.hvals("ringback:phoneCallEvents:0003*210")
        return str(json.loads(text)["app"])

    assert ask("PUT", path, {"status": 0, "url": URL}, token=ORGANIZATION).status_code == 200
    assert app() == "demo-user"
    assert ask("PUT", path, {"url": f"{URL}2"}, token=ORGANIZATION).status_code == 200
    assert app() == "demo-organization"
    assert ask("PUT", path, {"method": 0}).status_code == 200
    assert app() == "demo-user"


def test_one_whose_target_was_written_otherwise(ask: Ask, redis: Redis) -> None:
    key = "ringback:phoneCallEvents:0003*210"
    for method in ("PUT", "DELETE"):
        event = create(ask)
        stored = json.loads(redis.hget(key, event["id"]) or "")
        assert stored["target"] == "demo-user https://example.com:443"
        redis.hset(key, event["id"], json.dumps({**stored, "target": "https://example.com:443"}))
        assert ask(method, f"{EVENTS}/0/{event['id']}", {"note": "x"}).status_code == 200
    assert [event["note"] for event in ask("GET", EVENTS).json["entry"]] == ["x"]


def test_many_created_at_once_are_no_more_than_there_may_be(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.phone_call_events.store.MOST", 5)
    store = EventStore(redis, Keys())

    def add(number: int) -> bool:
        event = PhoneCallEvent(f"e{number}", 0, URL, 1, 1, "", 1e9, "demo-user")
        return store.replace("0003*210", None, event)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(16))) == 5
    # Sent a second time, because the first answer was lost.
    assert add(int(store.of("0003*210")[0].id[1:]))


def test_bodies_that_are_none(ask: Ask) -> None:
    is_error(ask("POST", EVENTS, []), 400, "request_invalid")
    is_error(ask("PUT", f"{EVENTS}/0/x"), 400, "request_invalid")
