"""The shell and the Python that a page's blocks are run in, which last to its end."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

# Seconds that a block may take.
LIMIT = 60.0
_END = "-- end of block --"

_PYTHON = f"""
import json, sys, traceback
scope = {{"__name__": "__main__"}}
for line in sys.stdin:
    status = 0
    try:
        exec(compile(json.loads(line), "page", "exec"), scope)
    except Exception:
        status = 1
        traceback.print_exc(file=sys.stdout)
    print("\\n{_END}", status, flush=True)
"""


# All that make would do is done already: what `make up` starts is running.
_MAKE = """
make() {
    command make --dry-run --directory "$ROOT" "$@" >/dev/null
    [ "$1" != up ] || printf '%s\\n' "$STARTED"
}
"""


class Interpreter:
    """A program that is given blocks one after another. What it started ends with it."""

    def __init__(self, words: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            words,
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def ask(self, line: str) -> tuple[int | None, str]:
        """The exit status, None where the program ended with it, and what was written."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        output, end = b"", time.monotonic() + LIMIT
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(end - time.monotonic(), 0)):
                    raise TimeoutError(output.decode())
                piece = os.read(self._process.stdout.fileno(), 65536)
                output += piece
                text, mark, status = output.decode(errors="replace").rpartition(f"\n{_END}")
                if mark and status.endswith("\n"):
                    return int(status), text
                if not piece:
                    return None, output.decode()


class Python(Interpreter):
    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__([sys.executable, "-c", _PYTHON], folder, env)

    def run(self, text: str) -> tuple[int | None, str]:
        return self.ask(json.dumps(text))


class Shell(Interpreter):
    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__(["bash", "--norc", "--noprofile"], folder, env)
        self._file = folder / ".block.sh"
        self.run(_MAKE)

    def run(self, text: str, *, may_fail: bool = False) -> tuple[int | None, str]:
        """Ends the shell where a command fails, unless it may."""
        self._file.write_text(text)
        flag = "+" if may_fail else "-"
        return self.ask(f"set {flag}e; . ./.block.sh </dev/null; printf '\\n{_END} %s\\n' $?")

    def start(self, text: str, output: Path) -> None:
        """Have it run beside what follows."""
        script = output.with_suffix(".sh")
        script.write_text(text)
        self.run(f". '{script}' >'{output}' 2>&1 &")
