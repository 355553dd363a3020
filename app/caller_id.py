"""The UAPI-Caller-Id: ``John Doe <+3334444>``."""

import re
import unicodedata

from app.numbers import without_punctuation

# A phone or extension number without punctuation.
NUMBER = r"\+?[0-9*]{1,32}"
_NUMBER = re.compile(NUMBER)
_FORM = re.compile(r"\s*(?P<name>[^<>]*?)\s*<(?P<number>[^<>]{1,64})>\s*")
NAME_LENGTH = 64
# Text that would not arrive as sent. The switch's SIP stack writes the name between quotation
# marks and escapes neither these nor the backslash. A FreeSWITCH at the far end decodes %41 and
# expands ${…}.
_REFUSED = re.compile(r'["\\]|\$\{|%[0-9A-Fa-f]{2}')


def parse_caller_id(text: str) -> str:
    """Check a caller id and return it in its plain form, ``Name <number>`` or ``<number>``.

    A name that would not reach the called phone as it was sent is refused. Raises ValueError.
    """
    match = _FORM.fullmatch(text)
    name, number = (match["name"], match["number"]) if match else ("", text)
    number = without_punctuation(number)
    if _NUMBER.fullmatch(number) is None:
        raise ValueError("Takes the form John Doe <+3334444>.")
    if len(name) > NAME_LENGTH:
        raise ValueError(f"Takes a name of at most {NAME_LENGTH} characters.")
    if (found := _REFUSED.search(name)) is not None:
        raise ValueError(f"Takes no {found[0]} in the name.")
    # Cc control, Cs surrogate, Zl and Zp line ends.
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise ValueError("Takes printable characters in the name.")
    return f"{name} <{number}>" if name else f"<{number}>"
