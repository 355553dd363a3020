"""`ringback organizations`: lists, suspends and resumes organizations."""

import click

from ringback_cli import complete
from ringback_cli.session import Session, as_json

_SUSPENDED = "suspended"
_number = click.argument("number", shell_complete=complete.organizations)


@click.group("organizations")
def command() -> None:
    """List, suspend and resume organizations."""


@command.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List the organizations with their state."""
    from ringback_cli.suspending import show

    session = Session.open()
    rows = [(number, each.name) for number, each in session.accounts.organizations.items()]
    show(session, "organization", rows, _SUSPENDED, as_json)


@command.command()
@_number
@click.option("--why", default="", help="The reason, which `ringback organizations list` shows.")
@click.option("--hang-up", "hang_up", is_flag=True, help="End the live calls that it pays.")
@as_json
def suspend(number: str, why: str, hang_up: bool, as_json: bool) -> None:
    """Refuse new calls and actions of an organization, at once.

    Calls that wait are not dialled any more. Its apps may still read and hang up. It stays
    suspended whatever accounts are imported.
    """
    from ringback_cli import suspending

    session = Session.open()
    _check(session, number)
    suspending.suspend(
        *(session, "organization", number, _SUSPENDED), why=why, hang_up=hang_up, as_json=as_json
    )


@command.command()
@_number
@as_json
def resume(number: str, as_json: bool) -> None:
    """Take new calls and actions of an organization again."""
    from ringback_cli import suspending

    session = Session.open()
    _check(session, number)
    suspending.resume(session, "organization", number, "active", as_json=as_json)


def _check(session: Session, number: str) -> None:
    accounts = session.accounts
    if number not in accounts.organizations and not accounts.is_suspended(number):
        known = ", ".join(accounts.organizations)
        raise click.ClickException(
            f"There is no organization {number}. Known organizations: {known}."
        )
