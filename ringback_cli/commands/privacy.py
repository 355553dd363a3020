"""`ringback privacy`: erases a person's number."""

from typing import Any

import click

from ringback_cli.session import APP, Session, as_json, put_json, tell, who

# The kinds of things in a report, in the order in which they are shown.
_KINDS = {
    "calls": "kept calls",
    "records": "call detail records",
    "timelines": "timelines",
    "changes": "entries of the stream of changes",
    "messages": "waiting call events and statuses",
    "dead_letters": "dead letters",
    "jobs": "RQ jobs and results",
    "nonces": "nonces",
    "windows": "counts of caps",
    "recordings": "recordings",
    "audit": "entries of the audit",
}


@click.group("privacy")
def command() -> None:
    """Erase a person's number from everything that is kept."""


@command.command()
@click.argument("person", metavar="NUMBER|USER")
@click.option("--yes", is_flag=True, help="Erase. Without it nothing changes.")
@as_json
def erase(person: str, yes: bool, as_json: bool) -> None:
    """Erase a number in any spelling, an extension, or the extensions of a user.

    Without --yes the command shows what it would erase. The word "erased" takes the place of the
    number. Times and costs stay. A live call goes on, and is erased once it has ended.
    """
    from app.privacy.erasing import Eraser, digest, finish
    from app.privacy.person import NotFound, find
    from app.recording_files import RecordingFiles
    from app.records.opening import LONG, open_archive
    from app.store.audit import Who
    from ringback_cli.screen import progress

    session = Session.open(timeout=30.0)
    accounts, settings = session.accounts, session.settings
    try:
        found = find(person, accounts)
    except NotFound as error:
        raise click.ClickException(str(error)) from error
    mark = digest(found, settings.privacy_key)
    files = RecordingFiles(settings.recordings, settings.recordings_root)
    asks = Who("operator", APP, who())
    archive = open_archive(settings, timeout=LONG)
    words = (session.redis, session.keys, accounts, found, mark, files, asks)
    eraser = Eraser(*words, write=yes, archive=archive)
    with progress() as bar:
        task = bar.add_task("keys", total=session.redis.dbsize())
        report = eraser.run(lambda done: bar.update(task, completed=done))
    if yes:
        # Calls that have ended since they were erased. An API process does so too.
        finish(session.redis, session.keys, accounts, files, asks, archive)
    counts = {name: report.found[name] for name in _KINDS}
    if yes:
        text = ", ".join(f"{n} {count}" for n, count in counts.items() if count)
        session.audit("privacy_erase", mark, text or None)
    document: dict[str, Any] = {
        "erased": yes,
        # Without RINGBACK_PRIVACY_KEY each run has a digest of its own.
        "digest": mark if yes or settings.privacy_key else None,
        **counts,
        "live_calls": sorted(report.live),
        "waiting_jobs": report.waiting_jobs,
        "recordings_elsewhere": sorted(report.elsewhere),
        "accounts": report.accounts,
    }
    if as_json:
        put_json(document)
    else:
        _show(document)
    if not yes and (any(counts.values()) or report.live):
        tell("Nothing has changed. Add --yes to erase.")


def _show(document: dict[str, Any]) -> None:
    if any(document[name] for name in _KINDS):
        click.echo("Erased:" if document["erased"] else "To erase:")
    for name, words in _KINDS.items():
        if document[name]:
            click.echo(f"{document[name]:8}  {words}")
    if not any(document[name] for name in _KINDS) and not document["live_calls"]:
        click.echo("Nothing holds the number.")
    for call_id in document["live_calls"]:
        click.echo(f"Call {call_id} is live. It goes on, and is erased once it has ended.")
    if document["waiting_jobs"]:
        click.echo(f"{document['waiting_jobs']} RQ jobs wait or run. Erase what they leave later.")
    for path in document["recordings_elsewhere"]:
        click.echo(f"Delete {path} on the switch's host.")
    if document["accounts"]:
        click.echo("The accounts hold the number: change the accounts file.")
    if document["digest"]:
        click.echo(f"In the audit stands the digest {document['digest']}.")
