"""`ringback api`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ringback_cli.process import process


@click.command("api")
def command() -> None:
    """Serve the HTTP API.

    WEB_CONCURRENCY is the number of server processes (1 by default).
    """
    with process("api") as settings, _metrics_folder():
        from workers.processes import run_api

        run_api(settings)


@contextmanager
def _metrics_folder() -> Iterator[None]:
    """A folder for the metrics of several server processes, unless the environment names one.

    The metrics look for the folder when they are first imported.
    """
    variable, maker = "PROMETHEUS_MULTIPROC_DIR", os.getpid()
    if os.environ.get(variable) or os.environ.get("WEB_CONCURRENCY", "1") == "1":
        yield
        return
    from shutil import rmtree
    from tempfile import mkdtemp

    os.environ[variable] = folder = mkdtemp(prefix="ringback-metrics-")
    try:
        yield
    finally:
        # A server process that ends leaves the folder to the process that made it.
        if os.getpid() == maker:
            rmtree(folder, ignore_errors=True)
