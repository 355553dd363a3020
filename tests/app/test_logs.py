"""What a line says, and what it does not."""

import io
import json
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from redis import Redis
from structlog.contextvars import clear_contextvars

from app import create_app
from app.calls import transitions
from app.calls.model import Role, job_uuid, leg_uuid
from app.settings import Settings
from app.store.accepting import Acceptor
from app.store.calls import CallStore, Change
from app.store.writes import Note
from app.telemetry import logs
from tests.app.test_store import new_call

DAYS = date(1970, 1, 1), date(2099, 12, 31)
TIMES = datetime(1970, 1, 1), datetime(2099, 12, 31)
CALL, OTHER = "c3a5fbf2be57af92c581", "00000000000000000001"

Lines = Callable[[], list[dict[str, Any]]]
log = logging.getLogger("tests.lines")


@pytest.fixture
def attach(settings: Settings) -> Iterator[Callable[..., io.StringIO]]:
    """Have all lines written into a text too, as the settings say."""
    # Requests of other tests were of this context.
    clear_contextvars()
    root, handlers, level = logging.getLogger(), [], logging.getLogger().level

    def _attach(**changes: str) -> io.StringIO:
        text = io.StringIO()
        handler = logging.StreamHandler(text)
        handler.setFormatter(logs.formatter(replace(settings, **changes), "worker"))  # type: ignore[arg-type]
        root.addHandler(handler)
        root.setLevel("DEBUG")
        handlers.append(handler)
        return text

    yield _attach
    for handler in handlers:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def lines(attach: Callable[..., io.StringIO]) -> Lines:
    """The lines of JSON so far."""
    text = attach(log_format="json")
    return lambda: [json.loads(line) for line in text.getvalue().splitlines()]


# Numbers


# 16 digits that begin with 15 to 19 are microseconds since 1970.
digits = st.text("0123456789", min_size=7, max_size=16).filter(
    lambda text: len(text) < 16 or text[0] != "1" or text[1] < "5"
)
call_ids = st.text("0123456789abcdef", min_size=20, max_size=20)


@given(
    digits,
    st.sampled_from(
        ["", " ", "+", "'", '"', "/", "<", "*", "=", "sofia/gateway/pstn/", "%2B", ":", r"\n"]
    ),
    st.sampled_from(["", " ", "'", '"', "/", ">", ",", ".", ". ", "@10.0.0.1:5080", "|", "*", ":"]),
)
def test_a_number_is_hidden_but_for_two_digits(number: str, before: str, behind: str) -> None:
    hidden = logs.hide_numbers(f"to {before}{number}{behind}")
    assert hidden == f"to {before}{'x' * (len(number) - 2)}{number[-2:]}{behind}"


@given(
    st.one_of(
        call_ids,
        call_ids.map(job_uuid),
        call_ids.map(lambda text: leg_uuid(text, Role.SOURCE, 1, 2)),
        # Ids of jobs and of entries of a stream, times, addresses.
        st.tuples(call_ids, call_ids).map(lambda pair: f"{pair[0]}_{pair[1][:12]}"),
        st.integers(10**12, 10**13 - 1).map(lambda ms: f"{ms}-0"),
        st.floats(10**6, 10**10).map(lambda at: f"{at:.6f}"),
        st.datetimes().map(lambda at: f"{at.isoformat(timespec='microseconds')}Z"),
        st.ip_addresses(v=4).map(str),
        st.integers(0, 999_999).map(str),
        st.integers(15 * 10**14, 2 * 10**15 - 1).map(str),
        st.integers(10**16, 10**17).map(str),
        st.dates(*DAYS).map(str),
        st.dates(*DAYS).map(lambda day: f"{day:%d.%m.%Y}"),
        st.datetimes(*TIMES).map(lambda at: f"{at:%Y-%m-%d %H:%M:%S,%f}"),
        st.tuples(st.ip_addresses(v=4), st.integers(1, 65535)).map("{0[0]}:{0[1]}".format),
        st.uuids().map(str),
        st.tuples(*[st.integers(0, 65535)] * 2).map("{0[0]} {0[1]}".format),
    )
)
@example("12345678901234567890")
@example("12345678-9012-3456-7890-000000000101")
@example("192.168.100.200:5060 8021")
def test_what_is_no_number_stays(text: str) -> None:
    assert logs.hide_numbers(text) == text
    assert logs.hide_numbers(f"of {text}: {text}, '{text}'") == f"of {text}: {text}, '{text}'"


# Blanks, hyphens, dots, slashes and brackets, in clear and percent-encoded.
marks = st.sampled_from(["-", " ", ".", "/", " - ", "\u00a0", "\u2011", "%20", "%2D", ") ", " ("])


@given(
    st.sampled_from(["+", "%2B", "00", "(0"]),
    st.lists(st.text("0123456789", min_size=3, max_size=5), min_size=3, max_size=4),
    st.data(),
)
@example("+", ["49", "1555", "0109"], None)
def test_marks_between_the_digits_hide_nothing(
    begin: str, groups: list[str], data: st.DataObject | None
) -> None:
    between = [data.draw(marks) if data else "-" for _ in groups[1:]]
    written = begin + groups[0] + "".join(map("".join, zip(between, groups[1:], strict=True)))
    if sum(map(len, groups)) > 16:
        groups = groups[:3]
        written = begin + "-".join(groups)
    hidden = logs.hide_numbers(f"to '{written}' at 12:30:15")
    assert hidden.endswith("' at 12:30:15")
    left = re.sub("%[0-9A-F]{2}", "", hidden.removesuffix(" at 12:30:15"))
    assert re.sub("[^0-9]", "", left) == "".join(groups)[-2:]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("030/123 456", "xxx/xxx x56"),
        ("555-123-4567", "xxx-xxx-xx67"),
        ("555.123.4567", "xxx.xxx.xx67"),
        ("1 555 123 4567", "x xxx xxx xx67"),
        ("06 12 34 56 78", "xx xx xx xx 78"),
        ("1555-0109", "xxxx-xx09"),
        ("15551234567 15557654321", "xxxxxxxxx67 xxxxxxxxx21"),
        ("555-123-4567 555-123-4568", "xxx-xxx-xx67 xxx-xxx-xx68"),
        ("+49 1555 0109 2026-11-30T12:00:00Z", "+xx xxxx xx09 2026-11-30T12:00:00Z"),
        ("?phoneNumber=%2B49%201555%200109", "?phoneNumber=%2Bxx%20xxxx%20xx09"),
    ],
)
def test_a_number_as_people_write_it_is_hidden(text: str, hidden: str) -> None:
    assert logs.hide_numbers(text) == hidden


def test_the_user_of_a_sip_address_is_hidden() -> None:
    text = "<sip:alice@10.0.0.1:5060> sips:15551234567@pbx.example"
    assert logs.hide_numbers(text) == "<sip:xxx@10.0.0.1:5060> sips:xxx@pbx.example"


def test_a_count_is_none(lines: Lines) -> None:
    log.info("%s of %d in %.3f: %s, %r", 7654321, 1234567, 9.5, "7654321", "+15551234567")
    log.info("%(a)s %(b)s", {"a": "7654321", "b": 7654321})
    assert [line["event"] for line in lines()] == [
        "7654321 of 1234567 in 9.500: xxxxx21, '+xxxxxxxxx67'",
        "xxxxx21 7654321",
    ]


def test_numbers_are_shown_where_they_are_asked_for(attach: Callable[..., io.StringIO]) -> None:
    text = attach(log_format="json", log_numbers="full")
    log.info("to %s by sip:15551234567@host, redis://:pw@host", "15551234567")
    assert json.loads(text.getvalue())["event"] == (
        "to 15551234567 by sip:15551234567@host, redis://:xxx@host"
    )


# Secrets


words = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789._~+-", min_size=6, max_size=20)


@given(
    words.map(lambda word: f"s3cr{word}"),
    st.sampled_from(
        [
            "redis://:{}@127.0.0.1:6379/0",
            "redis+sentinel://user:{}@a:1,b:2/service",
            "rediss+sentinel://u:a/{}@a:1,b:2/service?sentinel_password={}&ssl_ca_certs=/ca.pem",
            "main=esl://:{}@h:8021,b=esl://u:{}@h2:8021",
            "main=esls://:a/{}@h:8021?ca=/ca.pem",
            "esl://:p/{}@h:8021",
            "https://user:{}@example.com/hook?x=1",
            "GET /uapi/phoneCalls?accessRequestToken={}&count=2",
            "accessRequestToken=Bearer%20{}",
            "accessRequestToken=Bearer {}",
            "Authorization: Bearer {}",
            "authorization: Basic {}",
            "{{'Authorization': 'Bearer {}'}}",
            "grant_type=client_credentials&client_secret={}",
            '{{"access_token": "{}", "token_type": "Bearer"}}',
            "{{'password': '{}'}}",
            "bearer {}",
        ]
    ),
)
def test_a_secret_is_never_written(secret: str, form: str) -> None:
    text = logs.hide_secrets(f"failed: {form.format(secret, secret)} (again)")
    assert secret not in text
    assert "xxx" in text
    assert text.startswith("failed: ") and text.endswith(" (again)")


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8080/uapi/phoneCalls/@me/simple",
        "Error 111 connecting to redis://127.0.0.1:6379",
        "switch main is up, core 12345678-9012-3456-7890-123456789012",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert logs.hide_secrets(text) == text


def test_an_exception_hides_both(lines: Lines) -> None:
    try:
        raise ValueError("15551234567 at redis://:pw@host")
    except ValueError as error:
        log.exception("failed: %s", error)
    (line,) = lines()
    assert line["event"] == "failed: xxxxxxxxx67 at redis://:xxx@host"
    assert line["exception"].startswith("Traceback (most recent call last):")
    assert line["exception"].endswith("ValueError: xxxxxxxxx67 at redis://:xxx@host")


def test_what_nobody_catches_has_a_line(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gevent.get_hub(), "print_exception", logs.uncaught)
    gevent.spawn(int, "15551234567 at home").join()
    (line,) = lines()
    assert line["level"] == "error"
    assert "15551234567" not in json.dumps(line)
    assert line["exception"].endswith("'xxxxxxxxx67 at home'")


# Lines


def test_a_line_of_json(lines: Lines) -> None:
    log.warning("leg %s is gone", "a1", extra={"call": CALL, "leg": "a1", "switch": "main"})
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert isinstance(line.pop("pid"), int)
    assert line == {
        "level": "warning",
        "logger": "tests.lines",
        "process": "worker",
        "event": "leg a1 is gone",
        "call": CALL,
        "leg": "a1",
        "switch": "main",
    }


@profile(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text())
@example("\ud800", "x")
@example("%s %s %d", "one of three")
@example("\r%s", "\x1b[2J")
def test_any_text_is_one_line(settings: Settings, message: str, word: str) -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, message, (word,), None)
    for form in ("json", "console"):
        text = logs.formatter(replace(settings, log_format=form), "worker").format(record)
        if form == "json":
            assert "\n" not in text
            assert json.loads(text)["level"] == "info"
        else:
            assert all(line.startswith("    ") for line in text.splitlines()[1:])
            assert "\x1b" not in text


def test_a_line_for_people(attach: Callable[..., io.StringIO]) -> None:
    text = attach(log_format="console")
    log.warning("one\nnot another", extra={"call": CALL})
    assert re.fullmatch(
        rf"\S+Z worker\[\d+\] WARNING tests\.lines: one\n    not another call={CALL}\n",
        text.getvalue(),
    )


def test_rqs_line_of_a_job_that_failed_tells_its_call(lines: Lines) -> None:
    extra = {"job_id": "j", "arguments": [CALL], "func": "hang_up", "kwargs": {}, "queue": "q"}
    log.error("Worker w: job j: exception raised", extra=extra)
    (line,) = lines()
    assert (line["job"], line["call"]) == ("j", CALL)
    assert "arguments" not in line


# Whose line it is


def test_greenlets_know_nothing_of_each_others_call(lines: Lines) -> None:
    ids = [secrets.token_hex(10) for _ in range(20)]

    def handle(call_id: str) -> None:
        log.info("%s begins with nothing", call_id)
        logs.bind(call=call_id)
        gevent.sleep(0)
        log.info("%s goes on", call_id)

    with logs.about(call=CALL, switch="main"):
        gevent.joinall([gevent.spawn(handle, call_id) for call_id in ids], raise_error=True)
        log.info("mine")
    log.info("nobody's")
    *theirs, mine, nobodys = lines()
    assert len(theirs) == 40
    for line in theirs:
        call_id, _, what = line["event"].partition(" ")
        assert line.get("call") == (call_id if what == "goes on" else None)
        assert "switch" not in line
    assert (mine["call"], mine["switch"]) == (CALL, "main")
    assert "call" not in nobodys and "switch" not in nobodys


def test_each_call_of_a_batch_has_its_own_line(
    redis: Redis, store: CallStore, lines: Lines
) -> None:
    calls = [new_call() for _ in range(3)]
    for call in calls:
        Acceptor(store).accept([call], lambda *_: None)
    ends = [
        partial(transitions.end, fault=transitions.EVENTS_LOST, at=call.accepted + 5)
        for call in calls
    ]
    calls = [call for call in store.get_many([call.id for call in calls]) if call is not None]
    changes = [
        Change(call, end, (Note("event", "x"),)) for call, end in zip(calls, ends, strict=True)
    ]
    with logs.about(call=OTHER):
        store.change_many(changes)
    told = [line for line in lines() if line["event"] == "call ended"]
    assert [line["call"] for line in told] == [call.id for call in calls]
    for line in told:
        assert (line["level"], line["ended_by"]) == ("warning", "events_lost")
        assert (line["disposition"], line["cause"]) == ("unknown", "NORMAL_UNSPECIFIED")
    # Nothing that comes later ends it again.
    store.change_many(changes)
    assert len([line for line in lines() if line["event"] == "call ended"]) == 3


def test_a_request_says_which_call_and_the_next_does_not(
    settings: Settings, redis: Redis, lines: Lines
) -> None:
    app = create_app(settings)

    @app.get("/test/")
    @app.get("/test/<call_id>")
    def _say(call_id: str = "") -> str:
        log.info("asked")
        return ""

    client = app.test_client()
    for path in (CALL, "", "no%20call%0Aid"):
        client.get(f"/test/{path}", headers={"X-Request-Id": f"of-{len(path)}"})
    asked = [line for line in lines() if line["event"] == "asked"]
    assert [line.get("call") for line in asked] == [CALL, None, None]
    assert [line["request_id"] for line in asked] == ["of-20", "of-0", "of-14"]
