"""Makes the synchronous client of the asynchronous one: ``python client/unasync.py``.

Both have the same methods, and a test compares them with what this makes. Edit the files whose
names begin with ``async_``, and run it.
"""

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "src/ringback"
NOTE = "# Made of {name} by client/unasync.py: edit that file.\n"
# Patterns and what stands in their place, in this order.
WORDS = (
    (r"\basync_", ""),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAwaitable\[([^\[\]]+)\]", r"\1"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__a(enter|exit|iter|next)__", r"__\1__"),
    (r"\banext\(", "next("),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bredis\.asyncio\b", "redis"),
    (r"\basyncio\b", "time"),
)


def made(path: Path) -> str:
    """The synchronous form of a file."""
    text = path.read_text()
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    text = NOTE.format(name=path.name) + text
    ruff = Path(sys.executable).with_name("ruff")
    fix = ("check", "--fix", "--unsafe-fixes", "--quiet", "--select", "I,F401,UP028")
    for words in (fix, ("format", "--quiet")):
        command = [ruff, *words, "--stdin-filename", target(path), "-"]
        text = subprocess.run(command, input=text, text=True, check=True, stdout=-1).stdout
    return text


def target(path: Path) -> Path:
    return path.with_name(path.name.removeprefix("async_"))


def sources() -> list[Path]:
    # Sockets under asyncio have no synchronous form.
    return [path for path in SOURCE.rglob("async_*.py") if path.name != "async_transport.py"]


if __name__ == "__main__":
    for source in sources():
        target(source).write_text(made(source))
