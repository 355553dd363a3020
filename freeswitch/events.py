"""An event as the switch sent it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

import orjson

from freeswitch.framing import FramingError, content_length, parse_headers


@dataclass(frozen=True, slots=True)
class Event:
    """A received event.

    `name` is its Event-Name. `headers` are all headers and `variable_*` of the event; nearly all
    values are strings, but a variable that was pushed several times
    (`variable_transfer_history`) is a list of strings in a JSON event. `body` is the inner body,
    None without one: the result of a BACKGROUND_JOB, as it is, mostly with a line feed at its end.
    """

    name: str
    headers: Mapping[str, str]
    body: str | None = None

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Build it from the body of a `text/event-json` frame.

        Bytes that are no UTF-8 (a SIP name in Latin-1) become U+FFFD: one such name must not cost
        the event. Raises ValueError if `data` is no JSON object with an Event-Name.
        """
        headers = _loads(data)
        if not isinstance(headers, dict) or not isinstance(headers.get("Event-Name"), str):
            raise ValueError("no JSON object with an Event-Name")
        body = headers.pop("_body", None)
        return cls(headers["Event-Name"], headers, body)

    @classmethod
    def from_plain(cls, data: bytes) -> Self:
        """Build it from the body of a `text/event-plain` frame, for recordings.

        Each value is URL-decoded after the lines are split, so no value can add a header. The
        plain format itself loses things: an empty value reads `_undef_`, an array
        `ARRAY::a|:b`, and a `%41` that stood in a value arrives as `A`. Raises ValueError for a
        malformed header line, no Event-Name, or a body shorter than the inner Content-Length.
        """
        block, _, rest = data.partition(b"\n\n")
        headers = {key: unquote(value) for key, value in parse_headers(block).items()}
        if "Event-Name" not in headers:
            raise ValueError("no Event-Name")
        length = content_length(headers)
        if len(rest) < length:
            raise FramingError(f"body of {len(rest)} bytes where {length} were announced")
        body = rest[:length].decode(errors="replace") if "Content-Length" in headers else None
        return cls(headers["Event-Name"], headers, body)


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # It is strict: with bytes that are no UTF-8 and bare control characters too.
        return json.loads(data.decode(errors="replace"), strict=False)
