"""Phone numbers as clients write them, and the words for their forms and kinds.

app.number_plans knows the numbering plans. It stands apart because it takes long to load.
"""

import re
from collections.abc import Collection
from enum import StrEnum

# What people write between the digits of a number: blanks, hyphens and dashes, dots, brackets and
# slashes. A line break is none of it.
_PUNCTUATION = re.compile(r"[ \u00a0\u2009\u202f\-\u2010-\u2015\u2212.()\[\]/]+")
_TEL = re.compile(r"\Atel:", re.IGNORECASE)


class Kind(StrEnum):
    """The kinds of numbers that are barred unless a policy allows them."""

    EMERGENCY = "emergency"
    PREMIUM_RATE = "premium_rate"
    SHARED_COST = "shared_cost"
    SATELLITE = "satellite"
    INTERNATIONAL = "international"


class NumberFormat(StrEnum):
    """The form in which a gateway takes public numbers."""

    # +4930123456
    E164 = "e164"
    # 4930123456
    DIGITS = "digits"
    # As a phone of the organization's country dials it: 030123456, 0013235742879.
    NATIONAL = "national"
    # As the client wrote it, without punctuation.
    AS_SENT = "as_sent"


def is_digits(text: str) -> bool:
    """Whether the text is ASCII digits. Python also takes those of other scripts for digits."""
    return text.isascii() and text.isdecimal()


def without_punctuation(text: str) -> str:
    """The number without what people write between its digits, and without ``tel:``."""
    return _PUNCTUATION.sub("", _TEL.sub("", text.strip(), count=1))


def longest_prefix(number: str, among: Collection[str]) -> str | None:
    """The longest of the prefixes that the number begins with; None if there is none. Lists of
    prefixes have thousands, so they are looked up and not tried."""
    if not among:
        return None
    found = (number[:length] for length in range(len(number), -1, -1))
    return next((prefix for prefix in found if prefix in among), None)


def same(number: str) -> str:
    """The key by which two forms of a number are one: ``+4930123456`` and ``4930123456``."""
    return number.removeprefix("+")
