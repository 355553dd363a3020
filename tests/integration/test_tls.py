"""All of Ringback by TLS: Redis by Sentinel, with users and passwords, and the event socket."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.calls.model import State
from freeswitch.simulator import Simulator
from ringback_cli.up import environment
from tests.conftest import LIMIT, eventually
from tests.integration.conftest import Ringback, started
from tests.redis_tls import Sentinels, sentinel_with_tls, skip_without_tls
from tests.tls import certificate, tls_proxy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def sentinels(folder: Path) -> Iterator[Sentinels]:
    skip_without_tls()
    shown = certificate(folder / "redis", "127.0.0.1", "::1")
    with sentinel_with_tls(folder / "servers", shown) as servers:
        yield servers


@pytest.fixture(scope="module")
def by_tls(folder: Path, sentinels: Sentinels) -> Iterator[Ringback]:
    shown = certificate(folder / "switch", "fs1.example.com")
    with Simulator(speed=4) as simulator, tls_proxy(shown, simulator.port) as port:
        switches = f"main=esls://:ClueCon@127.0.0.1:{port}?name=fs1.example.com&ca={shown.ca}"
        url = f"{sentinels.url}?{sentinels.options}"
        with started(switches, redis_url=url) as ringback:
            yield ringback


def test_a_call_is_placed_and_hung_up(by_tls: Ringback) -> None:
    call_id = by_tls.place("15501", "15501")
    by_tls.wait_state(call_id, State.BRIDGED)
    status, _ = by_tls.request("DELETE", f"@me/@self/{call_id}")
    assert status == 200
    assert by_tls.ended(call_id).switch == "main"
    assert len(by_tls.originates()) == 1


def test_the_doctor_is_content(by_tls: Ringback) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ringback_cli", "doctor", "--json"],
        env=environment(by_tls.stack.settings),
        capture_output=True,
        text=True,
    )
    assert "main link" not in done.stdout and "Core-UUID" in done.stdout, done.stderr
    failed = [each["subject"] for each in json.loads(done.stdout) if each["level"] == "failure"]
    # The replica may lack what clients were told of: RINGBACK_WAIT_REPLICAS is 0 here.
    assert failed == ["replicas"], done.stdout


def test_calls_go_on_after_a_failover(by_tls: Ringback, sentinels: Sentinels) -> None:
    before = by_tls.place("15501", "15501")
    by_tls.wait_state(before, State.BRIDGED)
    by_tls.store.redis.wait(1, int(LIMIT * 1000))
    # It hangs, and closes no connection.
    sentinels.master.send_signal(signal.SIGSTOP)

    def accepted() -> bool:
        body = {
            "extension": "210",
            "nonce": "after",
            "phoneCallView": [{"source": ["15501"], "destination": ["15501"]}],
        }
        status, answer = by_tls.request("POST", "@me/simple", body)
        ids[:] = [answer[0]["id"]] if status in (200, 202) else []
        return bool(ids)

    ids: list[str] = []
    eventually(accepted)
    for call_id in (before, *ids):
        by_tls.wait_state(call_id, State.BRIDGED)
        by_tls.request("DELETE", f"@me/@self/{call_id}")
        by_tls.ended(call_id)
