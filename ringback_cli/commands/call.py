"""`ringback call`: the options; ringback_cli/placing.py does the work."""

import sys

import click

from ringback_cli import complete, words
from ringback_cli.session import Session, put_json, tell

# The exit status for a call that goes on after Ctrl-C.
_DETACHED = 130


@click.command("call")
@click.argument("source")
@click.argument("destination")
@click.option(
    "--extension",
    shell_complete=complete.extensions,
    help="The extension that pays; SOURCE by default.",
)
@click.option("--user", shell_complete=complete.users, help="The id of the extension's owner.")
@click.option("--caller-id", help="The caller id for both sides: 'John Doe <4242425>'.")
@click.option("--accept", help="A prompt of the accounts: a public source must press 1 to accept.")
@click.option("--announce", help="A prompt of the accounts that the destination hears.")
@click.option("--wait", help="The most seconds that a side rings (25 by default).")
@click.option("--duration", help="The most seconds that the call lasts.")
@click.option("--nonce", help="A text that makes a retry safe: it places only one call.")
@click.option(
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help="Metadata that come back with the call. It may repeat.",
)
@click.option("--callback", metavar="URL", help="A URL that is told of the call's statuses.")
@click.option("--no-follow", is_flag=True, help="Print the id of the call, and do not follow it.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the call as one JSON document at its end."
)
def command(
    source: str,
    destination: str,
    extension: str | None,
    user: str | None,
    no_follow: bool,
    as_json: bool,
    metadata: tuple[str, ...],
    **options: str | None,
) -> None:
    """Place a call and follow it.

    SOURCE and DESTINATION are numbers, with commas between several numbers.

    The exit status is 0 if the call is answered, 11 busy, 12 failed, 13 no answer, 14 unknown,
    15 not allowed. It is 130 if Ctrl-C ends the command and the call goes on.
    """
    if not all("=" in pair for pair in metadata):
        raise click.UsageError("--metadata takes KEY=VALUE.")
    session = Session.open()
    from ringback_cli.placing import exit_status, follow, place

    pairs = dict(pair.split("=", 1) for pair in metadata)
    call = place(session, source, destination, extension, user, options, pairs)
    if no_follow:
        put_json(words.document(call)) if as_json else click.echo(call.id)
        return
    call, left = follow(session, call, quiet=as_json)
    if as_json:
        put_json(words.document(call))
    if left:
        tell(f"The call goes on. `ringback calls hangup {call.id}` ends it.")
        sys.exit(_DETACHED)
    sys.exit(exit_status(call))
