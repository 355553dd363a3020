"""`ringback accounts`: check, import, show, export, new apps and new secrets."""

import base64
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import tomlkit
from marshmallow import ValidationError
from redis.exceptions import RedisError

from app.accounts.model import Accounts, Level, token_sha256
from app.accounts.schemas import AccountsSchema
from app.accounts.store import AccountStore, read_accounts
from app.settings import SettingsError
from workers.commands import complete, words
from workers.commands.session import Session, as_json, console, put_json, tell

_TABLES = (*("organizations", "users", "extensions", "conferences", "apps", "routes", "gateways"),)
# Not shown, hash or not.
_SECRET = ("token_sha256", "client_secret_sha256", "webhook_secret", "pin")
_AT_START = (
    "Running APIs see it within 0.1 s. An API that starts reads RINGBACK_ACCOUNTS and writes that "
    "in place of this: keep that file the same."
)

_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
_into = click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write it to that accounts file too; its comments stay.",
)


def _kinds(command: Callable[..., Any]) -> Callable[..., Any]:
    for option, text in (
        ("--webhook-secret", "One that its call events are signed with."),
        ("--client-secret", "One that it asks for tokens with (OAuth)."),
        ("--token", "A bearer token; the same as none of these."),
    ):
        command = click.option(option, is_flag=True, help=text)(command)
    return command


@click.group("accounts")
def command() -> None:
    """Accounts: check and import a file, show, add apps, rotate secrets."""


@command.command()
@_file
@as_json
def check(file: Path, as_json: bool) -> None:
    """Say what in an accounts file cannot be used."""
    accounts = _read(file)
    counts = {name: len(getattr(accounts, name)) for name in _TABLES}
    if as_json:
        put_json(counts)
    else:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        click.echo(f"{file} can be used: {told}")


@command.command("import")
@_file
@as_json
def import_(file: Path, as_json: bool) -> None:
    """Put the accounts of a file in place of those in Redis, at once."""
    accounts = _read(file)
    session = Session.open()
    before = session.accounts
    AccountStore(session.redis, session.keys).replace(accounts)
    changes = _changes(before, accounts)
    if as_json:
        put_json(changes)
    else:
        for name, (new, changed, gone) in changes.items():
            if new or changed or gone:
                click.echo(f"{name}: {new} new, {changed} changed, {gone} gone")
        click.echo("Imported.")
    tell(_AT_START)


@command.command()
@as_json
def show(as_json: bool) -> None:
    """The accounts in Redis, without secrets."""
    document = _without(_document(Session.open()), *_SECRET)
    if as_json:
        put_json(document)
        return
    out = console()
    for name in _TABLES:
        if rows := document.get(name):
            fields = list(dict.fromkeys(field for row in rows for field in row))
            made = words.table(*fields)
            made.title, made.title_justify = name, "left"
            for row in rows:
                made.add_row(*(_word(row.get(field)) for field in fields))
            out.print(made)


@command.command()
@as_json
def export(as_json: bool) -> None:
    """The accounts in Redis as a file that can be imported. Of tokens and client secrets it has the
    hashes; webhook secrets are left out."""
    document = _document(Session.open())
    left_out = [app["id"] for app in document["apps"] if "webhook_secret" in app]
    document = _without(document, "webhook_secret")
    if as_json:
        put_json(document)
    else:
        click.echo(tomlkit.dumps({name: rows for name, rows in document.items() if rows}), nl=False)
    if left_out:
        tell(f"Left out: the webhook_secret of {', '.join(left_out)}.")


@command.command("add-app")
@click.argument("app")
@click.option("--level", type=click.Choice([level.value for level in Level]), required=True)
@click.option("--user", shell_complete=complete.users, help="The id, at level user.")
@click.option(
    "--organization", shell_complete=complete.organizations, help="The number, at that level."
)
@click.option("--compatibility", type=click.Choice(["default", "voipnow"]))
@_kinds
@_into
@as_json
def add_app(
    app: str,
    token: bool,
    client_secret: bool,
    webhook_secret: bool,
    file: Path | None,
    as_json: bool,
    **fields: str | None,
) -> None:
    """Make an app with new secrets, and print these: once, for only their hashes are kept."""
    given = _new_secrets(token, client_secret, webhook_secret)
    row = {"id": app, **words.without_none(fields), **_kept(given)}

    def add(apps: Any) -> None:
        if any(each["id"] == app for each in apps):
            raise click.ClickException(
                f"There is an app {app}: `ringback accounts rotate-secret {app}` gives it others."
            )
        apps.append(row)

    _change(add, file)
    _print(app, given, row, file, as_json)


@command.command("rotate-secret")
@click.argument("app", shell_complete=complete.apps)
@_kinds
@_into
@as_json
def rotate_secret(
    app: str,
    token: bool,
    client_secret: bool,
    webhook_secret: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Give an app a new secret in place of the old one, which counts no more from then on; of
    the token and the client secret those that it has, where none is named."""
    if not (token or client_secret or webhook_secret):
        had = Session.open().accounts.apps.get(app)
        token = had is not None and had.token_sha256 is not None
        client_secret = had is not None and had.client_secret_sha256 is not None
    given = _new_secrets(token, client_secret, webhook_secret)

    def rotate(apps: Any) -> None:
        row = next((each for each in apps if each["id"] == app), None)
        if row is None:
            known = ", ".join(each["id"] for each in apps)
            raise click.ClickException(f"There is no app {app}. There are {known}.")
        for name in given:
            row.pop(name, None)
        row.update(_kept(given))

    _change(rotate, file)
    _print(app, given, {"id": app, **_kept(given)}, file, as_json)


def _read(file: Path) -> Accounts:
    try:
        return read_accounts(file)
    except SettingsError as error:
        raise click.ClickException(str(error).removeprefix("RINGBACK_ACCOUNTS: ")) from error


def _document(session: Session) -> dict[str, Any]:
    """What AccountStore.replace wrote. Raises ClickException where there is nothing."""
    text: Any = session.redis.hget(session.keys.accounts, "document")
    if text is None:
        raise click.ClickException(
            "Redis holds no accounts. Start the API, or `ringback accounts import FILE`."
        )
    document: dict[str, Any] = json.loads(text)
    return document


def _without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {
        table: [{n: value for n, value in row.items() if n not in names} for row in rows]
        for table, rows in document.items()
    }


def _word(value: Any) -> str:
    return (
        " ".join(map(str, value))
        if isinstance(value, list)
        else ""
        if value is None
        else str(value)
    )


def _changes(before: Accounts, after: Accounts) -> dict[str, tuple[int, int, int]]:
    """How many are new, changed and gone, by table."""
    changes = {}
    for name in _TABLES:
        old, new = (_by_name(getattr(accounts, name)) for accounts in (before, after))
        changed = sum(old[key] != new[key] for key in old.keys() & new.keys())
        changes[name] = len(new.keys() - old.keys()), changed, len(old.keys() - new.keys())
    return changes


def _by_name(rows: Any) -> dict[Any, Any]:
    if isinstance(rows, dict):
        return rows
    return {getattr(row, "prefix", None) or getattr(row, "name", ""): row for row in rows}


def _new_secrets(token: bool, client_secret: bool, webhook_secret: bool) -> dict[str, str]:
    """By the names of the accounts file; a token where nothing is asked for."""
    made = {}
    if token or not (client_secret or webhook_secret):
        made["token"] = secrets.token_urlsafe(32)
    if client_secret:
        made["client_secret"] = secrets.token_urlsafe(32)
    if webhook_secret:
        made["webhook_secret"] = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    return made


def _kept(given: dict[str, str]) -> dict[str, str]:
    """What the file and Redis have of the secrets: of what is signed with, itself."""
    return {
        name if name == "webhook_secret" else f"{name}_sha256": (
            text if name == "webhook_secret" else token_sha256(text)
        )
        for name, text in given.items()
    }


def _change(change: Callable[[Any], None], file: Path | None) -> None:
    """Change the apps in Redis and in the file, each only if all of both can be used then."""
    session = Session.open()
    with session.redis.lock(f"{session.keys.accounts}:change", timeout=30):
        _change_locked(session, change, file)


def _change_locked(session: Session, change: Callable[[Any], None], file: Path | None) -> None:
    document = _document(session)
    change(document["apps"])
    accounts = _loaded(document, demo=True)
    if file is not None:
        try:
            text = tomlkit.parse(file.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise click.ClickException(f"{file}: {error}") from error
        change(text.setdefault("apps", tomlkit.aot()))
        _loaded(text.unwrap(), demo=False)
        _write(file, tomlkit.dumps(text))
    is_demo = session.redis.hget(session.keys.accounts, "demo") == b"1"
    try:
        AccountStore(session.redis, session.keys).replace(accounts, demo=is_demo)
    except RedisError as error:
        where = f"{file} has it already: ask for another secret. " if file else ""
        raise click.ClickException(f"{where}Redis: {error}") from error


def _loaded(document: dict[str, Any], *, demo: bool) -> Accounts:
    try:
        accounts: Accounts = AccountsSchema(demo=demo).load(document)
    except ValidationError as error:
        raise click.ClickException(f"That cannot be: {json.dumps(error.messages)}") from error
    return accounts


def _write(file: Path, text: str) -> None:
    """Whole or not at all, with the owner and the rights that the file has."""
    handle, name = tempfile.mkstemp(dir=file.resolve().parent, prefix=f".{file.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
        was = file.stat()
        with suppress(PermissionError):
            os.chown(part, was.st_uid, was.st_gid)
        part.chmod(was.st_mode & 0o777)
        part.replace(file.resolve())
    finally:
        part.unlink(missing_ok=True)


def _print(
    app: str, given: dict[str, str], row: dict[str, str], file: Path | None, as_json: bool
) -> None:
    if as_json:
        put_json({"app": app, **given})
    else:
        for name, text in given.items():
            click.echo(f"{name} = {text}")
    if file is None:
        lines = "\n".join(f"{name} = {json.dumps(text)}" for name, text in row.items())
        tell(
            "It counts now, until an API starts and reads RINGBACK_ACCOUNTS: put this into its "
            f"[[apps]], or give --file.\n\n{lines}\n"
        )
    tell("Keep it well: it is not shown again.")
