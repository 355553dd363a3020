"""The web side of Ringback, and what a call is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.settings import Settings

# The most bytes of a request's body.
MAX_BODY = 64 * 1024


def create_app(settings: "Settings", *, of_jobs: bool = False) -> "Flask":
    """The WSGI application. Raises SettingsError.

    ``of_jobs`` is for a worker, which carries out by it what jobs ask for: phone calls alone.
    """
    # Imported here, so that programs import the model of a call without a web server's packages.
    import atexit

    from flask import Flask

    from app import not_implemented
    from app.cdr.views import blueprint as cdr
    from app.console.views import blueprint as console
    from app.health.gauges import RedisGauges
    from app.health.metrics_page import blueprint as metrics
    from app.health.metrics_page import count_requests
    from app.health.parts import ApiHealth
    from app.health.views import blueprint as health
    from app.oauth.views import blueprint as oauth
    from app.openapi.views import blueprint as openapi
    from app.phone_call_events.views import blueprint as phone_call_events
    from app.phone_calls.views import blueprint as phone_calls
    from app.presence.views import blueprint as presence
    from app.recordings.views import blueprint as recordings
    from app.services import create_services
    from app.settings import parse_networks, parse_origins
    from app.store.maintenance import Maintenance
    from app.stream.views import blueprint as stream
    from app.telemetry import logs, tracing
    from app.web.answers import Json, register_errors
    from app.web.auditing import Auditor, audit_requests
    from app.web.base import PUBLIC_URL
    from app.web.compressing import compress_answers
    from app.web.cors import allow_origins
    from app.web.headers import add_headers
    from app.web.maintenance import refuse_in_maintenance
    from app.web.proxies import believe_proxies
    from app.web.rates import tell_limits
    from app.web.services import EXTENSION
    from app.web.sites import refuse_other_sites

    app = Flask("ringback", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.config[PUBLIC_URL] = settings.public_url
    app.json = Json(app)
    # With and without a trailing slash, and never a redirect: clients refuse redirects.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    services = {type(each): each for each in create_services(settings, of_jobs=of_jobs)}
    app.extensions[EXTENSION] = services
    logs.bind_request(app)
    add_headers(app)
    tell_limits(app)
    compress_answers(app)
    allow_origins(app, parse_origins(settings.cors_origins or ""))
    if not of_jobs:
        refuse_other_sites(app, settings)
    tracing.trace_requests(app)
    if not of_jobs:
        count_requests(app)
        believe_proxies(app, parse_networks(settings.proxies or ""))
        # The jobs of other programs wait by themselves: accept.lua refuses their calls.
        refuse_in_maintenance(app, services[Maintenance])
    audit_requests(app)
    atexit.register(services[Auditor].flush)
    register_errors(app)
    if of_jobs:
        app.register_blueprint(phone_calls("uapi"), url_prefix="/uapi")
        return app
    # The second prefix is the old name; 4PSA's own samples use it.
    for name in ("uapi", "unifiedapi"):
        for blueprint in (
            phone_calls,
            phone_call_events,
            cdr,
            presence,
            recordings,
            stream,
            not_implemented.blueprint,
        ):
            app.register_blueprint(blueprint(name), url_prefix=f"/{name}")
    app.register_blueprint(oauth())
    app.register_blueprint(openapi())
    app.register_blueprint(console())
    app.register_blueprint(health(services[ApiHealth]))
    app.register_blueprint(metrics([services[RedisGauges]]))
    return app
