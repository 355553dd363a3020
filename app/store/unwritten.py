"""Hang-ups that Redis refuses to write, since it is full or its disk fails: it still passes
messages on, and the listeners that hear the call's switch hang the call up.

A message is lost where no listener hears it, and no mark stays in the call. So it is the last
resort, and the sender counts the receivers.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from redis import Redis

from app.calls.model import Call
from app.store.keys import Keys


@dataclass(frozen=True, slots=True)
class HangUp:
    """A call to hang up at a switch: the channels with these uuids, none for all of the call's."""

    call: str
    switch: str
    uuids: Sequence[str] = ()

    @classmethod
    def loads(cls, text: bytes) -> "HangUp":
        """Raises ValueError or TypeError for another message."""
        return cls(**json.loads(text))


def send(redis: Redis, keys: Keys, call: Call, wanted: Call) -> int:
    """Ask for what is marked in ``wanted``, the call as Redis should have it. Returns how many
    listeners heard it. Raises an error of Redis."""
    if call.switch is None:
        return 0
    uuids: tuple[str, ...] = ()
    if wanted.hangup_requested is None:
        known = {leg.id for leg in call.legs if leg.hangup_requested is not None}
        uuids = tuple(
            leg.uuid
            for leg in wanted.legs
            if leg.hangup_requested is not None and leg.id not in known and leg.ended is None
        )
        if not uuids:
            return 0
    message = json.dumps(asdict(HangUp(call.id, call.switch, uuids)))
    return int(redis.publish(keys.hangups, message))
