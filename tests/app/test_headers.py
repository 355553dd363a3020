"""The headers of every answer, and the answers to requests that ask whether something changed."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app.store.calls import CallStore
from tests.app.conftest import USER, VOIPNOW, Ask
from tests.app.test_phone_calls import BODY, LIST, SIMPLE

TOKEN = {"Authorization": f"Bearer {USER}"}


def test_the_id_of_a_request_is_taken_over(client: FlaskClient) -> None:
    sent = {"X-Request-Id": "01J/abc.DEF:9_~+=@-"}
    for path in (
        "/healthz",
        LIST,
        "/nothing",
        "/docs",
        "/docs/docs.js",
        "/console",
        "/openapi.json",
    ):
        answer = client.get(path, headers={**TOKEN, **sent})
        assert answer.headers["X-Request-Id"] == sent["X-Request-Id"], path
        # The server adds this one.
        assert "Date" not in answer.headers, path


def test_the_stream_has_the_id_and_is_not_compressed(client: FlaskClient) -> None:
    headers = {**TOKEN, "X-Request-Id": "mine", "Accept-Encoding": "gzip"}
    with client.get("/uapi/phoneCalls/@me/events", headers=headers) as answer:
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
        assert answer.headers["X-Request-Id"] == "mine"
        assert answer.headers["Cache-Control"] == "no-store" and answer.content_encoding is None


@pytest.mark.parametrize("sent", [None, "", "a b", 'a"b', "a\x7f", "é", "x" * 129, "<b>"])
def test_otherwise_it_is_a_new_one(client: FlaskClient, sent: str | None) -> None:
    headers = {} if sent is None else {"X-Request-Id": sent}
    ids = [client.get("/healthz", headers=headers).headers["X-Request-Id"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{24}", each) for each in ids) and ids[0] != ids[1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("PATCH", SIMPLE, None, 405),
        ("POST", SIMPLE, "no JSON", 400),
        ("POST", SIMPLE, {}, 400),
        ("POST", SIMPLE, b"x" * 70_000, 413),
        ("GET", "/uapi/faxes/@me", None, 501),
    ],
)
def test_an_error_names_its_request(
    ask: Ask, method: str, path: str, body: Any, status: int
) -> None:
    answer = ask(method, path, body)
    assert answer.status_code == status
    assert answer.json["error"]["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", [LIST, "/console/api/calls"])
def test_a_401_says_how_to_authenticate(client: FlaskClient, path: str) -> None:
    assert client.get(path).headers["WWW-Authenticate"] == 'Bearer realm="ringback"'
    if path == LIST:
        answer = client.get(path, headers={"Authorization": "Bearer wrong"})
        challenge = 'Bearer realm="ringback", error="invalid_token"'
        assert answer.headers["WWW-Authenticate"] == challenge


def test_the_audit_has_the_id(client: FlaskClient, redis: Redis) -> None:
    headers = {**TOKEN, "X-Request-Id": "from-a-test"}
    client.post(SIMPLE, headers=headers, json=BODY)
    client.get(LIST, headers={**headers, "Authorization": "Bearer wrong"})
    for key in ("ringback:audit", "ringback:audit:calls"):
        ((_, entry),) = redis.xrange(key)
        assert entry[b"request_id"] == b"from-a-test"


@pytest.mark.parametrize(("token", "status"), [(USER, 202), (VOIPNOW, 200)])
def test_a_create_says_where_its_first_call_is(ask: Ask, token: str, status: int) -> None:
    views = BODY["phoneCallView"] * 2
    answer = ask("POST", SIMPLE, {**BODY, "phoneCallView": views}, token, fields="id,link")
    first, _ = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (status, first["link"]["self"])
    path = answer.headers["Location"].removeprefix("http://localhost")
    assert [each["id"] for each in ask("GET", path, token=token).json["entry"]] == [first["id"]]
    # Also if the answer's fields leave out the link.
    assert "Location" in ask("POST", SIMPLE, BODY, token, fields="id").headers


def test_a_call_is_sent_again_only_if_it_changed(
    client: FlaskClient, ask: Ask, store: CallStore
) -> None:
    ask("POST", SIMPLE, BODY)
    (call,) = ask("POST", SIMPLE, {**BODY, "extension": "211"}).json
    ask("DELETE", f"{LIST}/{call['id']}")
    for path in (LIST, f"{LIST}/{call['id']}"):
        # A queued call says how long it is to wait.
        path = f"{path}?fields=id,state"
        first = client.get(path, headers=TOKEN)
        assert first.headers["Cache-Control"] == "private, no-cache"
        tag = first.headers["ETag"]
        for known in (tag, f'"other", {tag}', "*"):
            answer = client.get(path, headers={**TOKEN, "If-None-Match": known})
            assert (answer.status_code, answer.data) == (304, b"")
            assert answer.headers["ETag"] == tag and answer.headers["X-Request-Id"]
            assert "Content-Type" not in answer.headers
        other = client.get(path, headers={**TOKEN, "If-None-Match": 'W/"other"'})
        assert (other.status_code, other.json, other.headers["ETag"]) == (200, first.json, tag)
    ask("DELETE", LIST)
    answer = client.get(f"{LIST}?fields=id,state", headers={**TOKEN, "If-None-Match": tag})
    assert answer.status_code == 200 and answer.json["entry"] == []


def test_a_tag_tells_nothing_to_who_may_not_see_the_call(client: FlaskClient, ask: Ask) -> None:
    headers = {"Authorization": "Bearer wrong", "If-None-Match": "*"}
    assert client.get(LIST, headers=headers).status_code == 401


def test_no_answer_is_read_as_another_type(client: FlaskClient) -> None:
    """Nor kept by a browser, but for pages and for what it asks for again each time."""
    for path, kept in {
        LIST: "private, no-cache",
        "/uapi/cdr": "no-store",
        "/nothing": "no-store",
        "/console": "no-cache",
        "/console/nopage": "no-cache",
        "/console/api/session": "no-store",
        "/console/api/calls": "no-store",
        "/docs": "no-cache",
        "/healthz": "no-store",
        "/metrics": "no-store",
    }.items():
        answer = client.get(path, headers=TOKEN)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert answer.headers["Cache-Control"] == kept, path
        charset = "" if answer.mimetype == "application/json" else "; charset=utf-8"
        assert answer.headers["Content-Type"].endswith(charset), path
