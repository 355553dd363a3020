"""`ringback doctor`: the report; ringback_cli/doctor.py looks, ringback_cli/checks.py judges."""

import sys
from typing import TYPE_CHECKING

import click

from ringback_cli.session import as_json, put_json

if TYPE_CHECKING:
    from rich.table import Table

    from ringback_cli.checks import Check


@click.command("doctor")
@as_json
def command(as_json: bool) -> None:
    """Check all that Ringback needs, and say what to do.

    It checks the settings, Redis, the processes, the accounts, and the switches with their clocks.

    The exit status is 0 if all is well, 1 with warnings, 2 with failures.
    """
    from ringback_cli.checks import exit_status
    from ringback_cli.doctor import look

    found: list[tuple[str, Check]] = []
    for section, check in look():
        if not as_json:
            _print(section if not found or found[-1][0] != section else None, check)
        found.append((section, check))
    if as_json:
        put_json([_document(section, check) for section, check in found])
    sys.exit(exit_status(check for _, check in found))


def _print(heading: str | None, check: "Check") -> None:
    from rich.text import Text

    from ringback_cli.screen import console

    out = console()
    if heading is not None:
        out.print(Text(heading, style="bold"))
    out.print(_lines(check))


def _lines(check: "Check") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from ringback_cli.checks import Level

    sign, style = {
        Level.SKIPPED: ("–", "dim"),
        Level.OK: ("✓", "green"),
        Level.WARNING: ("!", "yellow"),
        Level.FAILURE: ("✗", "red"),
    }[check.level]
    lines = Table.grid(padding=(0, 1))
    lines.add_row("", Text(sign, style=style), f"{check.subject}: {check.text}")
    if check.advice:
        lines.add_row("", "", Text(f"→ {check.advice}", style=style))
    return lines


def _document(section: str, check: "Check") -> dict[str, str]:
    row = {
        "section": section,
        "subject": check.subject,
        "level": check.level.name.lower(),
        "text": check.text,
        "advice": check.advice,
    }
    return {name: text for name, text in row.items() if text}
