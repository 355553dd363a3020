"""The refusal of requests that change something, while Ringback is in maintenance."""

from flask import Flask, request

from app.store.errors import InMaintenance
from app.store.maintenance import Maintenance

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


def refuse_in_maintenance(app: Flask, maintenance: Maintenance) -> None:
    """Have ``app`` refuse all requests that change something while maintenance is on. What reads
    goes on."""

    @app.before_request
    def _check() -> None:
        if request.method not in _SAFE and maintenance.is_on():
            raise InMaintenance("Ringback is in maintenance")
