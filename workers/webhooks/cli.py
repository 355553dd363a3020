"""`ringback deadletter`: call events that were given up."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from app.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from workers.webhooks.messages import Messages


@click.group()
def deadletter() -> None:
    """Call events that could not be delivered: list, show, replay, drop."""


@deadletter.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def list_(as_json: bool) -> None:
    """One a line, the oldest first: id, when it was given up, message, target, reason."""
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
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for letter in letters:
        at = datetime.fromtimestamp(letter.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        click.echo("\t".join([letter.id, at, letter.message["id"], letter.target, letter.reason]))


@deadletter.command()
@click.argument("letter")
def show(letter: str) -> None:
    """The message as JSON."""
    found = _messages().dead_letter(letter)
    if found is None:
        raise click.ClickException(f"There is no dead letter {letter}.")
    click.echo(
        json.dumps(
            {"target": found.target, "reason": found.reason, **found.message},
            ensure_ascii=False,
            indent=2,
        )
    )


@deadletter.command()
@click.argument("letters", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
def replay(letters: tuple[str, ...], every: bool) -> None:
    """Send them again."""
    messages = _messages()
    _each(messages, letters, every, messages.replay, "sent again")


@deadletter.command()
@click.argument("letters", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
def drop(letters: tuple[str, ...], every: bool) -> None:
    """Forget them."""
    messages = _messages()
    _each(messages, letters, every, messages.drop, "dropped")


def _each(
    messages: "Messages",
    letters: tuple[str, ...],
    every: bool,
    act: Callable[[str], bool],
    what: str,
) -> None:
    if bool(letters) == every:
        raise click.UsageError("Give the ids of dead letters, or --all.")
    ids = [letter.id for letter in messages.dead_letters()] if every else letters
    gone = [letter_id for letter_id in ids if not act(letter_id)]
    click.echo(f"{len(ids) - len(gone)} {what}")
    if gone:
        raise click.ClickException(f"No such dead letter: {', '.join(gone)}")


def _messages() -> "Messages":
    # Here, for the other commands do without.
    from app.store import format
    from app.store.client import connect
    from app.store.keys import Keys
    from workers.webhooks.messages import Messages

    try:
        settings = load_settings()
        redis, keys = connect(settings.require_redis()), Keys(settings.key_prefix)
        format.check(redis, keys)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    return Messages(redis, keys)
