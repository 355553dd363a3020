"""Finds the known name that a misspelt one is nearest to."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``, whatever the case; None if none is like it."""
    # Imported here: only a misspelt name needs it.
    from difflib import get_close_matches

    by_letters: dict[str, str] = {}
    for each in known:
        by_letters.setdefault(each.lower(), each)
    found = get_close_matches(name.lower()[:100], by_letters, n=1)
    return by_letters[found[0]] if found else None


def unknown(name: str, known: Iterable[str]) -> str:
    """A sentence on an unknown name: ``nonse: did you mean nonce?``"""
    names = list(known)
    if (found := nearest(name, names)) is not None:
        return f"{name}: did you mean {found}?"
    return f"{name}: nothing reads this name here. Known are {', '.join(names) or 'none'}."
