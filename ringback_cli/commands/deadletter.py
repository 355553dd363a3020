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


@command.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List the dead letters, oldest first.

    Each line has the id, the time of the last try, the message, the target and the reason.
    """
    letters = list(_messages().dead_letters())
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
def replay(letters: tuple[str, ...], every: bool) -> None:
    """Send dead letters again."""
    session, messages = _open()
    _each(session, messages, letters, every, "dead_letter_replay")


@command.command()
@click.argument("letters", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Drop all dead letters.")
def drop(letters: tuple[str, ...], every: bool) -> None:
    """Drop dead letters for good."""
    session, messages = _open()
    _each(session, messages, letters, every, "dead_letter_drop")


def _each(
    session: Session, messages: "Messages", letters: tuple[str, ...], every: bool, what: str
) -> None:
    if bool(letters) == every:
        raise click.UsageError("Give the ids of dead letters, or --all.")
    replays = what == "dead_letter_replay"
    act = messages.replay if replays else messages.drop
    ids = [letter.id for letter in messages.dead_letters()] if every else letters
    gone = [letter_id for letter_id in ids if not act(letter_id)]
    if done := len(ids) - len(gone):
        session.audit(what, "all" if every else ",".join(ids), f"{done} done")
    click.echo(f"{done} {'sent again' if replays else 'dropped'}")
    if gone:
        raise click.ClickException(f"There is no dead letter {', '.join(gone)}.")


def _messages() -> "Messages":
    return _open()[1]


def _open() -> "tuple[Session, Messages]":
    from workers.webhooks.messages import Messages

    session = Session.open()
    return session, Messages(session.redis, session.keys)
