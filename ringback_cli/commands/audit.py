"""`ringback audit`: who asked for what, with which result."""

import csv
from collections.abc import Iterator
from typing import Any

import click

from ringback_cli import complete, words
from ringback_cli.session import Session, as_json_lines, put_json_line

# In the order of the CSV's columns.
COLUMNS = (
    *("at", "kind", "app", "user", "address", "what", "on", "organization", "result"),
    *("count", "data"),
)


@click.command("audit")
@click.option("--app", shell_complete=complete.apps, help="Only what this app asked.")
@click.option("--user", shell_complete=complete.users, help="Only what this user asked.")
@click.option(
    "--organization",
    shell_complete=complete.organizations,
    help="Only what concerns the organization with this number.",
)
@click.option("--call", "on", shell_complete=complete.calls, help="Only what concerns this call.")
@click.option("--what", help="Only this, such as place, hang_up, Transfer or login_failed.")
@click.option(
    "--result", help="Only this result: accepted, an error code, or refused for all codes."
)
@click.option("--since", help="Only from this time on: 2026-11-30[T08:00:00Z].")
@click.option("--until", help="Only before this time.")
@click.option("--follow", is_flag=True, help="Go on with what is to come, until Ctrl-C.")
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV.")
@click.option("--output", default="-", help="The file to write; standard output by default.")
@as_json_lines
def command(
    since: str | None,
    until: str | None,
    follow: bool,
    as_csv: bool,
    output: str,
    as_json: bool,
    **wanted: str | None,
) -> None:
    """Show who asked for what, oldest first.

    Without options the command prints all that is kept, and ends. A date without a time zone is in
    UTC.
    """
    if as_csv and (follow or as_json):
        raise click.UsageError("Give --csv alone, without --json or --follow.")
    if output != "-" and not as_csv:
        raise click.UsageError("--output takes a file together with --csv.")
    if follow and until is not None:
        raise click.UsageError("Give --follow or --until, not both.")
    session = Session.open()
    entries = _entries(session, since, until, wanted, follow)
    if as_csv:
        _write(entries, output)
        return
    try:
        for entry in entries:
            put_json_line(entry) if as_json else click.echo(_line(entry))
    except KeyboardInterrupt:
        return


def _entries(
    session: Session,
    since: str | None,
    until: str | None,
    wanted: dict[str, str | None],
    go_on: bool,
) -> Iterator[dict[str, str]]:
    from app.store import audit
    from app.store.client import BLOCK_LIMIT

    low, high = 0.0, None
    if since is not None or until is not None:
        from ringback_cli.cdr_export import span

        times = span(since, until, "--since", "--until")
        low = max(0.0, times.low)
        high = times.high if until is not None else None
    # This comes before the reading, so that nothing falls between.
    places = audit.ends(session.redis, session.keys)
    seen = {key: audit.place(last.encode()) for key, last in places.items()}
    for key, entry in audit.read(session.redis, session.keys, since=low, until=high):
        # What comes meanwhile is followed.
        late = go_on and audit.place(entry["id"].encode()) > seen[key]
        if not late and audit.matches(entry, wanted):
            yield entry
    while go_on:
        places, found = audit.follow(session.redis, places, BLOCK_LIMIT)
        yield from (entry for entry in found if audit.matches(entry, wanted))


def _line(entry: dict[str, str]) -> str:
    from app.store.audit import plain

    count = f"{entry['count']} times" if "count" in entry else ""
    done = (entry["what"], entry.get("on", ""), entry["result"], count, entry.get("data", ""))
    text = "  ".join(filter(None, (*done, f"{entry['kind']} {words.asker(entry)}".rstrip())))
    return f"{words.clock(float(entry['at']))}  {plain(text, 2000)}"


def _write(entries: Iterator[dict[str, str]], output: str) -> None:
    from ringback_cli.cdr_export import instant, opened
    from ringback_cli.spreadsheet import cell

    written = 0
    with opened(output) as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        for entry in entries:
            row: dict[str, Any] = {name: cell(text) for name, text in entry.items()}
            table.writerow(row | {"at": instant(float(entry["at"]))})
            written += 1
    click.echo(f"{written} entries written", err=True)
