"""The paths of the UAPI that Ringback does not implement: they answer 501."""

from typing import Any

from flask import Blueprint, Response

from app.errors import api_error
from app.web.auth import current_caller
from app.web.needs import needs

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# The paths, each with its meaning (docs/internals/uapi.md#other-methods; a queue's agents in both
# spellings). An extension's implemented resources have routes of their own.
PATHS = {
    "/extensions/<user>": "Extensions",
    "/extensions/<user>/<extension>": "Extensions",
    "/extensions/<user>/<extension>/queue": "Queue agents",
    "/extensions/<user>/<extension>/queue/agents": "Queue agents",
    "/extensions/<user>/<extension>/queue/agents/<agent>": "Queue agents",
    "/extensions/<user>/<extension>/queueAgent": "Queue agents",
    "/extensions/<user>/<extension>/queueAgent/<agent>": "Queue agents",
    "/faxes/<user>": "Faxes",
    "/faxes/<user>/<extension>": "Faxes",
    "/faxes/<user>/<extension>/<fax>": "Faxes",
}


def blueprint(name: str) -> Blueprint:
    """The routes of these paths; each prefix needs its own blueprint."""
    blue = Blueprint(f"{name}_neighbours", __name__)
    for path in PATHS:
        blue.route(path, methods=METHODS)(needs(None)(not_implemented))
    return blue


def not_implemented(**_: Any) -> Response:
    current_caller()
    raise api_error("request_not_implemented")
