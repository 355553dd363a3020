"""The HTTP routes of recordings: authorise, load, one service call, dump."""

import os
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request
from werkzeug.wsgi import FileWrapper

from app.accounts.scopes import AppScope
from app.recordings.resource import FIELDS, recording
from app.recordings.services import Recording, Recordings
from app.web.auth import current_caller
from app.web.fields import ListQuery, Query, load
from app.web.listing import Kind, arguments, base_url, collection, listing, picked
from app.web.needs import needs
from app.web.services import service

_PATH = "/phoneCalls/<user>/<extension>/<call_id>/recordings"
_TYPES = {"wav": "audio/wav", "gsm": "audio/x-gsm"}
# The bytes that are read at a time.
_PIECE = 64 * 1024
_FILTERS = {"id": Kind.TEXT}

_list_query = ListQuery()
_no_query = Query()


def blueprint(name: str) -> Blueprint:
    """The routes of the service; each prefix needs its own blueprint."""
    blue = Blueprint(f"{name}_recordings", __name__)
    blue.get(_PATH)(needs(AppScope.CALLS_SUPERVISE)(list_recordings))
    blue.get(f"{_PATH}/<recording_id>")(needs(AppScope.CALLS_SUPERVISE)(fetch))
    blue.delete(f"{_PATH}/<recording_id>")(needs(AppScope.CALLS_SUPERVISE)(delete))
    return blue


def list_recordings(user: str, extension: str, call_id: str) -> Response:
    caller = current_caller()
    query = {"sortOrder": "asc", **load(_list_query, arguments(), lenient=caller.voipnow)}
    asked = listing(query, _FILTERS, FIELDS)
    found = service(Recordings).find(caller, user, extension, call_id)
    if (by := asked.filter) is not None:
        found = [each for each in found if by.matches(each.id)]
    if asked.newest_first:
        found.reverse()
    rows = [_resource(each, user, extension, call_id) for each in asked.cut(found)]
    return jsonify(collection(picked(rows, asked.fields), len(found), asked))


def fetch(user: str, extension: str, call_id: str, recording_id: str) -> Response:
    """Answer with the file, or with the part of it that the header Range asks for."""
    caller = current_caller()
    load(_no_query, request.args, lenient=caller.voipnow)
    file = service(Recordings).open(caller, user, extension, call_id, recording_id)
    try:
        status = os.fstat(file.fileno())
        response = Response(FileWrapper(file, _PIECE), direct_passthrough=True)
        response.mimetype = _TYPES.get(recording_id.rpartition(".")[2], "application/octet-stream")
        response.headers.set("Content-Disposition", "attachment", filename=recording_id)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "private, no-cache"
        response.content_length = status.st_size
        response.last_modified = int(status.st_mtime)  # type: ignore[assignment]
        response.set_etag(f"{status.st_mtime_ns:x}-{status.st_size:x}")
        response.accept_ranges = "bytes"
        # A server may ignore what asks for several parts, and must ignore what it cannot read.
        asked = request.range
        one = asked is not None and asked.units == "bytes" and len(asked.ranges) == 1
        response.make_conditional(
            request.environ, accept_ranges=True, complete_length=status.st_size if one else None
        )
        response.call_on_close(file.close)
    except BaseException:
        file.close()
        raise
    return response


def delete(user: str, extension: str, call_id: str, recording_id: str) -> Response:
    caller = current_caller()
    load(_no_query, request.args, lenient=caller.voipnow)
    deleted = service(Recordings).delete(caller, user, extension, call_id, recording_id)
    return jsonify([_resource(deleted, user, extension, call_id)])


def _resource(found: Recording, user: str, extension: str, call_id: str) -> dict[str, Any]:
    path = "/".join(quote(part, safe="@*") for part in (user, extension, call_id))
    link = f"{base_url()}/uapi/phoneCalls/{path}/recordings/{quote(found.id)}"
    return recording(found, link)
