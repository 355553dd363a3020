"""The tables of a page, as a test compares them with the code."""

import re
from pathlib import Path

from tests.docs.blocks import ROOT


def tables(page: str) -> list[list[list[str]]]:
    """Of each table of ``docs/PAGE`` its rows, the first one its heads, without backticks."""
    found: list[list[list[str]]] = [[]]
    for line in Path(ROOT, "docs", page).read_text().splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip().replace("`", "") for cell in line[1:-1].split("|")])
        elif found[-1]:
            found.append([])
    return [[rows[0], *rows[2:]] for rows in found if rows]


def table(page: str, *heads: str) -> list[list[str]]:
    """The rows of the one table whose heads begin with these."""
    (rows,) = (rows for rows in tables(page) if tuple(rows[0][: len(heads)]) == heads)
    return rows[1:]


def names(cell: str) -> list[str]:
    """``a, b`` as two."""
    return re.split(r"[,;] ", cell)
