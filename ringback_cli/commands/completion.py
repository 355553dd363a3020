"""`ringback completion`: the code that completes commands in a shell."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the code that completes commands in a shell.

    The shell then completes commands, ids of calls, switches and accounts too.

    For bash, put this into ~/.bashrc: eval "$(ringback completion bash)"

    For zsh, put this into ~/.zshrc: eval "$(ringback completion zsh)"

    For fish, run: ringback completion fish > ~/.config/fish/completions/ringback.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "ringback", "_RINGBACK_COMPLETE").source())
