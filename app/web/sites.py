"""The web pages that may make a browser send requests, and the names that this server answers to.

A browser sends what any page asks it to, also to a server that only this machine reaches. It says
whose page asked (Origin, Sec-Fetch-Site), and which name the page used (Host). Other programs send
neither of the first two.
"""

from collections.abc import Container
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import Flask, current_app, request
from werkzeug.datastructures import Headers

from app.errors import api_error
from app.settings import ANY_ORIGIN, Settings, parse_origins
from app.web.base import PUBLIC_URL
from app.web.cors import PATHS
from app.web.proxies import is_by_proxy

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_ADVICE = "Host is {!r}. If clients reach Ringback by it, set RINGBACK_PUBLIC_URL."


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def refuse_other_sites(app: Flask, settings: Settings) -> None:
    """Have ``app`` refuse requests that change something and that a page of another site made a
    browser send; and on a loopback address all requests for a host that is not this machine: a
    page whose name leads here (DNS rebinding) would count as a page of this server."""
    origins = parse_origins(settings.cors_origins or "")
    bound = settings.http_address[0]
    only_here = is_loopback(bound)

    @app.before_request
    def _check() -> None:
        headers = request.headers
        host = headers.get("Host", "")
        if only_here and host and not is_by_proxy(request.environ):
            name = _hostname(host)
            if not (is_loopback(name) or name in (bound, _hostname(_public_host()))):
                raise api_error("request_forbidden", _ADVICE.format(name[:64]), cause="host")
        if request.method in _SAFE:
            return
        if is_foreign(headers, host, origins if request.path.startswith(PATHS) else ()):
            raise api_error("request_forbidden", cause="site")


def is_foreign(headers: Headers, host: str, origins: Container[str] = ()) -> bool:
    """Whether a browser says that a page of another site asked for the request, and the page's
    origin is none of ``origins``."""
    origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
    if origin is not None and (origin in origins or ANY_ORIGIN in origins):
        return False
    if site is not None:
        # No page can set it. It is right behind a proxy that changes Host, too.
        return site not in ("same-origin", "none")
    if origin is None:
        return False
    # "null", of a page without an origin, has no host.
    of, scheme = _host_of(origin), origin.partition(":")[0]
    return not of or of not in (_host_of(f"{scheme}://{host}"), _public_host())


def _public_host() -> str:
    """The host of RINGBACK_PUBLIC_URL, or ''."""
    return _host_of(current_app.config.get(PUBLIC_URL) or "")


@lru_cache(1024)
def _host_of(url: str) -> str:
    """The host as a browser names it in Origin: in lower case, with its port if that is not the
    usual one of the scheme."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.netloc.lower().removesuffix(_USUAL_PORTS.get(parts.scheme, ":"))


@lru_cache(1024)
def _hostname(host: str) -> str:
    """The host of a header Host, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host
