"""The HTTP routes of the PhoneCallEvents service: authorise, load, one service call, dump."""

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request

from app.accounts.caller import Caller
from app.accounts.scopes import AppScope
from app.errors import api_error
from app.phone_call_events.model import PhoneCallEvent
from app.phone_call_events.resource import FIELDS, phone_call_event
from app.phone_call_events.schemas import CreateSchema, UpdateSchema, event_id, event_type
from app.phone_call_events.services import PhoneCallEvents
from app.web.auth import current_caller
from app.web.body import json_body
from app.web.fields import ListQuery, Query, load
from app.web.listing import Kind, arguments, base_url, collection, listing, picked
from app.web.needs import needs
from app.web.services import service

_PATH = "/extensions/<user>/<extension>/phoneCallEvents"

# The fields that a filter may name: all of them (docs/internals/uapi.md#lists).
_FILTERS = {name: Kind.TEXT for name in ("id", "type", "url", "method", "status", "note")}
_FILTERS["modified"] = Kind.DATE

_list_query = ListQuery()
_create_body = CreateSchema()
_update_body = UpdateSchema()
_no_query = Query()


def blueprint(name: str) -> Blueprint:
    """The routes of the service; each prefix needs its own blueprint."""
    blue = Blueprint(f"{name}_phone_call_events", __name__)
    blue.post(_PATH)(needs(AppScope.EVENTS)(create))
    blue.post(f"{_PATH}/<kind>")(needs(AppScope.EVENTS)(create))
    for path in (_PATH, f"{_PATH}/<kind>", f"{_PATH}/<kind>/<event>"):
        blue.get(path)(needs(AppScope.EVENTS)(list_events))
        blue.delete(path)(needs(AppScope.EVENTS)(delete))
    blue.put(f"{_PATH}/<kind>/<event>")(needs(AppScope.EVENTS)(update))
    blue.post(f"{_PATH}/<kind>/<event>/test")(needs(AppScope.EVENTS)(test))
    return blue


def create(user: str, extension: str, kind: str | None = None) -> Response:
    caller, service = _caller()
    load(_no_query, request.args, lenient=caller.voipnow)
    body = load(_create_body, json_body(), lenient=caller.voipnow)
    # The type stands in the path or in the body; if in both, they must agree.
    of_path = event_type(kind, "pcet_type_invalid")
    if body.setdefault("type", of_path) is None or of_path not in (None, body["type"]):
        raise api_error("pcet_type_invalid", field="/type", value=body["type"])
    event = service.create(caller, user, extension, body)
    return jsonify(_resource(event, user, extension))


def list_events(
    user: str, extension: str, kind: str | None = None, event: str | None = None
) -> Response:
    caller, service = _caller()
    # The default order of events is ascending by URL.
    query = {"sortOrder": "asc", **load(_list_query, arguments(), lenient=caller.voipnow)}
    asked = listing(query, _FILTERS, FIELDS)
    found = service.find(
        caller, user, extension, event_type(kind, "pce_type_invalid"), event_id(event)
    )
    if (by := asked.filter) is not None:
        found = [each for each in found if by.matches(getattr(each, by.by))]
    if asked.newest_first:
        found.reverse()
    rows = [_resource(each, user, extension) for each in asked.cut(found)]
    return jsonify(collection(picked(rows, asked.fields), len(found), asked))


def update(user: str, extension: str, kind: str, event: str) -> Response:
    caller, service = _caller()
    load(_no_query, request.args, lenient=caller.voipnow)
    changes = load(_update_body, json_body(), lenient=caller.voipnow)
    of_path, name = event_type(kind, "pce_type_invalid"), event_id(event)
    assert of_path is not None and name is not None
    changed = service.update(caller, user, extension, of_path, name, changes)
    return jsonify(_resource(changed, user, extension))


def delete(
    user: str, extension: str, kind: str | None = None, event: str | None = None
) -> Response:
    caller, service = _caller()
    load(_no_query, request.args, lenient=caller.voipnow)
    deleted = service.delete(
        caller, user, extension, event_type(kind, "pce_type_invalid"), event_id(event)
    )
    return jsonify([_resource(event, user, extension) for event in deleted])


def test(user: str, extension: str, kind: str, event: str) -> tuple[Response, int]:
    caller, service = _caller()
    load(_no_query, request.args, lenient=caller.voipnow)
    of_path, name = event_type(kind, "pce_type_invalid"), event_id(event)
    assert of_path is not None and name is not None
    message, reason = service.test(caller, user, extension, of_path, name)
    if reason is None:
        return jsonify({"id": message, "result": "waiting"}), 202
    if reason:
        return jsonify({"id": message, "result": "failed", "reason": reason}), 200
    return jsonify({"id": message, "result": "delivered"}), 200


def _caller() -> tuple[Caller, PhoneCallEvents]:
    return current_caller(), service(PhoneCallEvents)


def _resource(event: PhoneCallEvent, user: str, extension: str) -> dict[str, Any]:
    path = "/".join(
        quote(part, safe="@*")
        for part in ("extensions", user, extension, "phoneCallEvents", str(event.type), event.id)
    )
    return phone_call_event(event, f"{base_url()}/uapi/{path}")
