"""The fenced blocks of the documentation, read as tests/docs/README.md has them written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
RUN = {"sh", "console", "python"}
OUTPUT = {"json", "text"}
DATA = OUTPUT | {"toml", "ini", "yaml", "xml", "nginx", "http", "lua", "promql"}

_FENCE = re.compile(r" *(```+)(.*)")
_TITLE = re.compile(r'title="([^"]+)"')
# What a comment says of the block that follows: its name and its text.
_COMMENT = re.compile(r" *<!-- (not run|exit status|before|until|when)\b:? *(.*?) *-->")


@dataclass
class Block:
    path: Path
    line: int
    language: str
    title: str
    # What comments say, in their order.
    notes: list[tuple[str, str]]
    text: str = ""
    output: "Block | None" = None
    # Whether it is the output of the block before.
    is_output: bool = field(default=False)

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.title and self.note("not run") is None

    def note(self, name: str) -> str | None:
        return next((text for given, text in self.notes if given == name), None)


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        words = re.sub(r"\{ *#.*", "", heading)
        found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", words).strip().lower()))
    return found


def blocks(path: Path) -> list[Block]:
    """All of a page. Raises ValueError for a fence that is not closed."""
    found: list[Block] = []
    last = None
    for block in _fenced(path):
        follows = last is not None and not block.notes and not block.title
        if follows and block.language in OUTPUT and _end(last) == block.line - 1:
            last.output, block.is_output = block, True
        found.append(block)
        last = block if block.runs else None
    return found


def _end(block: Block) -> int:
    """The last line after a block, and the empty ones that follow it."""
    lines = block.path.read_text().splitlines()
    end = block.line + block.text.count("\n") + 1
    while end < len(lines) and not lines[end].strip():
        end += 1
    return end


def _fenced(path: Path) -> Iterator[Block]:
    notes: list[tuple[str, str]] = []
    block, fence, inside = None, "", []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if block is not None:
            if line.strip() == fence:
                block.text = dedent("".join(f"{line}\n" for line in inside))
                yield block
                block = None
            else:
                inside.append(line)
        elif (match := _FENCE.fullmatch(line)) is not None:
            fence, inside = match[1], []
            language, _, options = match[2].partition(" ")
            title = _TITLE.search(options)
            block = Block(path, number, language, title[1] if title else "", notes)
            notes = []
        elif (match := _COMMENT.fullmatch(line)) is not None:
            notes.append((match[1], match[2]))
        else:
            notes = []
    if block is not None:
        raise ValueError(f"{block.place}: not closed")
