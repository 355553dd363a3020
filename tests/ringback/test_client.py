"""The client by itself: what it sends, checks, retries and makes of answers.

Tests that take ``make`` run with the client for threads and with the one for asyncio.
"""

import asyncio
import json
import pickle
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from ringback import (
    AsyncClient,
    Authentication,
    Client,
    Invalid,
    NewCall,
    NotFound,
    OutcomeUnknown,
    Permission,
    PhoneCall,
    Quota,
    RingbackError,
    Unavailable,
    WebhookError,
    __version__,
    verify_status,
    verify_webhook,
)
from ringback.resources import date_text
from ringback.sse import Block, Decoder

ROOT = Path(__file__).parents[2]
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


class Awaited:
    """The client for asyncio with its methods run to their end, so that it is tested as the other
    one is."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def run(*args: Any, **options: Any) -> Any:
            found = method(*args, **options)
            if hasattr(found, "__aenter__"):
                return AwaitedEvents(self._loop, found)
            if hasattr(found, "__aiter__"):
                return iter(self._loop.run_until_complete(drained(found)))
            return self._loop.run_until_complete(found)

        return run


class AwaitedEvents:
    def __init__(self, loop: asyncio.AbstractEventLoop, events: Any) -> None:
        self._loop, self._events = loop, events

    def __enter__(self) -> "AwaitedEvents":
        self._loop.run_until_complete(self._events.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._loop.run_until_complete(self._events.__aexit__(*error))

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.run_until_complete(anext(self._events))
        except StopAsyncIteration:
            raise StopIteration from None


async def drained(found: Any) -> list[Any]:
    return [each async for each in found]


Make = Callable[..., Any]


@pytest.fixture(params=[Client, Awaited], ids=["threads", "asyncio"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[Any] = []

    def client(*args: Any, **options: Any) -> Any:
        made.append(request.param(*args, **options))
        return made[-1]

    yield client
    for each in made:
        each.close()
        if isinstance(each, Awaited):
            each._loop.close()


AWAY = error(503, "service_unavailable", **{"Retry-After": "0"})


def decoded(*parts: bytes) -> list[Block]:
    decoder = Decoder("0")
    return [block for part in parts for block in decoder.feed(part)]


# What stands in a stream's lines: no line breaks, and of a name no colon.
WORDS = st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"))


@given(
    st.lists(
        st.tuples(WORDS.filter(str.isprintable), st.lists(WORDS, max_size=3), WORDS), max_size=5
    ),
    st.integers(1, 50),
)
def test_a_stream_is_read_as_it_was_written(
    written: list[tuple[str, list[str], str]], size: int
) -> None:
    text = ""
    for event, data, event_id in written:
        text += f":a comment\nid: {event_id}\nevent: {event}\nunknown: x\n"
        text += "".join(f"data: {line}\n" for line in data) + "\n"
    # The last one is not whole.
    sent = (text + "event: cut").encode()
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    found = [(block.event, block.data, block.id) for block in decoded(*parts)]
    assert found == [(event, data, event_id) for event, data, event_id in written]


@given(st.lists(st.binary()))
def test_any_bytes_can_be_read(parts: list[bytes]) -> None:
    assert len(decoded(*parts)) <= b"".join(parts).count(b"\n")


def test_an_id_lasts_until_the_next() -> None:
    sent = b"retry: 100\nid: 1\n\ndata: a\n\nid:2\r\ndata:b\r\n\r\nid: 3\0\ndata\n\n"
    found = decoded(sent)
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


def test_the_client_for_threads_is_made_of_the_one_for_asyncio() -> None:
    sys.path.insert(0, str(ROOT / "client"))
    import unasync

    assert {path.name for path in unasync.sources()} >= {"async_client.py", "async_events.py"}
    for path in unasync.sources():
        made = unasync.made(path)
        assert unasync.target(path).read_text() == made, "run: python client/unasync.py"
        assert "async" not in made.partition("\n")[2].replace("unasync", "")


def test_creating_is_retried_with_the_same_nonce(make: Make) -> None:
    with answering(AWAY, AWAY, (202, {}, [CALL])) as (url, asked):
        call = make(url, "token").simple("210", "15500", ["1", "2"], caller_id="A <1>")
    assert call.id == CALL["id"] and call.state is None
    bodies = [json.loads(body) for *_, body in asked]
    assert len(bodies) == 3 and bodies[0] == bodies[1] == bodies[2]
    assert len(bodies[0].pop("nonce")) == 32
    view = {"source": ["15500"], "destination": ["1", "2"], "callerId": "A <1>"}
    assert bodies[0] == {"extension": "210", "phoneCallView": [view]}
    method, path, headers, _ = asked[0]
    assert (method, path) == ("POST", "/uapi/phoneCalls/@me/simple")
    assert headers["Authorization"] == "Bearer token"
    assert headers["User-Agent"] == f"ringback-python/{__version__}"
    assert headers["Content-Type"] == "application/json"


def test_every_option_goes_where_the_api_takes_it(make: Make) -> None:
    placed = (202, {}, [CALL])
    with answering(placed, placed) as (url, asked):
        client = make(url, "token", user="12")
        client.callback(
            "212",
            "1",
            "2",
            nonce="n",
            wait_for_pickup=20,
            call_duration=60,
            allow_public_transfer=True,
            video=False,
            caller_id_destination="B <2>",
            ringback="de",
            accept={"prompt": "p", "key": "1"},
            announce=False,
            headers={"source": {"X-A": "1"}},
            metadata={"order": "1"},
            status_callback="https://example.org/",
        )
        client.invite("003", "5", number="3", pin="2233", status_callback={"url": "u"})
    (_, first, _, body), (_, second, _, invitation) = asked
    words = "waitForPickup=20&callDuration=60&allowPublicTransfer=true&video=false"
    assert first == f"/uapi/phoneCalls/12/callback?{words}"
    assert json.loads(body) == {
        "extension": "212",
        "nonce": "n",
        "phoneCallView": [
            {
                "source": ["1"],
                "destination": ["2"],
                "callerIdDestination": "B <2>",
                "ringback": "de",
                "accept": {"prompt": "p", "key": "1"},
                "announce": False,
                "headers": {"source": {"X-A": "1"}},
            }
        ],
        "metadata": {"order": "1"},
        "statusCallback": {"url": "https://example.org/"},
    }
    assert second == "/uapi/phoneCalls/12/conferenceInvite?number=3&pin=2233"
    assert json.loads(invitation)["statusCallback"] == {"url": "u"}


@pytest.mark.parametrize("empty", ["", " \t", None, ".", ".."])
def test_no_empty_id_is_ever_sent(make: Make, empty: Any) -> None:
    call = NewCall(source="1", destination="2")
    with answering() as (url, asked):
        client = make(url, "token")
        calls: list[Callable[[], Any]] = [
            lambda: client.get(empty),
            lambda: client.wait_until(empty, "ended"),
            lambda: client.hang_up(empty),
            lambda: client.hang_up("1", extension=empty),
            lambda: client.hang_up_all(extension=empty),
            lambda: client.hold(empty, "00"),
            lambda: client.calls(empty),
            lambda: client.remove_call_events(empty),
            lambda: client.add_call_event(empty, 2, "https://example.org/"),
            lambda: make(url, "token", user=empty).get("1"),
        ]
        if empty not in (".", ".."):
            calls += [
                lambda: client.create("simple", empty, [call]),
                lambda: client.simple("210", empty, "2"),
                lambda: client.simple("210", "1", ["2", empty]),
            ]
        if empty is not None and not empty.strip(" \t"):
            calls += [
                lambda: client.simple("210", "1", "2", nonce=empty),
                lambda: client.invite("003", "2", pin=empty),
                lambda: client.hang_up("1", number=empty),
                lambda: client.hang_up_all(number=empty),
                lambda: client.hold("1", empty),
                lambda: client.unpark("1", "00", empty),
                lambda: client.transfer("1", "2", leaves=empty),
                lambda: client.calls(nonce=empty),
                lambda: client.events(call_id=empty),
                lambda: client.events(extension=empty),
            ]
        for each in calls:
            with pytest.raises(ValueError):
                each()
        for none in ([], ()):
            with pytest.raises(ValueError):
                client.simple("210", none, "2")
    assert asked == []


def test_who_asks_and_where_is_said_in_one_way() -> None:
    for options in (
        {},
        {"token": "a", "client_id": "b", "client_secret": "c"},
        {"client_id": "b"},
        {"token": ""},
        {"token": "a\r\nX: y"},
        {"client_id": "", "client_secret": "c"},
    ):
        with pytest.raises(ValueError, match=r"token|client_"):
            Client("http://127.0.0.1:1", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        Client("http://127.0.0.1:1", "token", timeout=0)
    for url in ("127.0.0.1:8080", "ftp://a", "http://", ""):
        with pytest.raises(ValueError, match="http"):
            Client(url, "token")


def test_hanging_up_one_and_all(make: Make) -> None:
    ended = (200, {}, [{**CALL, "state": "ended"}])
    with answering(ended, ended, ended) as (url, asked):
        client = make(url, "token")
        assert [call.state for call in client.hang_up("b/8", number="+49")] == ["ended"]
        client.hang_up_all()
        client.hang_up_all(extension="0003*210", number="15600")
    assert [(method, path) for method, path, *_ in asked] == [
        ("DELETE", "/uapi/phoneCalls/@me/@self/b%2F8?phoneNumber=%2B49"),
        ("DELETE", "/uapi/phoneCalls/@me/@self"),
        ("DELETE", "/uapi/phoneCalls/@me/0003*210?phoneNumber=15600"),
    ]


def quota(wait: str) -> Answer:
    details = {"cap": "organization:3 calls_per_day", "limit": 3, "used": 3}
    body = {"code": "quota_exceeded", "message": "A sentence.", **details, "freeAt": "x"}
    return 429, {"Retry-After": wait}, {"error": body}


def test_a_cap_that_is_full_for_long_is_not_waited_for(make: Make) -> None:
    with answering(quota("3600")) as (url, asked), pytest.raises(Quota) as raised:
        make(url, "token").simple("210", "15500", "15600")
    assert len(asked) == 1
    error = raised.value
    assert (error.status, error.code, error.retry_after) == (429, "quota_exceeded", 3600)
    details = {"cap": "organization:3 calls_per_day", "limit": 3, "used": 3, "freeAt": "x"}
    assert error.details == details


def test_a_cap_that_is_full_for_a_moment_is_waited_for(make: Make) -> None:
    placed = 202, {}, [{"id": "1", "extension": "210"}]
    with answering(quota("1"), placed) as (url, asked):
        assert make(url, "token").simple("210", "15500", "15600").id == "1"
    assert len(asked) == 2


@pytest.mark.parametrize("seconds", [9999.0, 40.0])
def test_no_wait_is_longer_than_a_minute_or_the_limit(make: Make, seconds: float) -> None:
    """A date of Retry-After is one too."""
    at = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for wait in ("61", "99999999999999999999", at):
        with answering(error(503, "service_unavailable", **{"Retry-After": wait})) as (url, asked):
            with pytest.raises(Unavailable) as raised:
                make(url, "token", timeout=seconds).get("1")
            assert len(asked) == 1 and (raised.value.retry_after or 0) > 60


@contextmanager
def silent(drip: bytes = b"") -> Iterator[str]:
    """A server that takes connections and sends no answer, or one byte of it now and then."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            held = []
            try:
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    Thread(target=send, args=(connection,), daemon=True).start()
            except OSError:
                pass

        def send(connection: socket.socket) -> None:
            try:
                for byte in drip:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.1)
            except OSError:
                pass

        Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n"


@pytest.mark.parametrize("drip", [b"", HEAD + b"X: " + b"a" * 500, HEAD + b"\r\n" + b"a" * 500])
def test_the_limit_is_that_of_the_whole(make: Make, drip: bytes) -> None:
    with silent(drip) as url:
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"within 0\.5 seconds") as raised:
            make(url, "token", timeout=0.5).get("1")
        took = time.monotonic() - begun
    assert (raised.value.status, raised.value.code) == (0, "api_unreachable")
    assert 0.4 < took < 15


def test_retries_are_within_the_limit(make: Make) -> None:
    away = error(503, "service_unavailable")
    with answering(*[away] * 50) as (url, asked):
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            make(url, "token", timeout=1, retries=50).get("1")
        assert time.monotonic() - begun < 15
    assert 2 <= len(asked) < 10


def test_no_answer_to_a_create_says_that_the_outcome_is_unknown(make: Make) -> None:
    with silent() as url:
        with pytest.raises(OutcomeUnknown) as raised:
            make(url, "token", timeout=0.5).simple("210", "1", "2", nonce="order-1")
        assert raised.value.nonce == "order-1"
        with pytest.raises(OutcomeUnknown):
            make(url, "token", timeout=0.5).hang_up_all()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        nobody = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(Unavailable):
        # The API never had it.
        make(nobody, "token", timeout=0.5).simple("210", "1", "2")


def test_an_earlier_attempt_may_have_placed_the_call(make: Make) -> None:
    """502: a proxy lost the answer."""
    for last in (AWAY, (*AWAY[:1], {"Retry-After": "3600"}, AWAY[2])):
        lost = (502, {"Retry-After": "0"}, b"<h1>Bad gateway</h1>")
        with answering(lost, last) as (url, _), pytest.raises(OutcomeUnknown) as raised:
            make(url, "token", retries=1).simple("210", "1", "2")
        assert raised.value.code == "service_unavailable"


def test_an_action_is_sent_once(make: Make) -> None:
    unknown = error(503, "outcome_unknown", **{"Retry-After": "0"})
    with answering(AWAY, unknown, quota("0")) as (url, asked):
        client = make(url, "token")
        with pytest.raises(Unavailable) as raised:
            client.hold("1", "00")
        assert (raised.value.status, raised.value.code) == (503, "service_unavailable")
        with pytest.raises(OutcomeUnknown):
            client.whisper("1", "024", private=True)
        with pytest.raises(Quota):
            client.transfer("1", "15601", leaves="210")
    assert [json.loads(body) for *_, body in asked] == [
        {"action": "OnHold", "phoneCallViewId": "00"},
        {"action": "Whisper", "sendCallTo": "024", "private": 1},
        {"action": "Transfer", "sendCallTo": "15601", "transferFromNumber": "210"},
    ]


def test_errors_by_kind(make: Make) -> None:
    html = (502, {"X-Request-Id": "r1"}, b"<h1>Bad gateway</h1>")
    cases: list[tuple[Answer, type[RingbackError], str]] = [
        (error(400, "extension_invalid"), Invalid, "extension_invalid"),
        (error(413, "request_too_large"), Invalid, "request_too_large"),
        (error(501, "request_not_implemented"), Invalid, "request_not_implemented"),
        (error(400, "pc_phonecall_invalid"), NotFound, "pc_phonecall_invalid"),
        (error(404, "pc_phonecall_invalid"), NotFound, "pc_phonecall_invalid"),
        (error(404, "request_not_found"), RingbackError, "request_not_found"),
        ((404, {}, b"<h1>Not found</h1>"), RingbackError, "answer_invalid"),
        (error(401, "access_denied"), Authentication, "access_denied"),
        (error(403, "rights_insufficient"), Permission, "rights_insufficient"),
        (error(500, "internal_server_error"), Unavailable, "internal_server_error"),
        (html, Unavailable, "answer_invalid"),
        ((302, {"Location": "/elsewhere"}, b""), RingbackError, "answer_invalid"),
        ((200, {}, b"<h1>Log in</h1>"), RingbackError, "answer_invalid"),
        ((200, {}, []), RingbackError, "answer_invalid"),
        ((200, {}, {"entry": []}), NotFound, "pc_phonecall_invalid"),
    ]
    with answering(*[answer for answer, *_ in cases]) as (url, _):
        client = make(url, "token", retries=0)
        for (status, headers, _), kind, code in cases:
            with pytest.raises(RingbackError) as raised:
                client.get("1")
            found = raised.value
            assert (type(found), found.code) == (kind, code)
            assert found.status in (status, 404)
            assert found.request_id == headers.get("X-Request-Id")


def test_an_error_about_a_value_says_which_and_why(make: Make) -> None:
    details = {
        "field": "/phoneCallView/0/source/0",
        "value": "911",
        "reason": "No emergencies.",
        "doc": "https://example.org/errors#pc_source_barred",
        "request_id": "r1",
    }
    barred = {"code": "pc_source_barred", "message": "The dial policy bars it.", **details}
    answer = (403, {}, {"error": barred})
    with answering(answer) as (url, _), pytest.raises(Permission) as raised:
        make(url, "token").simple("210", "911", "1")
    found: RingbackError
    for found in (raised.value, pickle.loads(pickle.dumps(raised.value))):
        assert type(found) is Permission
        assert (found.status, found.code, found.details) == (403, "pc_source_barred", details)
        assert (found.field, found.value) == ("/phoneCallView/0/source/0", "911")
        assert (found.reason, found.request_id) == ("No emergencies.", "r1")
        assert found.doc == details["doc"]
        sentences = "pc_source_barred: The dial policy bars it. No emergencies."
        assert str(found) == f"{sentences} (/phoneCallView/0/source/0: '911')"


def page(*ids: str, then: str | None = None, **more: Any) -> Answer:
    entry = [{**CALL, "id": each} for each in ids]
    return 200, {}, {"entry": entry, **more, **({"paging": {"next": then}} if then else {})}


def test_pages_are_followed_as_they_stand(make: Make) -> None:
    there = "http://inside:1/uapi/phoneCalls/12/0003*210?cursor=a%2Bb&count=100"
    answers = page("3", "2", then=there), page("2", "1")
    with answering(*answers) as (url, asked):
        calls = make(url, "token", user="12").calls(
            "0003*210",
            state=["ringing", "ended"],
            number="15600",
            nonce="n",
            metadata={"a": "b:c"},
            start=datetime(2026, 1, 2, tzinfo=UTC),
        )
        assert [call.id for call in calls] == ["3", "2", "1"]
    assert [path for _, path, *_ in asked] == [
        "/uapi/phoneCalls/12/0003*210?status=live&state=ringing%2Cended&phoneNumber=15600&nonce=n"
        "&metadata=a%3Ab%3Ac&startDate=2026-01-02T00%3A00%3A00Z&count=100&cursor=%2A",
        "/uapi/phoneCalls/12/0003*210?cursor=a%2Bb&count=100",
    ]


def test_a_list_that_the_server_cuts_off_says_so(make: Make) -> None:
    whole = page("1", startIndex=4900, itemsPerPage=100, totalResults=5000)
    cut = page("1", startIndex=5000, itemsPerPage=100, totalResults=5300)
    # Calls that have ended in between are missing, and no error.
    led_on = page("2", then="http://a/uapi/phoneCalls/@me/@self?count=100&cursor=x")
    with answering(whole, led_on, cut, cut) as (url, _):
        client = make(url, "token")
        assert [call.id for call in client.calls()] == ["1"]
        assert [call.id for call in client.calls()] == ["2", "1"]
        for state in ("dancing", [], ["ended", "dancing"]):
            with pytest.raises(ValueError):
                client.calls(state=state)
        with pytest.raises(RingbackError, match="200 further entries") as raised:
            list(client.calls())
    assert raised.value.code == "list_truncated"


def token(name: str, seconds: int) -> Answer:
    return 200, {}, {"access_token": name, "expires_in": seconds}


def test_tokens_for_a_limited_time(make: Make) -> None:
    found = page("1")
    refused = (401, {}, {"error": "invalid_client", "error_description": "No."})
    secret = {"client_id": "crm", "client_secret": "se&cret"}
    with answering(token("a", 3600), found, found, token("b", 10), found, refused) as (url, asked):
        client = make(url, **secret)
        assert client.get("1").id == client.get("2").id == "1"
        # A token that is about to end is not used.
        client = make(url, **secret)
        client.get("1")
        with pytest.raises(Authentication, match="invalid_client: No"):
            client.get("1")
    tokens = [headers.get("Authorization") for _, _, headers, _ in asked]
    assert tokens == [None, "Bearer a", "Bearer a", None, "Bearer b", None]
    assert asked[0][3] == b"grant_type=client_credentials&client_id=crm&client_secret=se%26cret"


def test_a_token_is_renewed_once(make: Make) -> None:
    denied = error(401, "access_denied")
    done = (200, {}, [CALL])
    answers = token("a", 99), denied, token("b", 99), done, denied, token("c", 99), denied
    with answering(*answers) as (url, asked):
        client = make(url, client_id="crm", client_secret="secret")
        # An action too: nothing was done.
        assert client.hold("1", "00").done
        with pytest.raises(Authentication):
            client.hold("1", "00")
    sent = [headers.get("Authorization") for _, _, headers, _ in asked]
    assert sent == [None, "Bearer a", None, "Bearer b", "Bearer b", None, "Bearer c"]
    with answering(denied) as (url, asked), pytest.raises(Authentication):
        make(url, "token").get("1")
    assert len(asked) == 1


def test_a_stream_connects_again_until_it_is_refused_for_good(make: Make) -> None:
    begun = b"retry: 1\nid: 1-0\n\n"
    with answering((200, {}, begun), AWAY, error(401, "access_denied")) as (url, asked):
        events = make(url, "token", retries=0).events(call_id="b817")
        with events, pytest.raises(RingbackError, match="access_denied"):
            next(events)
        assert list(events) == []
    assert [headers.get("Last-Event-ID") for _, _, headers, _ in asked] == [None, "1-0", "1-0"]
    assert asked[0][1] == "/uapi/phoneCalls/@me/events?phoneCallId=b817"


def test_a_stream_is_for_a_with_block(make: Make) -> None:
    with answering() as (url, asked), pytest.raises(RuntimeError, match="with"):
        next(make(url, "token").events())
    assert asked == []


def test_the_first_event_of_a_stream_counts(make: Make) -> None:
    data = {"id": "1", "state": "ended", "version": 9, "at": 1.5, "phoneCall": CALL}
    sent = f"id: 5-0\nevent: call\ndata: {json.dumps(data)}\n\n".encode()
    with (
        answering((200, {}, sent)) as (url, asked),
        make(url, "token").events(last_event_id="4-0") as events,
    ):
        event = next(events)
    assert (event.id, event.call_id, event.state, event.version) == ("5-0", "1", "ended", 9)
    assert asked[0][2]["Last-Event-ID"] == "4-0"


def test_a_client_closes_its_connections() -> None:
    with answering(page("1"), page("1")) as (url, _):
        with Client(url, "token") as client:
            assert client.get("1").id == "1"

        async def ask() -> str:
            async with AsyncClient(url, "token") as client:
                return (await client.get("1")).id

        assert asyncio.run(ask()) == "1"
