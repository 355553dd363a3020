"""The HTTP routes of the PhoneCalls service: authorise, load, one service call, dump."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, g, jsonify, request
from marshmallow import ValidationError

from app.accounts.caller import Caller
from app.accounts.scopes import AppScope
from app.calls.model import Call, State
from app.errors import ApiError, api_error
from app.phone_calls.actions import ActionQuery, ActionSchema, PhoneCallActions
from app.phone_calls.schemas import (
    CallsQuery,
    CreateQuery,
    CreateSchema,
    HangUpQuery,
    InviteQuery,
    InviteSchema,
    printable,
)
from app.phone_calls.searching import Search
from app.phone_calls.services import INVITE, MOST_AT_ONCE, PhoneCalls
from app.web.auth import current_caller, job_request
from app.web.body import json_body
from app.web.dates import span
from app.web.fields import load
from app.web.headers import revalidated
from app.web.listing import (
    Kind,
    Listing,
    arguments,
    as_json,
    base_url,
    collection,
    field_names,
    listing,
    picked,
    turn,
)
from app.web.metadata import METADATA
from app.web.needs import needs
from app.web.phone_call import FIELDS, phone_call
from app.web.rates import check_calls, place_calls
from app.web.resource import links
from app.web.services import service
from app.web.turns import ENDINGS, ROWS, SHORT

# The fields that a filter may name.
_FILTERS = {"id": Kind.TEXT, "published": Kind.DATE, "nonce": Kind.TEXT}

_create_query = CreateQuery()
_create_body = CreateSchema()
_invite_query = InviteQuery()
_invite_body = InviteSchema()
_action_query = ActionQuery()
_action_body = ActionSchema()
_list_query = CallsQuery()
_hang_up_query = HangUpQuery()
# The header that may carry the nonce of a create.
IDEMPOTENCY_KEY = "Idempotency-Key"


def blueprint(name: str) -> Blueprint:
    """The routes of the service; each prefix needs its own blueprint."""
    blue = Blueprint(name, __name__)
    blue.post("/phoneCalls/<user>/<any(simple, callback, conferenceInvite):kind>")(
        needs(AppScope.CALLS_PLACE)(create)
    )
    blue.get("/phoneCalls/<user>/<extension>")(needs(AppScope.CALLS_READ)(list_calls))
    blue.get("/phoneCalls/<user>/<extension>/<call_id>")(needs(AppScope.CALLS_READ)(list_calls))
    blue.put("/phoneCalls/<user>/<extension>")(needs(AppScope.CALLS_ACT)(act))
    blue.put("/phoneCalls/<user>/<extension>/<call_id>")(needs(AppScope.CALLS_ACT)(act))
    blue.delete("/phoneCalls/<user>/<extension>")(needs(AppScope.CALLS_ACT)(hang_up))
    blue.delete("/phoneCalls/<user>/<extension>/<call_id>")(needs(AppScope.CALLS_ACT)(hang_up))
    return blue


def create(user: str, kind: str) -> Response:
    caller, phone_calls = _caller()
    check_calls(caller.app.id)
    query = create_query(kind, caller)
    names = field_names(query, FIELDS)
    body = with_idempotency_key(create_body(kind, caller))
    job = job_request(request)
    once = job.id if job else None
    try:
        accepted = place_calls(
            caller.app.id,
            len(body["phoneCallView"]),
            lambda: phone_calls.create(caller, user, kind, query, body, once=once),
        )
    except ApiError as error:
        if error.code == "pc_nonce_invalid" and IDEMPOTENCY_KEY in request.headers:
            error.details["field"] = IDEMPOTENCY_KEY
        raise
    calls = accepted.calls
    # The extension as the request named it, as the create pages' examples have it.
    extension = body.get("extension") or calls[0].extension
    answers = []
    for call in calls:
        answer: dict[str, Any] = {"id": call.id, "extension": extension}
        if call.nonce is not None:
            answer["nonce"] = call.nonce
        answers.append(answer | links(_link(user, extension, call)))
    response = jsonify(picked(answers, names))
    response.status_code = 200 if caller.voipnow else 202
    response.location = _link(user, extension, calls[0])
    if not accepted.new:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def list_calls(user: str, extension: str, call_id: str | None = None) -> Response:
    caller, phone_calls = _caller()
    query = load(_list_query, arguments(("filterValue", METADATA)), lenient=caller.voipnow)
    asked = listing(query, _FILTERS, FIELDS)
    states = query.get("state", frozenset())
    search = Search(
        query[METADATA],
        # Ended calls are asked for by their state too.
        ended=query["status"] == "all" or State.ENDED in states,
        states=states,
        number=query.get("phoneNumber"),
        nonce=query.get("nonce"),
        span=span(query.get("startDate", -math.inf), query.get("endDate", math.inf)),
    )
    few = _names_few(caller, call_id, asked, search)
    with SHORT.of(caller.app.id) if few else turn(caller, asked, searches=search.is_needed):
        page = phone_calls.page(caller, user, extension, call_id, asked, search)
        entry = _resources(phone_calls, page.rows, user, extension, asked.fields)
    # A filter may have left out the call. Programs written for VoipNow take the empty list.
    unknown = call_id is not None and not page.total and not caller.voipnow
    if unknown and not phone_calls.find(caller, user, extension, call_id):
        raise no_call(call_id or "", status=404)
    return revalidated(jsonify(collection(entry, page.total, asked, page.last)))


def _names_few(caller: Caller, call_id: str | None, asked: Listing, search: Search) -> bool:
    """Whether the request names by id or nonce the few calls that it asks for."""
    by = asked.filter
    if call_id is not None:
        return True
    if by is not None and by.names and (by.by == "id" or not caller.voipnow):
        return by.by in ("id", "nonce") and len(by.values) <= ROWS
    return search.nonce is not None and not caller.voipnow


def hang_up(user: str, extension: str, call_id: str | None = None) -> tuple[Response, int]:
    caller, phone_calls = _caller()
    query = load(_hang_up_query, request.args, lenient=caller.voipnow)
    if not caller.voipnow:
        _check_all(call_id, query)
    names = field_names(query, FIELDS)
    with ExitStack() as turn:
        if call_id is None:
            turn.enter_context(ENDINGS.of(caller.app.id))
        calls = phone_calls.find(caller, user, extension, call_id)
        if len(calls) <= MOST_AT_ONCE:
            # The request may wait for the switch, and no other waits with it.
            turn.close()
        if call_id is not None and not calls:
            if not caller.voipnow:
                raise no_call(call_id)
            # The answer is an empty list. The audit has the refusal.
            g.refusal = "pc_phonecall_invalid"
        asked = query.get("phoneNumber")
        concerned, done = phone_calls.hang_up(caller, calls, asked, extension, user_name=user)
        answer = _resources(phone_calls, concerned, user, extension, names)
        return jsonify(answer), 200 if done else 202


def act(user: str, extension: str, call_id: str | None = None) -> tuple[Response, int]:
    caller, phone_calls = _caller()
    if call_id is None:
        # The documents contradict themselves; every client sends the id.
        raise api_error("pc_phonecall_invalid", cause="missing", field="phoneCallId")
    query = load(_action_query, request.args, lenient=caller.voipnow)
    names = field_names(query, FIELDS)
    body = load(_action_body, json_body(), lenient=caller.voipnow)
    job = job_request(request)
    once = job.id if job else None
    call, done = service(PhoneCallActions).act(caller, user, extension, call_id, body, once=once)
    # Every client reads an array (docs/internals/uapi.md#contradictions).
    answer = _resources(phone_calls, [call], user, extension, names)
    return jsonify(answer), 200 if done else 202


def _caller() -> tuple[Caller, PhoneCalls]:
    return current_caller(), service(PhoneCalls)


def create_query(kind: str, caller: Caller) -> dict[str, Any]:
    """The query of a request that places calls of that kind. Raises ApiError."""
    schema = _invite_query if kind == INVITE else _create_query
    return load(schema, request.args, lenient=caller.voipnow)


def create_body(kind: str, caller: Caller) -> dict[str, Any]:
    """The body of a request that places calls of that kind. Raises ApiError."""
    schema = _invite_body if kind == INVITE else _create_body
    return load(schema, json_body(), lenient=caller.voipnow)


def with_idempotency_key(body: dict[str, Any]) -> dict[str, Any]:
    """The loaded body with the header Idempotency-Key as its nonce. Raises ApiError for a bad
    header, and for one that differs from the body's nonce."""
    header = request.headers.get(IDEMPOTENCY_KEY)
    if header is None:
        return body
    about: dict[str, Any] = {"field": IDEMPOTENCY_KEY, "value": header}
    try:
        # Werkzeug reads headers as Latin-1.
        key = header.encode("latin-1").decode()
        # The IETF's draft writes the key as a quoted string, most programs without quotation marks.
        if len(key) > 1 and key[0] == key[-1] == '"':
            key = key[1:-1]
        printable(key)
    except UnicodeError as error:
        raise api_error("pc_nonce_invalid", "The header takes UTF-8.", **about) from error
    except ValidationError as error:
        raise api_error("pc_nonce_invalid", str(error), **about) from error
    if body.setdefault("nonce", key) != key:
        reason = "Send one of them, or the same text in both."
        raise api_error("pc_nonce_invalid", reason, cause="differ", **about)
    return body


def no_call(call_id: str, status: int | None = None) -> ApiError:
    """The error for the id of a call that the app cannot see."""
    about: dict[str, Any] = {"field": "phoneCallId", "value": call_id}
    error = api_error("pc_phonecall_invalid", cause="unknown", **about)
    error.status = status or error.status
    return error


def _check_all(call_id: str | None, query: dict[str, Any]) -> None:
    """Check that a request without an id means to hang up all calls: a program whose id is empty
    leaves a path that ends with a slash. Raises ApiError."""
    given = query.get("all")
    if call_id is not None and given:
        raise api_error("pc_phonecall_invalid", cause="one", field="all", value=True)
    if call_id is None and (given is False or (given is None and request.path.endswith("/"))):
        raise api_error("pc_phonecall_invalid", cause="all", field="all", value=given)


def _resources(
    phone_calls: PhoneCalls,
    calls: Sequence[Call],
    user: str,
    extension: str,
    names: frozenset[str] | None,
) -> list[Any]:
    unreachable, places = phone_calls.unreachable(calls), phone_calls.places(calls)

    def resource(call: Call) -> dict[str, Any]:
        link = _link(user, extension, call)
        return phone_call(call, link, unreachable.get(call.id), places.get(call.id))

    return as_json(calls, resource, names)


def _link(user: str, extension: str, call: Call) -> str:
    path = "/".join(quote(part, safe="@*") for part in (user, extension, call.id))
    return f"{base_url()}/uapi/phoneCalls/{path}"
