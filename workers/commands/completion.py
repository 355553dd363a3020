"""`ringback completion`: what a shell is told to complete the commands."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what has a shell complete commands, ids, switches and extensions.

    For bash: eval "$(ringback completion bash)" in ~/.bashrc; so for zsh. For fish:
    ringback completion fish > ~/.config/fish/completions/ringback.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "ringback", "_RINGBACK_COMPLETE").source())
