"""The body of a status callback: an envelope around the call as the change left it."""

from datetime import UTC, datetime
from typing import Any

import orjson

from app.calls.model import Call, from_hash
from app.stream.model import stream_call


def call_of(message: dict[str, Any]) -> Call:
    """The call in a message that route.lua made."""
    return from_hash(orjson.loads(message["status"]["call"]))


def body(message: dict[str, Any], call: Call) -> str:
    """The JSON of the envelope: ``type``, ``id``, ``time`` (UTC, with milliseconds) and ``call``,
    which is the stream's ``phoneCall``."""
    status = message["status"]
    at = datetime.fromtimestamp(float(status["time"]), UTC)
    envelope = {
        "type": status["event"],
        "id": message["id"],
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "call": stream_call(call),
    }
    return orjson.dumps(envelope).decode()
