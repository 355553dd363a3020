"""The HTTP routes of the Presence service."""

from urllib.parse import quote

from flask import Blueprint, Response, jsonify

from app.accounts.scopes import AppScope
from app.presence.resource import FIELDS, extension_presence
from app.presence.services import PresenceService
from app.web.auth import current_caller
from app.web.fields import ListQuery, load
from app.web.listing import Kind, arguments, base_url, collection, listing, picked, turn
from app.web.needs import needs
from app.web.services import service

_FILTERS = {"extension": Kind.TEXT}

_query = ListQuery()


def blueprint(name: str) -> Blueprint:
    """The routes of the service; each prefix needs its own blueprint."""
    blue = Blueprint(f"{name}_presence", __name__)
    blue.get("/extensions/<user>/<extension>/presence")(needs(AppScope.CALLS_READ)(list_presence))
    return blue


def list_presence(user: str, extension: str) -> Response:
    caller = current_caller()
    # The default order is ascending by number.
    query = {"sortOrder": "asc", **load(_query, arguments(), lenient=caller.voipnow)}
    asked = listing(query, _FILTERS, FIELDS)
    with turn(caller, asked):
        page, total = service(PresenceService).page(caller, user, extension, asked)
    rows = [extension_presence(found, _link(user, found.extension)) for found in page]
    return jsonify(collection(picked(rows, asked.fields), total, asked))


def _link(user: str, extension: str) -> str:
    path = "/".join(quote(part, safe="@*") for part in (user, extension))
    return f"{base_url()}/uapi/extensions/{path}/presence"
