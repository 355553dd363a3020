"""The commands that look and steer: each is imported only when it is used."""

from importlib import import_module
from typing import Any

import click

# Each is `command` in the module of its name.
COMMANDS = ("accounts", "call", "calls", "completion", "doctor", "events", "queue", "switch")


class Commands(click.Group):
    """The `ringback` command: with these commands beside those it is given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.invoked_subcommand not in COMMANDS:
                raise
            from workers.commands.session import explained

            if (known := explained(error)) is None:
                raise
            raise known from error
