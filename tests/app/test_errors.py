"""The errors: what each names, their sentences, and the page that is made of the table."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from app.errors import CODES, OAUTH_CODES
from app.names import nearest
from app.openapi import error_page
from app.phone_calls.actions import ActionSchema
from app.phone_calls.schemas import CreateQuery, CreateSchema, InviteSchema
from app.web import shown
from app.web.fields import WholeNumber
from tests.app.conftest import ADMINISTRATOR, USER, VOIPNOW, Ask
from tests.app.test_phone_calls import BODY, LIST, SIMPLE, VIEW, is_error

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
UNKNOWN_CALL = f"{LIST}/{'0' * 20}"
INVITE = "/uapi/phoneCalls/@me/conferenceInvite"
EVENTS = "/uapi/extensions/@me/210/phoneCallEvents"


def error_of(answer: Any) -> dict[str, Any]:
    """The error of an answer. Its message is one of the code's."""
    error: dict[str, Any] = answer.json["error"]
    assert error["message"] in CODES[error["code"]].sentences
    assert error["doc"] == f"http://localhost/errors#{error['code']}"
    assert list(error)[:2] == ["code", "message"] and None not in error.values()
    return error


def view(**more: Any) -> dict[str, Any]:
    return {"extension": "210", "phoneCallView": [{**VIEW, **more}]}


def without(name: str) -> dict[str, Any]:
    return {"extension": "210", "phoneCallView": [{n: v for n, v in VIEW.items() if n != name}]}


# The body or the query of a create, the place of the bad value, the value, and words of the cause.
CAUSES = [
    ({"extension": "210"}, {}, "/phoneCallView", None, "phoneCallView is missing"),
    ({"phoneCallView": []}, {}, "/phoneCallView", None, "a list of views"),
    ({"phoneCallView": "x"}, {}, "/phoneCallView", "x", "a list of views"),
    ({"phoneCallView": [7]}, {}, "/phoneCallView/0", 7, "a list of views"),
    ({"phoneCallView": [VIEW] * 21}, {}, "/phoneCallView", None, "too many views"),
    (without("source"), {}, "/phoneCallView/0/source", None, "source is missing"),
    (without("destination"), {}, "/phoneCallView/0/destination", None, "destination is missing"),
    (view(source=["1"] * 33), {}, "/phoneCallView/0/source", None, "too many numbers"),
    (view(source=["211", "53O2040"]), {}, "/phoneCallView/0/source/1", "53O2040", "is no number"),
    (view(source=-5), {}, "/phoneCallView/0/source", -5, "takes a list"),
    (view(source="53O2040"), {}, "/phoneCallView/0/source", "53O2040", "is no number"),
    (view(source=["0003*999"]), {}, "/phoneCallView/0/source/0", "0003*999", "does not exist"),
    (view(source="0004*210"), {}, "/phoneCallView/0/source", "0004*210", "does not exist"),
    (view(destination="212"), {}, "/phoneCallView/0/destination", "212", "without a phone"),
    ({**BODY, "extension": "999"}, {}, "/extension", "999", "no extension with this number"),
    ({**BODY, "extension": "212"}, {}, "/extension", "212", "another type"),
    (view(callerId="a%41<1>"), {}, "/phoneCallView/0/callerId", "a%41<1>", "John Doe"),
    (view(callerDestination=7), {}, "/phoneCallView/0/callerDestination", 7, "John Doe"),
    ({**BODY, "nonce": ""}, {}, "/nonce", "", "1 to 255 printable"),
    ({**BODY, "nonce": "x" * 256}, {}, "/nonce", "x" * 100, "1 to 255 printable"),
    ({**BODY, "metadata": {"a/b~": 1}}, {}, "/metadata/a~1b~0", 1, "an object of strings"),
    (BODY, {"waitForPickup": "soon"}, "waitForPickup", "soon", "1 to 600"),
    (BODY, {"waitForPickUp": "0"}, "waitForPickUp", "0", "1 to 600"),
    (BODY, {"callDuration": "86401"}, "callDuration", "86401", "1 to 86400"),
    (BODY, {"video": "perhaps"}, "video", "perhaps", "true or false"),
    (BODY, {"fields": "id,colour"}, "fields", "id,colour", "names of the answer's fields"),
]


@pytest.mark.parametrize(("body", "query", "field", "value", "says"), CAUSES)
def test_each_cause_has_its_sentence_and_its_place(
    ask: Ask, body: Any, query: Any, field: str, value: Any, says: str
) -> None:
    answer = ask("POST", SIMPLE, body, **query)
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["field"], error.get("value")) == (field, value)
    assert says in error["message"] and error["reason" if "reason" in error else "message"]


@pytest.mark.parametrize(
    ("text", "media", "message", "reason"),
    [
        ('{"extension": "210",\n "nonce" 5}', "application/json", "no valid JSON.", "Line 2, col"),
        ("{'a': 1}", "application/problem+json", "no valid JSON.", "Line 1, column 2"),
        ('{"a": -Infinity}', "application/json", "no valid JSON.", "JSON has no -Infinity."),
        (b'{"a": 1,\n\n"\xff": 1}', "application/json", "no valid JSON.", "Line 3, column 2"),
        ("[" * 60_000, "application/json", "no valid JSON.", "nested too deep"),
        ("a=1&b=2", "application/x-www-form-urlencoded", "announces something", "x-www-form"),
        ("<a/>", "text/xml", "announces something", "Line 1, column 1"),
        ("", "application/json", "The body is empty.", ""),
        (" \n", "text/plain", "The body is empty.", ""),
        ("[1]", "application/json", "takes a JSON object", "a list"),
        ("null", "application/json", "takes a JSON object", "null"),
        ("true", "text/plain", "takes a JSON object", "true or false"),
    ],
)
def test_a_body_that_is_no_json_object(
    client: FlaskClient, text: Any, media: str, message: str, reason: str
) -> None:
    headers = {"Authorization": f"Bearer {USER}", "Content-Type": media}
    answer = client.post(SIMPLE, data=text, headers=headers)
    is_error(answer, 400, "request_invalid")
    error = error_of(answer)
    assert message in error["message"] and reason in error.get("reason", "")


@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_json_body_is_taken_under_any_content_type(client: FlaskClient, media: str) -> None:
    headers = {"Authorization": f"Bearer {USER}", "Content-Type": media}
    assert client.post(SIMPLE, data=json.dumps(BODY), headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "field", "reason"),
    [
        ("POST", SIMPLE, {**BODY, "nonse": "x"}, {}, "/nonse", "nonse: did you mean nonce?"),
        ("POST", SIMPLE, view(calerId="<1>"), {}, "/phoneCallView/0/calerId", "mean callerId?"),
        ("POST", SIMPLE, {"phoneCallViews": []}, {}, "/phoneCallViews", "mean phoneCallView?"),
        (
            "POST",
            SIMPLE,
            view(accept={"promt": "x"}),
            {},
            "/phoneCallView/0/accept/promt",
            "prompt?",
        ),
        ("POST", SIMPLE, BODY, {"waitforpickup": 5}, "waitforpickup", "mean waitForPickup?"),
        ("POST", SIMPLE, BODY, {"zzz": 5}, "zzz", "nothing reads this name here"),
        ("POST", INVITE, BODY, {"pinn": 5}, "pinn", "mean pin?"),
        ("PUT", UNKNOWN_CALL, {"action": "Park", "sendCalTo": 1}, {}, "/sendCalTo", "sendCallTo?"),
        ("PUT", UNKNOWN_CALL, {"action": "Park"}, {"field": 1}, "field", "mean fields?"),
        ("GET", LIST, None, {"sortOder": "asc"}, "sortOder", "mean sortOrder?"),
        ("DELETE", LIST, None, {"phonenumber": "1"}, "phonenumber", "mean phoneNumber?"),
        ("GET", "/uapi/cdr/@me", None, {"start": "x"}, "start", "start: "),
        ("GET", "/uapi/cdr", None, {"startdate": "x"}, "startdate", "mean startDate?"),
        ("GET", "/uapi/extensions/@me/@self/presence", None, {"cuont": 1}, "cuont", "mean count?"),
        ("GET", "/uapi/phoneCalls/@me/events", None, {"extention": 1}, "extention", "extension?"),
        ("POST", EVENTS, {"typ": 1}, {}, "/typ", "mean type?"),
        ("POST", EVENTS, {"type": 1}, {"type": 1}, "type", "nothing reads"),
        ("PUT", f"{EVENTS}/1/1", {"statsu": 1}, {}, "/statsu", "mean status?"),
        ("GET", EVENTS, None, {"filterby": 1}, "filterby", "mean filterBy?"),
        ("DELETE", EVENTS, None, {"type": 1}, "type", "nothing reads"),
        ("POST", f"{EVENTS}/1/1/test", None, {"tpye": 1}, "tpye", "nothing reads"),
        ("GET", LIST, None, {"states": "queued"}, "states", "mean state?"),
        ("GET", LIST, None, {"enddate": "x"}, "enddate", "mean endDate?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(
    ask: Ask, method: str, path: str, body: Any, query: Any, field: str, reason: str
) -> None:
    answer = ask(method, path, body, **query)
    is_error(answer, 400, "request_invalid")
    error = error_of(answer)
    assert error["message"] == "The request has a name that is unknown here."
    assert error["field"] == field and reason in error["reason"] and "value" not in error


@pytest.mark.parametrize(
    ("query", "code", "cause", "field"),
    [
        ({"state": "busy"}, "pc_state_invalid", None, "state"),
        ({"startDate": "today"}, "pc_date_invalid", None, "startDate"),
        ({"endDate": "today"}, "pc_date_invalid", None, "endDate"),
        (
            {"startDate": "2026-11-24", "endDate": "2026-11-23"},
            *("pc_date_invalid", "order", "startDate"),
        ),
        ({"cursor": "20"}, "cursor_invalid", None, "cursor"),
        ({"phoneNumber": "Bob"}, "pc_destination_invalid", "characters", "phoneNumber"),
        ({"nonce": "a\nb"}, "pc_nonce_invalid", None, "nonce"),
    ],
)
def test_a_filter_of_a_list_of_calls(
    ask: Ask, query: dict[str, str], code: str, cause: str | None, field: str
) -> None:
    for token in (USER, VOIPNOW):
        error = error_of(ask("GET", LIST, token=token, **query))
        known = CODES[code]
        assert error["code"] == code and error["value"] == query[field]
        assert error["message"] == (known.others[cause] if cause else known.message)
        assert error["field"] == field and error["reason"]


@pytest.mark.parametrize(
    ("path", "token", "code", "cause", "field"),
    [
        ("@owner/@self", ADMINISTRATOR, "user_invalid", None, "userId"),
        ("@owner/@organization", ADMINISTRATOR, "user_invalid", None, "userId"),
        ("@me/@organization", USER, "rights_insufficient", "organization", "extension"),
        ("@me/@self", VOIPNOW, "extension_invalid", "events", "extension"),
        ("@me/212", USER, "extension_invalid", "events", "extension"),
    ],
)
def test_whose_calls_an_event_is_about(
    ask: Ask, path: str, token: str, code: str, cause: str | None, field: str
) -> None:
    error = error_of(ask("GET", f"/uapi/extensions/{path}/phoneCallEvents", token=token))
    known = CODES[code]
    assert error["code"] == code and error["field"] == field
    assert error["message"] == (known.others[cause] if cause else known.message)


def test_what_may_be_sent_all_the_same(ask: Ask, client: FlaskClient) -> None:
    # Programs written for VoipNow send what they like.
    more = {**view(unknown=1), "more": 1}
    assert ask("POST", SIMPLE, more, token=VOIPNOW, sortOder="x").status_code == 200
    for path in (LIST, EVENTS, "/uapi/cdr/@me"):
        assert ask("GET", path, token=VOIPNOW, sortOder="x").status_code == 200
    event = {"url": "http://8.8.8.8/", "tpye": 1}
    assert ask("POST", f"{EVENTS}/1", event, token=VOIPNOW, tpye="x").status_code == 200
    test = ask("POST", f"{EVENTS}/1/1/test", token=VOIPNOW, tpye="x")
    is_error(test, 400, "pce_id_invalid")
    # The example of the create pages names the conference as source.
    invited = {"extension": "003", "phoneCallView": [{"source": ["003"], "destination": "5302040"}]}
    assert ask("POST", INVITE, invited).status_code == 202
    # What the authentication reads.
    assert ask("GET", LIST, accessRequestToken="x").status_code == 200
    assert ask("POST", SIMPLE, BODY, accessRequestToken="x").status_code == 202
    # RFC 6749, section 3.2: the token endpoint ignores unknown parameters.
    form = {"grant_type": "client_credentials", "client_id": "demo-user", "more": "x"}
    answer = client.post("/oauth/token", data={**form, "client_secret": "demo-user-secret"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/nothing", "GET", 404, "request_not_found"),
        ("/uapi/nothing", "POST", 404, "request_not_found"),
        ("/oauth/token", "GET", 405, "method_not_allowed"),
        (LIST, "TRACE", 405, "method_not_allowed"),
        (SIMPLE, "PUT", 400, "pc_phonecall_invalid"),
        ("/uapi/faxes/@me", "GET", 501, "request_not_implemented"),
        (LIST, "GET", 401, "access_denied"),
        ("/console/api/access", "GET", 401, "access_denied"),
        ("/console/api/session", "POST", 403, "request_forbidden"),
    ],
)
def test_what_no_view_refuses(ask: Ask, path: str, method: str, status: int, code: str) -> None:
    answer = ask(method, path, token=None if status in (401, 403) else USER)
    is_error(answer, status, code)
    error_of(answer)


def test_a_body_that_is_too_large(ask: Ask) -> None:
    answer = ask("POST", SIMPLE, json.dumps({"nonce": "x" * 70_000}))
    is_error(answer, 413, "request_too_large")
    assert error_of(answer)["message"] == "The request is too large."


@pytest.mark.parametrize(
    ("method", "path", "body", "query"),
    [
        ("POST", INVITE, BODY, {"number": "x", "pin": "73x1"}),
        (
            "POST",
            INVITE,
            {"extension": "003", "phoneCallView": [{"destination": "1"}]},
            {"pin": "73x1"},
        ),
        ("POST", INVITE, BODY, {"pinn": "73x1"}),
        ("POST", SIMPLE, {**BODY, "token": "73x1"}, {}),
        ("POST", SIMPLE, view(headers={"source": {"X-Token": "73x1\r\n"}}), {}),
        ("POST", SIMPLE, {**BODY, "metadata": {"password": ["73x1"]}}, {}),
        ("POST", SIMPLE, {**BODY, "statusCallback": {"url": "https://u:73x1@h.example"}}, {}),
        ("POST", SIMPLE, {**BODY, "statusCallback": {"url": "ftp://h.example/?key=73x1"}}, {}),
        ("POST", EVENTS, {"type": 1, "url": "https://u:73x1@h.example/#a"}, {}),
        ("GET", LIST, None, {"accessRequestTokn": "73x1"}),
    ],
)
def test_no_error_shows_a_secret(ask: Ask, method: str, path: str, body: Any, query: Any) -> None:
    answer = ask(method, path, body, **query)
    assert answer.status_code == 400 and error_of(answer)["field"]
    assert "73x1" not in answer.get_data(as_text=True)


def test_a_user_or_an_extension_of_the_path(ask: Ask) -> None:
    error = error_of(ask("GET", "/uapi/phoneCalls/13/@self"))
    assert (error["code"], error["field"], error["value"]) == ("user_invalid", "userId", "13")
    error = error_of(ask("GET", LIST, token=ADMINISTRATOR))
    assert (error["code"], error["value"]) == ("user_invalid", "@me")
    error = error_of(ask("GET", "/uapi/phoneCalls/@me/999"))
    assert (error["code"], error["field"], error["value"]) == (
        "extension_invalid",
        "extension",
        "999",
    )


@limits(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.binary(max_size=40), media=st.sampled_from(["", "application/json", "text/plain"]))
def test_any_bytes_are_answered(client: FlaskClient, text: bytes, media: str) -> None:
    headers = {"Authorization": f"Bearer {USER}", "Content-Type": media}
    answer = client.post(SIMPLE, data=text, headers=headers)
    is_error(answer, 400, answer.json["error"]["code"])
    error_of(answer)


# Whole numbers


@pytest.mark.parametrize("value", [10.9, 10.0, True, "10.9", "1e1", "１０", " 10", [10], 1e300])
@pytest.mark.parametrize("name", ["waitForPickup", "maxInParking"])
def test_a_whole_number_is_whole(ask: Ask, name: str, value: Any) -> None:
    answer = ask("PUT", UNKNOWN_CALL, {"action": "Park", "phoneCallViewId": "00", name: value})
    assert answer.status_code == 400 and error_of(answer)["field"] == f"/{name}"


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none()))
def test_whole_numbers_are_taken_in_no_other_form(value: Any) -> None:
    try:
        loaded = WholeNumber().deserialize(value)
    except Exception as error:
        assert type(error).__name__ == "ValidationError"
        assert type(value) is not int
        assert not (isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value))
    else:
        assert str(loaded) == str(int(value)) and type(value) in (int, str)


# What clients send


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({*CreateSchema().fields, *InviteSchema().fields, *ActionSchema().fields, *VIEW})


@limits(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.dictionaries(st.sampled_from(FIELDS) | st.text(), ANYTHING, max_size=4),
    in_view=st.dictionaries(st.sampled_from(FIELDS) | st.text(), ANYTHING, max_size=3),
    path=st.sampled_from(
        [("POST", SIMPLE), ("POST", INVITE), ("PUT", UNKNOWN_CALL), ("POST", EVENTS)]
    ),
    query=st.dictionaries(st.sampled_from(sorted(CreateQuery().fields)), st.text(), max_size=2),
    token=st.sampled_from([USER, VOIPNOW]),
)
def test_any_body_is_answered_and_its_bad_value_is_found(
    ask: Ask, body: Any, in_view: Any, path: tuple[str, str], query: Any, token: str
) -> None:
    if in_view:
        body = {**body, "phoneCallView": [{**VIEW, **in_view}]}
    method, address = path
    encoded = {name: text.encode(errors="replace") for name, text in query.items()}
    answer = ask(method, address, json.dumps(body), token=token, **encoded)
    assert answer.status_code < 500
    if answer.status_code < 300:
        return
    error = error_of(answer)
    if (field := error.get("field", "")).startswith("/"):
        at: Any = body
        *above, _ = parts = [p.replace("~1", "/").replace("~0", "~") for p in field[1:].split("/")]
        # Half a surrogate pair is shown as a question mark.
        if "?" in field or len(field) >= 1000:
            return
        for part in above:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if "value" in error and not isinstance(error["value"], str):
            last = parts[-1]
            found = at[int(last)] if isinstance(at, list) else at.get(last, error["value"])
            assert found == error["value"]


def test_a_number_without_end_is_shown_as_text(ask: Ask) -> None:
    body = json.dumps({"extension": "210", "phoneCallView": [{**VIEW, "callerId": 5}]})
    error = error_of(ask("POST", SIMPLE, body.replace("5}", "-1e999}")))
    assert (error["field"], error["value"]) == ("/phoneCallView/0/callerId", "-inf")


SURROGATE = "\ud800"


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "field"),
    [
        *(
            ("POST", SIMPLE, {**BODY, name: f"a{SURROGATE}"}, {}, f"/{name}")
            for name in ("extension", "nonce")
        ),
        *(
            ("POST", SIMPLE, view(**{name: f"a{SURROGATE}"}), {}, f"/phoneCallView/0/{name}")
            for name in ("source", "destination", "callerId", "callerIdDestination", "ringback")
        ),
        ("POST", SIMPLE, view(accept={"prompt": SURROGATE}), {}, "/phoneCallView/0/accept/prompt"),
        ("POST", SIMPLE, view(headers={"source": {"X-A": SURROGATE}}), {}, None),
        ("POST", SIMPLE, {**BODY, "metadata": {"a": SURROGATE}}, {}, "/metadata/a"),
        ("POST", SIMPLE, {**BODY, "metadata": {SURROGATE: "a"}}, {}, "/metadata/?"),
        ("POST", SIMPLE, {**BODY, SURROGATE: "a"}, {}, "/?"),
        ("POST", SIMPLE, {**BODY, "statusCallback": {"url": SURROGATE}}, {}, "/statusCallback/url"),
        *(
            ("PUT", UNKNOWN_CALL, {"action": "Park", name: SURROGATE}, {}, f"/{name}")
            for name in sorted(ActionSchema().fields)
        ),
        ("POST", EVENTS, {"type": 1, "url": "http://a.example", "note": SURROGATE}, {}, "/note"),
        ("POST", EVENTS, {"type": 1, "url": f"http://a.example/{SURROGATE}"}, {}, "/url"),
        *(
            (
                *("GET", LIST, None),
                {"filterBy": by, "filterOp": "inArray", "filterValue": r'["\ud800"]'},
                "filterValue",
            )
            for by in ("id", "nonce")
        ),
    ],
)
def test_half_a_surrogate_pair_is_no_text(
    ask: Ask, method: str, path: str, body: Any, query: Any, field: str | None
) -> None:
    for token in (USER, VOIPNOW) if field != "/?" else (USER,):
        answer = ask(method, path, body, token=token, **query)
        assert answer.status_code == 400, answer.json
        error = error_of(answer)
        assert field is None or error["field"] == field
        answer.get_data().decode()


def test_half_a_surrogate_pair_logs_nobody_in(client: FlaskClient) -> None:
    headers = {"X-Ringback-Console": "1"}
    for body in ({"token": SURROGATE}, {"client_id": SURROGATE, "client_secret": SURROGATE}):
        answer = client.post("/console/api/session", data=json.dumps(body), headers=headers)
        assert answer.status_code == 401
    known = {"client_id": "demo-user", "client_secret": SURROGATE}
    answer = client.post("/console/api/session", data=json.dumps(known), headers=headers)
    assert answer.status_code == 401


# The pages


def test_the_page_has_every_sentence_that_is_sent() -> None:
    page = PAGE.read_text()
    assert error_page.with_tables(page) == page, (
        "python -m app.openapi.error_page docs/errors.md writes the tables anew."
    )
    for code, known in (CODES | OAUTH_CODES).items():
        assert f"`{code}`" in page and known.cause and known.remedy
        for sentence in known.sentences:
            assert sentence in page and sentence.endswith(".")


def test_the_address_of_an_error_leads_to_its_code(client: FlaskClient) -> None:
    doc = error_of(client.get(LIST))["doc"]
    address, _, code = doc.removeprefix("http://localhost").partition("#")
    answer = client.get(address)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert f'id="{code}"' in answer.text
    assert set(re.findall(r'<section id="(\w+)"', answer.text)) == {*CODES, *OAUTH_CODES}
    (style,) = re.findall(r'href="(/docs/[^"]+)"', answer.text)
    assert client.get(style).mimetype == "text/css"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_an_address_without_a_host_is_a_path(client: FlaskClient) -> None:
    answer = client.get("/nothing", headers={"Host": "a b/c"})
    assert answer.json["error"]["doc"].endswith("/errors#" + answer.json["error"]["code"])


# Names


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("nonse", ["extension", "nonce"], "nonce"),
        ("NONCE", ["extension", "nonce"], "nonce"),
        ("zzz", ["extension", "nonce"], None),
        ("x" * 100_000, ["extension", "nonce"], None),
        ("", ["extension"], None),
    ],
)
def test_the_nearest_name(name: str, known: list[str], found: str | None) -> None:
    assert nearest(name, known) == found


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.integers(0, 9), min_size=1))
def test_a_pointer_is_read_back(path: list[Any]) -> None:
    parts = shown.pointer(path).split("/")[1:]
    assert [p.replace("~1", "/").replace("~0", "~") for p in parts] == [str(p) for p in path]
