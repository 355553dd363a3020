"""`ringback deadletter`: call events and status callbacks that no receiver took."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ringback_cli.session import Session, as_json, put_json

if TYPE_CHECKING:
    from workers.webhooks.messages import Messages


@click.group("deadletter")
def command() -> None:
    """List, show, replay and drop undelivered call events and statuses."""


_of_app = click.option("--app", metavar="ID", help="Only those of this app.")


@command.command("list")
@_of_app
@as_json
def list_(app: str | None, as_json: bool) -> None:
    """List the dead letters, oldest first.

    Each line has the id, the time of the last try, the message, the target and the reason.
    """
    letters = list(_messages().dead_letters(app))
    if as_json:
        rows = [
            {
                "id": letter.id,
                "at": letter.at,
                "message": letter.message["id"],
                "target": letter.target,
                "reason": letter.reason,
            }
            for letter in letters
        ]
        put_json(rows)
        return
    for letter in letters:
        at = datetime.fromtimestamp(letter.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        click.echo("\t".join([letter.id, at, letter.message["id"], letter.target, letter.reason]))


@command.command()
@click.argument("letter")
def show(letter: str) -> None:
    """Show the message of a dead letter as JSON."""
    found = _messages().dead_letter(letter)
    if found is None:
        raise click.ClickException(f"There is no dead letter {letter}.")
    # The URL of a status callback may hold a password of the app that placed the call.
    shown = {name: value for name, value in found.message.items() if name != "callback"}
    put_json({"target": found.target, "reason": found.reason, **shown})


@command.command()
@click.argument("letters", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Replay all dead letters.")
@_of_app
def replay(letters: tuple[str, ...], every: bool, app: str | None) -> None:
    """Send dead letters again."""
    session, messages = _open()
    _each(session, messages, letters, every, app, "dead_letter_replay")


@command.command()
@click.argument("letters", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Drop all dead letters.")
@_of_app
def drop(letters: tuple[str, ...], every: bool, app: str | None) -> None:
    """Drop dead letters for good."""
    session, messages = _open()
    _each(session, messages, letters, every, app, "dead_letter_drop")


def _each(
    session: Session,
    messages: "Messages",
    ids: tuple[str, ...],
    every: bool,
    app: str | None,
    what: str,
) -> None:
    if bool(ids) == (every or app is not None):
        raise click.UsageError("Give the ids of dead letters, --app ID or --all.")
    act = messages.replay if what == "dead_letter_replay" else messages.drop
    if ids:
        letters = [(letter_id, messages.dead_letter(letter_id)) for letter_id in ids]
    else:
        letters = [(letter.id, letter) for letter in messages.dead_letters(app)]
    gone = [letter_id for letter_id, letter in letters if letter is None or not act(letter)]
    if done := len(letters) - len(gone):
        on = ",".join(ids) or (f"app {app}" if app is not None else "all")
        session.audit(what, on, f"{done} done")
    click.echo(f"{done} {'sent again' if act == messages.replay else 'dropped'}")
    if gone:
        raise click.ClickException(f"There is no dead letter {', '.join(gone)}.")


def _messages() -> "Messages":
    return _open()[1]


def _open() -> "tuple[Session, Messages]":
    from workers.webhooks.messages import Messages

    session = Session.open()
    return session, Messages(session.redis, session.keys)
