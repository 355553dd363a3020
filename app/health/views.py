"""HTTP of the health of a process: for whoever starts, watches and shares work out to it."""

from collections.abc import Callable

from flask import Blueprint, Response, jsonify

from app.health.parts import Parts, document, is_ready


def blueprint(look: Callable[[], Parts]) -> Blueprint:
    """``/healthz`` answers as long as the process does; ``/readyz`` 503 where it is not ready."""

    def healthz() -> Response:
        return jsonify({"status": "ok"})

    def readyz() -> Response:
        parts = look()
        response = jsonify(document(parts))
        response.status_code = 200 if is_ready(parts) else 503
        # What stands between must not keep it.
        response.headers["Cache-Control"] = "no-store"
        return response

    blue = Blueprint("health", __name__)
    blue.get("/healthz")(healthz)
    blue.get("/readyz")(readyz)
    return blue
