"""What real processes trace and log of a call, from its POST to its hang-up."""

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.calls.model import Call, State
from tests.integration.conftest import started
from tests.otlp import Sent, collecting
from tests.receiver import receiving

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOURCE, DESTINATION = "15553217717", "15550042200"
AUTHORIZATION = {"Authorization": "Bearer demo-user-token"}


@dataclass
class Told:
    call: Call
    spans: list[Sent]
    lines: list[dict[str, Any]]
    webhooks: int

    def span(self, name: str) -> Sent:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@contextmanager
def errors_into(path: Path) -> Iterator[None]:
    """Standard error of what is started goes into a file."""
    kept = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """All there is after a call with an action and call events, and the end of all processes."""
    path = tmp_path_factory.mktemp("logs") / "stderr"
    with (
        collecting() as collector,
        receiving() as receiver,
        pytest.MonkeyPatch.context() as patch,
        errors_into(path),
    ):
        for name, value in collector.environment.items():
            patch.setenv(name, value)
        # What each has is sent with its end.
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
        with started(
            None, traces="otlp", log_format="json", log_level="DEBUG", webhook_allow="127.0.0.0/8"
        ) as ringback:
            connection = http.client.HTTPConnection(*ringback.stack.settings.http_address)

            def ask(method: str, path: str, body: Any, **headers: str) -> Any:
                headers |= AUTHORIZATION
                connection.request(method, f"/uapi/{path}", json.dumps(body), headers)
                answer = connection.getresponse()
                assert answer.status in (200, 202)
                return json.loads(answer.read())

            for kind in range(5):
                hook = {"url": f"{receiver.url}/{kind}", "method": "1"}
                ask("POST", f"extensions/@me/210/phoneCallEvents/{kind}", hook)
            views = [{"source": [SOURCE], "destination": [DESTINATION]}]
            (answer,) = ask(
                "POST",
                "phoneCalls/@me/simple",
                {"extension": "210", "phoneCallView": views},
                traceparent=f"00-{TRACE}-{CALLER}-01",
            )
            call_id = answer["id"]
            ringback.wait_state(call_id, State.BRIDGED)
            hold = {"action": "OnHold", "phoneCallViewId": "00"}
            ask("PUT", f"phoneCalls/@me/@self/{call_id}", hold)
            ask("DELETE", f"phoneCalls/@me/@self/{call_id}", None)
            call = ringback.ended(call_id)
            # gunicorn refuses it, and has no path to log.
            connection.request("GET", "/", headers={"Content-Length": "x"})
            assert connection.getresponse().status == 400
            connection.close()
            for _ in range(3):
                receiver.next()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    yield Told(call, collector.spans, lines, len(receiver.seen))


def test_all_spans_are_of_one_trace_and_have_their_parents(told: Told) -> None:
    of_call = [span for span in told.spans if "ringback.call.id" in span.attributes]
    assert {span.trace for span in of_call} == {TRACE}
    assert {span.attributes["ringback.call.id"] for span in of_call} == {told.call.id}
    assert len({span.id for span in told.spans}) == len(told.spans)
    post, call = told.span("POST /uapi/phoneCalls/{user}/{kind}"), told.span("call")
    assert (post.parent, call.parent) == (CALLER, post.id)
    inner = [span for span in of_call if span not in (post, call)]
    assert {span.parent for span in inner} == {call.id}
    assert sorted(span.name for span in inner) == sorted(
        ["queued", "originate", "source leg", "destination leg", "action OnHold"]
        + ["webhook"] * told.webhooks
    )


def test_each_process_sends_its_own(told: Told) -> None:
    services = {span.name: span.service for span in told.spans}
    assert services == {
        "POST /uapi/phoneCalls/{user}/{kind}": "ringback-api",
        "queued": "ringback-worker",
        "originate": "ringback-worker",
        "action OnHold": "ringback-worker",
        "source leg": "ringback-listener",
        "destination leg": "ringback-listener",
        "call": "ringback-listener",
        "webhook": "ringback-webhooks",
    }


def test_times_are_in_order(told: Told) -> None:
    post, call = told.span("POST /uapi/phoneCalls/{user}/{kind}"), told.span("call")
    queued, originate = told.span("queued"), told.span("originate")
    source, action = told.span("source leg"), told.span("action OnHold")
    assert post.begin <= call.begin == queued.begin <= post.end
    assert queued.end <= originate.begin <= originate.end <= action.begin <= action.end
    assert call.begin <= source.begin <= source.end
    moments = dict(source.events)
    assert source.begin <= moments["answered"] <= moments["bridged"] <= source.end
    assert all(span.begin <= span.end for span in told.spans)
    assert call.attributes["ringback.call.ended_by"] == "api"
    assert call.attributes["ringback.call.hangup_cause"] == told.call.hangup_cause
    assert source.attributes["ringback.leg.number"] == "xxxxxxxxx17"


def test_lines_carry_the_call_and_no_numbers(told: Told) -> None:
    assert {line["process"] for line in told.lines} == {
        *("api", "worker", "listener", "webhooks", "simulator")
    }
    for line in told.lines:
        assert {"time", "level", "logger", "pid", "event"} <= set(line)
        text = json.dumps(line)
        assert SOURCE not in text and DESTINATION not in text, line
        assert "demo-user-token" not in text and "ClueCon" not in text, line
        if told.call.id in line["event"]:
            # Whoever looks for the call by its field finds all but RQ's own at DEBUG, and the
            # server's of what it has not looked at yet.
            known = line["logger"] not in ("rq.worker", "gunicorn.error")
            assert line.get("call") == (told.call.id if known else None), line
    (end,) = [line for line in told.lines if line["event"] == "call ended"]
    assert (end["process"], end["level"]) == ("listener", "info")
    assert (end["call"], end["switch"]) == (told.call.id, "simulator")
    assert (end["disposition"], end["cause"], end["ended_by"]) == (
        *("answered", told.call.hangup_cause, "api"),
    )
    access = [line for line in told.lines if line["logger"] == "gunicorn.access"]
    touched = [line["event"].split()[0] for line in access if line.get("call") == told.call.id]
    assert touched == ["POST", "PUT", "DELETE"]
    # Two create call events, and gunicorn refuses one before the application sees it.
    ids = [line["request_id"] for line in access]
    assert len(set(ids)) == len(ids) > 3
    assert any("switch" in line for line in told.lines if line["process"] == "listener")
