"""What an operator may write into accounts files and settings: a sentence says what is wrong."""

import json
import os
import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import tomlkit
from hypothesis import strategies as st
from tomlkit.exceptions import TOMLKitError

from app.accounts.schemas import AccountsSchema
from app.accounts.store import read_accounts
from app.settings import SettingsError, load_settings
from tests.fuzz.damage import damage
from tests.fuzz.searching import search
from tests.own_accounts import own_accounts

pytestmark = pytest.mark.search

_FOLDER = Path(__file__).parents[2] / "app" / "accounts"
_TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "0003", "0003*210", "0003*", "*", "12", "+49*", "1e400", "nan", "٣", "a\nb", "x" * 5000]
)
_NUMBERS = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(-2, 10)
    | st.floats()
    | st.just(4e-7)
    | st.just(0.0)
)
_SCALARS = _TEXTS | _NUMBERS | st.booleans() | st.dates() | st.datetimes() | st.times()
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)


_DEPLOYED = _FOLDER.parents[1] / "deploy" / "accounts" / "accounts.toml"
_DOCUMENTS = [tomllib.loads(own_accounts("fuzz-of")), tomllib.loads(_DEPLOYED.read_text())]
# The fields that each table knows.
_TABLES: dict[str, Any] = {
    name: field for name, field in AccountsSchema().fields.items() if hasattr(field, "inner")
}
_FIELDS = [(table, name) for table, rows in _TABLES.items() for name in rows.inner.schema.fields]


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """The accounts of the demo, or of an example, with some values changed and some added."""
    document = deepcopy(draw(st.sampled_from(_DOCUMENTS)))
    for table, name in draw(st.lists(st.sampled_from(_FIELDS), max_size=3)):
        rows = document.setdefault(table, [{}])
        rows[draw(st.integers(0, len(rows) - 1))][name] = draw(_VALUES)
    return damage(draw, document, _VALUES, _TEXTS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.toml"


def read(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        read_accounts(file)
    except SettingsError as error:
        first, *lines = str(error).splitlines()
        assert str(file) in first
        # The line of the file, or the table and the row of each fault.
        place = r"at line \d+|at end of document|can't decode|nested"
        assert lines or re.search(place, first), first
        assert all(re.match(r"  .+: .+", line) for line in lines), lines


def test_accounts_with_any_values(file: Path) -> None:
    def check_accounts(document: dict[str, Any]) -> None:
        try:
            content = tomlkit.dumps(document)
        except (TOMLKitError, ValueError, TypeError):
            return
        read(file, content.encode(errors="surrogatepass"))

    search(check_accounts, changed(), examples=25)


def test_accounts_with_damage(file: Path) -> None:
    text = own_accounts("fuzz-of").encode()
    cuts = st.integers(0, len(text))
    pieces = st.binary(max_size=6) | st.sampled_from(
        [
            b"[" * 5000,
            b"x = " + b"{a=" * 5000,
            b"a." * 5000,
            b'"',
            b"\n[[organizations]]\n",
            b"\xff",
        ]
    )

    def check_damage(case: tuple[int, int, bytes]) -> None:
        first, last, piece = case
        read(file, text[:first] + piece + text[last:])

    search(check_damage, st.tuples(cuts, cuts, pieces), examples=40)


_NAMES = sorted(
    set(re.findall(r'_read\(\s*"([A-Z_]+)"', (_FOLDER.parent / "settings.py").read_text()))
)
_WORDS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
_GIVEN = _WORDS | st.sampled_from(
    """
    0 1 -1 1e3 1e400 nan inf 0x10 ٣ 99999999999999999999 10% 51% 64mb [::1]:80 127.0.0.1:99999 :80
    redis://h/0 rediss+sentinel://a,b/m redis://[ http:// https://x:y/ 10.0.0.0/33 ::/0 yes off
    a=esl://:p@h:1 a=esl://:p@h,a=esl://:p@i esls://:p@h?ca=/x a=esl://[::1 \udcff
    """.split()
)


def test_settings() -> None:
    def check_settings(given: dict[str, str]) -> None:
        with patch.dict(os.environ, {f"RINGBACK_{name}": text for name, text in given.items()}):
            try:
                load_settings()
            except SettingsError as error:
                said = str(error)
                assert any(f"RINGBACK_{name}" in said for name in given), said
                assert "\n" not in said.strip()
                json.dumps(said)

    cases = st.dictionaries(st.sampled_from(_NAMES), _GIVEN, min_size=1, max_size=3)
    search(check_settings, cases, examples=150)
