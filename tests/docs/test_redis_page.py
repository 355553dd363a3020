"""docs/redis.md names the keys and fields that there are, and no others."""

import inspect
import re
from dataclasses import fields

from app.calls.model import Call, Leg
from app.store.keys import Keys
from tests.docs.blocks import ROOT
from tests.docs.tables import names, tables

PAGE = "redis.md"
# What the page calls the parameters of Keys.
SHOWN = {"call_id": "ID", "name": "SWITCH"}


def key_names() -> set[str]:
    keys = Keys("")
    found = {value for name, value in vars(keys).items() if name != "prefix"}
    for name, method in inspect.getmembers(keys, inspect.ismethod):
        # A queue of RQ is no key.
        if not name.startswith("_") and name != "queue":
            words = list(inspect.signature(method).parameters)
            found.add(method(*(SHOWN.get(word, word.upper()) for word in words)))
    # Those that others make of the prefix.
    for path in [*ROOT.glob("app/**/*.py"), *ROOT.glob("workers/**/*.py")]:
        made = re.findall(r"keys\.prefix\}([\w:]+)(?:\{(\w+)\})?", path.read_text())
        found |= {f"{name}{word.upper()}" for name, word in made}
    # Those that scripts make of it.
    for path in ROOT.glob("app/store/*.lua"):
        for name in re.findall(r"prefix \.\. '([\w:]+)'", path.read_text()):
            if not any(each.startswith(name) for each in found):
                found.add(f"{name}X" if name.endswith(":") else name)
    return found


def test_keys_are_those_of_the_code() -> None:
    both = [rows[1:] for rows in tables(PAGE) if rows[0][0] == "key"]
    told = {name for rows in both for row in rows for name in names(row[0])}
    known = key_names()
    # oauth:… and the like stand for all that begins so.
    beginnings = tuple(name.removesuffix("…") for name in told if name.endswith("…"))
    assert not {name for name in known - told if not name.startswith(beginnings)}
    assert all(any(name.startswith(b) for name in known) for b in beginnings)
    assert not {name for name in told - known if not name.endswith("…")}


def test_every_key_names_its_end() -> None:
    """By time, by size, or with what it is about. What is kept for good is bounded by something."""
    found = [rows for rows in tables(PAGE) if rows[0][0] in ("key", "part of webhooks:")]
    assert [rows[0][-1] for rows in found] == ["kept"] * 3
    time = r"RINGBACK_|\b(\d+ [sh]|minutes?|hours?|days?|window)\b"
    for key, kind, *_, kept in (row for rows in found for row in rows[1:]):
        if kept.startswith("for good"):
            assert re.match(r"for good: (one|a field for each)\b", kept), key
        elif "stream" in kind:
            # What is added to for ever ends by time, or by a number of entries.
            assert re.search(rf"{time}|\b(entries|entry)\b", kept), key
        else:
            with_what = r"\b(while|until|as the|longer than|lifetime|not at all)\b"
            assert re.search(rf"{time}|{with_what}", kept), key


def test_fields_of_a_call_are_those_of_the_model() -> None:
    assert told_fields(0, 1) == {field.name for field in fields(Call)}


def test_fields_of_a_leg_are_those_of_the_model() -> None:
    assert told_fields(2, 3) == {field.name for field in fields(Leg)} - {"id"}


def told_fields(*which: int) -> set[str]:
    """Of these of the tables of fields, the public ones and Ringback's own by turns."""
    found = [rows[1:] for rows in tables(PAGE) if rows[0] == ["field", "what"]]
    told = [name for number in which for row in found[number] for name in names(row[0])]
    assert len(told) == len(set(told))
    return set(told)
