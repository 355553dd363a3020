"""`ringback cdr`: exports call detail records."""

import click

from ringback_cli.session import Session


@click.group("cdr")
def command() -> None:
    """Export call detail records."""


@command.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="The format of the output.",
)
@click.option(
    "--from", "first", help="Only calls accepted at or after this time: 2026-11-30[T08:00:00Z]."
)
@click.option("--to", "last", help="Only calls accepted before this time.")
@click.option("--organization", help="Only calls that the organization with this number pays.")
@click.option("--user", help="Only calls that the user with this id pays.")
@click.option("--legs", is_flag=True, help="Write a line for each leg of the calls.")
@click.option("--output", default="-", help="The file to write; standard output by default.")
def export(
    form: str,
    legs: bool,
    output: str,
    first: str | None,
    last: str | None,
    organization: str | None,
    user: str | None,
) -> None:
    """Export call detail records, oldest first.

    A date without a time zone is in UTC.
    """
    if organization is not None and user is not None:
        raise click.UsageError("Give --organization or --user, not both.")
    from app.cdr.store import CdrStore
    from app.records.model import Holder
    from app.records.opening import LONG, open_archive
    from ringback_cli.cdr_export import run_export, span

    times = span(first, last)
    session = Session.open()
    archive = open_archive(session.settings, timeout=LONG)
    store = CdrStore(session.redis, session.keys, archive)
    written = run_export(store, Holder(organization, user), times, form, output, legs=legs)
    click.echo(f"{written} {'legs' if legs else 'records'} written", err=True)
