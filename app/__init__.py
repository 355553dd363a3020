"""The web side of Ringback, and what a call is."""

from flask import Flask

from app.settings import Settings

# Bytes of a request's body.
MAX_BODY = 64 * 1024


def create_app(settings: Settings) -> Flask:
    """The WSGI application. Raises SettingsError."""
    # Here, so that what a call is can be imported without a web server's packages.
    from app.errors import register_errors
    from app.phone_calls.views import blueprint
    from app.services import Services

    app = Flask("ringback", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    # With and without a trailing slash, and never a redirect: clients refuse them.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.extensions["ringback"] = Services.create(settings)
    app.register_blueprint(blueprint("uapi"), url_prefix="/uapi")
    # The old name, which 4PSA's own samples use.
    app.register_blueprint(blueprint("unifiedapi"), url_prefix="/unifiedapi")
    register_errors(app)
    return app
