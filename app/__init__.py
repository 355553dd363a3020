"""The web side of Ringback, and what a call is."""

from typing import Any

import orjson
from flask import Flask, Response
from flask.json.provider import DefaultJSONProvider

from app.settings import Settings

# Bytes of a request's body.
MAX_BODY = 64 * 1024


class _Json(DefaultJSONProvider):
    """Answers are written with orjson."""

    def response(self, *args: Any, **kwargs: Any) -> Response:
        value = self._prepare_response_obj(args, kwargs)
        text = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
        return Response(text, mimetype=self.mimetype)


def create_app(settings: Settings) -> Flask:
    """The WSGI application. Raises SettingsError."""
    # Here, so that what a call is can be imported without a web server's packages.
    from app import logs, neighbours, tracing
    from app.cdr.views import blueprint as cdr
    from app.console.views import blueprint as console
    from app.errors import register_errors
    from app.health.views import blueprint as health
    from app.metrics.views import blueprint as metrics
    from app.metrics.views import count_requests
    from app.oauth.views import blueprint as oauth
    from app.openapi.views import blueprint as openapi
    from app.phone_call_events.views import blueprint as phone_call_events
    from app.phone_calls.views import blueprint
    from app.presence.views import blueprint as presence
    from app.services import Services
    from app.stream.views import blueprint as stream

    app = Flask("ringback", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = _Json(app)
    # With and without a trailing slash, and never a redirect: clients refuse them.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["ringback"] = services = Services.create(settings)
    logs.bind_request(app)
    tracing.trace_requests(app)
    count_requests(app)
    app.register_blueprint(blueprint("uapi"), url_prefix="/uapi")
    # The old name, which 4PSA's own samples use.
    app.register_blueprint(blueprint("unifiedapi"), url_prefix="/unifiedapi")
    for name in ("uapi", "unifiedapi"):
        app.register_blueprint(phone_call_events(name), url_prefix=f"/{name}")
        app.register_blueprint(cdr(name), url_prefix=f"/{name}")
        app.register_blueprint(presence(name), url_prefix=f"/{name}")
        app.register_blueprint(stream(name), url_prefix=f"/{name}")
        app.register_blueprint(neighbours.blueprint(name), url_prefix=f"/{name}")
    app.register_blueprint(oauth())
    app.register_blueprint(openapi())
    app.register_blueprint(console())
    app.register_blueprint(health(services.health))
    app.register_blueprint(metrics([services.gauges]))
    register_errors(app)
    return app
