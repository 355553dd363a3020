"""RINGBACK_REDIS_URL as it is read: addresses, logins, and options that are taken or refused."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.sentinel import MasterNotFoundError

from app.settings import SettingsError
from app.store.client import connect
from app.store.redis_url import RedisUrl, parse


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisUrl([("h", 6379)], None, None, None, {}, {})),
        ("redis://", RedisUrl([("localhost", 6379)], None, None, None, {}, {})),
        ("redis://:7000/3", RedisUrl([("localhost", 7000)], None, None, None, {"db": 3}, {})),
        (
            "redis://u%40x:p%2F@q:@[::1]:7/2?client_name=a",
            RedisUrl(
                *([("::1", 7)], None, None, None),
                {"username": "u@x", "password": "p/@q:", "client_name": "a", "db": 2},
                {},
            ),
        ),
        (
            "redis://:a/b?c=d@h",
            RedisUrl([("h", 6379)], None, None, None, {"password": "a/b?c=d"}, {}),
        ),
        (
            "rediss://:p@h/0?ssl_ca_certs=/a.pem&ssl_check_hostname=False&ssl_cert_reqs=none",
            RedisUrl(
                *([("h", 6379)], None, None),
                {"ssl_ca_certs": "/a.pem", "ssl_cert_reqs": "none", "ssl_check_hostname": False},
                {"password": "p", "db": 0},
                {},
            ),
        ),
        ("unix:///run/r.sock?db=4", RedisUrl([], None, "/run/r.sock", None, {"db": 4}, {})),
        (
            "unix://u:p@/run/r.sock",
            RedisUrl([], None, "/run/r.sock", None, {"username": "u", "password": "p"}, {}),
        ),
        ("redis+sentinel://[::1]/m", RedisUrl([("::1", 26379)], "m", None, None, {}, {})),
        (
            "redis+sentinel://a:1,[2001:db8::1]:2,c/m/5",
            RedisUrl(
                *([("a", 1), ("2001:db8::1", 2), ("c", 26379)], "m", None, None), {"db": 5}, {}
            ),
        ),
        (
            "rediss+sentinel://u:p@a:1/m?sentinel_username=s&sentinel_password=t%26&protocol=2",
            RedisUrl(
                *([("a", 1)], "m", None, {}),
                {"username": "u", "password": "p", "protocol": 2},
                {"username": "s", "password": "t&"},
            ),
        ),
    ],
)
def test_parse(url: str, expected: RedisUrl) -> None:
    assert parse(url) == expected
    assert "'p'" not in repr(parse(url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "must begin with redis://"),
        ("http://:SECRET@h", "must begin with redis://"),
        ("redis://:SECRET/a@h:x", "bad host or port"),
        ("redis://:a/SECRET", "the database must be a whole number"),
        ("redis://:SECRET@h:0", "bad host or port"),
        ("redis://:SECRET@h:65536", "bad host or port"),
        ("redis://:SECRET@::1", "bad host or port"),
        ("redis://:SECRET@.h", "bad host or port"),
        (f"redis://:SECRET@{'h' * 64}", "bad host or port"),
        ("redis://:1234?SECRET=x@h:y", "bad host or port"),
        ("redis://:SECRET@a,b", "only Sentinels"),
        ("redis://:SECRET@h/x", "the database must be a whole number"),
        ("redis+sentinel://", "/service/db"),
        ("redis+sentinel://:SECRET@h:26379", "/service/db"),
        ("redis+sentinel://:SECRET@h:x/s", "bad host or port"),
        ("redis+sentinel://:SECRET@h/s/x", "the database must be a whole number"),
        ("unix://:SECRET@h/path", "unix:///path"),
        ("unix://", "unix:///path"),
        ("unix:///SECRET%00", "the path must be an absolute path"),
        ("rediss://:SECRET@h?ssl_ca_certs=/a%00", r"\?ssl_ca_certs must be an absolute path"),
        ("redis://:SECRET@h?protocol=3", r"\?protocol must be 2, or be left out"),
        ("redis://:SECRET@h?decode_responses=true", r"\?decode_responses must be false or no"),
        ("redis://:SECRET@h?socket_timeout=0.5", "cannot be set there: 'socket_timeout'"),
        ("redis://:SECRET@h?max_connections=5", "cannot be set there: 'max_connections'"),
        ("redis://:SECRET@h?retry=1", "cannot be set there: 'retry'"),
        ("redis://:SECRET@h?host=x", "cannot be set there: 'host'"),
        ("redis://:SECRET@h?password=SECRET", "cannot be set there: 'password'"),
        ("redis://:SECRET@h?db=SECRET", r"\?db must be a whole number"),
        ("redis://:SECRET@h?db", "name=value"),
        ("redis://:SECRET@h?client_name=a%20b", r"\?client_name must be 1 to 64"),
        ("redis://:SECRET@h?socket_connect_timeout=nan", "seconds from 0.1 to 5"),
        ("redis://:SECRET@h?ssl_ca_certs=/a", "It goes with rediss://"),
        ("rediss://:SECRET@h?ssl_ca_certs=a.pem", r"\?ssl_ca_certs must be an absolute path"),
        ("rediss://:SECRET@h?ssl_cert_reqs=CERT_NONE", r"\?ssl_cert_reqs must be required or"),
        ("rediss://:SECRET@h?ssl_check_hostname=perhaps", "must be true or false"),
        ("rediss://:SECRET@h?sentinel_password=SECRET", "It goes with redis.sentinel://"),
    ],
)
def test_what_is_refused(url: str, says: str) -> None:
    """With a sentence that names the setting, and holds nothing of a password."""
    with pytest.raises(SettingsError, match=f"^RINGBACK_REDIS_URL.*{says}.*[.]$") as caught:
        connect(url)
    assert "SECRET" not in str(caught.value)


@given(
    st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"]),
    st.text(st.characters(codec="utf-8"), max_size=60),
)
def test_any_text_is_a_url_or_a_settings_error(scheme: str, text: str) -> None:
    with suppress(SettingsError):
        parse(f"{scheme}://{text}")


def test_harmless_options_do_no_harm(redis_url: str) -> None:
    options = (
        "protocol=2&decode_responses=false&socket_connect_timeout=1.5&client_name=named"
        "&health_check_interval=0&socket_keepalive=no"
    )
    for connections in (None, 2):
        client = connect(f"{redis_url}?{options}", connections=connections)
        assert client.echo("x") == b"x"
        # A blocking command takes its time.
        assert client.blpop(["nothing"], timeout=0.6) is None
        assert client.client_getname() in (b"named", "named")
        client.close()


def test_a_database_or_a_sentinel_that_is_not_there(redis_url: str) -> None:
    at = redis_url.removeprefix("redis://").partition("/")[0]
    with pytest.raises(SettingsError, match="no database 999999"):
        connect(f"redis://{at}/999999").ping()
    with pytest.raises(SettingsError, match="is another server"):
        password = parse(redis_url).options.get("password", "none")
        connect(f"redis+sentinel://{at}/m?sentinel_password={password}").ping()
    with pytest.raises(MasterNotFoundError) as raised:
        connect("redis+sentinel://[::1]:1/m?sentinel_password=s3cret", retries=0).ping()
    assert "Sentinel ::1 port 1" in str(raised.value) and "<" not in str(raised.value)


def test_files_of_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    for name in ("ssl_ca_certs", "ssl_certfile"):
        for file in ("missing", "empty"):
            with pytest.raises(SettingsError, match=f"cannot use {name}={tmp_path / file}: "):
                connect(f"rediss://:SECRET@h?{name}={tmp_path / file}")


def test_no_option_makes_a_probe_wait_longer_than_its_command() -> None:
    for query, expected in (("", 0.4), ("?socket_connect_timeout=3", 0.4)):
        client = connect(f"redis://127.0.0.1:1/0{query}", timeout=0.4)
        assert client.connection_pool.connection_kwargs["socket_connect_timeout"] == expected
    client = connect("redis://127.0.0.1:1/0?socket_connect_timeout=3")
    assert client.connection_pool.connection_kwargs["socket_connect_timeout"] == 3
