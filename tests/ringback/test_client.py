"""The client by itself: what it reads, checks and asks again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from ringback import (
    Client,
    PhoneCall,
    RingbackError,
    WebhookError,
    verify_status,
    verify_webhook,
)
from ringback.events import blocks
from ringback.resources import date_text

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CALL = {"id": "b817d2618fe6f1804333", "extension": "0003*210"}
Answer = tuple[int, dict[str, str], Any]


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives these answers in turn; its URL and what it was asked."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.command, self.path, dict(self.headers), body))
            status, headers, answer = left.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def error(status: int, code: str, **headers: str) -> Answer:
    return status, headers, {"error": {"code": code, "message": "A sentence."}}


AWAY = error(503, "service_unavailable", **{"Retry-After": "0"})


# What stands in a stream's lines: no line breaks, and of a name no colon.
WORDS = st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"))


@given(
    st.lists(
        st.tuples(WORDS.filter(str.isprintable), st.lists(WORDS, max_size=3), WORDS), max_size=5
    )
)
def test_a_stream_is_read_as_it_was_written(written: list[tuple[str, list[str], str]]) -> None:
    text = ""
    for event, data, event_id in written:
        text += f":a comment\nid: {event_id}\nevent: {event}\nunknown: x\n"
        text += "".join(f"data: {line}\n" for line in data) + "\n"
    # The last one is not whole.
    lines = [line + b"\n" for line in (text + "event: cut").encode().split(b"\n")]
    found = [(block.event, block.data, block.id) for block in blocks(lines[:-1])]
    assert found == [(event, data, event_id) for event, data, event_id in written]


@given(st.lists(st.binary().map(lambda b: b.replace(b"\n", b"") + b"\n")))
def test_any_lines_can_be_read(lines: list[bytes]) -> None:
    assert len(list(blocks(lines))) <= len(lines)


def test_an_id_lasts_until_the_next() -> None:
    lines = b"retry: 100\nid: 1\n\ndata: a\n\nid:2\r\ndata:b\r\n\r\nid: 3\0\ndata\n\n".split(b"\n")
    found = list(blocks((line + b"\n" for line in lines[:-1]), "0"))
    assert [(b.id, b.data, b.retry) for b in found] == [
        ("1", [], 100),
        ("1", ["a"], None),
        ("2", ["b"], None),
        ("2", [""], None),
    ]


def signed(body: str, at: datetime, secret: str = SECRET) -> dict[str, str]:
    return {
        "Webhook-Id": "m1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": "v1a,zzz " + Webhook(secret).sign("m1", at, body),
    }


def test_a_signed_message() -> None:
    body = "CallAPIID=b817&CallStatus=ANSWER&CalledDID="
    now = datetime.now(UTC)
    told = {"CallAPIID": "b817", "CallStatus": "ANSWER", "CalledDID": ""}
    assert verify_webhook(signed(body, now), body.encode(), SECRET) == told
    assert verify_webhook(signed(body, now), body, SECRET) == told
    bad = [
        (signed(body, now), body + "x"),
        (signed(body, now - timedelta(minutes=6)), body),
        (signed(body, now + timedelta(minutes=6)), body),
        (signed(body, now, "whsec_" + "a" * 32), body),
        (signed(body, now) | {"webhook-signature": "nonsense"}, body),
        (signed(body, now) | {"webhook-signature": "v1,!"}, body),
        (signed(body, now) | {"webhook-timestamp": "soon"}, body),
        ({}, body),
    ]
    for headers, text in bad:
        with pytest.raises(WebhookError):
            verify_webhook(headers, text, SECRET)
    with pytest.raises(WebhookError):
        verify_webhook(signed(body, now), b"\xff", SECRET)


def test_a_signed_status() -> None:
    told = {"type": "ended", "id": "b817-ended", "time": "2026-01-02T03:04:05.678Z"}
    body = json.dumps({**told, "call": {**CALL, "state": "ended", "metadata": {"a": "b"}}})
    now = datetime.now(UTC)
    status = verify_status(signed(body, now), body.encode(), SECRET)
    assert (status.type, status.id, status.call.metadata) == ("ended", "b817-ended", {"a": "b"})
    assert status.time == datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    for text in ("[]", "{}", "CallAPIID=b817", json.dumps(told)):
        with pytest.raises(WebhookError):
            verify_status(signed(text, now), text, SECRET)
    with pytest.raises(WebhookError):
        verify_status(signed(body, now), body + " ", SECRET)


def test_dates_go_out_in_utc_and_need_a_zone() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert date_text(at) == "2026-01-02T01:04:05Z"
    with pytest.raises(ValueError, match="time zone"):
        date_text(datetime(2026, 1, 2))


def test_how_far_a_call_is() -> None:
    call = PhoneCall.of({**CALL, "state": "answered"})
    assert call.has_reached("ringing") and call.has_reached("answered")
    assert not call.has_reached("bridged") and not PhoneCall.of(CALL).has_reached("queued")
    with pytest.raises(ValueError):
        call.has_reached("dancing")


def test_creating_is_asked_again_with_the_same_nonce() -> None:
    with answering(AWAY, AWAY, (202, {}, [CALL])) as (url, asked):
        call = Client(url, "token").simple("210", "15500", ["1", "2"], caller_id="A <1>")
    assert call.id == CALL["id"] and call.state is None
    bodies = [json.loads(body) for *_, body in asked]
    assert len(bodies) == 3 and bodies[0] == bodies[1] == bodies[2]
    assert len(bodies[0].pop("nonce")) == 32
    view = {"source": ["15500"], "destination": ["1", "2"], "callerId": "A <1>"}
    assert bodies[0] == {"extension": "210", "phoneCallView": [view]}
    method, path, headers, _ = asked[0]
    assert (method, path) == ("POST", "/uapi/phoneCalls/@me/simple")
    assert headers["Authorization"] == "Bearer token"


def quota(wait: int) -> Answer:
    details = {"cap": "organization:3 calls_per_day", "limit": 3, "used": 3}
    body = {"code": "quota_exceeded", "message": "A sentence.", **details, "freeAt": "x"}
    return 429, {"Retry-After": str(wait)}, {"error": body}


def test_a_cap_that_is_full_for_long_is_not_waited_for() -> None:
    with answering(quota(3600)) as (url, asked), pytest.raises(RingbackError) as raised:
        Client(url, "token").simple("210", "15500", "15600")
    assert len(asked) == 1
    assert (raised.value.status, raised.value.code) == (429, "quota_exceeded")
    details = {"cap": "organization:3 calls_per_day", "limit": 3, "used": 3, "freeAt": "x"}
    assert raised.value.details == details


def test_a_cap_that_is_full_for_a_moment_is_waited_for() -> None:
    placed = 202, {}, [{"id": "1", "extension": "210"}]
    with answering(quota(1), placed) as (url, asked):
        assert Client(url, "token").simple("210", "15500", "15600").id == "1"
    assert len(asked) == 2


def test_an_action_is_asked_once() -> None:
    with answering(AWAY) as (url, asked), pytest.raises(RingbackError) as raised:
        Client(url, "token").hold("1", "00")
    assert (raised.value.status, raised.value.code) == (503, "service_unavailable")
    assert raised.value.passes
    assert [json.loads(body) for *_, body in asked] == [
        {"action": "OnHold", "phoneCallViewId": "00"}
    ]


def test_what_is_refused_and_what_is_no_answer_of_ringbacks() -> None:
    answers = (
        error(400, "extension_invalid"),
        (502, {}, b"<h1>Bad gateway</h1>"),
        (302, {"Location": "/elsewhere"}, b""),
    )
    codes = []
    with answering(*answers) as (url, _):
        client = Client(url, "token")
        for _ in answers:
            with pytest.raises(RingbackError) as raised:
                client.get("1")
            codes.append((raised.value.status, raised.value.code))
    assert codes == [(400, "extension_invalid"), (502, "answer_invalid"), (302, "answer_invalid")]
    with pytest.raises(RingbackError) as raised:
        Client(url, "token", retries=0).get("1")
    assert (raised.value.status, raised.value.code) == (0, "api_unreachable")


def test_pages() -> None:
    def page(*ids: str, more: bool) -> Answer:
        entry = [{**CALL, "id": each} for each in ids]
        return 200, {}, {"entry": entry, **({"paging": {"next": "…"}} if more else {})}

    with answering(page("3", "2", more=True), page("2", "1", more=False)) as (url, asked):
        calls = Client(url, "token", user="12").calls("0003*210", filterBy="id")
        assert [call.id for call in calls] == ["3", "2", "1"]
    first = "/uapi/phoneCalls/12/0003*210?filterBy=id&count=100&startIndex="
    assert [path for _, path, *_ in asked] == [f"{first}0", f"{first}100"]


def test_tokens_for_a_limited_time() -> None:
    def token(name: str, seconds: int) -> Answer:
        return 200, {}, {"access_token": name, "expires_in": seconds}

    found = (200, {}, {"entry": []})
    refused = (401, {}, {"error": "invalid_client", "error_description": "No."})
    with answering(token("a", 3600), found, found, token("b", 10), found, refused) as (url, asked):
        client = Client(url, client_id="crm", client_secret="secret")
        assert client.get("1") is None and client.get("2") is None
        # One that is about to end is not used.
        client = Client(url, client_id="crm", client_secret="secret")
        client.get("1")
        with pytest.raises(RingbackError, match="invalid_client: No"):
            client.get("1")
    tokens = [headers.get("Authorization") for _, _, headers, _ in asked]
    assert tokens == [None, "Bearer a", "Bearer a", None, "Bearer b", None]
    assert b"client_credentials" in asked[0][3]


def test_a_stream_that_is_refused_for_good_says_so() -> None:
    begun = b"retry: 1\nid: 1-0\n\n"
    with answering((200, {}, begun), AWAY, error(401, "access_denied")) as (url, asked):
        events = Client(url, "token", retries=0).events(call_id="b817")
        with pytest.raises(RingbackError, match="access_denied"):
            next(events)
        events.close()
    assert list(events) == []
    assert [headers.get("Last-Event-ID") for _, _, headers, _ in asked] == [None, "1-0", "1-0"]
    assert asked[0][1] == "/uapi/phoneCalls/@me/events?phoneCallId=b817"


def test_an_error_about_a_value_says_which_and_why() -> None:
    details = {"field": "phoneCallView[0].source[0]", "value": "911", "reason": "No emergencies."}
    barred = {"code": "pc_source_barred", "message": "The dial policy bars it.", **details}
    answer = (403, {}, {"error": barred})
    with answering(answer) as (url, _), pytest.raises(RingbackError) as raised:
        Client(url, "token").simple("210", "911", "1")
    assert (raised.value.status, raised.value.code) == (403, "pc_source_barred")
    assert raised.value.details == details
    assert str(raised.value) == "pc_source_barred: The dial policy bars it. No emergencies."
