"""The page of a process by itself: its metrics, and whether it is ready."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import gevent
from flask import Blueprint, Flask
from gevent import monkey, socket
from gevent.pywsgi import WSGIServer

from app.health.metrics_page import blueprint as metrics
from app.health.parts import Parts, RedisProbe
from app.health.views import blueprint as health
from app.services import watching
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
    shown: set[str] = set()
    while True:
        now = connected()
        for switch in shown - now.keys():
            counting.forgotten(switch, process)
        for switch, up in now.items():
            counting.connected(switch, process, up)
        shown = {*now}
        gevent.sleep(_LOOK)


def _server(settings: Settings, others: Callable[[], Parts]) -> WSGIServer:
    probe = RedisProbe.of(settings)
    app = _page(lambda: {"redis": probe(), **others()}, metrics())
    address = settings.metrics_address
    # Requests come every few seconds, so none is logged. Connections are not limited: Prometheus
    # keeps some open, and a check whether the process is alive must find one.
    server = WSGIServer(address, app, log=None, error_log=log)
    try:
        server.start()
    except OSError as error:
        raise _taken(settings, error) from error
    return server


def _page(parts: Callable[[], Parts], metrics: Blueprint) -> Flask:
    app = Flask("ringback-process", static_folder=None)
    app.url_map.strict_slashes = False
    logs.bind_request(app)
    add_headers(app)
    app.register_blueprint(health(parts))
    app.register_blueprint(metrics)
    register_errors(app)
    return app


def _taken(settings: Settings, error: OSError) -> SettingsError:
    return SettingsError(
        f"RINGBACK_METRICS: cannot listen on {settings.metrics}: {error.strerror}. "
        "Each process needs an address of its own."
    )


def listen(settings: Settings) -> Any:
    """The socket at RINGBACK_METRICS for all server processes of an API; None if that is not set.
    Raises SettingsError."""
    address = settings.metrics_address
    if address is None:
        return None
    try:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        listener = socket.create_server(address, family=family)
    except OSError as error:
        raise _taken(settings, error) from error
    listener.setblocking(False)
    return listener


def tell_beside(settings: Settings, listener: Any) -> None:
    """Serve the page of an API's server process on this socket, in a thread of the system: however
    many clients keep the API busy, none keeps the page from answering.

    The thread has its own loop, connections to Redis and accounts. It shares the counts alone.
    """
    handle = listener.detach()

    def serve() -> None:
        # gevent's queues and sockets belong to the loop of the thread that makes them.
        parts, gauges = watching(settings)
        app = _page(parts, metrics([gauges], write_counts=lambda: None))
        own = socket.socket(fileno=handle)
        WSGIServer(own, app, log=None, error_log=log).serve_forever()

    monkey.get_original("_thread", "start_new_thread")(serve, ())
