"""`ringback records`: moves records of ended calls into a database."""

import click

from ringback_cli.process import process


@click.group("records")
def command() -> None:
    """Export records of ended calls into a database."""


@command.command()
@click.option("--once", is_flag=True, help="Export what there is, and end.")
def export(once: bool) -> None:
    """Export records as calls end, and delete those that are too old.

    It makes the tables, or brings them to this version. One process is enough; a second one takes
    over at once if the first one dies.
    """
    with process("records") as settings:
        from ringback_cli.session import explained
        from workers.processes import run_records_export

        try:
            run_records_export(settings, once=once)
        except Exception as error:
            if not once or (known := explained(error)) is None:
                raise
            raise known from error
