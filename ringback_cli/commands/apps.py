"""`ringback apps`: lists, disables and enables apps."""

import click

from ringback_cli import complete
from ringback_cli.session import Session, as_json

_DISABLED = "disabled"


@click.group("apps")
def command() -> None:
    """List, disable and enable apps."""


@command.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List the apps with their state."""
    from ringback_cli.suspending import show

    session = Session.open()
    rows = [(app.id, app.account) for app in session.accounts.apps.values()]
    show(session, "app", rows, _DISABLED, as_json)


@command.command()
@click.argument("app", metavar="ID", shell_complete=complete.apps)
@click.option("--why", default="", help="The reason, which `ringback apps list` shows.")
@click.option("--hang-up", "hang_up", is_flag=True, help="End the live calls that it placed.")
@as_json
def disable(app: str, why: str, hang_up: bool, as_json: bool) -> None:
    """Refuse every request of an app, at once.

    Its tokens and its sessions of the console get an error that says so. It stays disabled
    whatever accounts are imported.
    """
    from ringback_cli.suspending import suspend

    session = Session.open()
    _check(session, app)
    suspend(session, "app", app, _DISABLED, why=why, hang_up=hang_up, as_json=as_json)


@command.command()
@click.argument("app", metavar="ID", shell_complete=complete.apps)
@as_json
def enable(app: str, as_json: bool) -> None:
    """Take the requests of an app again."""
    from ringback_cli.suspending import resume

    session = Session.open()
    _check(session, app)
    resume(session, "app", app, "enabled", as_json=as_json)


def _check(session: Session, app: str) -> None:
    accounts = session.accounts
    if app not in accounts.apps and not accounts.is_disabled(app):
        known = ", ".join(accounts.apps)
        raise click.ClickException(f"There is no app {app}. Known apps: {known}.")
