"""Every command of the documentation is run, and answers what its page says."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.calls.model import State
from app.phone_call_events.store import events_key
from app.store.client import connect
from app.store.keys import Keys
from ringback_cli.up import environment, free_port
from tests.conftest import eventually
from tests.docs.blocks import ROOT, Block, blocks, pages
from tests.docs.compare import Ids
from tests.docs.interpreters import Python, Shell
from tests.integration.conftest import Ringback


class Page:
    """Runs the blocks of a page in their order."""

    def __init__(self, ringback: Ringback, folder: Path) -> None:
        self.ringback = ringback
        self.folder = folder
        self.ids = Ids()
        self.beside: list[tuple[Block, str, Path]] = []
        (folder / ".curlrc").write_text("silent\nshow-error\n")
        self._env = {
            **environment(ringback.stack.settings),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "CURL_HOME": str(folder),
            "ROOT": str(ROOT),
            "STARTED": "\n".join([*ringback.stack.started, "Ringback is up. Ctrl-C ends it."]),
            "COLUMNS": "120",
            "PYTHONUNBUFFERED": "1",
        }
        self._ports = {"127.0.0.1:9000": f"127.0.0.1:{free_port()}"}
        self._ports["127.0.0.1:8080"] = ringback.stack.settings.http
        self.shell = Shell(folder, self._env)
        self._python: Python | None = None

    def close(self) -> None:
        self.shell.close()
        if self._python is not None:
            self._python.close()

    def run(self, block: Block) -> None:
        if block.title:
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._real(block.text))
        if not block.runs:
            return
        for name, text in block.notes:
            if name == "when":
                shown, _, state = text.partition(" is ")
                self.ringback.wait_state(self.ids.real[shown], State(state))
            elif name == "before":
                status, came = self.shell.run(self._real(text))
                self._check(block, 0, status, came, "text", None)
        if (last_word := block.note("until")) is not None:
            self._run_beside(block, last_word)
        elif block.language == "console":
            for command, shown in console(block.text):
                self._run_shell(block, command, "text", shown)
        elif block.language == "python":
            self._python = self._python or Python(self.folder, self._env)
            self._check(block, 0, *self._python.run(self._real(block.text)), *expected(block))
        else:
            self._run_shell(block, block.text, *expected(block))

    def _run_shell(self, block: Block, command: str, language: str, shown: str | None) -> None:
        status = int(block.note("exit status") or 0)
        came = self.shell.run(self._real(command), may_fail=status != 0)
        self._check(block, status, *came, language, shown)

    def _run_beside(self, block: Block, last_word: str) -> None:
        output = self.folder / f"beside-{block.line}.out"
        self.shell.start(self._real(block.text), output)
        eventually(lambda: output.exists() and output.stat().st_size > 0)
        self.beside.append((block, last_word, output))

    def finish(self) -> None:
        """What ran beside the others has come to its last word, and to what is shown."""
        for block, last_word, output in self.beside:
            eventually(lambda path=output, word=last_word: word in path.read_text())  # type: ignore[misc]
            self._check(block, 0, 0, output.read_text(), *expected(block))

    def _real(self, text: str) -> str:
        for shown, real in self._ports.items():
            text = text.replace(shown, real)
            text = re.sub(rf"\b{shown.split(':')[1]}\b(?!\*)", real.split(":")[1], text)
        return self.ids.put_in(text)

    def _check(
        self,
        block: Block,
        status: int,
        ended: int | None,
        came: str,
        language: str,
        shown: str | None,
    ) -> None:
        if ended != status:
            pytest.fail(f"{block.place} ends with {ended}:\n{came}", pytrace=False)
        if shown is not None and not self.ids.same(language, shown, came):
            pytest.fail(f"{block.place} says\n{shown}\nand this came:\n{came}", pytrace=False)


def expected(block: Block) -> tuple[str, str | None]:
    """The language and the text of a block's output; None where the page shows none."""
    return (block.output.language, block.output.text) if block.output else ("text", None)


def console(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a session, each with what stands below it."""
    for session in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        match = re.match(r"(?:.*\\\n)*.*\n?", session)
        assert match is not None
        yield match[0], session[match.end() :]


@pytest.fixture
def page(ringback: Ringback, tmp_path: Path) -> Iterator[Page]:
    page = Page(ringback, tmp_path)
    yield page
    page.close()
    redis = connect(ringback.stack.settings.require_redis())
    for call_id in map(bytes.decode, redis.zrange(Keys().calls, 0, -1)):
        ringback.request("DELETE", f"@owner/@self/{call_id}", token="demo-organization-token")
        ringback.ended(call_id)
    # What a page leaves behind, above all one that failed.
    for holder in redis.smembers(Keys().hooked):
        redis.delete(events_key(Keys(), holder.decode()))
    redis.delete(Keys().hooked)
    redis.hdel(Keys().switch("simulator"), "paused")
    for key in redis.scan_iter(f"{Keys().prefix}nonce:*"):
        redis.delete(key)


@pytest.mark.parametrize(
    "path",
    [path for path in pages() if any(block.runs for block in blocks(path))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_block_does_what_its_page_says(page: Page, path: Path) -> None:
    for block in blocks(path):
        page.run(block)
    page.finish()
