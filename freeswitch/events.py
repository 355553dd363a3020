"""Events as the switch sent them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

_STRINGS = frozenset({str})
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Event:
    """A received event.

    `name` is its Event-Name. `headers` are all headers and `variable_*` of the event. A value is a
    string; that of a header that was pushed several times (`variable_transfer_history`) is a list
    of strings. `body` is the inner body, None without one: a BACKGROUND_JOB has its result there,
    mostly with a line feed at the end.
    """

    name: str
    headers: Mapping[str, str]
    body: str | None = None

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the body of a `text/event-json` frame.

        Bytes that are not UTF-8 (a SIP name in Latin-1) become U+FFFD: such a name must not lose
        the event. Raises ValueError if `data` is not a JSON object with an Event-Name, or if a
        value is neither a string nor a list of strings.
        """
        headers = _loads(data)
        if not isinstance(headers, dict) or not isinstance(headers.get("Event-Name"), str):
            raise ValueError("not a JSON object with an Event-Name")
        if not _STRINGS.issuperset(map(type, headers.values())):
            _check_lists(headers)
        body = headers.pop("_body", None)
        return cls(headers["Event-Name"], headers, body)


def _check_lists(headers: Mapping[str, object]) -> None:
    """Raise ValueError for a value that is neither a string nor a list of strings."""
    for name, value in headers.items():
        values = value if isinstance(value, list) and name != "_body" else (value,)
        if not _STRINGS.issuperset(map(type, values)):
            raise ValueError(f"the value of {name[:80]!r} is no string")


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # orjson also rejects bytes that are not UTF-8, and bare control characters.
        try:
            found = json.loads(data.decode(errors="replace"), strict=False)
            # Half of a surrogate pair, which Redis does not take.
            text = _HALF_PAIR.sub("\ufffd", json.dumps(found, ensure_ascii=False))
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
