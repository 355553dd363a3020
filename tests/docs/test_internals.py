"""What docs/internals says of the code is so, and what comments say of the documents."""

import re
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from pkgutil import iter_modules

import pytest

from tests.docs.blocks import ROOT, anchors
from tests.docs.tables import table

# A page that a comment or a docstring points to, and the heading on it.
_POINTER = re.compile(r"(?<![\w/])(docs/[\w/-]+\.md)(?:#([\w-]+))?")
_SOURCES = ("*.py", "*.lua", "*.xml", "*.cfg", "Makefile")
PROTOCOL = "internals/claim-protocol.md"
_PACKAGES = ("app", "workers", "freeswitch", "client", "ringback_cli", "tests", "bench")


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


def paths_on(page: Path) -> set[str]:
    """The files and folders of the repository that a page names in code."""
    named = re.findall(r"`([\w./*-]+)`", page.read_text())
    roots = tuple(f"{name}/" for name in (*_PACKAGES, "docs", "deploy", "examples"))
    return {name for name in named if name.startswith(roots)}


@pytest.mark.parametrize(
    "page",
    [*sorted((ROOT / "docs/internals").glob("*.md")), ROOT / "CONTRIBUTING.md"],
    ids=lambda page: page.name,
)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    missing = [name for name in paths_on(page) if not list(ROOT.glob(name))]
    assert not missing, f"{page.name} names {missing}"


def test_files_are_found_on_the_pages() -> None:
    assert "workers/webhooks/*.lua" in paths_on(ROOT / "docs/internals/architecture.md")
    assert "tests/docs/test_redis_page.py" in paths_on(ROOT / "CONTRIBUTING.md")


def test_the_parts_of_the_command_line_are_those_of_its_folder() -> None:
    rows = table("internals/architecture.md", "part of ringback_cli/")
    told = {name.strip().rstrip("/") for row in rows for name in row[0].split(",")}
    there = {path.name for path in (ROOT / "ringback_cli").iterdir()}
    assert told == there - {"__init__.py", "__pycache__"}


def value_of(name: str, where: str) -> float:
    """The value of a constant, in a Lua script or in a module or the modules of a package."""
    if where.endswith(".lua"):
        text = (ROOT / where).read_text()
        return float(re.findall(rf"^local {name} = ([\d.]+)$", text, re.MULTILINE)[0])
    module = import_module(where)
    inside = [each.name for each in iter_modules(getattr(module, "__path__", ()), f"{where}.")]
    found = {
        vars(each)[name] for each in [module, *map(import_module, inside)] if name in vars(each)
    }
    (value,) = found
    return float(value)


def test_the_times_of_the_claim_protocol_are_those_of_the_code() -> None:
    rows = table(PROTOCOL, "constant", "value")
    told = {name: float(value) for name, value, *_ in rows}
    assert told == {name: value_of(name, where) for name, _, where, _ in rows}
    under_way = ("SEND_WITHIN", "COMMAND_LIMIT", "DELIVERY_LIMIT", "BEGINS_WITHIN")
    assert sum(map(told.__getitem__, under_way)) <= told["UNSENT_LIMIT"]
    assert 2 * told["_CLAIM_WITHIN"] <= told["SEND_WITHIN"]
    # Late copies of a request find its answer for longer than it could claim anything.
    assert told["KEPT"] > told["SEND_WITHIN"]
    steps = [float(row[0]) for row in table(PROTOCOL, "at the latest")]
    claimed, *limits = told["_CLAIM_WITHIN"], *map(told.__getitem__, under_way)
    assert steps == [claimed, *accumulate(limits)]


def test_every_mutation_of_the_claim_model_is_told() -> None:
    text = (ROOT / "tests/app/claims/test_mutations.py").read_text()
    taken = re.findall(r"^def (\w+)\((?:patch|_): pytest\.MonkeyPatch\)", text, re.MULTILINE)
    found = {name.replace("_", " ") for name in taken}
    assert found == {name for name, _ in table(PROTOCOL, "mutation")}


@pytest.mark.parametrize(
    ("contract", "head", "folder"),
    [("layers", "layer", "app/"), ("listener", "module of workers/listener/", "")],
)
def test_the_layers_on_the_page_are_those_of_the_contract(
    contract: str, head: str, folder: str
) -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / "setup.cfg")
    layers = contracts[f"importlinter:contract:{contract}"]["layers"].strip().splitlines()
    told = [
        {name.removesuffix(".py") for name in re.findall(rf"{folder}(\w[\w.]*)", row[0])}
        for row in table("internals/architecture.md", head)
    ]
    assert told == [set(layer.split(" | ")) for layer in layers]
