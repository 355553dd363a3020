"""`ringback listener`."""

import click

from ringback_cli.process import process


@click.command("listener")
def command() -> None:
    """Follow the events of the switches.

    Run two or more: one of them leads, and another takes over when it is lost.
    """
    with process("listener") as settings:
        from workers.processes import run_listener

        run_listener(settings)
