"""The body of a status callback: an envelope around the call as the change left it."""

from typing import Any

import orjson

from app.calls.call_events import moment
from app.calls.model import Call, from_hash
from app.stream.model import stream_call


def call_of(message: dict[str, Any]) -> Call:
    """The call in a message that route.lua made."""
    return from_hash(orjson.loads(message["status"]["call"]))


def body(message: dict[str, Any], call: Call) -> str:
    """The JSON of the envelope: ``type``, ``id``, ``time`` (UTC, with milliseconds) and ``call``,
    which is the stream's ``phoneCall``."""
    status = message["status"]
    envelope = {
        "type": status["event"],
        "id": message["id"],
        "time": moment(float(status["time"])),
        "call": stream_call(call),
    }
    return orjson.dumps(envelope).decode()
