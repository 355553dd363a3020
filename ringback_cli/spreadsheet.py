"""Cells of CSV that no spreadsheet takes for a formula."""

import re
from typing import Any

# The characters that begin a formula, with their full-width forms.
_BEGINS = "=+\\-@\t\r＝＋－＠"
# A spreadsheet may split a cell at these, whatever the file's own separator is.
_SPLITS = " ,;|\t\r\n"
# A place where a formula could begin, also where a ' is in front of it already.
_RISKY = re.compile(f"(^|(?<=[{_SPLITS}]))(?='*[{_BEGINS}])")


def cell(value: Any) -> Any:
    """The value of a cell. A list becomes text with spaces between. In a text, a ``'`` stands
    before each place where a spreadsheet could see the begin of a formula.

    A program undoes it by removing one ``'`` at each of these places (docs/guide/cdr.md).
    """
    text = " ".join(value) if isinstance(value, list) else value
    return _RISKY.sub("'", text) if isinstance(text, str) else text
