"""Traces of calls, if RINGBACK_TRACES asks for them. Otherwise this module imports nothing of
OpenTelemetry and does next to nothing.

A call has one trace, from the request that placed it to its end. Its hash carries
``traceparent``, the W3C form of that request's span. A call without it is not traced: the caller's
own trace is not sampled, or the sampler passed it over. The process that does a short thing traces
it. The process that notes the end of a long thing traces that, with the times in the call.

Nothing here raises, waits, or asks Redis for more than its clock.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from threading import Thread
from typing import TYPE_CHECKING, Any

from app.calls.model import Call
from app.settings import Settings, SettingsError

if TYPE_CHECKING:
    from flask import Flask, Response

    from app.telemetry.spans import RequestSpan, Spans

log = logging.getLogger(__name__)

# The two endpoints that place calls, under both of their prefixes.
_CREATE = ("uapi.create", "unifiedapi.create")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"

# The field of a call's hash that carries the trace.
FIELD = "traceparent"

# The spans of this process; None if it does not trace.
_spans: "Spans | None" = None
_request: ContextVar["RequestSpan | None"] = ContextVar("ringback_request", default=None)


def check(settings: Settings) -> None:
    """Check that traces are possible if the settings ask for them. Raises SettingsError."""
    if settings.traces is not None and not _is_installed():
        raise SettingsError(
            "RINGBACK_TRACES needs OpenTelemetry, which is not installed: "
            "pip install 'ringback-server[traces]'."
        )


def _is_installed() -> bool:
    try:
        return find_spec(_EXPORTER) is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def start(settings: Settings, process: str) -> None:
    """Trace what this process does from now on. Call it after a fork, never before. Raises
    SettingsError."""
    global _spans
    check(settings)
    if settings.traces is None:
        return
    try:
        # OpenTelemetry reads some of its variables at import.
        from app.telemetry.spans import Spans

        _spans = Spans(settings, process)
    except ValueError as error:
        raise SettingsError(f"The OTEL_* variables cannot be used: {error}") from error


def stop(limit: float) -> None:
    """Send the spans that are left, within ``limit`` seconds."""
    global _spans
    spans, _spans = _spans, None
    if spans is not None:
        # The SDK's own time limit is half a minute.
        thread = Thread(target=spans.shutdown, daemon=True)
        thread.start()
        thread.join(limit)


def is_on() -> bool:
    """Whether this process traces."""
    return _spans is not None


@contextmanager
def _harmless() -> Iterator[None]:
    """Log errors of tracing, so that the traced work never fails because of them."""
    try:
        yield
    except Exception:
        log.exception("lost a span")


# Requests


def trace_requests(app: "Flask") -> None:
    """Trace the requests that place calls, and those whose own trace is sampled."""
    if _spans is None:
        return
    from flask import request

    @app.before_request
    def _begin() -> None:
        _request.set(None)
        if _spans is not None and (request.endpoint in _CREATE or "traceparent" in request.headers):
            with _harmless():
                rule = request.url_rule.rule if request.url_rule else None
                asked = request.method, request.path, request.scheme
                _request.set(_spans.request(*asked, rule, request.headers))

    @app.after_request
    def _end(response: "Response") -> "Response":
        if (traced := _request.get()) is not None:
            with _harmless():
                traced.end(response.status_code)
        return response


def carried(call_ids: Sequence[str], clock: Callable[[], float]) -> Mapping[str, Any]:
    """The fields that new calls carry: ``traceparent`` if they are traced. ``clock`` returns the
    time that all processes share, in epoch seconds."""
    if (traced := _request.get()) is not None:
        with _harmless():
            return traced.carried(call_ids, clock())
    return {}


# Calls


def changed(old: Call, new: Call) -> None:
    """Send the spans that a written change of a call ends."""
    if _spans is not None and new.traceparent is not None:
        with _harmless():
            _spans.changed(old, new, new.traceparent)


@contextmanager
def span(
    call_id: str,
    traceparent: str | None,
    name: str,
    clock: Callable[[], float],
    attributes: Mapping[str, Any],
    *,
    since: float | None = None,
) -> Iterator[None]:
    """Trace what the body of the ``with`` does for a call; an exception makes the span an error.
    The span begins now, or at ``since`` in epoch seconds."""
    if _spans is None or traceparent is None:
        yield
        return
    begun, failed = time.monotonic(), None
    try:
        yield
    # gevent's Timeout is a BaseException.
    except BaseException as error:
        failed = error
        raise
    finally:
        with _harmless():
            # The clock is asked only now: its answer may take a while, and the body must not wait.
            end = clock()
            begin = end - (time.monotonic() - begun) if since is None else since
            _spans.short(call_id, traceparent, name, begin, end, attributes, failed)
