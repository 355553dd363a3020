"""`ringback caps`: shows the caps of organizations, users and apps, and how much is used."""

import click

from ringback_cli.session import Session, as_json, put_json


@click.command("caps")
@click.argument("holder", required=False)
@as_json
def command(holder: str | None, as_json: bool) -> None:
    """Show caps, and how much of each is used.

    HOLDER, such as organization:3, user:12 or app:crm, shows the caps of this one alone.
    """
    from app.accounts import caps, usage
    from app.web.quota import shown
    from app.web.resource import date

    session = Session.open()
    holders = caps.all_holders(session.accounts)
    if holder is not None:
        holders = [each for each in holders if each[0] == holder]
        if not holders:
            raise click.ClickException(
                f"No organization, user or app is {holder}. Give its id as organization:ID, "
                "user:ID or app:ID."
            )
    found = usage.read(
        session.redis, session.keys, holders, session.now(), session.settings.retention
    )
    if as_json:
        put_json(
            [
                {
                    "holder": use.holder,
                    "cap": use.cap,
                    "limit": shown(use.cap, use.limit),
                    "used": shown(use.cap, use.used),
                    "freeAt": date(use.free),
                }
                for use in found
            ]
        )
        return
    if not found:
        click.echo("No cap is set.")
        return
    from rich.text import Text

    from ringback_cli.screen import console, table

    made = table("holder", "cap", "used", "limit", "free at", right=("used", "limit"))
    for use in found:
        full = use.used >= use.limit
        text = Text(str(shown(use.cap, use.used)), style="red" if full else "")
        limit = str(shown(use.cap, use.limit))
        made.add_row(use.holder, use.cap, text, limit, date(use.free) or "")
    console().print(made)
