"""A Redis on which Ringback cannot work is refused by a sentence, before a client meets it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from redis import Redis

from app import create_app
from app.settings import Settings
from app.store.client import connect
from app.store.fitness import Unfit, faults
from app.store.format import FORMAT, WrongFormat, check
from app.store.keys import Keys
from ringback_cli.embedded_redis import server_binary
from ringback_cli.main import main
from ringback_cli.up import free_port
from tests.app.conftest import USER
from tests.app.test_phone_calls import BODY, SIMPLE
from tests.conftest import await_ready
from workers.runtime import Runtime

KEYS = Keys()


@contextmanager
def user(redis: Redis, url: str, *rules: str) -> Iterator[str]:
    """The URL of a user of Redis with these rules."""
    redis.execute_command(  # type: ignore[no-untyped-call]
        *("ACL", "SETUSER", "someone", "reset", "on", ">secret", "&*", *rules)
    )
    place = urlsplit(url)
    try:
        yield f"redis://someone:secret@{place.hostname}:{place.port}/0"
    finally:
        redis.acl_deluser("someone")


def test_a_usual_redis_can_do_all(redis: Redis) -> None:
    before = {*redis.keys()}  # type: ignore[misc]
    assert list(faults(redis, KEYS, 1)) == []
    # Nothing is left of it.
    assert {*redis.keys()} == before  # type: ignore[misc]


def test_a_user_by_key_pattern_can_do_all(redis: Redis, settings: Settings) -> None:
    rules = ("~ringback:*", "~rq:*", "+@all")
    with user(redis, settings.require_redis(), *rules) as url:
        assert list(faults(connect(url), KEYS, 1)) == []
        client = create_app(replace(settings, redis_url=url)).test_client()
        # Without a nonce no key of one is used.
        answer = client.post(SIMPLE, json=BODY, headers={"Authorization": f"Bearer {USER}"})
        assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    "rules, said",
    [
        (("~ringback:calls:*", "~ringback:format", "~ringback:accounts", "+@all"), "script limits"),
        (("~*", "+@all", "-xadd"), "script alert"),
        (("~*", "+@all", "-eval", "-evalsha"), "script limits"),
        (("~*", "+@all", "-wait"), "RINGBACK_WAIT_REPLICAS is 1, and Redis refuses WAIT"),
    ],
)
def test_a_user_that_may_too_little_stops_the_start(
    redis: Redis, settings: Settings, rules: tuple[str, ...], said: str
) -> None:
    with user(redis, settings.require_redis(), *rules) as url:
        unfit = replace(settings, redis_url=url, wait_replicas=1)
        with pytest.raises(Unfit, match=said) as raised:
            Runtime.create(unfit)
        assert "docs/operations/redis-users.md" in str(raised.value)


def test_eviction_stops_the_start(redis: Redis, settings: Settings) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        for start in (Runtime.create, create_app):
            with pytest.raises(Unfit) as raised:
                start(settings)
            assert str(raised.value) == (
                "RINGBACK_REDIS_URL: maxmemory-policy is allkeys-lru, which deletes calls when"
                " Redis is full. Set maxmemory-policy noeviction."
            )
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


def test_a_cluster_stops_the_start(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    # A node of one with all slots, as a hosted Redis in cluster mode is.
    server = subprocess.Popen(
        [server_binary(), *words, "--cluster-enabled", "yes"], stdout=subprocess.DEVNULL
    )
    try:
        url = f"redis://127.0.0.1:{port}/0"
        await_ready(url)
        connect(url).execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]
        unfit = replace(settings, redis_url=url)
        (fault,) = faults(connect(url), KEYS, 0)
        assert fault.startswith("Redis runs in cluster mode")
        monkeypatch.setenv("RINGBACK_REDIS_URL", unfit.require_redis())
        found = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
        assert any("cluster mode" in each["text"] for each in found if each["level"] == "failure")
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("number, who", [(FORMAT + 1, "newer"), (FORMAT - 1, "older")])
def test_the_age_of_other_data_is_told(redis: Redis, number: int, who: str) -> None:
    redis.set(KEYS.format, number)
    with pytest.raises(WrongFormat, match=f"A {who} Ringback wrote them"):
        check(redis, KEYS)
