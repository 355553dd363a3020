"""Readers of Redis' replies about calls."""

import logging
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from app.calls.model import Call, from_hash

log = logging.getLogger(__name__)


def pairs(reply: Sequence[Any]) -> dict[Any, Any]:
    """A flat reply of a script (name, value, name, value, …) as a dictionary."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def of_its_type(replies: Sequence[Any]) -> list[Any]:
    """The replies of a pipeline, with None for a key of another type than was asked for: another
    program's. Raises any other error of Redis among them."""
    for reply in replies:
        if isinstance(reply, Exception) and not _is_other_type(reply):
            raise reply
    return [None if isinstance(reply, Exception) else reply for reply in replies]


def _is_other_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def from_reply(flat: dict[bytes, bytes]) -> Call | None:
    """The call in the reply to an HGETALL; None for an empty reply.

    Raises KeyError, TypeError or ValueError for a hash that is not a call.
    """
    if not flat:
        return None
    return from_hash({name.decode(): value.decode() for name, value in flat.items()})


def readable(call_id: str, reply: Any) -> Call | None:
    """The call in one reply of many; None, with a log line, for a hash that is not a call.

    One broken hash must not hide the other calls of a list. Raises ResponseError for any error
    of Redis except a key of another type.
    """
    try:
        if isinstance(reply, Exception):
            raise reply
        return from_reply(reply)
    except (LookupError, TypeError, ValueError, ResponseError) as error:
        if isinstance(error, ResponseError) and not _is_other_type(error):
            raise
        log.error("call %s cannot be read: %r", call_id, error, extra={"call": call_id})
        return None
