"""`ringback demo`."""

import sys

import click

from ringback_cli.process import fail, settings_or_exit


@click.command("demo")
def command() -> None:
    """Run one call over HTTP, from the request to the record.

    The demo starts all parts, a Redis and a simulator among them, and ends them with the call.
    """
    settings = settings_or_exit(log_level="WARNING")
    from app.settings import SettingsError
    from ringback_cli.demo import run_demo
    from ringback_cli.up import StartFailed

    try:
        sys.exit(run_demo(settings))
    except (SettingsError, StartFailed) as error:
        fail(error)
