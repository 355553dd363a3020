"""The HTTP routes of the description, of the page to read and try it, and of the page of errors."""

import gzip
import json
import mimetypes
from functools import cache
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response

from app.web.compressing import ready
from app.web.needs import needs

# The files of Swagger UI's package; a page and a script beside this module start it.
_UI = Path(str(files("flask_swagger_ui"))) / "dist"
_OWN = Path(__file__).parent / "static"
_FILES = {
    "swagger-ui.css": _UI,
    "swagger-ui-bundle.js": _UI,
    "favicon-32x32.png": _UI,
    "docs.js": _OWN,
    "errors.css": _OWN,
}
# The page loads files from this server only. Swagger UI's style sheet contains its images.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def blueprint() -> Blueprint:
    blue = Blueprint("openapi", __name__)
    blue.get("/openapi.json")(needs(None)(document))
    blue.get("/errors")(needs(None)(errors))
    blue.get("/docs")(needs(None)(page))
    blue.get("/docs/<any({}):name>".format(", ".join(f'"{n}"' for n in _FILES)))(needs(None)(asset))
    return blue


def document() -> Response:
    response = ready(*_document(), "application/json")
    response.headers["Cache-Control"] = "no-cache"
    return response


@cache
def _document() -> tuple[bytes, bytes]:
    # The import stands here because most processes never show the description.
    from app.openapi.description import describe

    content = json.dumps(describe(), ensure_ascii=False).encode()
    return content, gzip.compress(content)


def errors() -> Response:
    """The page that ``doc`` of an error leads to."""
    return _guarded(Response(_errors(), mimetype="text/html"))


@cache
def _errors() -> str:
    from app.openapi import error_page

    return error_page.html()


def page() -> Response:
    response = _guarded(ready(*_file(_OWN / "docs.html"), "text/html"))
    response.headers["Cache-Control"] = "no-cache"
    return response


def asset(name: str) -> Response:
    response = _guarded(ready(*_file(_FILES[name] / name), mimetypes.guess_type(name)[0]))
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


@cache
def _file(path: Path) -> tuple[bytes, bytes]:
    content = path.read_bytes()
    return content, gzip.compress(content)


def _guarded(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
