"""The site can be made, all of its links lead somewhere, and it needs nothing from elsewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.openapi.description import describe
from tests.docs.blocks import ROOT, anchors, blocks

# Links of the pages that are not of the site.
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]+)?\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Made with mkdocs.yml's own strictness: a link or an anchor that leads nowhere fails."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    path = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    yield path


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    made = sorted(site.rglob("*.html"))
    assert site / "start" / "first-call" / "index.html" in made
    loads = re.compile(r"<(?:script|img|iframe)[^>]* src=[\"']?(https?:|//)[^>]*>")
    styles = re.compile(r"<link[^>]*rel=[\"']?(?:stylesheet|preconnect)[^>]*href=[\"']?https?:")
    for path in made:
        html = path.read_text()
        assert loads.search(html) is None and styles.search(html) is None, path


def test_what_is_put_in_when_the_site_is_made(site: Path) -> None:
    errors = (site / "errors" / "index.html").read_text()
    assert "<code>pc_source_invalid</code>" in errors and "<code>invalid_client</code>" in errors
    endpoints = (site / "endpoints" / "index.html").read_text()
    assert "<code>/uapi/faxes/{userId}</code>" in endpoints
    assert "<!-- request" not in endpoints and "<!-- codes" not in errors


def test_every_request_is_shown_with_curl_and_python() -> None:
    page = ROOT / "docs" / "endpoints.md"
    headings = {
        number: match[1]
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if (match := re.match(r"### (\w+ \S+) \{#", line))
    }
    described = {
        f"{method.upper()} {path}" for path, item in describe()["paths"].items() for method in item
    }
    assert set(headings.values()) == described
    shown: dict[str, set[str]] = {request: set() for request in described}
    for block in blocks(page):
        request = next(
            (headings[at] for at in sorted(headings, reverse=True) if at < block.line), ""
        )
        if block.runs and request:
            shown[request].add(block.language)
            if block.language == "sh":
                check_request(request, block.text)
    assert {request for request, found in shown.items() if found != {"sh", "python"}} == set()


def check_request(request: str, command: str) -> None:
    """That a curl is of the request that it stands under."""
    method, path = request.split(" ")
    given = re.search(r"-X (\w+)", command)
    assert method == (given[1] if given else "POST" if re.search(r" -d ", command) else "GET")
    words = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    url = re.sub(r"{\w+}", r"[^/\\s'?]+", words)
    assert re.search(rf"127\.0\.0\.1:8080{url}['?\s]", command), f"{request}: {command}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_beside_the_site_lead_somewhere(name: str) -> None:
    for target, anchor in LINK.findall((ROOT / name).read_text()):
        assert "://" in target or (ROOT / target).exists(), target
        assert not anchor or anchor[1:] in anchors(ROOT / target), f"{target}{anchor}"
