"""`ringback webhooks`: delivers call events, and helps those who write a receiver."""

import time
from collections.abc import Callable
from typing import Any

import click

from ringback_cli.process import process

_TYPES = (
    *("dial-in", "dial-out", "hangup", "answer-in", "answer-out"),
    *("ringing", "answered", "bridged", "ended"),
)


@click.group("webhooks", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Deliver call events to the URLs of clients.

    Without a command it is the process that delivers. Run as many as you need.
    """
    if context.invoked_subcommand is not None:
        return
    with process("webhooks") as settings:
        from workers.processes import run_webhooks

        run_webhooks(settings)


def _of_api(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where the API is and who asks."""
    for option in (
        click.option(
            "--user", default="@me", show_default=True, help="The user whose calls count."
        ),
        click.option(
            "--token",
            envvar="RINGBACK_TOKEN",
            default="demo-user-token",
            help="The token of the app; the demo's by default.",
        ),
        click.option(
            "--api",
            "url",
            envvar="RINGBACK_URL",
            default="http://127.0.0.1:8080",
            show_default=True,
            help="The URL of the API.",
        ),
        click.option("--secret", help="The secret, whsec_…, that signs the messages."),
    ):
        command = option(command)
    return command


@command.command()
@click.option("--forward-to", "to", required=True, metavar="URL", help="The receiver's URL.")
@_of_api
def listen(to: str, url: str, token: str, user: str, secret: str | None) -> None:
    """Forward the statuses of calls to a URL on this machine.

    The command follows the stream of the API, and sends the body of a status callback for each
    status that a call reaches. It ends with Ctrl-C.
    """
    from ringback_cli import forwarding
    from ringback_cli.words import clock

    forwarding.check_url(to)
    signs = forwarding.checked_secret(secret, token)

    def begun() -> None:
        shown = signs if secret is None else "your secret"
        click.echo(f"Listening to {url}. Messages are signed with {shown}")

    api = forwarding.Api(url.rstrip("/"), token)
    try:
        for message_id, body in forwarding.statuses(api.events(user, begun)):
            result = forwarding.forward(to, message_id, body, signs)
            click.echo(f"{clock(time.time()).partition(' ')[2]}  {message_id}  {result}")
    except KeyboardInterrupt:
        return


@command.command()
@click.argument("kind", metavar="TYPE", type=click.Choice(_TYPES))
@click.option("--to", metavar="URL", help="The receiver's URL; the registered ones by default.")
@click.option(
    "--extension", "extensions", multiple=True, help="Only events that this extension has."
)
@_of_api
def trigger(
    kind: str,
    to: str | None,
    extensions: tuple[str, ...],
    url: str,
    token: str,
    user: str,
    secret: str | None,
) -> None:
    """Send a sample of a call event or a status to a receiver.

    TYPE is dial-in, dial-out, hangup, answer-in or answer-out of a call event, or ringing,
    answered, bridged or ended of a status callback. With --to the command sends the sample by
    itself. Without it the API sends a test to each URL that is registered for the type.
    """
    from ringback_cli import forwarding

    if to is not None:
        forwarding.check_url(to)
        signs = forwarding.checked_secret(secret, token)
        message_id, result = forwarding.trigger(kind, to, signs)
        click.echo(f"{message_id}  {result}")
        if secret is None:
            click.echo(f"The message is signed with {signs}", err=True)
        failed = not result.startswith("HTTP 2")
    else:
        if kind not in forwarding.EVENT_NAMES:
            raise click.UsageError(f"No URL is registered for {kind}: give --to URL.")
        everyone = "@organization" if user == "@owner" else "@self"
        holders = extensions or (everyone, "@app")
        api = forwarding.Api(url.rstrip("/"), token)
        results = list(forwarding.registered(api, kind, user, holders))
        if not results:
            raise click.ClickException(
                f"No URL is registered for {kind} of {' or '.join(holders)}. Give --extension or "
                "--to."
            )
        for receiver, result in results:
            click.echo(f"{receiver}  {result}")
        failed = any(result != "delivered" for _, result in results)
    if failed:
        raise SystemExit(1)
