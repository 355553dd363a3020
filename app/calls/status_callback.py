"""Status callbacks: what a change of a call tells the URL that its create request named.

The functions are pure. As with call events (app.calls.call_events), a status is a fact of the new
call that was no fact of the old one. So each status is told once, in order, and every call tells
``ended``.
"""

import json
from collections.abc import Iterator

from app.calls.model import SECRETS, Call, State, evolve, to_hash
from app.calls.sight import organization_of

RINGING, ANSWERED, BRIDGED, ENDED = EVENTS = ("ringing", "answered", "bridged", "ended")


def outbox(old: Call | None, new: Call) -> Iterator[dict[str, str]]:
    """The entries for the outbox stream. Each holds the call as it is after the change, so that a
    retry sends the same body. Nothing is told after the call's end."""
    if new.status_callback is None or old is None or old.state is State.ENDED:
        return
    before, after = _facts(old), _facts(new)
    # A report that comes late tells nothing that is older than what was told.
    reached = max(map(EVENTS.index, before), default=-1)
    told = [name for name in after if EVENTS.index(name) > reached]
    if not told:
        return
    callback = json.loads(new.status_callback)
    wanted = callback.pop("events")
    shown = evolve(new, request_digest=None, **dict.fromkeys(SECRETS))
    for name in told:
        if name in wanted:
            yield {
                "CallID": new.id,
                "organization": organization_of(new.extension),
                "callback": json.dumps({**callback, "app": new.app}),
                "event": name,
                "time": f"{after[name]:.6f}",
                "call": json.dumps(to_hash(shown)),
            }


def _facts(call: Call) -> dict[str, float]:
    """The statuses that the call has reached, in order, with their times in epoch seconds."""
    rings = [at for leg in call.sources if (at := leg.ringing or leg.early_media) is not None]
    found = {
        RINGING: min(rings, default=None),
        ANSWERED: call.answered,
        BRIDGED: call.bridged,
        ENDED: call.ended if call.state is State.ENDED else None,
    }
    return {name: at for name, at in found.items() if at is not None}
