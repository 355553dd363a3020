"""The page of errors, made from the tables of app/errors.py: as HTML for the API's /errors, and as
the tables of docs/errors.md.

``python -m app.openapi.error_page docs/errors.md`` writes the tables into the page.
"""

import re
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path

from app.errors import CODES, COMMON, OAUTH_CODES, Code

_BEGIN, _END = "<!-- made from app/errors.py -->", "<!-- end -->"
_SECTIONS = {
    "Any request": COMMON,
    "Calls, records and call events": {c: CODES[c] for c in CODES if c not in COMMON},
    "The token endpoint": OAUTH_CODES,
}


def html() -> str:
    """The page of errors. Each code is the anchor of its place."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Errors of Ringback</title>'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="/docs/errors.css"><h1>Errors</h1>'
        "<p>The answer to a refused request names a code in <code>code</code>, and what is wrong "
        "in <code>field</code>, <code>value</code> and <code>reason</code>.</p>"
    ]
    for title, codes in _SECTIONS.items():
        parts.append(f"<h2>{title}</h2>")
        parts += [_entry(code, known) for code, known in codes.items()]
    return "\n".join(parts)


def _entry(code: str, known: Code) -> str:
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in known.sentences)
    return (
        f'<section id="{code}"><h3><a href="#{code}">{code}</a> <small>{_statuses(known)}</small>'
        f"</h3><dl><dt>Message</dt><dd><ul>{sentences}</ul></dd>"
        f"<dt>Cause</dt><dd>{_inline(known.cause)}</dd>"
        f"<dt>Remedy</dt><dd>{_inline(known.remedy)}</dd></dl></section>"
    )


def _inline(markdown: str) -> str:
    """The text with its code in HTML. The API does not serve the pages that links lead to."""
    plain = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", markdown)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(plain, quote=False))


def markdown() -> str:
    """The tables of docs/errors.md."""
    return "\n\n".join(f"### {title}\n\n{_table(codes)}" for title, codes in _SECTIONS.items())


def _table(codes: Mapping[str, Code]) -> str:
    rows = [
        f'| {_statuses(known)} | <a id="{code}"></a>`{code}` | {"<br>".join(known.sentences)} '
        f"| {known.cause} | {known.remedy} |"
        for code, known in codes.items()
    ]
    return "\n".join(
        ("| status | code | message | cause | remedy |", "|---|---|---|---|---|", *rows)
    )


def _statuses(known: Code) -> str:
    return ", ".join(map(str, (known.status, *known.also)))


def with_tables(page: str) -> str:
    """The text of docs/errors.md with the tables as they are now."""
    before, _, rest = page.partition(_BEGIN)
    return f"{before}{_BEGIN}\n\n{markdown()}\n\n{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text()))
