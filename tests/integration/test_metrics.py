"""Metrics and health of processes as they run."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.calls.model import State
from app.store.client import connect
from ringback_cli.up import free_port
from tests.conftest import eventually, redis_running
from tests.integration.conftest import REAL, Ringback
from tests.integration.test_processes import environment

BIN = Path(sys.executable).parent
LIMIT = 60


def get(address: tuple[str, int] | str, path: str) -> tuple[int, str]:
    """Status and text; 0 while nobody answers."""
    host, port = address.split(":") if isinstance(address, str) else address
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


class Metrics:
    """What one scrape shows."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        status, text = get(address, "/metrics")
        assert status == 200
        self._samples = [s for f in text_string_to_metric_families(text) for s in f.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of those that have these labels."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == f"ringback_{name}" and labels.items() <= sample.labels.items()
        )


def readiness(address: tuple[str, int] | str) -> tuple[int, dict[str, str]]:
    status, text = get(address, "/readyz")
    parts: dict[str, Any] = json.loads(text)["parts"] if text else {}
    return status, {name: part["status"] for name, part in parts.items()}


# What a bridged call and one to a busy source are counted as.
BY_API = {"disposition": "answered", "cause": "NORMAL_CLEARING", "ended_by": "api"}
BY_SOURCE = {"disposition": "busy", "cause": "USER_BUSY", "ended_by": "source"}
EXPECTED: list[tuple[str, dict[str, str], float]] = [
    ("calls_accepted_total", {"organization": "3"}, 2),
    ("calls_entered_total", {"state": "queued"}, 2),
    ("calls_entered_total", {"state": "dialing"}, 2),
    ("calls_entered_total", {"state": "bridged"}, 1),
    ("calls_entered_total", {"state": "ended"}, 2),
    ("calls_ended_total", BY_API, 1),
    ("calls_ended_total", BY_SOURCE, 1),
    ("calls_ended_total", {}, 2),
    ("organization_calls_ended_total", {"organization": "3", "disposition": "busy"}, 1),
    ("legs_ended_total", {"gateway": "pstn", "cause": "USER_BUSY"}, 1),
    ("legs_ended_total", {}, 3),
    ("gateway_legs_total", {"gateway": "pstn", "result": "busy"}, 1),
    ("gateway_legs_total", {"gateway": "pstn", "result": "answered"}, 2),
    ("originates_total", {"gateway": "pstn", "result": "sent"}, 2),
    ("originate_reply_seconds_count", {}, 2),
    ("jobs_total", {"queue": "ringback-calls", "result": "done"}, 2),
    ("call_dial_delay_seconds_count", {}, 2),
    ("call_bridge_delay_seconds_count", {}, 1),
    ("call_talk_seconds_count", {}, 1),
    ("switch_events_total", {"event": "CHANNEL_HANGUP_COMPLETE"}, 3),
    ("events_suspected_lost_total", {}, 0),
]


def test_a_bridged_call_and_a_busy_one(ringback: Ringback) -> None:
    address = ringback.stack.settings.http_address
    before: list[float] = []
    since = time.monotonic()

    def found() -> list[float]:
        metrics = Metrics(address)
        return [metrics(name, **labels) for name, labels, _ in EXPECTED]

    def settled() -> bool:
        # What earlier tests have done is shown by the second, later where the machine is busy.
        nonlocal before, since
        if (now := found()) != before:
            before, since = now, time.monotonic()
        return time.monotonic() - since > 3.0

    eventually(settled)
    (switch,) = [name.removeprefix("switch ") for name in readiness(address)[1] if "switch" in name]
    bridged = ringback.place("15517", "15617")
    ringback.wait_state(bridged, State.BRIDGED)
    assert Metrics(address)("calls_live", switch=switch) >= 1
    ringback.request("DELETE", f"@me/210/{bridged}")
    ringback.ended(bridged)
    busy = ringback.ended(ringback.place("15509", "15617"))
    assert busy.hangup_cause == "USER_BUSY"
    after = [old + count for old, (*_, count) in zip(before, EXPECTED, strict=True)]
    eventually(lambda: found() == after)
    now = Metrics(address)
    for name in ("event_lag_seconds_count", "originates_total", "calls_ended_total"):
        assert now(name, switch=switch) > 0
    assert now("lease_held", switch=switch) == 1 <= now("lease_moves_total", switch=switch)
    for process in ("worker", "listener"):
        assert now("switch_connected", switch=switch, process=process) == 1
    assert (now("switch_up", switch=switch), now("redis_up")) == (1, 1)
    assert readiness(address) == (
        200,
        {name: "ready" for name in ("redis", "accounts", "limits", "workers", f"switch {switch}")},
    )


@contextmanager
def running(
    settings: dict[str, str], metrics: dict[str, str]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes of the `ringback` command, each with its RINGBACK_METRICS, if any."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, place in metrics.items():
            own = {"RINGBACK_METRICS": place} if place else {}
            given = environment(RINGBACK_LOG_LEVEL="ERROR", **settings, **own)
            command = [BIN / "ringback", name]
            processes[name] = subprocess.Popen(command, env=given, stderr=subprocess.DEVNULL)
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(LIMIT)


@pytest.mark.skipif(REAL is not None, reason="it ends the switch")
def test_processes_by_themselves(tmp_path: Path) -> None:
    api, worker, listener, webhooks, simulator = (f"127.0.0.1:{free_port()}" for _ in range(5))
    metrics = {"worker": worker, "listener": listener, "webhooks": webhooks}
    with redis_running() as redis_url:
        settings = {
            "RINGBACK_REDIS_URL": redis_url,
            "RINGBACK_SWITCHES": f"sim=esl://:ClueCon@{simulator}",
            "RINGBACK_SIMULATOR": simulator,
            "RINGBACK_HTTP": api,
            "WEB_CONCURRENCY": "2",
            "TMPDIR": str(tmp_path),
        }
        with running(settings, {"simulator": "", "api": "", **metrics}) as processes:
            own = {"redis": "ready", "switch sim": "ready"}
            eventually(lambda: readiness(listener) == (200, own))
            eventually(lambda: readiness(worker) == (200, own))
            eventually(lambda: readiness(webhooks) == (200, {"redis": "ready"}))
            of_api = {
                **own,
                "accounts": "ready",
                "limits": "ready",
                "workers": "ready",
            }
            eventually(lambda: readiness(api) == (200, of_api))
            for place in metrics.values():
                assert get(place, "/healthz") == (200, '{"status":"ok"}\n')
                assert get(place, "/nothing")[0] == 404
                assert Metrics(place)("build_info") == 1
            connected = {"switch": "sim", "process": "worker"}
            eventually(lambda: Metrics(worker)("switch_connected", **connected) == 1)
            assert Metrics(listener)("lease_held", switch="sim") == 1
            (folder,) = tmp_path.glob("ringback-metrics-*")
            see_one_sum_of_two(api, folder)

            # What is missing is said, part by part.
            processes["listener"].kill()
            eventually(lambda: readiness(api)[1]["switch sim"] == "degraded")
            assert readiness(api)[0] == 200
            assert "No listener hears the switch." in get(api, "/readyz")[1]

            processes["simulator"].kill()
            gone = {**own, "switch sim": "not ready"}
            eventually(lambda: readiness(worker) == (503, gone))
            eventually(lambda: Metrics(worker)("switch_connected", **connected) == 0)

            pid = connect(redis_url).info("server")["process_id"]
            os.kill(pid, signal.SIGSTOP)
            try:
                for place in (api, worker, webhooks):
                    status, parts = readiness(place)
                    # The worker has lost its only switch, too.
                    assert (status, parts["redis"]) == (503 if place == worker else 200, "degraded")
                    assert get(place, "/healthz")[0] == 200
                assert Metrics(api)("redis_up") == 0
            finally:
                os.kill(pid, signal.SIGCONT)
            eventually(lambda: readiness(webhooks)[0] == 200)
        assert processes["api"].returncode == 0
        assert not folder.exists()


def see_one_sum_of_two(api: str, folder: Path) -> None:
    """Of what two server processes of the API have counted."""
    route = {"route": "/healthz", "method": "GET", "status": "200"}
    asked = 0

    def both_answered() -> bool:
        # Which of them answers is not ours to say.
        nonlocal asked
        assert get(api, "/healthz")[0] == 200
        asked += 1
        return sum(b'"/healthz"' in file.read_bytes() for file in folder.glob("counter_*")) == 2

    eventually(both_answered)
    eventually(lambda: Metrics(api)("http_requests_total", **route) == asked)
    assert Metrics(api)("build_info") == 1


@pytest.mark.parametrize("process", ["api", "webhooks"])
def test_an_address_that_is_taken_stops_the_start(process: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [BIN / "ringback", process],
            env=environment(RINGBACK_REDIS_URL="redis://127.0.0.1", RINGBACK_METRICS=place),
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    assert result.returncode == 2
    assert "RINGBACK_METRICS: cannot listen on" in result.stderr
    assert "Traceback" not in result.stderr
