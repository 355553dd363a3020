"""Events as the switch sent them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class Event:
    """A received event.

    `name` is its Event-Name. `headers` are all headers and `variable_*` of the event. Nearly all
    values are strings; a variable that was pushed several times (`variable_transfer_history`) is a
    list of strings. `body` is the inner body, None without one: a BACKGROUND_JOB has its result
    there, mostly with a line feed at the end.
    """

    name: str
    headers: Mapping[str, str]
    body: str | None = None

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the body of a `text/event-json` frame.

        Bytes that are not UTF-8 (a SIP name in Latin-1) become U+FFFD: such a name must not lose
        the event. Raises ValueError if `data` is not a JSON object with an Event-Name.
        """
        headers = _loads(data)
        if not isinstance(headers, dict) or not isinstance(headers.get("Event-Name"), str):
            raise ValueError("not a JSON object with an Event-Name")
        body = headers.pop("_body", None)
        return cls(headers["Event-Name"], headers, body)


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # orjson also rejects bytes that are not UTF-8, and bare control characters.
        return json.loads(data.decode(errors="replace"), strict=False)
