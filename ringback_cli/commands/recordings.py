"""`ringback recordings`: lists and deletes the files of recordings."""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ringback_cli.session import Session, as_json, put_json, tell

if TYPE_CHECKING:
    from app.recording_files import Found, RecordingFiles
    from app.settings import Settings


@click.group("recordings")
def command() -> None:
    """List and delete recordings.

    RINGBACK_RECORDINGS_ROOT is the folder of this host that has the recordings.
    """


@command.command("list")
@click.option("--call", "call_id", help="Only recordings of the call with this id.")
@as_json
def list_(call_id: str | None, as_json: bool) -> None:
    """List recordings with the id of the call, the time of the last change and the size."""
    _, files = _files()
    found = _of(files.all(), call_id)
    if as_json:
        put_json([_row(each) for each in found])
        return
    for each in found:
        at = datetime.fromtimestamp(each.changed, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        click.echo("\t".join([each.call, at, str(each.size), each.path]))


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--call", "call_id", help="Delete the recordings of the call with this id.")
@click.option(
    "--expired", is_flag=True, help="Delete what is older than RINGBACK_RECORDINGS_RETENTION."
)
@click.option("--yes", is_flag=True, help="Delete. Without it nothing changes.")
@as_json
def delete(
    names: tuple[str, ...], call_id: str | None, expired: bool, yes: bool, as_json: bool
) -> None:
    """Delete recordings by the names of their files, by their call, or those that are too old.

    Without --yes the command lists what it would delete. --expired needs no Redis, so that the
    host of a switch can run it.
    """
    if bool(names) + (call_id is not None) + expired != 1:
        raise click.UsageError("Give names, or --call, or --expired.")
    settings, files = _files()
    if expired:
        if not settings.recordings_retention:
            raise click.ClickException(
                "RINGBACK_RECORDINGS_RETENTION is 0: recordings are kept for good."
            )
        before = time.time() - settings.recordings_retention
        chosen = [each for each in files.all() if each.changed < before]
    else:
        chosen = list(_of(files.all(), call_id, names))
    if missing := set(names) - {each.path.rpartition("/")[2] for each in chosen}:
        raise click.ClickException(f"There is no recording {', '.join(sorted(missing))}.")
    session = None if expired or not yes else Session.open()
    done = [each for each in chosen if not yes or files.delete(each.path)]
    if session is not None and done:
        name = call_id or ",".join(names)
        session.audit("recording_delete", name, f"{len(done)} deleted")
    if as_json:
        put_json({"deleted": yes, "recordings": [_row(each) for each in done]})
        return
    for each in done:
        click.echo(each.path)
    click.echo(f"{len(done)} {'deleted' if yes else 'to delete'}", err=True)
    if not yes and done:
        tell("Nothing has changed. Add --yes to delete.")


def _files() -> "tuple[Settings, RecordingFiles]":
    from app.recording_files import RecordingFiles
    from app.settings import load_settings

    settings = load_settings()
    files = RecordingFiles(settings.recordings, settings.recordings_root)
    if settings.recordings_root is None:
        raise click.ClickException(
            "RINGBACK_RECORDINGS_ROOT is not set: give the folder of this host that has the "
            "recordings. Or run the command on the switch's host."
        )
    if not files.is_reachable():
        raise click.ClickException(
            f"There is no folder {settings.recordings_root} (RINGBACK_RECORDINGS_ROOT)."
        )
    return settings, files


def _of(
    found: Iterable["Found"], call_id: str | None, names: tuple[str, ...] = ()
) -> Iterator["Found"]:
    for each in found:
        if call_id not in (None, each.call):
            continue
        if not names or each.path.rpartition("/")[2] in names:
            yield each


def _row(found: "Found") -> dict[str, Any]:
    return {"call": found.call, "changed": found.changed, "size": found.size, "path": found.path}
