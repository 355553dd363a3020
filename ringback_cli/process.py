"""What the commands that run until they are stopped have in common."""

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import click

from app.settings import Settings, SettingsError, load_settings, misspelt


@contextmanager
def process(name: str, *, patch: bool = True) -> Iterator[Settings]:
    """Make this process the one of that name, with its settings and its log.

    With ``patch`` gevent replaces what blocks. The caller imports the rest within, since gevent
    must come before anything that opens a socket or makes a lock. A SettingsError ends the process.
    """
    settings = settings_or_exit()
    name_process(name)
    if patch:
        # gevent needs the order in which Python clears away what is not frozen.
        atexit.register(gc.unfreeze)
        from gevent import get_hub, monkey

        monkey.patch_all()
    if settings.traces is None:
        leave_out_opentelemetry()
    from app.telemetry import logs

    logs.configure(settings, name)
    for sentence in misspelt():
        logs.log.warning("%s", sentence)
    if patch:
        get_hub().print_exception = logs.uncaught
    try:
        yield settings
    except SettingsError as error:
        fail(error)


def leave_out_opentelemetry() -> None:
    """Have redis load without OpenTelemetry, where that is installed: it takes a third of the
    time, and nothing here uses the metrics of redis itself."""
    if "redis" not in sys.modules:
        sys.modules.setdefault("opentelemetry", None)  # type: ignore[arg-type]


def name_process(name: str) -> None:
    """Have `ps` and `top` show ``ringback api`` where they would show the name of the binary."""
    with suppress(OSError):
        # Linux alone has this file. It keeps 15 letters.
        Path("/proc/self/comm").write_text(f"ringback {name}")


def settings_or_exit(**defaults: str) -> Settings:
    """The settings, with these defaults. A bad setting ends the process."""
    for name, value in defaults.items():
        os.environ.setdefault(f"RINGBACK_{name.upper()}", value)
    try:
        return load_settings()
    except SettingsError as error:
        fail(error)


def fail(error: Exception) -> NoReturn:
    """Print the error, and exit with status 2."""
    click.echo(f"ringback: {error}", err=True)
    sys.exit(2)
