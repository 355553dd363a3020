"""Writes call detail records out, as CSV or JSON lines."""

import csv
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
import orjson
from redis import Redis

from app.cdr.store import CdrStore, Record
from app.store.index import Span
from app.store.keys import Keys
from app.web.listing import parse_date

# As app.calls.cdr.record names them, in the order of the CSV's columns.
COLUMNS = (
    *("id", "organization", "organization_name", "user", "extension", "app", "kind", "nonce"),
    *("source", "destination", "flow", "caller_id", "caller_id_destination"),
    *("published", "answered", "ended", "duration", "billed"),
    *("disposition", "hangup_cause", "ended_by"),
)
_TIMES = ("published", "answered", "ended")
# Fields with text from clients, and the characters that begin a formula in a spreadsheet.
_TEXTS = {"organization_name", "nonce", "caller_id", "caller_id_destination"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Seconds between two lines about the progress.
_TELL = 1.0


def span(first: str | None, last: str | None) -> Span:
    """The times from ``first`` on and before ``last``, XML Schema dates. Raises BadParameter."""
    return Span(_time(first, "--from", -math.inf), _time(last, "--to", math.inf))


def run_export(redis: Redis, keys: Keys, key: str, times: Span, form: str, output: str) -> int:
    """Write the records of the index ``key`` that were accepted within ``times``, oldest first, to
    the file ``output`` (``-``: standard output). Returns their number.

    The file is there when all is written, or not at all. Raises OSError and errors of Redis.
    """
    store = CdrStore(redis, keys)
    total = store.count(key, times)
    with _opened(output) as file:
        return write(store.walk(key, times, newest_first=False), file, form, _teller(total))


@contextmanager
def _opened(output: str) -> Iterator[IO[str]]:
    """The file under another name, which it loses when all is written."""
    if output == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    part = Path(f"{output}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def write(
    parts: Iterable[list[Record]], file: IO[str], form: str, tell: Callable[[int], None]
) -> int:
    """Write the records as ``csv`` or ``jsonl``, a part at a time. Returns their number.

    In CSV a list becomes text with spaces between, and a ``'`` stands before a text that would be a
    formula. Times are UTC to the millisecond in both.
    """
    table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    if form == "csv":
        table.writeheader()
    written = 0
    for part in parts:
        rows = map(_row, part)
        if form == "csv":
            table.writerows(map(_flat, rows))
        else:
            file.writelines(f"{orjson.dumps(row).decode()}\n" for row in rows)
        written += len(part)
        tell(written)
    return written


def _row(record: Record) -> dict[str, Any]:
    row = {name: record[name] for name in COLUMNS if name in record}
    for name in _TIMES:
        if name in row:
            at = datetime.fromtimestamp(row[name], UTC).isoformat(timespec="milliseconds")
            row[name] = at.replace("+00:00", "Z")
    return row


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _cell(name, value) for name, value in row.items()}


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(value)
    return f"'{value}" if name in _TEXTS and value.startswith(_FORMULA) else value


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
