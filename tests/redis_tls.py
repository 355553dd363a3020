"""Redis and a Sentinel that listen with TLS alone, and ask for users and passwords."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.store.client import connect
from ringback_cli.embedded_redis import server_binary
from ringback_cli.up import free_port
from tests.conftest import await_ready, eventually
from tests.tls import Certificate

SERVICE = "ringback"
PASSWORD, SENTINEL_PASSWORD = "re@dis/1", "sentinel?2"
LOGIN = "ringback:re%40dis%2F1@"


def skip_without_tls() -> None:
    """Skip the test where the server of this machine was built without TLS."""
    command = [server_binary(), "--tls-port", "0", "--no-such-directive", "0"]
    if b"tls-port" in subprocess.run(command, capture_output=True).stderr:
        pytest.skip("this redis-server has no TLS")


@contextmanager
def _server(folder: Path, *directives: tuple[str, ...], sentinel: bool = False) -> Iterator[Any]:
    folder.mkdir(parents=True)
    lines = [
        *(("bind", "127.0.0.1", "-::1"), ("port", "0"), ("dir", str(folder))),
        *(("logfile", str(folder / "log")), ("tls-auth-clients", "no")),
        *directives,
    ]
    text = "".join(" ".join([name, *map(json.dumps, words)]) + "\n" for name, *words in lines)
    (folder / "conf").write_text(text)
    command = [server_binary(), str(folder / "conf"), *(["--sentinel"] if sentinel else [])]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _listening(port: int, shown: Certificate) -> list[tuple[str, ...]]:
    return [
        *(("tls-port", str(port)), ("tls-cert-file", shown.cert), ("tls-key-file", shown.key)),
        *(("tls-ca-cert-file", shown.ca), ("tls-replication", "yes")),
    ]


def _redis(port: int, shown: Certificate) -> list[tuple[str, ...]]:
    return [
        *_listening(port, shown),
        *(("save", ""), ("repl-diskless-sync-delay", "0")),
        ("user", "ringback", "on", f">{PASSWORD}", "~*", "&*", "+@all"),
        *(("requirepass", PASSWORD), ("masterauth", PASSWORD)),
    ]


@contextmanager
def redis_with_tls(folder: Path, shown: Certificate) -> Iterator[str]:
    """A server, and its URL up to the options."""
    port = free_port()
    with _server(folder, *_redis(port, shown)):
        url = f"rediss://{LOGIN}127.0.0.1:{port}/0"
        await_ready(f"{url}?ssl_ca_certs={shown.ca}")
        yield url


@dataclass(frozen=True)
class Sentinels:
    """A master with a replica, and one Sentinel. `url` is the URL up to the options."""

    url: str
    # What stands behind the `?`.
    options: str
    master: "subprocess.Popen[bytes]"


@contextmanager
def sentinel_with_tls(folder: Path, shown: Certificate) -> Iterator[Sentinels]:
    master, replica, port = free_port(), free_port(), free_port()
    with ExitStack() as exits:
        process = exits.enter_context(_server(folder / "master", *_redis(master, shown)))
        of = ("replicaof", "127.0.0.1", str(master))
        exits.enter_context(_server(folder / "replica", *_redis(replica, shown), of))
        # A Sentinel that begins before its master counts it as down.
        for one in (master, replica):
            await_ready(f"rediss://{LOGIN}127.0.0.1:{one}/0?ssl_ca_certs={shown.ca}")
        client = connect(f"rediss://{LOGIN}127.0.0.1:{master}/0?ssl_ca_certs={shown.ca}")
        info: Any = client.info
        # Only a replica that has all is promoted. The Sentinel asks its master for replicas when it
        # begins, and then each ten seconds: it must not miss this one.
        eventually(lambda: info("replication").get("slave0", {}).get("state") == "online")
        client.close()
        watching = [
            ("requirepass", SENTINEL_PASSWORD),
            ("sentinel", "monitor", SERVICE, "127.0.0.1", str(master), "1"),
            ("sentinel", "auth-pass", SERVICE, PASSWORD),
            ("sentinel", "down-after-milliseconds", SERVICE, "2000"),
            ("sentinel", "failover-timeout", SERVICE, "3000"),
        ]
        exits.enter_context(
            _server(folder / "sentinel", *_listening(port, shown), *watching, sentinel=True)
        )
        options = f"sentinel_password=sentinel%3F2&ssl_ca_certs={shown.ca}"
        # The first there is not, and the second not on a machine without IPv6.
        url = f"rediss+sentinel://{LOGIN}[::1]:1,[::1]:{port},127.0.0.1:{port}/{SERVICE}/0"
        await_ready(f"{url}?{options}")
        yield Sentinels(url, options, process)
