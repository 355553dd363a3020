"""The person whose number is erased: every spelling of it, and the word that takes its place."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import phonenumbers
from phonenumbers import PhoneNumberFormat

from app.accounts.model import Accounts
from app.calls.erasing import ERASED
from app.number_plans import canonical
from app.numbers import same, without_punctuation

# A form with fewer digits has no marks between them, and stands alone in a text. One with fewer
# than the second number is erased only where a field holds nothing else.
_SHORTEST = 7
_LEAST = 4
# What may stand between two digits of a number. The switch's commands have \\s for a blank.
_BETWEEN = r"(?:[\s\-\u2010-\u2015\u2212.()\[\]/+_]|\\+s|%20|%2[89BbDdEeFf]|%5[BbDd]){0,3}"
_MARKS = b" \t\n\r\x0b\x0c-.()[]/+_"
# Ids of calls, uuids and times with microseconds: no number, whatever their digits are.
_KEPT = (
    r"(?P<kept>\b[0-9a-f]{20}\b|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"
    r"|(?<![\w.])[0-9]{10}\.[0-9]{6}\b)"
)
_AHEAD = r"(?:(?<![0-9])|(?<=%[0-9A-Fa-f]{2}))"
# The digits of all scripts by their value.
_ALL_DIGITS = {
    value: "".join(c for c in map(chr, range(0x20000)) if unicodedata.decimal(c, -1) == value)
    for value in range(10)
}


_TRUNK = re.compile(r"\(\s*[0０]\s*\)")
_EXTENSION = re.compile(r"([0-9]+(?:\*|%2[Aa]))[0-9]+")


class NotFound(Exception):
    """The text names no number and no user; the message says why."""


@dataclass(frozen=True)
class Person:
    """A person by number or as a user of the accounts.

    ``numbers`` are digits that mean the number wherever they stand, ``national`` those that mean it
    in ``country`` alone. ``extensions`` are extended numbers (``0003*210``).
    """

    name: str
    numbers: tuple[str, ...] = ()
    national: tuple[str, ...] = ()
    country: str | None = None
    extensions: tuple[str, ...] = ()
    user: str | None = None
    # Texts that are of this person alone: how a telephone is dialled, what it shows as its caller.
    literals: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The same text for the same person, however the operator wrote it: the digits of the E.164
        form, an extension, or a user's id."""
        if self.user is not None:
            return f"user:{self.user}"
        if self.extensions:
            return self.extensions[0]
        known = (n for n in self.numbers if f"00{n}" in self.numbers)
        return next(known, self.numbers[0])

    def hides(self, text: str, country: str | None = None) -> bool:
        """Whether :meth:`hide` changes the text."""
        return self.hide(text, country) != text

    def hide(self, text: str, country: str | None = None) -> str:
        """The text with ``erased`` in place of the number. ``country`` is that of the organization
        that the text belongs to, if it is known."""
        for literal in self.literals:
            text = text.replace(literal, ERASED)
        foreign = country is not None and self.country is not None and country != self.country
        pattern = self._narrow if foreign else self._wide
        if pattern is None or not self._may_have(text):
            return text
        return pattern.sub(_replaced, text)

    def _may_have(self, text: str) -> bool:
        """Whether the pattern may find anything: a hundred times as fast, for the many texts that
        have nothing."""
        if len(text) < _LEAST:
            return False
        if not text.isascii() or "%" in text or "\\s" in text:
            return True
        squeezed = text.encode().translate(None, _MARKS)
        return any(needle in squeezed for needle in self._needles)

    @cached_property
    def _needles(self) -> tuple[bytes, ...]:
        found = [form.encode() for form in (*self.numbers, *self.national, *self.extensions)]
        return tuple(n for n in found if not any(m != n and m in n for m in found))

    def is_number(self, text: str, organization: str | None = None) -> bool:
        """Whether a field that holds one number, in any spelling, holds this person's.
        ``organization`` is the number of the organization (``0003``) that a short number is of."""
        found = unicode_digits(without_punctuation(text))
        if same(found) in self._plain or found in self.extensions:
            return True
        return any(
            ext.partition("*")[2] == found and organization in (None, ext.partition("*")[0])
            for ext in self.extensions
        )

    def word(self, text: str, organization: str | None = None) -> str:
        """The text of a field that holds one number, erased if it is this person's."""
        found = unicode_digits(without_punctuation(text))
        if not self.is_number(text, organization):
            return self.hide(text)
        if found in self.extensions:
            return f"{found.partition('*')[0]}*{ERASED}"
        return ERASED

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Person":
        """The person in a text that :meth:`dumps` made."""
        row = json.loads(text)
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in row.items()}
        return cls(**values)

    @cached_property
    def _plain(self) -> frozenset[str]:
        return frozenset((*self.numbers, *self.national))

    @cached_property
    def _wide(self) -> "re.Pattern[str] | None":
        return _pattern((*self.numbers, *self.national), self.extensions)

    @cached_property
    def _narrow(self) -> "re.Pattern[str] | None":
        return _pattern(self.numbers, self.extensions)


def find(text: str, accounts: Accounts) -> Person:
    """The person of a number in any spelling, of an extension (``0003*210`` or ``210``), or of a
    user's id. Raises NotFound."""
    written = text.strip()
    if written in accounts.users:
        extensions = (e.number for e in accounts.extensions.values() if e.owner == written)
        return _of_accounts(written, tuple(extensions), accounts, user=written)
    number = unicode_digits(without_punctuation(written))
    if number.startswith(("+", "00")):
        # People write +49 (0)1555. The 0 is for callers in the country.
        number = unicode_digits(without_punctuation(_TRUNK.sub("", written)))
    known = [e for e in accounts.extensions if number in (e, e.partition("*")[2])]
    if len(known) > 1:
        raise NotFound(f"{len(known)} extensions have the number {written}: {', '.join(known)}.")
    if known or re.fullmatch(r"[0-9]+\*[0-9]+", number):
        return _of_accounts(written, tuple(known) or (number,), accounts)
    if re.fullmatch(r"\+?[0-9]{3,20}", number) is None:
        raise NotFound(
            f"{written!r} is no user of the accounts and no number. Give a number such as "
            "+4915550109, an extension such as 0003*210, or the id of a user."
        )
    countries = sorted({o.country for o in accounts.organizations.values() if o.country})
    meant = _meant(number, countries)
    if len(meant) > 1:
        raise NotFound(f"{written} may be {' or '.join(sorted(meant))}. Give one of them.")
    if not meant:
        # Organizations without a country keep numbers as they were sent. Digits may be E.164
        # without its plus.
        more = () if number.startswith("0") or len(number) < _SHORTEST else ("00", "011")
        return Person(written, numbers=tuple(f"{prefix}{number}" for prefix in ("", *more)))
    return _with_forms(written, meant.pop(), number, countries)


def _of_accounts(
    name: str, extensions: tuple[str, ...], accounts: Accounts, user: str | None = None
) -> Person:
    every = accounts.extensions.values()
    literals = set()
    for extension in filter(None, map(accounts.extensions.get, extensions)):
        for text in (extension.dial_string, extension.default_caller_id):
            of = {e.number for e in every if text in (e.dial_string, e.default_caller_id)}
            # Many extensions show the number of their company.
            if text and of <= set(extensions):
                literals.add(text)
    return Person(name, extensions=extensions, user=user, literals=tuple(sorted(literals)))


def unicode_digits(text: str) -> str:
    """The text with the digits of any script, and a full-width plus, as ASCII."""
    found = ((c, unicodedata.decimal(c, None)) for c in text)
    return "".join(c if v is None else str(v) for c, v in found).replace("＋", "+")


def _meant(number: str, countries: Iterable[str]) -> set[str]:
    """The numbers in E.164 form that this one may be in the countries."""
    if number.startswith("+"):
        return {number}
    found = set()
    for country in countries:
        try:
            meant = canonical(number, country)
        except ValueError:
            continue
        if meant.startswith("+"):
            found.add(meant)
    if not found and number.startswith("00"):
        found.add(f"+{number[2:]}")
    return found


def _with_forms(name: str, e164: str, sent: str, countries: Iterable[str]) -> Person:
    digits = same(e164)
    try:
        parsed = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return Person(name, numbers=tuple(dict.fromkeys((digits, same(sent)))))
    country = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    short = phonenumbers.national_significant_number(parsed)
    trunk = phonenumbers.ndd_prefix_for_region(country, True) or ""
    own = phonenumbers.format_number(parsed, PhoneNumberFormat.NATIONAL)
    national = {trunk + short, str(phonenumbers.normalize_digits_only(own))}
    # People write +49 (0)1555.
    numbers = {digits, f"00{digits}", f"011{digits}", f"{parsed.country_code}{trunk}{short}"}
    for each in countries:
        form = phonenumbers.format_out_of_country_calling_number(parsed, each)
        numbers.add(str(phonenumbers.normalize_digits_only(form)))
    if same(sent) not in numbers:
        national.add(same(sent))
    national = {form for form in national if len(form) >= _SHORTEST}
    return Person(name, tuple(sorted(numbers - national)), tuple(sorted(national)), country)


def _pattern(forms: Iterable[str], extensions: Iterable[str]) -> "re.Pattern[str] | None":
    ways = [*_of_numbers(forms), *_of_extensions(extensions)]
    if not ways:
        return None
    return re.compile(f"{_KEPT}|{'|'.join(ways)}")


def _of_numbers(forms: Iterable[str]) -> Iterator[str]:
    # The longest form first: 0049… is not 00 and the form without it.
    ordered = sorted(forms, key=len, reverse=True)
    if long := [form for form in ordered if len(form) >= _SHORTEST]:
        either = "|".join(_BETWEEN.join(f"[{_ALL_DIGITS[int(d)]}]" for d in form) for form in long)
        yield rf"{_AHEAD}(?:[+＋]|%2[Bb])?(?:{either})(?![0-9])"
    if short := [form for form in ordered if _LEAST <= len(form) < _SHORTEST]:
        yield rf"(?<![\w.:-])\+?(?:{'|'.join(short)})(?![\w:-]|\.[0-9])"


def _of_extensions(extensions: Iterable[str]) -> Iterator[str]:
    ways = [extension.replace("*", r"(?:\*|%2[Aa])") for extension in extensions]
    if ways:
        yield rf"(?<![0-9])(?:{'|'.join(ways)})(?![0-9])"


def _replaced(found: "re.Match[str]") -> str:
    if found["kept"] is not None:
        return found[0]
    # The organization of an extension stays.
    extension = _EXTENSION.fullmatch(found[0])
    return f"{extension[1]}{ERASED}" if extension else ERASED
