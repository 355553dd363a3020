"""The `ringback` command. It imports the module of a command only to run that command."""

import os
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

# The commands with their short help. Each is `command` in the module of its name in
# ringback_cli/commands. This table lists them without an import of these modules.
COMMANDS = {
    "accounts": "Check, import and show accounts; add apps; rotate secrets.",
    "api": "Serve the HTTP API.",
    "apps": "List, disable and enable apps.",
    "audit": "Show who asked for what, oldest first.",
    "call": "Place a call and follow it.",
    "calls": "List, show, hang up, watch and adopt calls.",
    "caps": "Show caps, and how much of each is used.",
    "cdr": "Export call detail records.",
    "completion": "Print the code that completes commands in a shell.",
    "deadletter": "List, show, replay and drop undelivered call events and statuses.",
    "demo": "Run one call over HTTP, from the request to the record.",
    "doctor": "Check all that Ringback needs, and say what to do.",
    "events": "Follow the changes of calls.",
    "listener": "Follow the events of the switches.",
    "maintenance": "Accept nothing for a while, for planned work on Redis.",
    "organizations": "List, suspend and resume organizations.",
    "privacy": "Erase a person's number from everything that is kept.",
    "queue": "Show jobs, workers and the calls that wait.",
    "recordings": "List and delete recordings.",
    "records": "Export records of ended calls into a database.",
    "simulator": "Run a simulated FreeSWITCH with telephones.",
    "switch": "List, add, change, pause, drain and remove switches.",
    "up": "Run all parts of Ringback on this machine.",
    "webhooks": "Deliver call events to the URLs of clients.",
    "worker": "Dial calls, hang them up and act on them.",
}
# These run until they are stopped. An error that they do not expect shows its traceback.
PROCESSES = ("api", "demo", "listener", "records", "simulator", "up", "webhooks", "worker")


# These write a log.
_WITH_LOG = ("api", "listener", "records", "simulator", "webhooks", "worker")


def tell_misspelt() -> None:
    """Print a warning for each variable RINGBACK_* that nothing reads."""
    if any(name.startswith("RINGBACK_") for name in os.environ):
        from app.settings import misspelt

        for sentence in misspelt():
            click.echo(f"ringback: {sentence}", err=True)


def check_text(words: Iterable[str]) -> None:
    """End the command if a word is no text: Python gives a byte that is no UTF-8 as half a
    surrogate pair, which neither Redis nor an output takes."""
    for word in words:
        if word.encode(errors="replace").decode() != word:
            shown = word.encode(errors="surrogateescape").decode(errors="replace")
            raise click.UsageError(f"{shown!r} has bytes that are no UTF-8.")


class Commands(click.Group):
    """The commands of the table."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            check_text(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"ringback_cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = super().resolve_command(ctx, args)
        # A process tells its log of misspelt settings (ringback_cli.process).
        if found[0] not in _WITH_LOG and not ctx.resilient_parsing:
            tell_misspelt()
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        return [
            *(CompletionItem(name, help=COMMANDS[name]) for name in names),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if ctx.invoked_subcommand in PROCESSES:
                raise
            from ringback_cli.session import explained

            if (known := explained(error)) is None:
                raise
            raise known from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ringback")
def main() -> None:
    """Place, follow and end phone calls on FreeSWITCH.

    The RINGBACK_* environment variables are the settings.
    """
