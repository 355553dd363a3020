"""Which web pages of other origins may use the API from a browser (CORS): none by default."""

from flask import Flask, Response, request

from app.settings import ANY_ORIGIN

# The console is for its own pages alone, and health and metrics are for no browser. No page should
# hold the secret that the token endpoint takes.
PATHS = ("/uapi/", "/unifiedapi/", "/openapi.json")
# Beside those that every page may send and read.
_SENT = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, X-Request-Id"
_READ = (
    "ETag, Idempotent-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, "
    "WWW-Authenticate, X-Request-Id"
)
# Seconds for which a browser need not ask again.
_KEPT = "7200"


def allow_origins(app: Flask, origins: frozenset[str]) -> None:
    """Let pages of the origins use the API of ``app``. A browser never sends a cookie with their
    requests: they need a token."""
    if not origins:
        return

    @app.after_request
    def _allow(response: Response) -> Response:
        if not request.path.startswith(PATHS):
            return response
        origin = request.headers.get("Origin")
        headers = response.headers
        if ANY_ORIGIN in origins:
            headers["Access-Control-Allow-Origin"] = ANY_ORIGIN
        else:
            response.vary.add("Origin")
            if origin not in origins:
                return response
            headers["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            headers["Access-Control-Allow-Methods"] = headers.get("Allow", "")
            headers["Access-Control-Allow-Headers"] = _SENT
            headers["Access-Control-Max-Age"] = _KEPT
        else:
            headers["Access-Control-Expose-Headers"] = _READ
        return response
