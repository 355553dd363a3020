"""The description holds what the UAPI names, and the API answers as described."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from redis import Redis
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app import create_app
from app.calls import call_events, status_callback
from app.calls.model import evolve
from app.calls.transitions import LegReport, report_leg
from app.errors import CODES as ERROR_CODES
from app.not_implemented import not_implemented
from app.openapi.description import describe
from app.settings import Settings
from tests.app.test_call_events import DESK, call
from tests.app.test_phone_calls import BODY, SIMPLE
from tests.fuzz.searching import search
from workers.webhooks.status import body as status_body
from workers.webhooks.status import call_of

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"

# Every method and path, by the section of docs/internals/uapi.md.
ROUTES = {
    "methods": [
        "POST /uapi/phoneCalls/{userId}/simple",
        "POST /uapi/phoneCalls/{userId}/callback",
        "POST /uapi/phoneCalls/{userId}/conferenceInvite",
        "GET /uapi/phoneCalls/{userId}/{extension}",
        "GET /uapi/phoneCalls/{userId}/{extension}/{phoneCallId}",
        "PUT /uapi/phoneCalls/{userId}/{extension}/{phoneCallId}",
        "DELETE /uapi/phoneCalls/{userId}/{extension}",
        "DELETE /uapi/phoneCalls/{userId}/{extension}/{phoneCallId}",
    ],
    "other-methods": [
        "POST /uapi/extensions/{userId}/{extension}/phoneCallEvents",
        "POST /uapi/extensions/{userId}/{extension}/phoneCallEvents/{eventType}",
        "GET /uapi/extensions/{userId}/{extension}/phoneCallEvents",
        "GET /uapi/extensions/{userId}/{extension}/phoneCallEvents/{eventType}",
        "GET /uapi/extensions/{userId}/{extension}/phoneCallEvents/{eventType}/{eventId}",
        "PUT /uapi/extensions/{userId}/{extension}/phoneCallEvents/{eventType}/{eventId}",
        "DELETE /uapi/extensions/{userId}/{extension}/phoneCallEvents",
        "DELETE /uapi/extensions/{userId}/{extension}/phoneCallEvents/{eventType}",
        "DELETE /uapi/extensions/{userId}/{extension}/phoneCallEvents/{eventType}/{eventId}",
        "GET /uapi/cdr/{userId}",
        "GET /uapi/extensions/{userId}/{extension}/presence",
    ],
    "tokens": ["POST /oauth/token.php"],
}

CREATE = "POST /uapi/phoneCalls/{userId}/"
LIST = "GET /uapi/phoneCalls/{userId}/{extension}"
PUT = "PUT /uapi/phoneCalls/{userId}/{extension}/{phoneCallId}"
EVENTS = "/uapi/extensions/{userId}/{extension}/phoneCallEvents"

# Parameters of the query: section, operation, names.
PARAMETERS = [
    ("create", f"{CREATE}simple", "waitForPickup callDuration allowPublicTransfer video fields"),
    ("contradictions", f"{CREATE}simple", "waitForPickUp"),
    ("create", f"{CREATE}callback", "waitForPickup callDuration fields"),
    ("create", f"{CREATE}conferenceInvite", "waitForPickup number pin fields"),
    ("lists", LIST, "count startIndex filterBy filterOp filterValue sortOrder fields"),
    ("lists", f"GET {EVENTS}", "count startIndex filterBy filterOp filterValue sortOrder fields"),
    ("methods", "DELETE /uapi/phoneCalls/{userId}/{extension}/{phoneCallId}", "phoneNumber"),
    (
        "other-methods",
        "GET /uapi/cdr/{userId}",
        "source destination startDate endDate saveStartDate saveEndDate disposition flow count "
        "startIndex filterBy filterOp filterValue sortOrder fields",
    ),
]

# Fields of bodies, those of nested objects too: section, operation, names.
BODIES = [
    (
        "create",
        f"{CREATE}simple",
        "extension nonce phoneCallView source destination callerId callerIdDestination",
    ),
    ("contradictions", f"{CREATE}simple", "callerDestination"),
    ("create", f"{CREATE}callback", "extension nonce phoneCallView source destination callerId"),
    # The source that its example has is the conference itself, and not read.
    ("create", f"{CREATE}conferenceInvite", "extension phoneCallView destination callerId"),
    (
        "1.4, 2.3",
        PUT,
        "action phoneCallViewId sendCallTo callerId waitForPickup waitForPickUp maxInParking "
        "private format transferFromNumber transferNumber",
    ),
    ("phonecallevent", f"POST {EVENTS}", "type url method status note"),
    ("phonecallevent", f"PUT {EVENTS}/{{eventType}}/{{eventId}}", "type url method status note"),
    (
        "tokens",
        "POST /oauth/token.php",
        "grant_type client_id client_secret redirect_uri type state",
    ),
]

# Fields of answers: section, operation, names.
ANSWERS = [
    ("create", f"{CREATE}simple", "id extension link links self"),
    (
        "2.1, 2.2, 4",
        LIST,
        "totalResults itemsPerPage entry paging next prev id extension ownerId ownerName published "
        "answered nonce phoneCallView links source destination flow status ringing callerId "
        "recording parked parkedPos parkedBy onHold holder disposition",
    ),
    ("phonecallevent", f"GET {EVENTS}", "type id url method status note modified links self"),
    ("1.6, 4", "GET /uapi/cdr/{userId}", "totalResults itemsPerPage entry paging duration"),
    ("tokens", "POST /oauth/token.php", "access_token token_type expires_in refresh_token"),
]

ACTIONS = (  # 1.4
    "OnHold OffHold Park UnPark PickUp BargeIn Whisper Monitor StartRecording StopRecording "
    "Transfer TransferToVoicemail"
)

COMMON = "access_denied internal_server_error"
# Error codes: section, operation, codes.
CODES = [
    *(
        ("errors", route, COMMON)
        for section in ("methods", "other-methods")
        for route in ROUTES[section]
    ),
    (
        "errors",
        f"{CREATE}simple",
        "user_invalid extension_invalid pc_duration_invalid pc_source_invalid "
        "pc_destination_invalid pc_timeout_invalid pc_callerid_invalid pc_transfer_invalid "
        "pc_nonce_invalid",
    ),
    (
        "errors",
        f"{CREATE}callback",
        "user_invalid extension_invalid pc_duration_invalid pc_source_invalid "
        "pc_destination_invalid pc_timeout_invalid pc_callerid_invalid",
    ),
    ("errors", PUT, "user_invalid extension_invalid pc_phonecall_invalid"),
    (
        "errors",
        LIST,
        "user_invalid extension_invalid fields_invalid count_invalid filterby_invalid "
        "filterop_invalid filtervalue_invalid sortorder_invalid",
    ),
    (
        "errors",
        f"POST {EVENTS}",
        "user_invalid extension_invalid pcet_type_invalid pce_method_invalid",
    ),
    ("errors", f"PUT {EVENTS}/{{eventType}}/{{eventId}}", "pce_type_invalid"),
    ("errors", f"DELETE {EVENTS}/{{eventType}}/{{eventId}}", "extension_invalid pce_id_invalid"),
    (
        "errors",
        "GET /uapi/cdr/{userId}",
        "cdr_start_date_invalid cdr_end_date_invalid cdr_source_invalid cdr_destination_invalid "
        "cdr_flow_invalid cdr_disposition_invalid cdr_save_start_date_invalid "
        "cdr_save_end_date_invalid cdr_invalid_date_parameters cdr_invalid_filter_by_answered "
        "cdr_invalid_filter_by_published cdr_invalid_filter_by_source "
        "cdr_invalid_filter_by_destination",
    ),
]


TOKEN = {"Authorization": "Bearer demo-user-token"}


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(json.dumps(describe()))


@pytest.fixture
def app(settings: Settings, redis: Redis) -> Flask:
    return create_app(settings)


def operation(document: Any, route: str) -> Any:
    method, path = route.split(" ")
    return document["paths"][path][method.lower()]


def resolved(document: Any, node: Any) -> Any:
    """The node with what it refers to in its place."""
    if isinstance(node, list):
        return [resolved(document, each) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = document
        for word in node["$ref"].removeprefix("#/").split("/"):
            target = target[word]
        return resolved(document, target)
    return {name: resolved(document, each) for name, each in node.items()}


def names(schema: Any) -> Iterator[str]:
    """The names of all properties of a schema, nested ones too."""
    if isinstance(schema, list):
        for each in schema:
            yield from names(each)
    elif isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        for each in schema.values():
            yield from names(each)


def codes(document: Any, route: str) -> set[str]:
    responses = resolved(document, operation(document, route)["responses"])
    return set(
        re.findall(r"^- `(\w+)`", "\n".join(r["description"] for r in responses.values()), re.M)
    )


@pytest.mark.parametrize("section", ROUTES)
def test_every_route_of_the_specification(document: Any, section: str) -> None:
    for route in ROUTES[section]:
        method, path = route.split(" ")
        assert method.lower() in document["paths"].get(path, {}), route


@pytest.mark.parametrize(("section", "route", "expected"), PARAMETERS)
def test_every_parameter(document: Any, section: str, route: str, expected: str) -> None:
    parameters = operation(document, route)["parameters"]
    assert set(expected.split()) <= {p["name"] for p in parameters if p["in"] == "query"}


@pytest.mark.parametrize(("section", "route", "expected"), BODIES)
def test_every_field_of_a_body(document: Any, section: str, route: str, expected: str) -> None:
    for content in operation(document, route)["requestBody"]["content"].values():
        assert set(expected.split()) <= set(names(resolved(document, content["schema"])))


@pytest.mark.parametrize(("section", "route", "expected"), ANSWERS)
def test_every_field_of_an_answer(document: Any, section: str, route: str, expected: str) -> None:
    response = operation(document, route)["responses"]["200"]
    schema = response["content"]["application/json"]["schema"]
    assert set(expected.split()) <= set(names(resolved(document, schema)))


def test_every_action(document: Any) -> None:
    content = operation(document, PUT)["requestBody"]["content"]["application/json"]
    actions = resolved(document, content["schema"])["properties"]["action"]["enum"]
    assert sorted(actions) == sorted(ACTIONS.split())


@pytest.mark.parametrize(("section", "route", "expected"), CODES)
def test_every_error_code(document: Any, section: str, route: str, expected: str) -> None:
    assert set(expected.split()) <= codes(document, route)


def test_every_code_is_described_and_the_documentation_names_ours(document: Any) -> None:
    described = set()
    for path, item in document["paths"].items():
        for method in item:
            described |= codes(document, f"{method} {path}")
    known = set(ERROR_CODES)
    # Methods and paths that are not described can have no answer that is, nor can the console.
    own = {"method_not_allowed", "request_not_implemented", "request_forbidden"}
    assert known - own <= described
    of_specification = {code for _, _, expected in CODES for code in expected.split()}
    page = PAGE.read_text()
    assert [code for code in sorted(known - of_specification) if f"`{code}`" not in page] == []


def test_every_route_is_described_and_every_described_one_is_there(
    document: Any, app: Flask
) -> None:
    words = {"user": "userId", "call_id": "phoneCallId", "kind": "eventType", "event": "eventId"}
    words["recording_id"] = "recordingId"
    served = set()
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith(("/uapi/", "/oauth/")):
            continue
        if app.view_functions[rule.endpoint] is not_implemented:
            continue
        choice = re.search(r"<any\((.*)\):\w+>", rule.rule)
        for chosen in choice[1].split(", ") if choice else [""]:
            path = re.sub(r"<any\(.*\):\w+>", chosen, rule.rule)
            path = re.sub(r"<(\w+)>", lambda m: f"{{{words.get(m[1], m[1])}}}", path)
            served |= {f"{method} {path}" for method in rule.methods - {"HEAD", "OPTIONS"}}
    described = {
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item
    }
    # An action takes the id of a call.
    assert served - {"PUT /uapi/phoneCalls/{userId}/{extension}"} == described


def test_what_fields_and_filters_may_name(document: Any, app: Flask) -> None:
    client = app.test_client()
    (call,) = client.post(SIMPLE, headers=TOKEN, json=BODY).json
    for path, item in document["paths"].items():
        parameters = {p["name"]: p["schema"] for p in item.get("get", {}).get("parameters", ())}
        if "filterBy" not in parameters:
            continue
        address = path.replace("{userId}", "@me").replace("{extension}", "210")
        address = address.replace("{phoneCallId}", call["id"])
        address = address.replace("{eventType}", "2").replace("{", "").replace("}", "")
        fields = parameters["fields"]["pattern"].split(")")[0].removeprefix("^(").replace("|", ",")
        for name in parameters["filterBy"]["enum"]:
            query = {"filterBy": name, "filterOp": "present", "fields": fields}
            answer = client.get(address, headers=TOKEN, query_string=query)
            assert answer.status_code == 200, (path, name, answer.json)


# What a generated client makes functions of: a verb and what it is about.
NAME = re.compile(
    r"(place|invite|list|get|act|hang|stream|create|update|delete|test|revoke)[A-Z]\w+"
)


def test_every_operation_has_a_name(document: Any) -> None:
    items = [*document["paths"].values(), *document["webhooks"].values()]
    ids = [operation["operationId"] for item in items for operation in item.values()]
    assert len(set(ids)) == len(ids)
    of_paths = ids[: sum(map(len, document["paths"].values()))]
    assert [name for name in of_paths if NAME.fullmatch(name) is None] == []


def test_every_parameter_and_field_says_what_it_is(document: Any) -> None:
    silent = [
        (operation["operationId"], parameter["name"])
        for item in document["paths"].values()
        for operation in item.values()
        for parameter in operation["parameters"]
        if not (parameter.get("description") or parameter["schema"].get("description"))
    ]
    silent += [
        (name, field)
        for name, schema in document["components"]["schemas"].items()
        for field, described in schema.get("properties", {}).items()
        if "$ref" not in described and not described.get("description")
    ]
    assert silent == []


def test_examples_are_what_they_are_examples_of(document: Any) -> None:
    validator = Draft202012Validator
    for path, item in document["paths"].items():
        for method, operation in item.items():
            contents = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in (
                media for each in contents for media in each.get("content", {}).values()
            ):
                if "example" in content:
                    schema = resolved(document, content["schema"])
                    assert [*validator(schema).iter_errors(content["example"])] == [], (
                        method,
                        path,
                    )
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            for example in described.get("examples", ()):
                errors = [*validator(resolved(document, described)).iter_errors(example)]
                assert errors == [], (name, field)


def test_webhooks_are_described_as_they_are_sent(document: Any) -> None:
    schemas = resolved(document, document["components"]["schemas"])
    made = evolve(
        call([DESK], ["3235742879"]),
        metadata='{"order":"4711"}',
        status_callback=json.dumps({"events": ["ringing"], "url": "https://crm.example.com"}),
    )
    rings = report_leg(made, LegReport("uuid-a1", created=1.0, ringing=1.0))
    ((_, event),) = call_events.outbox(made, rings)
    # These say to whom the event goes, and are not sent.
    own = ("type", "extension", "owner", "organization", "for")
    sent = {name: text for name, text in event.items() if name not in own}
    tested = call_events.sample(0, DESK, "test", 1.0)
    assert set(sent) | set(tested) == set(schemas["CallEvent"]["properties"])
    for parameters in (sent, tested):
        assert [*Draft202012Validator(schemas["CallEvent"]).iter_errors(parameters)] == []
    (entry,) = status_callback.outbox(made, rings)
    status = {"event": entry["event"], "time": entry["time"], "call": entry["call"]}
    message = {"id": f"{made.id}-ringing", "status": status}
    body = json.loads(status_body(message, call_of(message)))
    assert [*Draft202012Validator(schemas["StatusCallback"]).iter_errors(body)] == []


def test_the_old_name_has_the_same_routes(app: Flask) -> None:
    rules = [(rule.rule, rule.methods) for rule in app.url_map.iter_rules()]
    for rule, methods in rules:
        if rule.startswith("/uapi/"):
            assert (rule.replace("/uapi/", "/unifiedapi/", 1), methods) in rules


def test_the_page_brings_all_it_needs_and_nothing_of_others(app: Flask) -> None:
    client: FlaskClient = app.test_client()
    page = client.get("/docs")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 5
    for address in addresses:
        answer = client.get(address)
        assert (answer.status_code, address[0]) == (200, "/")
    assert "<script>" not in page.text and "style=" not in page.text
    assert client.get("/docs/").status_code == 200
    assert client.get("/docs/../views.py").status_code == 404


def test_the_description_is_served(app: Flask, document: Any) -> None:
    answer = app.test_client().get("/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json == document
    assert document["openapi"] == "3.1.0"


# What is sent to each operation, by schemathesis from the description itself.
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 12
OPERATIONS = [each.ok() for each in schemathesis.openapi.from_dict(describe()).get_all_operations()]
# A stream does not end.
OPERATIONS = [each for each in OPERATIONS if not each.path.endswith("/events")]
EVENT = {"type": "2", "url": "https://crm.example.com/calls"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_it_answers_as_described(operation: Any, settings: Settings, redis: Redis) -> None:
    free = {"app_calls": 0, "app_requests": 0, "refused_tokens": 0}
    client = create_app(replace(settings, action_timeout=0, **free)).test_client()
    (placed,) = client.post(SIMPLE, headers=TOKEN, json=BODY).json
    events = "/uapi/extensions/@me/210/phoneCallEvents"
    event = client.post(events, headers=TOKEN, json=EVENT).json
    # With words of a path that are there, and with any; with what it takes, and with what not.
    known = {
        "userId": "@me",
        "extension": "0003*210",
        "phoneCallId": placed["id"],
        "eventType": event["type"],
        "eventId": event["id"],
        "recordingId": "1.wav",
    }
    found = {name: known[name] for name in known if f"{{{name}}}" in operation.path}
    strategies = [
        operation.as_strategy(mode, path_parameters=parameters)
        for mode in schemathesis.GenerationMode
        for parameters in (found, None)
    ]
    body = operation.definition.raw.get("requestBody")
    if body is not None:
        media, content = next(iter(body["content"].items()))
        example = {"body": content["example"], "media_type": media}
        strategies.append(operation.as_strategy(path_parameters=found, **example))

    def answers_as_described(case: Any) -> None:
        case.operation.app = client.application
        response = case.call(headers=TOKEN)
        assert response.status_code < 500
        case.validate_response(response, checks=CHECKS)
        described = operation.definition.raw["responses"][str(response.status_code)]
        codes = resolved(operation.schema.raw_schema, described).get("x-error-codes")
        if codes is not None:
            error = response.json()["error"]
            assert (error if isinstance(error, str) else error["code"]) in codes

    search(answers_as_described, st.one_of(strategies), EXAMPLES)
