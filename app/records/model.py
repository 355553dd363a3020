"""What is asked of the records: whose they are, and what a search looks for."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.numbers import same
from app.store.keys import Keys

# A record as app.calls.cdr.record makes it, with ``saved``, the time of its last write.
Record = dict[str, Any]
# A longer number or pair of metadata stands in the index by its digest.
_LONGEST = 64


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose records: those that an organization (``0003``) or a user (its id) pays for. Without
    both, all records."""

    organization: str | None = None
    user: str | None = None

    def index(self, keys: Keys) -> str:
        """The index of these records in Redis."""
        if self.user is not None:
            return keys.user_records(self.user)
        if self.organization is not None:
            return keys.organization_records(self.organization)
        return keys.records


@dataclass(frozen=True, slots=True)
class Narrow:
    """What a search looks for, as far as the database can tell. It may let through a record that
    the search does not want.

    Of each set in ``terms`` a record has at least one (:func:`terms_of`). ``saved`` are the first
    and the last whole second of the last write.
    """

    terms: tuple[frozenset[str], ...] = ()
    disposition: int | None = None
    flow: int | None = None
    saved: tuple[float, float] | None = None


def number_term(side: str, number: str) -> str:
    """The term of a number of a side, ``source`` or ``destination``."""
    return f"{side[0]}:{_short(same(number))}"


def metadata_term(name: str, value: str) -> str:
    return f"m:{_short(f'{name}:{value}')}"


def terms_of(record: Mapping[str, Any]) -> frozenset[str]:
    """The terms by which the database finds a record: its numbers and its metadata."""
    return frozenset(_terms(record))


def _terms(record: Mapping[str, Any]) -> Iterator[str]:
    for side in ("source", "destination"):
        for number in record[side]:
            yield number_term(side, number)
    for name, value in (record.get("metadata") or {}).items():
        yield metadata_term(name, str(value))


def _short(text: str) -> str:
    if len(text) <= _LONGEST and "\0" not in text:
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def organization_of(record: Mapping[str, Any]) -> str:
    """The number of the organization (``0003``) that the record is listed for."""
    return str(record["extension"]).partition("*")[0]
