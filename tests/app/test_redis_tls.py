"""Redis and Sentinels by TLS, user and password, on real servers."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from tenacity import retry, stop_after_delay, wait_fixed

from app.store.client import connect
from tests.conftest import LIMIT
from tests.redis_tls import redis_with_tls, sentinel_with_tls, skip_without_tls
from tests.tls import Certificate, certificate


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    skip_without_tls()
    names = ("127.0.0.1", "::1", "redis.example.com")
    return certificate(tmp_path_factory.mktemp("tls") / "redis", *names)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, shown: Certificate) -> Iterator[str]:
    with redis_with_tls(tmp_path_factory.mktemp("redis") / "one", shown) as url:
        yield url


def test_commands_go_by_tls(url: str, shown: Certificate) -> None:
    """Also blocking ones, large replies, and many at a time over few connections."""
    client = connect(f"{url}?ssl_ca_certs={shown.ca}", connections=3, retries=0)
    assert client.acl_whoami() in (b"ringback", "ringback")
    client.set("large", b"x" * 300_000)
    with ThreadPoolExecutor(8) as threads:
        popped = threads.map(lambda _: client.blpop(["nothing"], timeout=0.05), range(8))
        assert list(popped) == [None] * 8
        replies = threads.map(lambda n: client.echo(str(n)), range(200))
        assert list(replies) == [str(n).encode() for n in range(200)]
    assert client.get("large") == b"x" * 300_000
    client.close()


def test_a_connection_by_tls_is_looked_at_before_its_use(url: str, shown: Certificate) -> None:
    # Without a second attempt, which would hide it.
    client = connect(f"{url}?ssl_ca_certs={shown.ca}", retries=0)
    other = connect(f"{url}?ssl_ca_certs={shown.ca}")
    other.client_kill_filter(_id=str(client.client_id()))
    assert client.ping()
    connection: Any = client.connection_pool.get_connection()
    connection.send_command("PING")
    # The reply is there, and nobody has read it.
    assert connection.can_read(timeout=LIMIT)
    client.connection_pool.release(connection)
    assert client.echo("mine") == b"mine"
    client.close(), other.close()


def test_what_is_left_in_the_tls_layer_is_seen(url: str, shown: Certificate) -> None:
    """One record of TLS holds both replies: no poll of the socket tells of the second."""
    client = connect(f"{url}?ssl_ca_certs={shown.ca}", retries=0)
    client.set("some", b"y" * 100)
    connection: Any = client.connection_pool.get_connection()
    connection.send_packed_command(connection.pack_commands([("GET", "some"), ("GET", "some")]))
    sock: socket.socket = connection._sock
    assert connection.can_read(timeout=LIMIT)
    assert len(sock.recv(1)) == 1 and sock.pending()  # type: ignore[attr-defined]
    assert connection.can_read()
    connection.disconnect()
    client.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("ssl_check_hostname=true", "CERTIFICATE_VERIFY_FAILED"),
        ("ssl_ca_certs={other}", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_a_wrong_certificate_is_refused(url: str, tmp_path: Path, options: str, says: str) -> None:
    other = certificate(tmp_path / "other", "127.0.0.1")
    client = connect(f"{url}?{options.format(other=other.ca)}", retries=0)
    with pytest.raises(RedisConnectionError, match=says):
        client.ping()


def test_a_wrong_name_is_refused_unless_it_is_not_checked(url: str, shown: Certificate) -> None:
    port = url.rpartition(":")[2]
    # localhost stands in no certificate here.
    wrong = f"{url.replace('127.0.0.1', 'localhost')}?ssl_ca_certs={shown.ca}"
    assert port in wrong
    with pytest.raises(RedisConnectionError, match="mismatch"):
        connect(wrong, retries=0).ping()
    assert connect(f"{wrong}&ssl_check_hostname=false", retries=0).ping()
    assert connect(f"{url}?ssl_cert_reqs=none", retries=0).ping()


def test_a_wrong_password_is_refused(url: str, shown: Certificate) -> None:
    wrong = url.replace("re%40dis%2F1", "SECRET")
    with pytest.raises(RedisConnectionError, match="username-password") as caught:
        connect(f"{wrong}?ssl_ca_certs={shown.ca}", retries=0).ping()
    assert "SECRET" not in str(caught.value)


def test_plain_text_is_refused(url: str) -> None:
    with pytest.raises(RedisConnectionError):
        connect(url.replace("rediss", "redis"), retries=0).ping()


def test_sentinels_fail_over_by_tls(tmp_path: Path, shown: Certificate) -> None:
    """From a master that hangs, and closes no connection."""
    with sentinel_with_tls(tmp_path / "servers", shown) as servers:
        wrong = servers.options.replace("sentinel%3F2", "SECRET")
        with pytest.raises(RedisConnectionError, match="No master found") as caught:
            connect(f"{servers.url}?{wrong}", retries=0).ping()
        assert "SECRET" not in str(caught.value)
        limited = connect(f"{servers.url}?{servers.options}", connections=2)
        unlimited = connect(f"{servers.url}?{servers.options}")
        before: Any = limited.info("server")
        unlimited.set("here", "1")
        unlimited.wait(1, 10_000)
        waiting = connect(f"{servers.url}?{servers.options}", timeout=2 * LIMIT)
        waiting.ping()
        with ThreadPoolExecutor(1) as thread:
            # Under way when the master stops; tried again with the new one as soon as it is named.
            popped = thread.submit(waiting.blpop, ["list"], timeout=LIMIT)
            servers.master.send_signal(signal.SIGSTOP)
            # A Sentinel that stood still for two seconds waits for 30 seconds before it acts.
            again = retry(stop=stop_after_delay(3 * LIMIT), wait=wait_fixed(0.05), reraise=True)
            again(limited.rpush)("list", "pushed")
            assert popped.result(LIMIT / 2) == (b"list", b"pushed")
        for client in (limited, unlimited):
            again(client.set)("there", "1")
            after: Any = client.info("server")
            assert after["run_id"] != before["run_id"]
            assert client.get("here") == b"1"
            client.close()
