"""Traces of calls, where RINGBACK_TRACES asks for them: otherwise nothing of OpenTelemetry is
imported here, and next to nothing is done.

A call has one trace, from the request that placed it to its end. Its hash carries
``traceparent``, the W3C form of that request's span; a call without it is not traced, be it that
the caller's own trace is not sampled or that the sampler passed it over. What is short is traced
by who does it, what lasts by whoever notes its end, with the times that stand in the call.

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

# The field of a call's hash.
FIELD = "traceparent"

# Those of this process; None where nothing is traced.
_spans: "Spans | None" = None
_request: ContextVar["RequestSpan | None"] = ContextVar("ringback_request", default=None)


def check(settings: Settings) -> None:
    """Raises SettingsError where traces are asked for and cannot be had."""
    if settings.traces is not None and not _is_installed():
        raise SettingsError(
            "RINGBACK_TRACES takes OpenTelemetry, which is not installed: "
            "pip install 'ringback[traces]'."
        )


def _is_installed() -> bool:
    try:
        return find_spec(_EXPORTER) is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def start(settings: Settings, process: str) -> None:
    """Trace what this process does from now on; not before a fork. Raises SettingsError."""
    global _spans
    check(settings)
    if settings.traces is None:
        return
    try:
        # Some of its variables are read with the import.
        from app.telemetry.spans import Spans

        _spans = Spans(settings, process)
    except ValueError as error:
        raise SettingsError(f"The OTEL_* variables cannot be used: {error}") from error


def stop(limit: float) -> None:
    """Send what is left, within ``limit`` seconds."""
    global _spans
    spans, _spans = _spans, None
    if spans is not None:
        # Its own time limit is half a minute.
        thread = Thread(target=spans.shutdown, daemon=True)
        thread.start()
        thread.join(limit)


def is_on() -> bool:
    """Whether this process traces."""
    return _spans is not None


@contextmanager
def _harmless() -> Iterator[None]:
    """Nothing that is traced fails because of it."""
    try:
        yield
    except Exception:
        log.exception("a span is lost")


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
    """The fields that new calls carry: ``traceparent`` where they are traced. ``clock`` tells the
    time that all processes share."""
    if (traced := _request.get()) is not None:
        with _harmless():
            return traced.carried(call_ids, clock())
    return {}


# Calls


def changed(old: Call, new: Call) -> None:
    """A change of a call was written: trace what is over with it."""
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
    """Trace what is done for a call within; an exception makes it an error. It begins now or at
    ``since``, in epoch seconds."""
    if _spans is None or traceparent is None:
        yield
        return
    begun, failed = time.monotonic(), None
    try:
        yield
    # Of gevent's time limits too.
    except BaseException as error:
        failed = error
        raise
    finally:
        with _harmless():
            # Only now: to ask for the time may take a while, and what is done here may not wait.
            end = clock()
            begin = end - (time.monotonic() - begun) if since is None else since
            _spans.short(call_id, traceparent, name, begin, end, attributes, failed)
