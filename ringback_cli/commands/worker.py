"""`ringback worker`."""

import click

from ringback_cli.process import process


@click.command("worker")
def command() -> None:
    """Dial calls, hang them up and act on them.

    It takes the jobs of the queues `ringback-requests`, `ringback-calls` and
    `ringback-actions`. Run as many as you need.
    """
    with process("worker") as settings:
        from workers.processes import run_worker

        run_worker(settings)
