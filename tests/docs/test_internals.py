"""What docs/internals says of the code is so, and what comments say of the documents."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import ROOT

# A page that a comment or a docstring points to, and the heading on it.
_POINTER = re.compile(r"(?<![\w/])(docs/[\w/-]+\.md)(?:#([\w-]+))?")
_SOURCES = ("*.py", "*.lua", "*.xml", "*.cfg", "Makefile")
_PACKAGES = ("app", "workers", "freeswitch", "ringback", "ringback_cli", "tests", "bench")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        words = re.sub(r"\{ *#.*", "", heading)
        found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", words).strip().lower()))
    return found


def pointers() -> Iterator[tuple[Path, str, str]]:
    paths = [path for name in _PACKAGES for kind in _SOURCES for path in (ROOT / name).rglob(kind)]
    for path in [*paths, ROOT / "setup.cfg", ROOT / "Makefile"]:
        for page, anchor in _POINTER.findall(path.read_text()):
            yield path, page, anchor


def test_what_comments_cite_is_there() -> None:
    found = list(pointers())
    cited = {page for _, page, _ in found}
    assert "docs/internals/uapi.md" in cited
    for path, page, anchor in found:
        assert (ROOT / page).exists(), f"{path}: {page}"
        assert not anchor or anchor in anchors(ROOT / page), f"{path}: {page}#{anchor}"
