"""What the commands load. A command line answers at once only if it loads little."""

import json
import os
import subprocess
import sys

import pytest
from redis import Redis

from app.settings import Settings
from app.store import format
from app.store.calls import CallStore
from app.store.keys import Keys
from ringback_cli.main import PROCESSES
from ringback_cli.up import free_port
from tests.ringback_cli.test_commands import placed

# Prints, once the command has ended, what it has loaded beyond what Python itself had.
COMMAND = """
import atexit, json, sys
had = set(sys.modules)
def tell():
    # None stands for a module that is not to be loaded.
    names = [name for name, module in sys.modules.items() if module and name not in had]
    print(json.dumps(names), file=sys.stderr)
atexit.register(tell)
from ringback_cli.__main__ import main
main()
"""
# The same when gevent is to replace what blocks, where the process ends.
PROCESS = """
import json, sys
from gevent import monkey
had = set(sys.modules)
def patch_all():
    print(json.dumps(sorted(set(sys.modules) - had)), file=sys.stderr)
    sys.exit()
monkey.patch_all = patch_all
from ringback_cli.__main__ import main
main()
"""
# What each command loads.
BEGIN = {f"ringback_cli{name}" for name in ("", ".__main__", ".main", ".output")}
# Modules of the standard library that take as long to load as all that is needed.
SLOW = {"asyncio", "email", "http", "importlib.metadata", "logging", "socket", "ssl", "tempfile"}


def loaded(code: str, *words: str, **environment: str) -> set[str]:
    """The modules that `ringback` with these words has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def packages(modules: set[str]) -> set[str]:
    """The packages that are not of the standard library. redis looks for `cryptography`, which
    tests alone install."""
    found = {name.partition(".")[0] for name in modules}
    return found - sys.stdlib_module_names - {"cryptography"}


def ours(modules: set[str]) -> set[str]:
    roots = ("app", "freeswitch", "ringback_cli", "workers")
    return {name for name in modules if name.partition(".")[0] in roots}


def tab(line: str) -> dict[str, str]:
    """The environment in which bash has a line completed."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return {"_RINGBACK_COMPLETE": "bash_complete", **words}


def test_help() -> None:
    modules = loaded(COMMAND, "--help")
    assert packages(modules) == {"click", "ringback_cli"}
    assert ours(modules) == BEGIN
    assert not modules & SLOW


def test_version() -> None:
    modules = loaded(COMMAND, "--version")
    assert packages(modules) == {"click", "ringback_cli"}
    assert ours(modules) == BEGIN


@pytest.mark.parametrize("line", ["ringback ", "ringback ca"])
def test_a_shell_that_completes_a_command(line: str) -> None:
    modules = loaded(COMMAND, **tab(line))
    assert ours(modules) == BEGIN
    assert not modules & SLOW


@pytest.mark.parametrize(
    "line",
    [
        *("ringback accounts ", "ringback calls ", "ringback cdr ", "ringback deadletter "),
        *("ringback queue ", "ringback queue failed ", "ringback switch "),
        *("ringback call --", "ringback doctor --", "ringback events --", "ringback up --"),
    ],
)
def test_a_shell_that_completes_the_words_of_a_command(line: str) -> None:
    assert packages(loaded(COMMAND, **tab(line))) <= {"app", "click", "ringback_cli"}


@pytest.mark.parametrize(
    "line",
    [
        *("ringback calls show ", "ringback calls list --switch ", "ringback switch pause "),
        *("ringback call --extension ", "ringback accounts rotate-secret "),
    ],
)
def test_a_shell_that_completes_names_and_ids(line: str, redis: Redis, settings: Settings) -> None:
    modules = loaded(COMMAND, RINGBACK_REDIS_URL=settings.require_redis(), **tab(line))
    assert packages(modules) == {"app", "click", "hiredis", "redis", "ringback_cli"}


def test_a_shell_that_completes_while_redis_is_unavailable() -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    modules = loaded(COMMAND, RINGBACK_REDIS_URL=away, **tab("ringback calls show "))
    assert packages(modules) == {"app", "click", "hiredis", "redis", "ringback_cli"}


@pytest.mark.parametrize(("options", "draws"), [((), {"rich"}), (("--json",), set())])
def test_calls_list(
    redis: Redis, settings: Settings, options: tuple[str, ...], draws: set[str]
) -> None:
    format.check(redis, Keys())
    placed(CallStore(redis, Keys()), "1")
    url = settings.require_redis()
    modules = loaded(COMMAND, "calls", "list", *options, RINGBACK_REDIS_URL=url)
    # redis loads OpenTelemetry where it is installed, and with it other packages.
    assert packages(modules) & {"orjson", "prometheus_client", "rich", "rq", "structlog"} == draws
    assert {name for name in ours(modules) if name.startswith(("app.", "workers"))} == {
        *("app.calls", "app.calls.model", "app.settings", "app.store"),
        *("app.store.client", "app.store.clock", "app.store.format", "app.store.index"),
        *("app.store.keys", "app.store.masters", "app.store.reading", "app.store.redis_url"),
        "app.store.replies",
    }


@pytest.mark.parametrize("name", sorted(set(PROCESSES) - {"demo", "simulator", "up"}))
def test_gevent_patches_before_anything_opens_a_socket_or_makes_a_lock(
    name: str, settings: Settings
) -> None:
    words = (name, "export") if name == "records" else (name,)
    modules = loaded(PROCESS, *words, RINGBACK_REDIS_URL=settings.require_redis())
    assert packages(modules) == {"app", "click", "ringback_cli"}
    assert ours(modules) == {
        *("app", "app.settings", "ringback_cli.commands"),
        *(f"ringback_cli.commands.{name}", "ringback_cli.process", *BEGIN),
    }
    assert not modules & SLOW
