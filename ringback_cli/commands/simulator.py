"""`ringback simulator`."""

import click

from ringback_cli.process import process


@click.command("simulator")
def command() -> None:
    """Run a simulated FreeSWITCH with telephones.

    It listens at RINGBACK_SIMULATOR (127.0.0.1:8021 by default).
    """
    with process("simulator", patch=False) as settings:
        from workers.processes import run_simulator_process

        run_simulator_process(settings)
