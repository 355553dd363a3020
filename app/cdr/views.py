"""The HTTP routes of the CDR service."""

from flask import Blueprint, Response, jsonify

from app.accounts.scopes import AppScope
from app.cdr.resource import FIELDS, phone_call_record
from app.cdr.schemas import CdrQuery
from app.cdr.services import FILTERS, CallReports, is_search
from app.web.auth import current_caller
from app.web.fields import load
from app.web.listing import arguments, as_json, collection, listing, turn
from app.web.metadata import METADATA
from app.web.needs import needs
from app.web.services import service

_query = CdrQuery()


def blueprint(name: str) -> Blueprint:
    """The routes of the service; each prefix needs its own blueprint."""
    blue = Blueprint(f"{name}_cdr", __name__)
    blue.get("/cdr")(needs(AppScope.CDR_READ)(list_records))
    blue.get("/cdr/<user>")(needs(AppScope.CDR_READ)(list_records))
    return blue


def list_records(user: str | None = None) -> Response:
    caller = current_caller()
    query = load(_query, arguments(("filterValue", METADATA)), lenient=caller.voipnow)
    asked = listing(query, FILTERS, FIELDS, "cdr_invalid_filter_by_{}")
    with turn(caller, asked, searches=is_search(query)):
        page = service(CallReports).page(caller, user, query, asked)
        resources = as_json(page.rows, phone_call_record, asked.fields)
    entry = {record["id"]: row for record, row in zip(page.rows, resources, strict=True)}
    return jsonify(collection(entry, page.total, asked, page.last))
