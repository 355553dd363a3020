"""What an error shows of a request: where the bad value stands, and the value."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from werkzeug.exceptions import HTTPException

from app.numbers import is_digits
from app.web.base import base_url

# The most characters of a value in an error, and of the other members.
VALUE_LENGTH = 100
_LENGTH = 1000
# The reason to refuse a text that JSON can write and UTF-8 cannot.
NO_CHARACTER = "It has half of a surrogate pair, which is no character."
_MOST = 2**63 - 1
# No error repeats a value of a field with such a name, nor anything in it.
_SECRET = re.compile(r"pin|.*(token|secret|passw|authori[sz]ation|credential|api.?key).*", re.I)
# A password stands before the @ of a URL, and a key often behind its question mark.
_URL = re.compile(
    r"(?P<start>[A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*@)?(?P<rest>[^?#]*)([?#].*)?", re.S
)


def address(code: str) -> str:
    """The URL of a code on the API's page of errors."""
    try:
        return f"{base_url()}/errors#{code}"
    except HTTPException:
        # The request names no host.
        return f"/errors#{code}"


def pointer(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a place in a body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def within(field: str, document: Any) -> str:
    """The pointer, cut where the document has a value: one number may stand for a list of them."""
    kept = []
    for part in field.split("/")[1:]:
        if not isinstance(document, dict | list):
            break
        kept.append(part)
        if isinstance(document, list):
            document = document[int(part)] if is_digits(part) and int(part) < len(document) else {}
        else:
            document = document.get(part, {})
    return "".join(f"/{part}" for part in kept)


def clean(text: str) -> str:
    """The text with a question mark for each half of a surrogate pair."""
    return text.encode(errors="replace").decode()


def members(details: Mapping[str, Any], document: Any) -> dict[str, Any]:
    """The further members of an error as an answer can hold them, without a value that is secret.
    ``document`` is the body of the request."""
    found = {name: _cut(name, value) for name, value in details.items() if value is not None}
    field = str(found.get("field", ""))
    if field.startswith("/"):
        found["field"] = within(field, document)
    if any(map(_SECRET.fullmatch, field.split("/"))):
        found.pop("value", None)
    return found


def _cut(member: str, value: Any) -> Any:
    if isinstance(value, str):
        if member == "value" and (url := _URL.fullmatch(value)) is not None:
            value = url["start"] + url["rest"]
        # Half a surrogate pair, an integer of more than 64 bits and an infinite number (1e999) have
        # no place in an answer.
        return clean(value)[: VALUE_LENGTH if member == "value" else _LENGTH]
    if isinstance(value, int | float) and not abs(value) <= _MOST:
        return str(value)[:VALUE_LENGTH]
    return value


def at(path: Iterable[str | int], value: Any = None) -> dict[str, Any]:
    """The members of an error that name a place in the body, and its value."""
    return of(pointer(path), value)


def of(name: str, value: Any = None) -> dict[str, Any]:
    """The members of an error that name a parameter or header, and its value: a text, a number or
    a boolean."""
    return {"field": name, **({"value": value} if isinstance(value, str | int | float) else {})}
