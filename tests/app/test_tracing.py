"""What is traced of a call, and that nothing is done where nothing is asked for."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.calls import transitions
from app.calls.model import Call, State
from app.calls.transitions import LegReport
from app.settings import Settings, SettingsError
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.writes import Note
from app.telemetry import tracing
from ringback_cli.up import free_port
from tests.conftest import LIMIT
from tests.otlp import Collector, Sent, collecting

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NOTE = Note("event", "test")
BODY = {
    "extension": "210",
    "phoneCallView": [{"source": ["15553217788"], "destination": ["15550042233"]}],
}
PATH = "/uapi/phoneCalls/@me/simple"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        yield collector
        tracing.stop(LIMIT)


class Traced:
    """An API that traces, and calls that go their way."""

    def __init__(self, settings: Settings) -> None:
        tracing.start(replace(settings, traces="otlp"), "api")
        self.client: FlaskClient = create_app(replace(settings, traces="otlp")).test_client()

    def post(self, **headers: str) -> Any:
        token = {"Authorization": "Bearer demo-user-token"}
        return self.client.post(PATH, json=BODY, headers={**token, **headers})


def ended(store: CallStore, call_id: str) -> Call:
    """The call after a talk, told of leg by leg."""
    call = store.get(call_id)
    assert call is not None
    a, b = (leg.uuid for leg in call.legs)
    t = call.accepted
    claim = partial(transitions.claim, worker="w", switch="main", core_uuid="u", at=t + 1)
    reports = [
        LegReport(a, created=t + 2, ringing=t + 3, answered=t + 4),
        LegReport(b, created=t + 5, ringing=t + 6, answered=t + 7, bridged=t + 7, bridged_to=a),
        LegReport(b, ended=t + 20, cause="NORMAL_CLEARING", sip_disposition="recv_bye"),
        LegReport(a, ended=t + 21, cause="NORMAL_CLEARING"),
        # Too late: its span is gone.
        LegReport(a, early_media=t + 3),
    ]
    for change in [claim, *(partial(transitions.report_leg, report=each) for each in reports)]:
        call = store.change(call, change, NOTE)
    assert call.state is State.ENDED
    return call


def by_name(spans: list[Sent]) -> dict[str, Sent]:
    return {span.name: span for span in spans}


def test_a_call_is_one_trace(
    settings: Settings, redis: Redis, store: CallStore, collector: Collector
) -> None:
    traced = Traced(settings)
    answer = traced.post(traceparent=f"00-{TRACE}-{CALLER}-01")
    call = ended(store, answer.json[0]["id"])
    tracing.stop(LIMIT)
    spans = by_name(collector.spans)
    route = "POST /uapi/phoneCalls/{user}/{kind}"
    assert set(spans) == {route, "queued", "source leg", "destination leg", "call"}
    assert len(collector.spans) == 5
    assert {span.trace for span in collector.spans} == {TRACE}
    assert {span.service for span in collector.spans} == {"ringback-api"}
    post, whole = spans[route], spans["call"]
    assert (post.parent, whole.parent) == (CALLER, post.id)
    assert {spans[name].parent for name in ("queued", "source leg", "destination leg")} == {
        whole.id
    }
    assert post.attributes["http.response.status_code"] == 202
    assert post.attributes["ringback.call.id"] == call.id
    ns = partial(after, call)
    assert post.begin <= whole.begin <= post.end
    assert (whole.begin, whole.end) == (ns(0), ns(21))
    assert (spans["queued"].begin, spans["queued"].end) == (ns(0), ns(1))
    source = spans["source leg"]
    assert (source.begin, source.end) == (ns(2), ns(21))
    assert source.events == [("ringing", ns(3)), ("answered", ns(4)), ("bridged", ns(7))]
    assert source.attributes["ringback.leg.number"] == "xxxxxxxxx88"
    assert source.attributes["ringback.leg.hangup_cause"] == "NORMAL_CLEARING"
    assert whole.attributes["ringback.call.ended_by"] == "destination"
    assert whole.attributes["ringback.call.disposition"] == 0
    assert not whole.failed


def after(call: Call, seconds: float) -> int:
    return round((call.accepted + seconds) * 1e6) * 1000


def test_a_fault_is_an_error(
    settings: Settings, redis: Redis, store: CallStore, collector: Collector
) -> None:
    call_id = Traced(replace(settings, log_numbers="full")).post().json[0]["id"]
    call = store.get(call_id)
    assert call is not None
    a = call.legs[0].uuid
    call = store.change(
        call, partial(transitions.report_leg, report=LegReport(a, created=call.accepted + 1)), NOTE
    )
    end = partial(transitions.end, fault=transitions.EVENTS_LOST, at=call.accepted + 9)
    store.change(call, end, NOTE)
    tracing.stop(LIMIT)
    spans = by_name(collector.spans)
    assert spans["call"].failed
    # It has ended with the call, and nobody knows better.
    assert spans["source leg"].end == after(call, 9)
    assert spans["source leg"].attributes["ringback.leg.number"] == "15553217788"
    # Nothing of the destination, which was never dialled.
    assert "destination leg" not in spans


def test_what_the_caller_does_not_sample_is_not_traced(
    settings: Settings, redis: Redis, store: CallStore, collector: Collector
) -> None:
    call_id = Traced(settings).post(traceparent=f"00-{TRACE}-{CALLER}-00").json[0]["id"]
    ended(store, call_id)
    tracing.stop(LIMIT)
    assert not collector.spans
    assert not redis.hexists(Keys().call(call_id), "traceparent")


def test_the_sampler_is_opentelemetrys(
    settings: Settings,
    redis: Redis,
    store: CallStore,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    ended(store, Traced(settings).post().json[0]["id"])
    tracing.stop(LIMIT)
    assert not collector.spans


def test_of_other_requests_those_with_a_trace(
    settings: Settings, redis: Redis, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "telephony")
    traced = Traced(settings)
    path = "/uapi/phoneCalls/@me/210/15553217788"
    of_caller = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    for headers in ({}, of_caller, of_caller | {"Authorization": "Bearer demo-user-token"}):
        traced.client.get(path, headers=headers)
    # Nor does a client without a token choose what is traced of what is not there.
    traced.client.get("/nothing", headers=of_caller)
    tracing.stop(LIMIT)
    (span,) = collector.spans
    assert (span.service, span.trace, span.parent) == ("telephony", TRACE, CALLER)
    assert span.name == "GET /uapi/phoneCalls/{user}/{extension}/{call_id}"
    assert span.attributes["url.path"] == "/uapi/phoneCalls/@me/210/xxxxxxxxx88"
    assert span.attributes["http.response.status_code"] == 404


def test_no_header_is_quoted(
    settings: Settings,
    redis: Redis,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key S3cret")
    traced = Traced(settings)
    assert "S3cret" not in caplog.text and "xxx" in caplog.text
    caplog.clear()
    bad = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "not a state"}
    assert traced.post(**bad).status_code == 202
    assert traced.post(traceparent="0" * 1000).status_code == 202
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_what_fails_within_a_span_fails_as_without(
    settings: Settings, redis: Redis, collector: Collector
) -> None:
    tracing.start(replace(settings, traces="otlp"), "worker")
    parent = f"00-{TRACE}-{CALLER}-01"
    with pytest.raises(OSError), tracing.span("c", parent, "originate", lambda: 9.0, {"a": None}):
        raise OSError("no way to 15553217788")
    # A clock that cannot be asked costs the span alone.
    with tracing.span("c", parent, "lost", lambda: 1 / 0, {}):
        pass
    with tracing.span("c", None, "untraced", lambda: 9.0, {}):
        pass
    tracing.stop(LIMIT)
    (span,) = collector.spans
    assert (span.name, span.failed, span.end) == ("originate", True, 9_000_000_000)
    assert span.attributes == {"ringback.call.id": "c", "error.type": "OSError"}


def test_without_a_collector_calls_go_on(
    settings: Settings, redis: Redis, store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    # Bounded: more than it holds is dropped.
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    traced = Traced(settings)
    for _ in range(5):
        ended(store, traced.post().json[0]["id"])
    tracing.stop(0.1)
    assert traced.post().status_code == 202


def test_off_it_carries_nothing(settings: Settings, redis: Redis) -> None:
    client = create_app(settings).test_client()
    headers = {
        "Authorization": "Bearer demo-user-token",
        "traceparent": f"00-{TRACE}-{CALLER}-01",
    }
    call_id = client.post(PATH, json=BODY, headers=headers).json[0]["id"]
    assert not redis.hexists(Keys().call(call_id), "traceparent")


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_off_nothing_of_it_is_imported() -> None:
    # redis-py imports the API by itself, where it is installed.
    ours = "{'app.telemetry.spans', 'opentelemetry.exporter', 'opentelemetry.sdk.trace.export'}"
    result = run(f"import sys, workers.processes; sys.exit(bool({ours} & set(sys.modules)))")
    assert result.returncode == 0, result.stderr


def test_without_the_extra_it_says_what_to_install() -> None:
    result = run(
        """if True:
        import os, sys

        class NotInstalled:
            def find_spec(self, name, *_):
                if name.startswith("opentelemetry"):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, NotInstalled())
        os.environ |= {"RINGBACK_REDIS_URL": "redis://127.0.0.1:1", "RINGBACK_TRACES": "otlp"}
        os.environ["RINGBACK_DEMO"] = "known"
        from ringback_cli.main import main
        main(["api"])
        """
    )
    assert result.returncode == 2, result.stderr
    assert "pip install 'ringback-server[traces]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bad_variable_of_opentelemetry_stops_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(SettingsError, match="OTEL_"):
        tracing.start(replace(settings, traces="otlp"), "worker")
