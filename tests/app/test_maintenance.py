"""Maintenance: nothing is accepted or claimed, and replicas have all."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from redis import Redis

from app.settings import Settings
from app.store.calls import CallStore
from app.store.client import connect
from app.store.errors import InMaintenance
from app.store.keys import Keys
from app.store.maintenance import Maintenance, State, await_replicas, connected
from app.store.pace import Claims
from app.store.steering import Steer, SteerStore
from ringback_cli.embedded_redis import server_binary
from ringback_cli.main import main
from ringback_cli.up import free_port
from tests.app.conftest import Ask
from tests.app.test_phone_calls import BODY, SIMPLE
from tests.conftest import await_ready, eventually
from tests.ringback_cli.test_commands import placed


@pytest.fixture
def maintenance(redis: Redis) -> Maintenance:
    return Maintenance(redis, Keys())


def test_no_request_changes_anything(
    client: FlaskClient, ask: Ask, maintenance: Maintenance
) -> None:
    assert maintenance.begin(State("me@here", 1.0, "a new Redis"))
    # No process has looked before it was on.
    answer = ask("POST", SIMPLE, BODY)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "service_unavailable")
    assert answer.json["error"]["message"] == (
        "Ringback is in maintenance and changes nothing. Retry later."
    )
    assert answer.headers["Retry-After"] == "2"
    for method in ("PUT", "DELETE"):
        assert ask(method, "/uapi/phoneCalls/@me/@self/x").status_code == 503
    assert client.post("/oauth/token").status_code == 503
    # What reads goes on, and the load balancer keeps the API.
    assert ask("GET", "/uapi/phoneCalls/@me/@self").status_code == 200
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json["parts"]["maintenance"]["status"] == "degraded"
    maintenance.end()
    eventually(lambda: ask("POST", SIMPLE, BODY).status_code == 202)


def test_redis_itself_accepts_and_claims_nothing(
    redis: Redis, store: CallStore, maintenance: Maintenance
) -> None:
    """A process that has not looked yet changes nothing either."""
    redis.hset(store.keys.limits, "switch:one", "30.0:100")
    SteerStore(redis, store.keys).tell("one", Steer(until=store.now() + 3600))
    waiting = placed(store, "1")
    maintenance.begin(State("me@here", 1.0))
    with pytest.raises(InMaintenance):
        placed(store, "2")
    assert store.get("2" * 20) is None
    claims = Claims(store, "worker")
    assert claims.next({"one": "run"}, 9).calls == ()
    maintenance.end()
    assert [call.id for call in claims.next({"one": "run"}, 9).calls] == [waiting.id]


@pytest.fixture
def replica(settings: Settings, redis: Redis, tmp_path: Path) -> Iterator[Redis]:
    """A replica of the Redis of the tests."""
    port, options = free_port(), redis.connection_pool.connection_kwargs
    words = {
        **{"bind": "127.0.0.1", "port": port, "dir": tmp_path, "save": ""},
        "replicaof": f"127.0.0.1 {options['port']}",
        **({"masterauth": options["password"]} if options.get("password") else {}),
    }
    arguments = [text for name, of in words.items() for text in (f"--{name}", *str(of).split())]
    redis.config_set("repl-diskless-sync-delay", 0)
    process = subprocess.Popen(
        [server_binary(), *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        await_ready(f"redis://127.0.0.1:{port}")
        client = connect(f"redis://127.0.0.1:{port}")
        info: Any = client.info
        eventually(lambda: info("replication")["master_link_status"] == "up")
        yield client
    finally:
        process.kill()
        process.wait()
        eventually(lambda: connected(redis) == 0)


def test_replicas_are_awaited(
    redis: Redis, replica: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBACK_REDIS_URL", settings.require_redis())
    result = CliRunner().invoke(main, ["maintenance", "on", "--why", "a new disk", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"on": True, "replicas": 1, "replicas_with_all": 1}
    assert json.loads(replica.get(Keys().maintenance))["why"] == "a new disk"  # type: ignore[arg-type]
    text = CliRunner().invoke(main, ["maintenance", "status"]).stdout
    assert text.startswith("Maintenance is on for ") and "a new disk" in text
    assert CliRunner().invoke(main, ["maintenance", "off"]).stdout == "Maintenance is off.\n"
    result = CliRunner().invoke(main, ["maintenance", "off"])
    assert result.stdout == "Maintenance was already off.\n"
    assert json.loads(CliRunner().invoke(main, ["maintenance", "status", "--json"]).stdout) == {
        "on": False,
        "replicas": 1,
    }
    whats = [entry[b"what"] for _, entry in redis.xrange(Keys().audit)]  # type: ignore[union-attr]
    assert whats == [b"maintenance_on", b"maintenance_off"]
    # Without Sentinels nobody can be asked to fail over.
    result = CliRunner().invoke(main, ["maintenance", "failover"])
    assert result.exit_code == 1 and "names no Sentinels" in result.stderr


def test_a_replica_that_lags_is_told(redis: Redis, replica: Redis) -> None:
    assert await_replicas(redis, Keys(), 5.0) == (1, 1)
    info: Any = replica.info("server")
    os.kill(info["process_id"], signal.SIGSTOP)
    try:
        assert await_replicas(redis, Keys(), 0.1) == (0, 1)
    finally:
        os.kill(info["process_id"], signal.SIGCONT)
