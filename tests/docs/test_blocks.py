"""No block of the documentation slips by, and what cannot be run names only what there is."""

import ast
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from redis import Redis
from werkzeug.exceptions import MethodNotAllowed, NotFound

from app import create_app
from app.settings import SECRETS, Settings, setting_names
from ringback_cli.main import main
from tests.docs.blocks import DATA, ROOT, RUN, Block, blocks, pages
from tests.docs.compare import ANY, Ids
from tests.docs.interpreters import Python, Shell
from tests.docs.test_pages import console

BLOCKS = [block for path in pages() for block in blocks(path)]
# Variables of the programs in examples/.
EXAMPLES = {"RINGBACK_URL", "RINGBACK_TOKEN"}
FILES = {f"{name}_FILE" for name in SECRETS}


def places(found: list[Block]) -> list[str]:
    return [block.place for block in found]


def commands(block: Block) -> str:
    """The text of a block that a shell would be given."""
    if block.language == "console":
        return "".join(command for command, _ in console(block.text))
    return block.text if block.language == "sh" else ""


def test_every_block_is_run_or_says_why_not() -> None:
    assert [b.place for b in BLOCKS if b.language not in RUN | DATA] == []
    assert [b.place for b in BLOCKS if b.note("not run") == ""] == []
    # What shows a command is no mere text, nor can it hide behind another kind of fence.
    shown = [b for b in BLOCKS if b.language == "text" and not b.is_output]
    assert [b.place for b in shown if re.search(r"^\s*(\$|curl|ringback) ", b.text, re.M)] == []
    for path in pages():
        fences = re.findall(r"^ *(?:```|~~~)", path.read_text(), re.M)
        assert len(fences) == 2 * len([b for b in BLOCKS if b.path == path]), path


@pytest.mark.parametrize("block", [b for b in BLOCKS if commands(b)], ids=lambda b: b.place)
def test_commands_can_be_parsed_and_are_there(block: Block) -> None:
    text = commands(block)
    parsed = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr
    for words in simple_commands(text):
        check_ringback(words)
        if words[0] == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
            named = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            assert set(named) <= set(targets)
        # The last may be what the command makes.
        for word in words[:-1]:
            if re.match(r"(deploy|docs|examples|freeswitch)/", word):
                assert list(ROOT.glob(word)), f"{word} is not there"


def simple_commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without variables set before it."""
    text = re.sub(r"<<\s*'?(\w+)'?.*?^\1$", "", text, flags=re.M | re.S).replace("\\\n", " ")
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words: list[str] = []
        try:
            tokens = [*lexer, ";"]
        except ValueError:  # Of a string that goes on in the next line.
            continue
        for token in tokens:
            if set(token) <= set(";&|()"):
                while words and re.match(r"\w+=|sudo$|exec$|env$", words[0]):
                    words = words[1:]
                if words:
                    yield words
                words = []
            else:
                words.append(token)


def check_ringback(words: list[str]) -> None:
    """Subcommands and options of `ringback`, also where docker or kubectl runs it."""
    if words[:3] == ["docker", "compose", "run"]:
        # The service whose entry point it is.
        words = ["ringback" if word == "cli" else word for word in words]
    names = [at for at, word in enumerate(words) if Path(word).name == "ringback"]
    for at in names:
        rest = words[at + 1 :]
        is_command = at == 0 or (rest and rest[0] in main.list_commands(click.Context(main)))
        if is_command:
            check_words(main, rest)


def check_words(command: click.Command, words: list[str]) -> None:
    context = click.Context(command)
    for at, word in enumerate(words):
        if word.startswith("-") and word != "-":
            known = {o for p in command.get_params(context) for o in (*p.opts, *p.secondary_opts)}
            assert word.split("=")[0] in known, f"{command.name} has no option {word}"
        elif isinstance(command, click.Group):
            found = command.get_command(context, word)
            if found is None and command.invoke_without_command:
                return
            assert found is not None, f"{command.name} has no command {word}"
            return check_words(found, words[at + 1 :])


def test_python_can_be_parsed() -> None:
    for block in BLOCKS:
        if block.language == "python":
            ast.parse(block.text)


def test_data_can_be_parsed() -> None:
    for block in BLOCKS:
        try:
            if block.language == "toml":
                tomllib.loads(block.text)
            elif block.language == "json" and (block.is_output or ANY not in block.text):
                json.loads(block.text)
        except ValueError as error:
            pytest.fail(f"{block.place}: {error}", pytrace=False)


def test_every_address_of_the_api_is_there(settings: Settings, redis: Redis) -> None:
    routes = create_app(settings).url_map.bind("127.0.0.1")
    missing = []
    for path in pages():
        for found in re.findall(r"https?://127\.0\.0\.1:8080(/[^\s'\"`<>)]*)", path.read_text()):
            url = urlsplit(found).path.rstrip(".,;:")
            try:
                routes.match(url)
            except MethodNotAllowed:
                pass
            except NotFound:
                missing.append(f"{path.relative_to(ROOT)}: {found}")
    assert missing == []


def test_every_variable_is_a_setting() -> None:
    variable = re.compile(r"\bRINGBACK_[A-Z_]*[A-Z]\b(?!\*)")
    of_compose = variable.findall((ROOT / "compose.yml").read_text())
    for path in pages():
        named = set(variable.findall(path.read_text()))
        assert named <= {*setting_names(), *of_compose, *EXAMPLES, *FILES}, path


def test_what_came_is_compared_with_tolerance() -> None:
    ids = Ids()
    assert ids.same("json", '{"id": "c3a5fbf2be57af92c581", "…": "…"}', '{"id": "0" , "x": 1}') is (
        False
    )
    real = "0123456789abcdef0123"
    shown = '{"id": "c3a5fbf2be57af92c581", "at": 1794123456.788, "n": [1, "…"], "…": "…"}'
    assert ids.same("json", shown, f'{{"id": "{real}", "at": 2e9, "n": [1, 2], "x": 0}}')
    assert ids.put_in("calls/c3a5fbf2be57af92c581") == f"calls/{real}"
    # From now on it is that call and no other.
    assert ids.same("text", "call c3a5fbf2be57af92c581  …\n…\nend", f"call {real} x\n1\n\n2\nend")
    assert not ids.same("text", "c3a5fbf2be57af92c581", "0123456789abcdef0124")
    assert not ids.same("json", '{"state": "ended"}', '{"state": "bridged"}')
    assert not ids.same("json", '{"state": "ended"}', '{"state": "ended", "x": 1}')
    assert not ids.same("text", "200", "202")
    assert ids.same("text", "127.0.0.1:8080 took 0.3 s", "127.0.0.1:41234 took 12.25 s")


PAGE = """
<!-- exit status 11 -->
<!-- when c3a5fbf2be57af92c581 is bridged -->
```sh
false
```

```json
{}
```

    <!-- not run: needs Docker -->
    ```console
    $ one \\
        two
    1
    $ three
    ```

```text
of nothing
```
"""


def test_a_page_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    first, output, second, other = blocks(path)
    assert first.notes == [("exit status", "11"), ("when", "c3a5fbf2be57af92c581 is bridged")]
    assert first.output is output and output.is_output and first.runs
    assert second.note("not run") == "needs Docker" and not second.runs
    assert list(console(second.text)) == [("one \\\n    two\n", "1\n"), ("three\n", "")]
    assert not other.is_output


def test_a_command_that_fails_ends_the_page(tmp_path: Path) -> None:
    shell = Shell(tmp_path, os.environ)
    try:
        assert shell.run("A=1\n(exit 3)", may_fail=True)[0] == 3
        assert shell.run("echo $A") == (0, "1\n")
        assert shell.run("false\necho never") == (None, "")
    finally:
        shell.close()
    python = Python(tmp_path, os.environ)
    try:
        assert python.run("a = 1") == (0, "")
        assert python.run("print(a); a / 0")[0] == 1
    finally:
        python.close()
