"""The standard files of a command: what it may write to them, and how it ends if it cannot."""

import codecs
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

# What stands for a sign where the encoding has none.
_SIGNS = {
    **{"…": "...", "→": "->", "–": "-", "✓": "+", "✗": "x", "·": ".", "─": "-"},
    **{"░": ":", "▒": "%", "▥": "=", "▓": "#", "█": "@", "▚": "/", "▞": "|"},
}
_HANDLER = "ringback_signs"


# Why standard output could not be written.
failures: list[OSError] = []


class _Output(io.FileIO):
    """Standard output, which remembers its failures."""

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            failures.append(error)
            raise


def run(command: Callable[[], object]) -> None:
    """Run a command. If nobody reads its output any more, the process ends by SIGPIPE, as other
    programs do. If the output cannot be written, the exit status is 1."""
    _open_files()
    codecs.register_error(_HANDLER, without_sign)
    for file in (sys.stdout, sys.stderr):
        _adapt(file)
    try:
        command()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        if failures:
            _end(failures[0])


def _open_files() -> None:
    """Open those of the standard files that are closed: another file would get their number, and
    with it what the command says. Standard output cannot be written then."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    was: Any = sys.stdout
    raw: Any = _Output(1, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        # With -u Python has no buffer.
        raw if was and isinstance(was.buffer, io.RawIOBase) else io.BufferedWriter(raw),
        encoding=was.encoding if was else "utf-8",
        errors=was.errors if was else None,
        line_buffering=was.line_buffering if was else False,
        write_through=was.write_through if was else False,
    )


def _adapt(file: TextIO) -> None:
    """Let a file take any text, whatever its encoding, unless the user chose how."""
    is_utf8 = file.encoding.lower().replace("-", "") == "utf8"
    if file.errors == "strict" or (file.errors != "replace" and not is_utf8):
        file.reconfigure(errors=_HANDLER)  # type: ignore[attr-defined]


def without_sign(error: UnicodeError) -> tuple[str, int]:
    """What stands for the characters that an encoding does not have: another sign, or the escape
    that JSON has for them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = []
    for sign in error.object[error.start : error.end]:
        units = sign.encode("utf-16-be", "surrogatepass")
        escape = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
        found.append(_SIGNS.get(sign, escape))
    return "".join(found), error.end


def _end(error: OSError) -> NoReturn:
    # Python would try to write the rest once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        import signal

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    with suppress(OSError):
        sys.stderr.write(f"ringback: standard output: {error.strerror}\n")
    raise SystemExit(1) from None
