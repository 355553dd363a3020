"""The `ringback` command. What a process needs is imported by its command alone."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import NoReturn

import click

from app.settings import Settings, SettingsError, load_settings
from workers.commands import Commands
from workers.webhooks.cli import deadletter


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ringback")
def main() -> None:
    """Places, follows and ends phone calls on FreeSWITCH. Settings are RINGBACK_* variables."""


@main.command()
@click.option("--redis-port", type=int, help="Port of the embedded Redis; any free one otherwise.")
def up(redis_port: int | None) -> None:
    """Run the whole: API, worker, listener, and a Redis and a simulator where none is set."""
    settings = _settings()
    _name_process("up")
    from workers.up import Ports, StartFailed, run_up

    ports = Ports(redis=redis_port, any_http="RINGBACK_HTTP" not in os.environ)
    try:
        sys.exit(run_up(settings, click.echo, ports))
    except (SettingsError, StartFailed) as error:
        _fail(error)


@main.command()
def demo() -> None:
    """Show a call over HTTP, from the request to the final record, then end."""
    settings = _settings(log_level="WARNING")
    from workers.demo import run_demo
    from workers.up import StartFailed

    try:
        sys.exit(run_demo(settings))
    except (SettingsError, StartFailed) as error:
        _fail(error)


@main.command()
def api() -> None:
    """Serve the HTTP API (WEB_CONCURRENCY processes, 1 by default)."""
    with _counted_together():
        _run("api", "run_api")


@main.command()
def worker() -> None:
    """Take the jobs of the queues `calls` and `actions`."""
    _run("worker", "run_worker")


@main.command()
def listener() -> None:
    """Follow the events of the switches; two or more may run."""
    _run("listener", "run_listener")


@main.command()
def webhooks() -> None:
    """Deliver call events to the URLs of extensions; any number may run."""
    _run("webhooks", "run_webhooks")


main.add_command(deadletter)


@main.command()
def simulator() -> None:
    """Be a FreeSWITCH with telephones, at RINGBACK_SIMULATOR (127.0.0.1:8021)."""
    _run("simulator", "run_simulator_process", patch=False)


@main.group()
def cdr() -> None:
    """Call detail records."""


@cdr.command()
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv")
@click.option("--from", "first", help="Of calls accepted then or later: 2026-11-30[T08:00:00Z].")
@click.option("--to", "last", help="Of calls accepted before.")
@click.option("--organization", help="Charged to the organization of that number.")
@click.option("--user", help="Charged to the user of that id.")
@click.option("--output", default="-", help="A file; standard output otherwise.")
def export(form: str, output: str, **options: str | None) -> None:
    """Write records out, oldest first. A date without a zone is UTC."""
    settings = _settings()
    from redis.exceptions import RedisError

    from workers.cdr_export import run_export

    try:
        run_export(settings, form, output, **options)
    except (SettingsError, RedisError, OSError) as error:
        _fail(error)


def _run(name: str, function: str, *, patch: bool = True) -> None:
    settings = _settings()
    _name_process(name)
    if patch:
        # Before anything that opens a socket or makes a lock is imported.
        from gevent import get_hub, monkey

        monkey.patch_all()
    from app.telemetry import logs

    logs.configure(settings, name)
    if patch:
        get_hub().print_exception = logs.uncaught
    from workers import processes

    try:
        getattr(processes, function)(settings)
    except SettingsError as error:
        _fail(error)


def _name_process(name: str) -> None:
    """Have `ps` and `top` show ``ringback api`` where they would show the name of the binary."""
    with suppress(OSError):
        # Linux alone has this file. It keeps 15 letters.
        Path("/proc/self/comm").write_text(f"ringback {name}")


@contextmanager
def _counted_together() -> Iterator[None]:
    """With a folder that several processes count into, where there are such and none is named. It
    is looked for when the metrics are first imported."""
    variable, maker = "PROMETHEUS_MULTIPROC_DIR", os.getpid()
    if os.environ.get(variable) or os.environ.get("WEB_CONCURRENCY", "1") == "1":
        yield
        return
    os.environ[variable] = folder = mkdtemp(prefix="ringback-metrics-")
    try:
        yield
    finally:
        # Not with each server process that ends.
        if os.getpid() == maker:
            rmtree(folder, ignore_errors=True)


def _settings(**defaults: str) -> Settings:
    for name, value in defaults.items():
        os.environ.setdefault(f"RINGBACK_{name.upper()}", value)
    try:
        return load_settings()
    except SettingsError as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    click.echo(f"ringback: {error}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
