"""HTTP of the PhoneCalls service: authorise, load, one service call, dump."""

import json
import re
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote

from flask import Blueprint, Response, current_app, jsonify, request

from app.auth import authenticate
from app.calls.model import Call
from app.calls.watch import is_hang_up_pending
from app.errors import ApiError
from app.phone_calls.resource import FIELDS, links, phone_call
from app.phone_calls.schemas import (
    CreateQuery,
    CreateSchema,
    HangUpQuery,
    ListQuery,
    invalid,
    load,
)
from app.phone_calls.services import Caller, PhoneCalls
from app.services import Services

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

_create_query = CreateQuery()
_create_body = CreateSchema()
_list_query = ListQuery()
_hang_up_query = HangUpQuery()


def blueprint(name: str) -> Blueprint:
    """The routes; made once for each prefix they are served under."""
    blue = Blueprint(name, __name__)
    blue.post("/phoneCalls/<user>/<any(simple, callback):kind>")(create)
    blue.post("/phoneCalls/<user>/conferenceInvite")(not_implemented)
    blue.get("/phoneCalls/<user>/<extension>")(list_calls)
    blue.get("/phoneCalls/<user>/<extension>/<call_id>")(list_calls)
    blue.put("/phoneCalls/<user>/<extension>/<call_id>")(not_implemented)
    blue.delete("/phoneCalls/<user>/<extension>")(hang_up)
    blue.delete("/phoneCalls/<user>/<extension>/<call_id>")(hang_up)
    return blue


def create(user: str, kind: str) -> tuple[Response, int]:
    caller, service = _caller()
    query = load(_create_query, request.args)
    names = _fields(query)
    body = load(_create_body, _json())
    calls = service.create(caller, user, kind, query, body)
    # The extension as the request named it, as the create pages' examples have it.
    extension = body.get("extension") or calls[0].extension
    answers = []
    for call in calls:
        answer: dict[str, Any] = {"id": call.id, "extension": extension}
        if call.nonce is not None:
            answer["nonce"] = call.nonce
        answers.append(answer | links(_link(user, extension, call)))
    return jsonify(_picked(answers, names)), 200 if caller.voipnow else 202


def list_calls(user: str, extension: str, call_id: str | None = None) -> Response:
    caller, service = _caller()
    query = load(_list_query, request.args)
    names = _fields(query)
    nonce = None
    if "filterBy" in query and call_id is None:
        if query["filterBy"] != "nonce" or not query.get("filterValue"):
            raise invalid("filterby_invalid")
        nonce = query["filterValue"]
    calls = service.find(caller, user, extension, call_id, nonce)
    start, count = query["startIndex"], query["count"]
    page = calls[start : start + count]
    return jsonify(
        {
            "totalResults": len(calls),
            "startIndex": start,
            "itemsPerPage": count,
            "entry": _picked(_resources(service, page, user, extension), names),
        }
    )


def hang_up(user: str, extension: str, call_id: str | None = None) -> tuple[Response, int]:
    caller, service = _caller()
    query = load(_hang_up_query, request.args)
    names = _fields(query)
    calls = service.find(caller, user, extension, call_id)
    if call_id is not None and not calls and not caller.voipnow:
        raise ApiError(400, "pc_phonecall_invalid", "phoneCallId takes the id of a call.")
    concerned = service.hang_up(caller, calls, query.get("phoneNumber"))
    pending = any(map(is_hang_up_pending, concerned))
    answer = _picked(_resources(service, concerned, user, extension), names)
    return jsonify(answer), 202 if pending else 200


def not_implemented(user: str, extension: str = "", call_id: str = "") -> Response:
    _caller()
    raise ApiError(501, "request_not_implemented", "This request is not implemented.")


def _caller() -> tuple[Caller, PhoneCalls]:
    services = cast(Services, current_app.extensions["ringback"])
    accounts = services.accounts.current()
    return Caller(authenticate(request, accounts), accounts), services.phone_calls


def _json() -> Any:
    # Whatever the Content-Type says: clients send JSON under others.
    # In pieces to its end, where werkzeug refuses a body too large that has no Content-Length.
    text = b"".join(iter(lambda: request.stream.read(8192), b""))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid("request_invalid") from error
    if not isinstance(document, dict):
        raise invalid("request_invalid")
    return document


def _fields(query: dict[str, Any]) -> frozenset[str] | None:
    if "fields_" not in query:
        return None
    names = frozenset(name.strip() for name in query["fields_"].split(",") if name.strip())
    if not names or not names <= FIELDS:
        raise invalid("fields_invalid")
    return names


def _picked(rows: list[dict[str, Any]], names: frozenset[str] | None) -> list[dict[str, Any]]:
    if names is None:
        return rows
    return [{name: value for name, value in row.items() if name in names} for row in rows]


def _resources(
    service: PhoneCalls, calls: Sequence[Call], user: str, extension: str
) -> list[dict[str, Any]]:
    unreachable, places = service.unreachable(calls), service.places(calls)
    return [
        phone_call(
            *(call, _link(user, extension, call), unreachable.get(call.id), places.get(call.id))
        )
        for call in calls
    ]


def _link(user: str, extension: str, call: Call) -> str:
    path = "/".join(quote(part, safe="@*") for part in (user, extension, call.id))
    # werkzeug knows no host with an underscore, a usual name among containers.
    host = request.headers.get("Host", "")
    if _HOST.fullmatch(host) is None:
        host = request.host
    return f"{request.scheme}://{host}/uapi/phoneCalls/{path}"
