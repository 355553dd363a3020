"""`ringback webhooks`."""

import click

from ringback_cli.process import process


@click.command("webhooks")
def command() -> None:
    """Deliver call events to the URLs of extensions.

    Run as many as you need.
    """
    with process("webhooks") as settings:
        from workers.processes import run_webhooks

        run_webhooks(settings)
