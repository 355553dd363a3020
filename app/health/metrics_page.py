"""The metrics page that a Prometheus server reads, and the counting of requests."""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from flask import Blueprint, Flask, Response, request
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.health.gauges import BuildInfo
from app.telemetry import counting
from app.telemetry.registry import REGISTRY, SHARED
from app.web.needs import needs

# The key in the WSGI environment for the time when a request arrived.
_BEGUN = "ringback.begun"


def blueprint(
    more: Iterable[Collector] = (), write_counts: Callable[[], None] = counting.write
) -> Blueprint:
    """The route ``/metrics``, with the gauges that ``more`` reads. A page in a thread of its own
    must not write the counts of the others: it takes what was written a second ago."""
    shown = CollectorRegistry()
    if SHARED:
        MultiProcessCollector(shown, SHARED)  # type: ignore[no-untyped-call]
    else:
        shown.register(REGISTRY)
        ProcessCollector(registry=shown)
    for collector in (BuildInfo(), *more):
        shown.register(collector)

    def metrics() -> Response:
        write_counts()
        write, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(write(shown), content_type=content_type)

    blue = Blueprint("metrics", __name__)
    blue.get("/metrics")(needs(None)(metrics))
    return blue


def count_requests(app: Flask) -> None:
    """Count each request of ``app`` by the rule that it matches."""
    serve = app.wsgi_app

    def begin(environ: Any, start_response: Any) -> Any:
        environ[_BEGUN] = perf_counter()
        return serve(environ, start_response)

    @app.after_request
    def _answered(response: Response) -> Response:
        environ, rule = request.environ, request.url_rule
        counting.request(
            rule.rule if rule is not None else None,
            environ["REQUEST_METHOD"],
            response.status_code,
            perf_counter() - environ.get(_BEGUN, perf_counter()),
        )
        return response

    app.wsgi_app = begin  # type: ignore[method-assign]
