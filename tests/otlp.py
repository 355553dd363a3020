"""A collector of traces, for tests that send some: OTLP over HTTP, as protobuf."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

# Seconds after which what was to come is given up.
LIMIT = 60.0


@dataclass(frozen=True)
class Sent:
    """A span as it arrived; ids in hexadecimal, times in nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    begin: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, int]]
    failed: bool

    @property
    def leg(self) -> str:
        found: str = self.attributes["ringback.leg.id"]
        return found


class Collector:
    def __init__(self) -> None:
        self.spans: list[Sent] = []
        self._news = Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector._take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}).start()

    def wait(self, until: Callable[[list[Sent]], bool]) -> list[Sent]:
        """All that has come once ``until`` holds of it."""
        with self._news:
            assert self._news.wait_for(lambda: until(self.spans), LIMIT), self.spans
            return list(self.spans)

    def named(self, name: str) -> list[Sent]:
        return [span for span in self.spans if span.name == name]

    def _take(self, request: ExportTraceServiceRequest) -> None:
        with self._news:
            for group in request.resource_spans:
                service = _plain(group.resource.attributes)["service.name"]
                for scope in group.scope_spans:
                    self.spans += [_sent(service, span) for span in scope.spans]
            self._news.notify_all()


def _sent(service: str, span: Any) -> Sent:
    return Sent(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _plain(span.attributes),
        [(event.name, event.time_unix_nano) for event in span.events],
        span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
