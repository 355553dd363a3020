"""The URL under which a client reaches this API."""

import re

from flask import current_app, request

from app.web.auth import job_request

# The name of the setting in the app's configuration.
PUBLIC_URL = "PUBLIC_URL"
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


def base_url() -> str:
    """RINGBACK_PUBLIC_URL, or else scheme and host of the request's URL, as the client wrote them;
    '' for a request of a job."""
    if public := current_app.config.get(PUBLIC_URL):
        return str(public)
    if job_request(request) is not None:
        return ""
    # Werkzeug rejects a host with an underscore, which is a usual name among containers.
    host = request.headers.get("Host", "")
    if _HOST.fullmatch(host) is None:
        host = request.host
    return f"{request.scheme}://{host}"
