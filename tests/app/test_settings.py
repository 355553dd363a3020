import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.settings import SettingsError, load_settings, misspelt, setting_names
from app.store.client import connect
from tests.conftest import LIMIT

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_defaults_are_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in setting_names():
        monkeypatch.delenv(name, raising=False)
    settings = load_settings()
    assert settings.http == "127.0.0.1:8080"
    assert (settings.redis_url, settings.switches, settings.accounts) == (None, None, None)
    assert settings.action_timeout == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RINGBACK_HTTP", "8080"),
        ("RINGBACK_HTTP", "localhost:http"),
        ("RINGBACK_HTTP", "127.0.0.1:70000"),
        ("RINGBACK_HTTP", "127.0.0.1:٨٠٨٠"),
        ("RINGBACK_SIMULATOR", "nowhere"),
        ("RINGBACK_ACTION_TIMEOUT", "soon"),
        ("RINGBACK_ACTION_TIMEOUT", "-1"),
        ("RINGBACK_ACTION_TIMEOUT", "nan"),
        ("RINGBACK_QUEUE_TIMEOUT", "0"),
        ("RINGBACK_QUEUE_TIMEOUT", "5.5"),
        ("RINGBACK_QUEUE_TIMEOUT", "٦٠"),
        ("RINGBACK_QUEUE_TIMEOUT", "1_0"),
        ("RINGBACK_ACTION_TIMEOUT", "٥"),
        ("RINGBACK_RETENTION", ""),
        ("RINGBACK_CALL_DURATION", "86401"),
        ("RINGBACK_MAX_CALL_DURATION", "0"),
        ("RINGBACK_MAX_WAIT_FOR_PICKUP", "601"),
        ("RINGBACK_MAX_VIEWS", "21"),
        ("RINGBACK_MAX_PARTIES", "1"),
        ("RINGBACK_MAX_REQUEST_PARTIES", "1281"),
        ("RINGBACK_MAX_THIRD_PARTIES", "100"),
        ("RINGBACK_MEDIA_TIMEOUT", "-1"),
        ("RINGBACK_MEDIA_TIMEOUT", "3601"),
        ("RINGBACK_SIMULATOR_SPEED", "0"),
        ("RINGBACK_VIDEO_CODECS", "H264 VP8"),
        ("RINGBACK_LOG_LEVEL", "LOUD"),
        ("RINGBACK_TRACES", ""),
        ("RINGBACK_RECORDINGS", "/var/{call}"),
        ("RINGBACK_WEBHOOK_ALLOW", "10.1.0.1/16"),
        ("RINGBACK_CORS_ORIGINS", "crm.example.com"),
        ("RINGBACK_CORS_ORIGINS", "https://crm.example.com/"),
        ("RINGBACK_CORS_ORIGINS", "https://a.example, null"),
        ("RINGBACK_KEY_PREFIX", ""),
    ],
)
def test_a_bad_one_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name} must be .+, not '{re.escape(value)}'"):
        load_settings()


def test_what_is_needed_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGBACK_REDIS_URL", raising=False)
    monkeypatch.delenv("RINGBACK_SWITCHES", raising=False)
    settings = load_settings()
    with pytest.raises(SettingsError, match="RINGBACK_REDIS_URL is not set"):
        settings.require_redis()
    with pytest.raises(SettingsError, match="RINGBACK_SWITCHES is not set"):
        settings.require_switches()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "redis+sentinel://",
        "redis+sentinel://host:26379",
        "redis+sentinel://h:x/s",
    ],
)
def test_a_bad_redis_url_is_named(url: str) -> None:
    with pytest.raises(SettingsError, match="RINGBACK_REDIS_URL"):
        connect(url)


def test_a_connection_is_looked_at_before_its_use(redis_url: str, redis: Redis) -> None:
    # Without a second attempt, which would hide it.
    client = connect(redis_url, retries=0)
    redis.client_kill_filter(_id=str(client.client_id()))
    assert client.ping()
    client.close()


def test_a_reply_that_was_left_over_is_nobody_elses(redis_url: str) -> None:
    client = connect(redis_url)
    connection: Any = client.connection_pool.get_connection()
    connection.send_command("PING")
    # The reply is there, and nobody has read it.
    assert connection.can_read(timeout=LIMIT)
    client.connection_pool.release(connection)
    assert client.echo("mine") == b"mine"
    client.close()


def test_who_finds_no_connection_free_waits_for_one(redis_url: str, redis: Redis) -> None:
    client = connect(redis_url, connections=2, client_name="limited")
    with ThreadPoolExecutor(8) as threads:
        popped = list(threads.map(lambda _: client.blpop(["nothing"], timeout=0.02), range(8)))
    assert popped == [None] * 8
    assert sum(other["name"] == "limited" for other in redis.client_list()) == 2
    client.close()


def test_the_documentation_lists_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(RINGBACK_\w+)` \|.*\| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    assert sorted(rows) == sorted(setting_names())
    settings = load_settings()
    for name, default in rows.items():
        value = getattr(settings, name.removeprefix("RINGBACK_").lower())
        if value is not None and isinstance(value, int | float):
            assert float(default.strip("`").replace(",", "")) == value, name


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("QUEUE_TIMEOUTT", "5", ["is no setting: did you mean RINGBACK_QUEUE_TIMEOUT?"]),
        ("REDISURL", "x", ["is no setting: did you mean RINGBACK_REDIS_URL?"]),
        ("SIMULATOR_PORT", "8021", ["is no setting: did you mean RINGBACK_SIMULATOR?"]),
        ("XYZZY_PLUGH", "", ["is no setting."]),
        ("QUEUE_TIMEOUT", "5", []),
        ("URL", "http://127.0.0.1:8080", []),
        ("TOKEN", "x", []),
        # What Kubernetes adds for services named ringback and ringback-api.
        ("SERVICE_HOST", "10.0.0.1", []),
        ("SERVICE_PORT_HTTP", "80", []),
        ("API_PORT", "tcp://10.0.0.1:80", []),
        ("API_PORT_80_TCP_ADDR", "10.0.0.1", []),
    ],
)
def test_a_misspelt_setting_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: list[str]
) -> None:
    monkeypatch.setenv(f"RINGBACK_{name}", value)
    assert misspelt() == [f"RINGBACK_{name} {text}" for text in says]
