"""The spans of calls, made with OpenTelemetry's SDK. A process imports this module only if
RINGBACK_TRACES is set."""

import logging
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from werkzeug.datastructures import Headers

from app.calls.model import Call, Leg, NumberKind, State
from app.settings import Settings
from app.telemetry.logs import hide_number, hide_numbers, hide_secrets, is_abnormal

# A route's parameter in Flask's form, which becomes ``{name}`` in OpenTelemetry's form.
_PARAMETER = re.compile(r"<(?:[^<>:]*:)?(\w+)>")
# The times of a leg that become events of its span.
_MOMENTS = """
    early_media ringing answered bridged held unheld parked unparked recording recorded voicemail
""".split()
_propagator = TraceContextTextMapPropagator()


def _hide_header(record: logging.LogRecord) -> bool:
    record.args = ("xxx",)
    return True


# Otherwise any client could fill the log with errors about its headers.
logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
# This logger quotes the parts of OTEL_EXPORTER_OTLP_HEADERS that it cannot read. Most are keys.
logging.getLogger("opentelemetry.util.re").addFilter(_hide_header)


class _Ids(RandomIdGenerator):
    """A generator of random ids. A span that all processes must know gets its id from ``next``."""

    def __init__(self) -> None:
        self.next: int | None = None

    def generate_span_id(self) -> int:
        given, self.next = self.next, None
        return super().generate_span_id() if given is None else given


class Spans:
    """The spans that one process sends."""

    def __init__(self, settings: Settings, process: str) -> None:
        self._full = settings.log_numbers == "full"
        self._ids = _Ids()
        attributes = {
            "service.version": version("ringback-server"),
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        }
        if not _is_named():
            attributes["service.name"] = f"ringback-{process}"
        self._provider = TracerProvider(
            resource=Resource.create(attributes),
            id_generator=self._ids,
            # At exit the provider could delay the whole process; stop() of tracing has a limit.
            shutdown_on_exit=False,
        )
        # The span processor has a bounded queue, which its own greenlet empties.
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("ringback", version("ringback-server"))

    def shutdown(self) -> None:
        self._provider.shutdown()

    def number(self, text: str) -> str:
        return text if self._full else hide_number(text)

    def text(self, text: str) -> str:
        text = hide_secrets(text)
        return text if self._full else hide_numbers(text)

    def begin(
        self,
        name: str,
        context: Context,
        begin: float,
        attributes: Mapping[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
        span_id: int | None = None,
    ) -> Span:
        self._ids.next = span_id
        known = {name: value for name, value in attributes.items() if value is not None}
        return self._tracer.start_span(name, context, kind, known, start_time=_ns(begin))

    def request(
        self,
        method: str,
        path: str,
        scheme: str,
        rule: str | None,
        headers: Headers,
    ) -> "RequestSpan":
        route = _PARAMETER.sub(r"{\1}", rule) if rule else None
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "url.path": self.text(path),
            "url.scheme": scheme,
        }
        # The propagator compares the names with their case.
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        context = _propagator.extract(carrier, Context())
        return RequestSpan(self, f"{method} {route or ''}".strip(), context, attributes)

    # Calls

    def changed(self, old: Call, new: Call, traceparent: str) -> None:
        """Send the spans that a change of a call ends. Changes after the call's end send none."""
        if old.state is State.ENDED:
            return
        ended, end = new.state is State.ENDED, new.ended or 0.0
        within = _within(new.id, traceparent)
        if old.claimed is None and (new.claimed is not None or ended):
            self._queued(new, within, end if new.claimed is None else new.claimed)
        if ended or new.legs is not old.legs:
            before = {leg.id: leg for leg in old.legs}
            for leg in new.legs:
                was = before.get(leg.id)
                if leg.ended is not None and (was is None or was.ended is None):
                    self._leg(new, leg, within, leg.ended)
                elif ended and leg.ended is None:
                    self._leg(new, leg, within, end)
        if ended:
            self._call(new, traceparent, end)

    def _queued(self, call: Call, within: Context, end: float) -> None:
        attributes = {
            "ringback.call.id": call.id,
            "messaging.system": "rq",
            "messaging.destination.name": "ringback-calls",
        }
        self.begin("queued", within, call.accepted, attributes).end(_ns(end, call.accepted))

    def _leg(self, call: Call, leg: Leg, within: Context, end: float) -> None:
        if leg.created is None:
            # The switch never dialled this leg.
            return
        number = leg.number if leg.kind is NumberKind.EXTENSION else self.number(leg.number)
        span = self.begin(
            f"{leg.role} leg",
            within,
            leg.created,
            {
                "ringback.call.id": call.id,
                "ringback.leg.id": leg.id,
                "ringback.leg.uuid": leg.uuid,
                "ringback.leg.number": number,
                "ringback.leg.gateway": leg.trunk,
                "ringback.leg.action": leg.action,
                "ringback.leg.hangup_cause": leg.cause,
                "ringback.leg.sip_disposition": leg.sip_disposition,
                "ringback.switch": call.switch,
            },
            SpanKind.CLIENT,
        )
        moments = [(name, at) for name in _MOMENTS if (at := getattr(leg, name)) is not None]
        for name, at in sorted(moments, key=lambda moment: moment[1]):
            span.add_event(name, timestamp=_ns(at))
        span.end(_ns(end, leg.created))

    def _call(self, call: Call, traceparent: str, end: float) -> None:
        span = self.begin(
            "call",
            _context(traceparent),
            call.accepted,
            {
                "ringback.call.id": call.id,
                "ringback.call.kind": call.kind,
                "ringback.call.disposition": call.disposition,
                "ringback.call.hangup_cause": call.hangup_cause,
                "ringback.call.ended_by": call.ended_by,
                "ringback.organization": call.organization,
                "ringback.user": call.user,
                "ringback.extension": call.extension,
                "ringback.app": call.app,
                "ringback.switch": call.switch,
                "ringback.worker": call.worker,
            },
            span_id=_call_span(call.id),
        )
        for name in ("sent", "answered", "bridged", "hangup_requested"):
            if (at := getattr(call, name)) is not None:
                span.add_event(name, timestamp=_ns(at))
        if is_abnormal(call):
            span.set_status(Status(StatusCode.ERROR, f"{call.ended_by}: {call.hangup_cause}"))
        span.end(_ns(end, call.accepted))

    def short(
        self,
        call_id: str,
        traceparent: str,
        name: str,
        begin: float,
        end: float,
        attributes: Mapping[str, Any],
        failed: BaseException | None,
    ) -> None:
        known = {"ringback.call.id": call_id, **attributes}
        if failed is not None:
            known["error.type"] = type(failed).__name__
        span = self.begin(name, _within(call_id, traceparent), begin, known, SpanKind.CLIENT)
        if failed is not None:
            span.set_status(Status(StatusCode.ERROR, self.text(str(failed))))
        span.end(_ns(end, begin))


class RequestSpan:
    """The span of an HTTP request, made if the request places calls or brings a trace."""

    def __init__(
        self, spans: Spans, name: str, context: Context, attributes: Mapping[str, Any]
    ) -> None:
        self._spans = spans
        self._name = name
        self._context = context
        self._attributes = attributes
        self._begun = time.monotonic()
        self._begin = 0.0
        self._span: Span | None = None

    def carried(self, call_ids: Sequence[str], now: float) -> dict[str, str]:
        """The fields that new calls carry; ``now`` is the time of their spans in epoch seconds."""
        self._make(now, {"ringback.call.id": ",".join(call_ids)})
        assert self._span is not None
        context = self._span.get_span_context()
        if not context.trace_flags.sampled:
            return {}
        flags = f"{context.trace_flags & 0xFF:02x}"
        return {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}"}

    def end(self, status: int) -> None:
        if self._span is None:
            # A client without a token must not choose what is traced.
            known = status != 401 and self._attributes["http.route"]
            if not known or not get_current_span(self._context).get_span_context().is_valid:
                return
            self._make(time.time(), {})
            assert self._span is not None
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(_ns(self._begin + time.monotonic() - self._begun))

    def _make(self, now: float, more: Mapping[str, Any]) -> None:
        self._begin = now - (time.monotonic() - self._begun)
        attributes = {**self._attributes, **more}
        self._span = self._spans.begin(
            self._name, self._context, self._begin, attributes, SpanKind.SERVER
        )


def _is_named() -> bool:
    """Whether OpenTelemetry's variables name the service. A name set in code would override
    them."""
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return bool(os.environ.get("OTEL_SERVICE_NAME")) or "service.name=" in given


def _ns(at: float, least: float = 0.0) -> int:
    """Epoch seconds as nanoseconds, rounded to the microsecond and not before ``least``: the
    clocks of the switch and of Redis differ."""
    return round(max(at, least) * 1e6) * 1000


def _call_span(call_id: str) -> int:
    return int.from_bytes(blake2b(call_id.encode(), digest_size=8).digest())


def _context(traceparent: str, span_id: int | None = None) -> Context:
    """The context for children of the request's span, or of the trace's span ``span_id``."""
    _, trace, parent, flags = traceparent.split("-")
    context = SpanContext(
        int(trace, 16), span_id or int(parent, 16), True, TraceFlags(int(flags, 16))
    )
    return set_span_in_context(NonRecordingSpan(context), Context())


@lru_cache(maxsize=1024)
def _within(call_id: str, traceparent: str) -> Context:
    """The context for children of the call's span."""
    return _context(traceparent, _call_span(call_id))
