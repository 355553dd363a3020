"""Values of variables and arguments, read as the switch reads them."""

import re

_TRUE = {"true", "yes", "on", "enabled", "active", "allow"}


def is_true(value: str | None) -> bool:
    """Whether the switch takes a value for true."""
    if value is None:
        return False
    return value.lower() in _TRUE or re.fullmatch(r"0*[1-9][0-9]*", value, re.ASCII) is not None


def whole_number(value: str | None) -> int:
    """The number at the start of a value, as C's atoi reads it, but never below 0."""
    digits = re.match(r"\s*\+?([0-9]{1,9})", value or "", re.ASCII)
    return int(digits[1]) if digits else 0
