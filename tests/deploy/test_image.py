"""The Dockerfile, what goes into its build, and the health check of the image."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ringback_cli.up import free_port
from tests.deploy.files import DEPLOY, ROOT, check_environment

TEXT = (ROOT / "Dockerfile").read_text()
# The image that is shipped: the last stage.
LAST = TEXT[TEXT.rindex("\nFROM ") :]
HEALTH = DEPLOY / "docker/ringback-health"


def test_hadolint_finds_nothing() -> None:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no hadolint for this platform")
    subprocess.run([found, ROOT / "Dockerfile"], check=True)


def test_it_builds_all_packages_of_what_is_let_in() -> None:
    sources = {
        word
        for words in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", TEXT, re.MULTILINE)
        for word in words.split()
    }
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / source).exists() for source in sources)
    assert all(
        any(source == way or source.startswith(f"{way}/") for way in let_in) for source in sources
    )
    include = re.search(
        r"^include =\n((?: +\S+\n)+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE
    )
    assert include is not None
    assert {name.rstrip("*") for name in include[1].split()} <= sources


def test_it_runs_as_somebody_else_and_without_what_built_it() -> None:
    assert re.search(r"^USER 10001:10001$", LAST, re.MULTILINE)
    assert not re.search(r"\b(?:apt-get|pip|gcc)\b", LAST)
    assert 'ENTRYPOINT ["ringback"]' in LAST
    check_environment(set(re.findall(r"\b(RINGBACK_\w+)=", LAST)))


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that knows /healthz alone, and its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def health(*arguments: str, **settings: str) -> int:
    environment = {"PATH": os.environ["PATH"], **settings}
    done = subprocess.run(
        [sys.executable, HEALTH, *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    return done.returncode


def test_health_asks_the_process_that_is_there() -> None:
    nobody = f"0.0.0.0:{free_port()}"
    with answering(200) as port:
        somebody = f"0.0.0.0:{port}"
        assert health(RINGBACK_HTTP=somebody) == 0
        assert health(RINGBACK_HTTP=nobody) == 1
        # On a host's network the API may be another's.
        assert health(RINGBACK_HTTP=somebody, RINGBACK_METRICS=nobody) == 1
        assert health(RINGBACK_HTTP=nobody, RINGBACK_METRICS=somebody) == 0
        assert health("/readyz", RINGBACK_HTTP=somebody) == 1
    with answering(503) as port:
        assert health(RINGBACK_HTTP=f"0.0.0.0:{port}") == 1
