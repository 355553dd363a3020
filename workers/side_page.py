"""The page of a process other than the API: its metrics, and whether it is ready."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import gevent
from flask import Flask
from gevent.pywsgi import WSGIServer

from app.health.metrics_page import blueprint as metrics
from app.health.parts import Parts, impatient_store, redis_part
from app.health.views import blueprint as health
from app.settings import Settings, SettingsError
from app.telemetry import counting, logs
from app.web.answers import register_errors
from app.web.headers import add_headers

log = logging.getLogger(__name__)

# Seconds between two looks at the connections to the switches.
_LOOK = 1.0

# Returns for each switch whether the process is connected to it.
Connected = Callable[[], Mapping[str, bool]]


@contextmanager
def telling(
    settings: Settings,
    process: str,
    connected: Connected = dict,
    parts: Callable[[Mapping[str, bool]], Parts] = lambda _: {},
) -> Iterator[None]:
    """Serve the page at RINGBACK_METRICS, if that is set, and count connections meanwhile.
    ``parts`` are the parts that the process needs apart from Redis. Raises SettingsError."""
    with ExitStack() as exits:
        if settings.metrics_address is not None:
            server = _server(settings, lambda: parts(connected()))
            exits.callback(server.stop, timeout=0)
        for loop in (gevent.spawn(_watch, process, connected), gevent.spawn(counting.keep_written)):
            exits.callback(loop.kill)
        yield


def _watch(process: str, connected: Connected) -> None:
    while True:
        for switch, up in connected().items():
            counting.connected(switch, process, up)
        gevent.sleep(_LOOK)


def _server(settings: Settings, others: Callable[[], Parts]) -> WSGIServer:
    store = impatient_store(settings)
    app = Flask("ringback-process", static_folder=None)
    app.url_map.strict_slashes = False
    logs.bind_request(app)
    add_headers(app)
    app.register_blueprint(health(lambda: {"redis": redis_part(store), **others()}))
    app.register_blueprint(metrics())
    register_errors(app)
    # Requests come every few seconds, so none is logged. Connections are not limited: Prometheus
    # keeps some open, and a check whether the process is alive must find one.
    server = WSGIServer(settings.metrics_address, app, log=None, error_log=log)
    try:
        server.start()
    except OSError as error:
        raise SettingsError(
            f"RINGBACK_METRICS: cannot listen on {settings.metrics}: {error.strerror}. "
            "Each process needs an address of its own."
        ) from error
    return server
