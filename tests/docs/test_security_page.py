"""The page of security has each requirement of OWASP ASVS 5.0.0 at levels 1 and 2, and the tests
that it names are there."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.docs.blocks import ROOT

PAGE = ROOT / "docs/operations/security.md"
BY = ("Ringback", "operator", "both", "not applicable", "not met")
# The requirements of each section.
ASVS = """
    1.1: 1 2
    1.2: 1 2 3 4 5 6 7 8 9
    1.3: 1 2 3 4 5 6 7 8 9 10 11
    1.4: 1 2 3
    1.5: 1 2
    2.1: 1 2 3
    2.2: 1 2 3
    2.3: 1 2 3 4
    2.4: 1
    3.2: 1 2
    3.3: 1 2 3 4
    3.4: 1 2 3 4 5 6
    3.5: 1 2 3 4 5
    3.7: 1 2
    4.1: 1 2 3
    4.2: 1
    4.3: 1 2
    4.4: 1 2 3 4
    5.1: 1
    5.2: 1 2 3
    5.3: 1 2
    5.4: 1 2 3
    6.1: 1 2 3
    6.2: 1 2 3 4 5 6 7 8 9 10 11 12
    6.3: 1 2 3 4
    6.4: 1 2 3 4
    6.5: 1 2 3 4 5
    6.6: 1 2 3
    6.8: 1 2 3 4
    7.1: 1 2 3
    7.2: 1 2 3 4
    7.3: 1 2
    7.4: 1 2 3 4 5
    7.5: 1 2
    7.6: 1 2
    8.1: 1 2
    8.2: 1 2 3
    8.3: 1
    8.4: 1
    9.1: 1 2 3
    9.2: 1 2 3 4
    10.1: 1 2
    10.2: 1 2
    10.3: 1 2 3 4
    10.4: 1 2 3 4 5 6 7 8 9 10 11
    10.5: 1 2 3 4 5
    10.6: 1 2
    10.7: 1 2 3
    11.1: 1 2
    11.2: 1 2 3
    11.3: 1 2 3
    11.4: 1 2 3 4
    11.5: 1
    11.6: 1
    12.1: 1 2 3
    12.2: 1 2
    12.3: 1 2 3 4
    13.1: 1
    13.2: 1 2 3 4 5
    13.3: 1 2
    13.4: 1 2 3 4 5
    14.1: 1 2
    14.2: 1 2 3 4
    14.3: 1 2 3
    15.1: 1 2 3
    15.2: 1 2 3
    15.3: 1 2 3 4 5 6 7
    16.1: 1
    16.2: 1 2 3 4 5
    16.3: 1 2 3 4
    16.4: 1 2 3
    16.5: 1 2 3
    17.1: 1
    17.2: 1 2 3 4
    17.3: 1 2
"""


def asvs() -> list[str]:
    """The numbers of all requirements in their order."""
    sections = (line.strip().split(": ") for line in ASVS.strip().splitlines())
    return [f"{section}.{each}" for section, numbers in sections for each in numbers.split()]


def rows() -> list[tuple[list[str], str, str]]:
    """The numbers of each row, who does it, and its last column."""
    found = re.findall(
        r"^\| (\d[\d., ]*) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.M
    )
    return [(numbers.split(", "), by, shown) for numbers, by, shown in found]


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}


def test_each_requirement_has_one_row() -> None:
    assert len(asvs()) == 253
    numbers = [number for row, _, _ in rows() for number in row]
    assert sorted(numbers) == sorted(asvs())
    # They stand in their order, but for those that share a row with an earlier one.
    first = [tuple(map(int, row[0].split("."))) for row, _, _ in rows()]
    assert first == sorted(first)


def test_each_row_says_who_does_it_and_how_one_sees_that() -> None:
    for numbers, by, shown in rows():
        assert by in BY, numbers
        assert shown.strip(), numbers
        if by == "Ringback":
            # A test, a page or file that has it, or a sentence that says why neither can.
            assert "`" in shown or "](" in shown or len(shown) > 30, numbers


def test_the_tests_that_it_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text())
    assert len(named) > 100
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or (name and name not in functions(ROOT / path))
    ]
    assert not missing
