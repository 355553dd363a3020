"""Writes call detail records out, as CSV or JSON lines."""

import csv
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
import orjson

from app.calls import endings
from app.cdr.resource import asked_by
from app.cdr.store import CdrStore
from app.records.model import Holder, Record
from app.store.index import Span
from app.web.listing import parse_date
from ringback_cli.spreadsheet import cell

# As app.calls.cdr.record names them, in the order of the CSV's columns.
COLUMNS = (
    *("id", "organization", "organization_name", "user", "extension", "app", "kind", "nonce"),
    *("source", "destination", "flow", "caller_id", "caller_id_destination"),
    *("published", "answered", "ended", "duration", "billed"),
    *("disposition", "hangup_cause", "ended_by"),
)
# A line a leg: the call that it belongs to, then the leg as the record has it.
_OF_CALL = ("id", "organization", "organization_name", "user", "extension", "app")
_OF_LEG = (
    *("number", "role", "gateway", "action", "created", "answered", "accepted", "ended", "seconds"),
    *("cost", "currency", "cause", "recording", "sip_status", "sip_phrase", "q850_cause", "reason"),
    *("blocked", "sip_call_id", "post_dial_delay", "ring_seconds", "quality"),
)
# In CSV the values of ``quality`` have columns of their own.
_OF_QUALITY = ("mos", "loss_percent", "jitter_ms", "packets_in", "packets_out", "marks")
LEG_COLUMNS = (
    *(*_OF_CALL, "leg", *_OF_LEG[:-1], *_OF_QUALITY),
    *("asked_by_user", "asked_by_app"),
)
_TIMES = ("published", "created", "answered", "ended")
# Seconds between two lines about the progress.
_TELL = 1.0


def span(first: str | None, last: str | None, begin: str = "--from", end: str = "--to") -> Span:
    """The times from ``first`` on and before ``last``, XML Schema dates. ``begin`` and ``end`` are
    the options that gave them. Raises BadParameter."""
    return Span(_time(first, begin, -math.inf), _time(last, end, math.inf))


def instant(at: float) -> str:
    """A time in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_export(
    store: CdrStore, holder: Holder, times: Span, form: str, output: str, *, legs: bool = False
) -> int:
    """Write the records of the holder that were accepted within ``times``, oldest first, to the
    file ``output`` (``-``: standard output). Returns their number, or with ``legs`` the number
    of their legs, which get a line each.

    The file is there when all is written, or not at all. Raises OSError and errors of Redis.
    """
    total = store.count(holder, times)
    with opened(output) as file:
        parts = store.walk(holder, times, newest_first=False)
        return write(parts, file, form, _teller(total), legs=legs)


@contextmanager
def opened(output: str) -> Iterator[IO[str]]:
    """The file ``output``, ``-`` for standard output.

    A regular file has another name until all is written, and keeps its permissions. A link stays a
    link. A pipe or a device is written to as it is.
    """
    if output in ("-", "/dev/stdout", "/dev/fd/1"):
        yield sys.stdout
        sys.stdout.flush()
        return
    named = Path(output)
    # Not the path that a link leads to: that of an open pipe is none.
    if named.exists() and not named.is_file():
        with named.open("w", encoding="utf-8") as file:
            yield file
        return
    target = Path(os.path.realpath(output))
    part = Path(f"{target}.part")
    was = target.stat() if target.exists() else None
    # Nobody may read the part who may not read the file.
    mode = 0o666 if was is None else stat.S_IMODE(was.st_mode)
    part.unlink(missing_ok=True)
    try:
        number = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        with open(number, "w", encoding="utf-8") as file:
            if was is not None:
                part.chmod(mode)
                with suppress(PermissionError):
                    os.chown(part, was.st_uid, was.st_gid)
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def write(
    parts: Iterable[list[Record]],
    file: IO[str],
    form: str,
    tell: Callable[[int], None],
    *,
    legs: bool = False,
) -> int:
    """Write the records as ``csv`` or ``jsonl``, a part at a time. Returns the number of lines.

    In CSV a list becomes text with spaces between, and a ``'`` stands before a text that a
    spreadsheet could take for a formula. Times are UTC to the millisecond in both. With ``legs``
    there is a line for each leg; a record of an older version has none.
    """
    columns = LEG_COLUMNS if legs else COLUMNS
    table = csv.DictWriter(file, columns, lineterminator="\n")
    if form == "csv":
        table.writeheader()
    lines = done = 0
    for part in parts:
        rows = [row for record in part for row in (_legs(record) if legs else [_row(record)])]
        if form == "csv":
            table.writerows(
                {n: cell(value) for n, value in endings.flat(row).items() if n in columns}
                for row in rows
            )
        else:
            file.writelines(f"{orjson.dumps(row).decode()}\n" for row in rows)
        lines += len(rows)
        done += len(part)
        tell(done)
    return lines


def _row(record: Record) -> dict[str, Any]:
    """The record as JSON lines have it. CSV leaves out its metadata, legs and actions."""
    row = {name: record[name] for name in (*COLUMNS, "metadata") if name in record}
    if "legs" in record:
        row["legs"] = [
            _dated(leg, _TIMES) | {"asked_by": asked_by(record, leg)} for leg in record["legs"]
        ]
    if "actions" in record:
        row["actions"] = [_dated(asked, ("at",)) for asked in record["actions"]]
    return _dated(row, _TIMES)


def _legs(record: Record) -> list[dict[str, Any]]:
    of_call = {name: record[name] for name in _OF_CALL}
    return [
        {
            **of_call,
            "leg": leg["id"],
            **_dated({name: leg[name] for name in _OF_LEG if name in leg}, _TIMES),
            **{f"asked_by_{name}": text for name, text in asked_by(record, leg).items()},
        }
        for leg in record.get("legs", ())
    ]


def _dated(row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The row with its times as text."""
    return row | {name: instant(row[name]) for name in names if name in row}


def _time(text: str | None, option: str, default: float) -> float:
    try:
        return default if text is None else parse_date(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}", param_hint=option) from error


def _teller(total: int) -> Callable[[int], None]:
    told = time.monotonic()

    def tell(written: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL:
            told = time.monotonic()
            click.echo(f"{written} of {total} records", err=True)

    return tell
