"""Cells of CSV that no spreadsheet takes for a formula."""

import re
from typing import Any

# The characters that begin a formula, with their full-width forms.
_BEGINS = "=+\\-@\t\r＝＋－＠"
# A spreadsheet may split a cell at these, whatever the file's own separator is.
_SPLITS = " ,;|\t\r\n"
# A place where a formula could begin, also where a ' is in front of it already.
_RISKY = re.compile(f"(^|(?<=[{_SPLITS}]))(?='*[{_BEGINS}])")
# One number in E.164 form. A spreadsheet takes it for a number, and calculates nothing.
_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


def cell(value: Any) -> Any:
    """The value of a cell. A list becomes text with spaces between. In a text, a ``'`` stands
    before each place where a spreadsheet could see the begin of a formula. One number in E.164 form
    stays as it is.

    A program undoes it by removing one ``'`` at each of these places (docs/guide/cdr.md).
    """
    text = " ".join(value) if isinstance(value, list) else value
    if not isinstance(text, str) or _E164.fullmatch(text):
        return text
    return _RISKY.sub("'", text)
