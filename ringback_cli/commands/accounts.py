"""`ringback accounts`: checks, imports and shows accounts, adds apps, and rotates secrets."""

import base64
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.accounts.model import Level, token_sha256
from app.accounts.policy import TYPES
from app.accounts.scopes import AppScope
from ringback_cli import complete, words
from ringback_cli.session import Session, as_json, put_json, tell, who

if TYPE_CHECKING:
    from app.accounts.changes import Changed, Counts
    from app.accounts.model import Accounts
    from app.accounts.policy import Policy
    from app.accounts.store import AccountStore

_TABLES = (
    *("organizations", "users", "extensions", "conferences", "apps", "routes", "gateways"),
    "policies",
    "rates",
)
# Fields that are never shown, even if they are hashes.
_SECRET = (
    *("token_sha256", "client_secret_sha256", "tokens", "client_secrets", "webhook_secret", "pin"),
)
# What the history says of a change.
_WORDS = {"import_accounts": "import", "add_app": "add-app", "rotate_secret": "rotate-secret"}
_WORDS |= {"drop_secret": "drop-secret"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AT_START = (
    "Running APIs use these accounts within 0.1 s. An API that starts keeps them, unless the file "
    "of RINGBACK_ACCOUNTS is newer: change that file too."
)

_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
_into = click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Change this accounts file too. Its comments stay.",
)


def _kinds(command: Callable[..., Any]) -> Callable[..., Any]:
    for option, text in (
        ("--webhook-secret", "Make the secret that signs its call events."),
        ("--client-secret", "Make the secret that it requests tokens with (OAuth)."),
        ("--token", "Make a bearer token."),
    ):
        command = click.option(option, is_flag=True, help=text)(command)
    return command


@click.group("accounts")
def command() -> None:
    """Check, import and show accounts; add apps; rotate secrets."""


@command.command()
@_file
@as_json
def check(file: Path, as_json: bool) -> None:
    """Check an accounts file, name its errors, and show what may be dialled."""
    accounts = _read(file)
    counts = {name: len(getattr(accounts, name)) for name in _TABLES}
    if as_json:
        rules = [_rules(accounts, policy) for policy in accounts.policies.values()]
        put_json({**counts, "rules": rules})
        return
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    click.echo(f"{file} is valid: {told}")
    for policy in accounts.policies.values():
        words = [f"{name} {_said(value)}" for name, value in _rules(accounts, policy).items()]
        click.echo(f"policy {', '.join(words).removeprefix('name ')}")
    click.echo(f"barred unless a policy allows it: emergency, {', '.join(TYPES)}")
    for organization in accounts.organizations.values():
        if organization.country is None:
            click.echo(
                f"organization {organization.number} has no country: national forms of numbers "
                "cannot be told apart, so set one"
            )


def _rules(accounts: "Accounts", policy: "Policy") -> dict[str, Any]:
    """The entries of a policy that say something, and the accounts that have it."""
    rows: dict[str, Mapping[str, Any]] = {
        "organization": accounts.organizations,
        "user": accounts.users,
        "extension": accounts.extensions,
        "app": accounts.apps,
    }
    used = [
        f"{kind} {name}"
        for kind, table in rows.items()
        for name, row in table.items()
        if row.policy == policy.name
    ]
    said = {name: value for name, value in asdict(policy).items() if value not in (None, (), False)}
    return {**said, "used by": used}


def _said(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(value) or "nothing"
    return "yes" if value is True else str(value)


@command.command("import")
@_file
@as_json
def import_(file: Path, as_json: bool) -> None:
    """Replace the accounts in Redis with those of a file.

    It writes the rows that differ. All of them count at the same moment.
    """
    from app.accounts import importing
    from app.settings import SettingsError

    session = Session.open()
    with _refusing():
        try:
            done = importing.import_file(_store(session), file, who())
        except SettingsError as error:
            raise _without_variable(error) from error
    _tell_change(session, "import_accounts", done, as_json)
    if not as_json:
        click.echo(f"Imported. The accounts have version {done.version}.")
    tell(_AT_START)


@command.command()
@as_json
def undo(as_json: bool) -> None:
    """Take the last change of the accounts back.

    Run it again to go back further. It also brings old secrets back that the change replaced.
    """
    from app.accounts import changes

    session = Session.open()
    with _refusing():
        past, done = changes.undo(_store(session), who())
    _tell_change(session, "undo_accounts", done, as_json)
    if not as_json:
        click.echo(
            f"Undid version {past.version}, {_WORDS.get(past.what, past.what)} by {past.by}. "
            f"The accounts have version {done.version}."
        )
    tell(_AT_START)


@command.command()
@as_json
def history(as_json: bool) -> None:
    """List the last changes of the accounts: version, time, author, and how many rows changed."""
    from app.accounts import changes
    from app.accounts.credential_schemas import moment_text

    session = Session.open()
    found = list(changes.history(session.redis, session.keys))
    undone = {past.undoes for past in found if past.undoes}
    rows = [
        {
            "version": past.version,
            "at": moment_text(int(past.at)),
            "by": past.by,
            "what": _WORDS.get(past.what, past.what),
            "rows": _counted(past.counts),
            "file": past.file,
            "undone": past.state in undone,
        }
        for past in found
    ]
    if as_json:
        put_json(rows)
        return
    from ringback_cli.screen import console, table

    made = table("version", "at", "by", "what", "rows", "file")
    for row in rows:
        what = f"{row['what']}, undone" if row["undone"] else row["what"]
        told = (row["version"], row["at"], row["by"], what, row["rows"], row["file"])
        made.add_row(*map(str, told))
    console().print(made)


@command.command()
@as_json
def show(as_json: bool) -> None:
    """Show the accounts in Redis without their secrets."""
    document = _without(_document(Session.open()), *_SECRET)
    if as_json:
        put_json(document)
        return
    from ringback_cli.screen import console, table

    out = console()
    for name in _TABLES:
        if rows := document.get(name):
            fields = list(dict.fromkeys(field for row in rows for field in row))
            made = table(*fields)
            made.title, made.title_justify = name, "left"
            for row in rows:
                made.add_row(*(_word(row.get(field)) for field in fields))
            out.print(made)


@command.command()
@as_json
def export(as_json: bool) -> None:
    """Export the accounts in Redis as a file to import.

    The file has the hashes of tokens and client secrets. It leaves out webhook secrets.
    """
    document = _document(Session.open())
    left_out = [app["id"] for app in document["apps"] if "webhook_secret" in app]
    document = _without(document, "webhook_secret")
    if as_json:
        put_json(document)
    else:
        import tomlkit

        click.echo(tomlkit.dumps({name: rows for name, rows in document.items() if rows}), nl=False)
    if left_out:
        tell(f"The export leaves out the webhook_secret of {', '.join(left_out)}.")


@command.command("add-app")
@click.argument("app")
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    required=True,
    help="The account that the app belongs to.",
)
@click.option("--user", shell_complete=complete.users, help="The id of the user, at level user.")
@click.option(
    "--organization",
    shell_complete=complete.organizations,
    help="The number of the organization, at level organization.",
)
@click.option(
    "--compatibility",
    type=click.Choice(["default", "voipnow"]),
    help="The form of the answers that the app expects.",
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in AppScope]),
    help="A scope that the app has. Without this option it has those of its level.",
)
@click.option(
    "--supervise",
    multiple=True,
    metavar="PATTERN",
    help="The extensions whose calls the app supervises: 0003*2*.",
)
@click.option("--expires", metavar="DATE", help="When the app ends: 2027-12-31.")
@click.option("--token-in-query", is_flag=True, help="Take the token in the query too.")
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
    scopes: tuple[str, ...],
    supervise: tuple[str, ...],
    token_in_query: bool,
    **fields: str | None,
) -> None:
    """Add an app with new secrets, and print the secrets.

    Without an option for a secret the app gets a token. Redis and the file keep only the hashes of
    tokens and client secrets.
    """
    given = _new_secrets(token, client_secret, webhook_secret)
    row: dict[str, Any] = {"id": app, **words.without_none(fields), **_kept(given)}
    row |= {"scopes": list(scopes)} if scopes else {}
    row |= {"supervise": list(supervise)} if supervise else {}
    row |= {"token_in_query": True} if token_in_query else {}

    def add(apps: Any) -> None:
        if any(each["id"] == app for each in apps):
            raise click.ClickException(
                f"App {app} exists. `ringback accounts rotate-secret {app}` gives it new secrets."
            )
        apps.append(row)

    _change(add, file, "add_app", app, given)
    _print(app, given, row, file, as_json)


@command.command("rotate-secret")
@click.argument("app", shell_complete=complete.apps)
@click.option(
    "--keep",
    metavar="TIME",
    callback=lambda _, __, text: _seconds(text),
    help="Let the old token and client secret count for so long beside the new ones: 7d, 12h, 30m.",
)
@_kinds
@_into
@as_json
def rotate_secret(
    app: str,
    keep: int | None,
    token: bool,
    client_secret: bool,
    webhook_secret: bool,
    file: Path | None,
    as_json: bool,
) -> None:
    """Replace the secrets of an app, and print the new ones.

    The old secrets stop working at once, or with --keep after that time. Without an option for a
    secret the command replaces the token and the client secret that the app has.
    """
    if not (token or client_secret or webhook_secret):
        had = Session.open().accounts.apps.get(app)
        token = had is not None and bool(had.all_tokens)
        client_secret = had is not None and bool(had.all_client_secrets)
    given = _new_secrets(token, client_secret, webhook_secret)

    from app.accounts.credential_schemas import moment_text

    until = None if keep is None else moment_text(time.time() + keep)

    def rotate(apps: Any) -> None:
        row = _row_of(apps, app)
        for name in given:
            old = None if name == "webhook_secret" else _newest(row, name)
            for each in (name, f"{name}_sha256", f"{name}s"):
                row.pop(each, None)
            if old is not None and until is not None:
                row[f"{name}s"] = [{**old, "expires": _earlier(until, old.get("expires"))}]
        row.update(_kept(given))

    _change(rotate, file, "rotate_secret", app, given)
    _print(app, given, {"id": app, **_kept(given)}, file, as_json)


@command.command("drop-secret")
@click.argument("app", shell_complete=complete.apps)
@click.option("--token", is_flag=True, help="Take out the older bearer token.")
@click.option("--client-secret", is_flag=True, help="Take out the older client secret.")
@_into
@as_json
def drop_secret(
    app: str, token: bool, client_secret: bool, file: Path | None, as_json: bool
) -> None:
    """Take out the older of two tokens or client secrets of an app.

    It stops working at once.
    """
    names = [n for n, chosen in (("token", token), ("client_secret", client_secret)) if chosen]
    if not names:
        raise click.UsageError("Give --token, --client-secret or both.")

    def drop(apps: Any) -> None:
        row = _row_of(apps, app)
        for name in names:
            one = bool({name, f"{name}_sha256"} & row.keys())
            if one + len(row.get(f"{name}s", ())) < 2:
                raise click.ClickException(f"App {app} has no second {name} to take out.")
            newest = _newest(row, name)
            row.pop(f"{name}s")
            if not one:
                row[f"{name}s"] = [newest]

    _change(drop, file, "drop_secret", app, names)
    if as_json:
        put_json({"app": app, "dropped": names})
    else:
        click.echo(f"App {app} has one {' and one '.join(names)} now.")
    if file is None:
        tell(_AT_START)


def _row_of(apps: Any, app: str) -> Any:
    """The row of an app in the document or the file. Raises ClickException if there is none."""
    row = next((each for each in apps if each["id"] == app), None)
    if row is None:
        known = ", ".join(each["id"] for each in apps)
        raise click.ClickException(f"There is no app {app}. Known apps: {known}.")
    return row


def _newest(row: Any, name: str) -> dict[str, str] | None:
    """The token or client secret of a row that came last, as a row of its list; None if there is
    none. The file and Redis keep only its hash."""
    digest = row.get(f"{name}_sha256") or (token_sha256(row[name]) if name in row else None)
    if digest is not None:
        return {f"{name}_sha256": str(digest)}
    rows = row.get(f"{name}s", ())
    return {key: str(value) for key, value in rows[-1].items()} if rows else None


def _earlier(one: str, other: str | None) -> str:
    from app.accounts.credential_schemas import Moment

    return one if other is None else min(one, other, key=Moment().deserialize)


def _seconds(text: str | None) -> int | None:
    """The seconds in a text such as 7d. Raises BadParameter."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None:
        raise click.BadParameter("Takes a number and s, m, h or d: 7d.")
    return int(found[1]) * _UNITS[found[2]]


def _read(file: Path) -> "Accounts":
    from app.accounts.store import read_accounts
    from app.settings import SettingsError

    try:
        return read_accounts(file)
    except SettingsError as error:
        raise _without_variable(error) from error


def _without_variable(error: Exception) -> click.ClickException:
    return click.ClickException(str(error).removeprefix("RINGBACK_ACCOUNTS: "))


@contextmanager
def _refusing() -> Iterator[None]:
    """Explain why a change is refused."""
    from redis.exceptions import LockError

    from app.accounts.changes import ChangeRefused

    try:
        yield
    except LockError as error:
        raise click.ClickException("Another change of the accounts is under way.") from error
    except ChangeRefused as error:
        raise click.ClickException(str(error)) from error


def _store(session: Session) -> "AccountStore":
    from app.accounts.store import AccountStore

    return AccountStore(session.redis, session.keys)


def _tell_change(session: Session, what: str, done: "Changed", as_json: bool) -> None:
    session.audit(what, None, _counted(done.counts) or "no change")
    if as_json:
        put_json(done.counts | {"version": done.version})
        return
    for name, (new, changed, gone) in done.counts.items():
        if new or changed or gone:
            click.echo(f"{name}: {new} new, {changed} changed, {gone} removed")


def _counted(counts: "Counts") -> str:
    found = (f"{name} +{n} ~{c} -{g}" for name, (n, c, g) in counts.items() if n or c or g)
    return ", ".join(found)


def _document(session: Session) -> dict[str, Any]:
    """The accounts in Redis as a file has them. Raises ClickException if there are none."""
    from app.accounts.rows import document_of

    store = _store(session)
    store.current()
    if not store.known_rows:
        raise click.ClickException(
            "Redis holds no accounts. Start the API, or run `ringback accounts import FILE`."
        )
    return document_of(store.known_rows.texts)


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


def _new_secrets(token: bool, client_secret: bool, webhook_secret: bool) -> dict[str, str]:
    """New secrets by their names in the accounts file; a token if no secret is chosen."""
    made = {}
    if token or not (client_secret or webhook_secret):
        made["token"] = secrets.token_urlsafe(32)
    if client_secret:
        made["client_secret"] = secrets.token_urlsafe(32)
    if webhook_secret:
        made["webhook_secret"] = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    return made


def _kept(given: dict[str, str]) -> dict[str, str]:
    """The fields that the file and Redis keep: hashes, but the webhook secret itself."""
    return {
        name if name == "webhook_secret" else f"{name}_sha256": (
            text if name == "webhook_secret" else token_sha256(text)
        )
        for name, text in given.items()
    }


def _change(
    change: Callable[[Any], None], file: Path | None, what: str, app: str, given: Iterable[str]
) -> None:
    """Change the apps in Redis and in the file, if both stay valid. The audit says which secrets an
    app got, and no secret."""
    session = Session.open()
    with _refusing():
        _changed(session, change, file, what)
    session.audit(what, app, ", ".join(given))


def _changed(session: Session, change: Callable[[Any], None], file: Path | None, what: str) -> None:
    import tomlkit
    from redis.exceptions import RedisError

    from app.accounts import changes, files
    from app.accounts.rows import texts_of

    store, stamp = _store(session), None
    with changes.locked(store):
        document = _document(session)
        change(document["apps"])
        texts = texts_of(_loaded(document, demo=True))
        if file is not None:
            try:
                text = tomlkit.parse(file.read_text(encoding="utf-8"))
            except (ValueError, OSError) as error:
                raise click.ClickException(f"{file}: {error}") from error
            change(text.setdefault("apps", tomlkit.aot()))
            in_file = texts_of(_loaded(text.unwrap(), demo=False))
            _write(file, tomlkit.dumps(text))
            # A file that has more changes than this one has not been imported.
            stamp = files.stamp(file) if in_file == texts else None
        store.current()
        about = changes.Change(what, who(), store.demo, stamp)
        try:
            changes.change_locked(store, texts, about)
        except RedisError as error:
            where = f"{file} has the change, but Redis has not: run the command again. "
            raise click.ClickException(f"{where if file else ''}Redis: {error}") from error


def _loaded(document: dict[str, Any], *, demo: bool) -> "Accounts":
    from marshmallow import ValidationError

    from app.accounts.schemas import AccountsSchema

    try:
        accounts: Accounts = AccountsSchema(demo=demo).load(document)
    except ValidationError as error:
        raise click.ClickException(
            f"The accounts would be invalid: {json.dumps(error.messages)}"
        ) from error
    return accounts


def _write(file: Path, text: str) -> None:
    """Write the file whole or not at all. It keeps its owner and its permissions."""
    import tempfile

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
    app: str, given: dict[str, str], row: dict[str, Any], file: Path | None, as_json: bool
) -> None:
    if as_json:
        put_json({"app": app, **given})
    else:
        for name, text in given.items():
            click.echo(f"{name} = {text}")
    if file is None:
        lines = "\n".join(f"{name} = {json.dumps(text)}" for name, text in row.items())
        tell(
            "An API that starts with a newer file of RINGBACK_ACCOUNTS replaces the accounts. Put "
            f"this into [[apps]] of that file, or use --file.\n\n{lines}\n"
        )
    tell("Store it safely: it is not shown again.")
