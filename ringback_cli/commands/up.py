"""`ringback up`."""

import os
import sys
from dataclasses import replace

import click

from ringback_cli.process import fail, name_process, settings_or_exit


@click.command("up")
@click.option(
    "--redis-port", type=int, help="The port of the embedded Redis; any free port by default."
)
def command(redis_port: int | None) -> None:
    """Run all parts of Ringback on this machine.

    The parts are the API, a worker, a listener and the delivery of call events. Without
    RINGBACK_REDIS_URL a Redis is a part, and without RINGBACK_SWITCHES a simulator is one.
    Without RINGBACK_ACCOUNTS there are accounts to try it with: the demo's, whose tokens everybody
    knows, with the simulator; and with other switches the same under new tokens, which are printed
    once.
    """
    # Not by the environment: known tokens are for the simulator that is started here.
    settings = replace(settings_or_exit(), demo=None)
    name_process("up")
    from app.settings import SettingsError
    from ringback_cli.up import Ports, StartFailed, run_up

    ports = Ports(redis=redis_port, any_http="RINGBACK_HTTP" not in os.environ)
    try:
        sys.exit(run_up(settings, click.echo, ports))
    except (SettingsError, StartFailed) as error:
        fail(error)
