"""The health pages of a process, for supervisors and load balancers."""

from collections.abc import Callable

from flask import Blueprint, Response, jsonify

from app.health.parts import Parts, document, is_ready
from app.web.needs import needs


def blueprint(look: Callable[[], Parts]) -> Blueprint:
    """The routes: ``/healthz`` answers 200 while the process runs; ``/readyz`` answers 503 while
    it is not ready."""

    def healthz() -> Response:
        return jsonify({"status": "ok"})

    def readyz() -> Response:
        parts = look()
        response = jsonify(document(parts))
        response.status_code = 200 if is_ready(parts) else 503
        # A proxy must not cache the answer.
        response.headers["Cache-Control"] = "no-store"
        return response

    blue = Blueprint("health", __name__)
    blue.get("/healthz")(needs(None)(healthz))
    blue.get("/readyz")(needs(None)(readyz))
    return blue
