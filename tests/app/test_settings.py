import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.settings import SECRETS, Settings, SettingsError, load_settings, misspelt, setting_names
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
        ("RINGBACK_DEMO", "yes"),
        ("RINGBACK_PUBLIC_URL", "calls.example.com"),
        ("RINGBACK_PUBLIC_URL", "https://calls.example.com/ringback"),
        ("RINGBACK_PUBLIC_URL", "*"),
        ("RINGBACK_PROXIES", "nginx"),
        ("RINGBACK_PROXIES", "10.0.0.1/8"),
        ("RINGBACK_BODY_TIMEOUT", "0"),
        ("RINGBACK_SEND_TIMEOUT", "nan"),
        ("RINGBACK_CONNECTIONS_PER_ADDRESS", "-1"),
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
        ("RINGBACK_RECORDINGS_ROOT", "recordings"),
        ("RINGBACK_RECORDINGS_ROOT", "/"),
        ("RINGBACK_RECORDINGS_RETENTION", "-1"),
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


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_may_be_in_a_file(
    name: str, end: bytes, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "secret", " redis://:pä@h ".encode() + end)
    monkeypatch.setenv(f"{name}_FILE", path)
    assert getattr(load_settings(), name.removeprefix("RINGBACK_").lower()) == " redis://:pä@h "
    assert misspelt() == []
    monkeypatch.setenv(name, "redis://h")
    both = f"{name} and {name}_FILE are both set"
    with pytest.raises(SettingsError, match=both):
        load_settings()


def test_a_file_of_a_secret_that_cannot_be_used_is_named(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, says in (
        (str(tmp_path / "missing"), "cannot be read: No such file or directory"),
        (str(tmp_path), "cannot be read: Is a directory"),
        (write(tmp_path / "bytes", b"redis://:\xff"), "cannot be read: it is no UTF-8 text"),
        (write(tmp_path / "empty", b"\n"), "is empty"),
        ("", "cannot be read: Is a directory"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv("RINGBACK_REDIS_URL_FILE", path)
            text = f"RINGBACK_REDIS_URL_FILE names {path!r}, which {says}."
            with pytest.raises(SettingsError) as caught:
                load_settings()
            assert str(caught.value) == text


def test_what_holds_no_secret_has_no_file(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBACK_LOG_LEVEL_FILE", "/there")
    assert "RINGBACK_LOG_LEVEL_FILE is no setting" in misspelt()[0]
    assert load_settings().log_level == "INFO"
