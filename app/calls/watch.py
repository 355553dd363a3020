"""What is done about a call though no event says so: pure functions of the call, of what its
switch shows, and of time.

Durations are seconds of a monotonic clock wherever a call could be ended by them: the wall
clocks of several machines differ, and are stepped.
"""

from app.calls.model import Action, Call, Leg, State
from app.calls.transitions import EVENTS_LOST, SWITCH_RESTARTED, SWITCH_UNREACHABLE, WORKER_LOST

# A worker begins to send the originate this soon after its claim, or not at all. The event socket
# gives up a command after COMMAND_LIMIT, and what the switch's host has not acknowledged after
# its own DELIVERY_LIMIT of 5.
SEND_WITHIN = 3.0
COMMAND_LIMIT = 4.0
# So what has no channel for longer than all three was never sent.
UNSENT_LIMIT = 13.0
# What was sent and then has no channel for that long is over: its first channels take a moment
# to appear, its last events to arrive.
GONE_LIMIT = 6.0
# What one look more adds to that at most: a pause between two looks is no absence.
LOOK_LIMIT = 3.0
# When a look is taken at a call that is still queued, claimed and unsent, or to be hung up.
QUEUE_LOOK = 5.0
UNSENT_LOOK = 2.0
HANG_UP_LOOK = 5.0
# Added to what the switch itself enforces.
MARGIN = 15.0


def queued_until(call: Call) -> float:
    """When it ends unless it has been claimed, in epoch seconds."""
    return call.accepted + call.queue_timeout


def deadline(call: Call) -> float | None:
    """When to look at the call, in epoch seconds; None once it has ended."""
    if call.state is State.ENDED:
        return None
    if call.claimed is None:
        return min(call.accepted + QUEUE_LOOK, queued_until(call))
    if call.sent is None:
        return call.claimed + UNSENT_LOOK
    asked = _asked(call)
    return limit(call) if asked is None else min(asked + HANG_UP_LOOK, limit(call))


def _asked(call: Call) -> float | None:
    """Since when something that a client wants hung up is there."""
    parties = (leg.hangup_requested for leg in call.legs if leg.live)
    return min((at for at in (call.hangup_requested, *parties) if at is not None), default=None)


def is_hang_up_pending(call: Call) -> bool:
    """Whether something that a client wants hung up may still ring or talk."""
    if call.state in (State.ENDED, State.QUEUED):
        return False
    return call.hangup_requested is not None or any(
        leg.hangup_requested is not None and leg.ended is None for leg in call.legs
    )


def limit(call: Call) -> float:
    """By when the switch itself has ended what goes on now, by its own clock once it has a
    channel, in epoch seconds."""
    if call.bridged is not None:
        return (call.answered or call.bridged) + call.call_duration + MARGIN
    created = min((leg.created for leg in call.legs if leg.created is not None), default=None)
    begun = call.answered or created or call.sent or call.claimed or call.accepted
    return begun + _ring_time(call) + MARGIN


def _ring_time(call: Call) -> int:
    # Each gateway tried for a party may ring for the whole time.
    # a1, a1.2, a1.3: the last of a party's tells how many there are.
    attempts = max(int(leg.id.partition(".")[2] or 1) for leg in call.legs)
    return call.wait_for_pickup * attempts


def fate(call: Call, *, core_uuid: str, there: bool, gone_for: float) -> str | None:
    """Why a claimed call has to be ended, by what its switch says; None while it need not.

    ``core_uuid`` is the switch's run that was asked, after the call was read; ``there`` whether
    one of the call's channels is; ``gone_for`` since how many seconds none has been seen.
    """
    if call.state is State.ENDED:
        return None
    if call.core_uuid != core_uuid:
        return SWITCH_RESTARTED
    if there:
        return None
    if call.sent is None:
        return WORKER_LOST if gone_for >= UNSENT_LIMIT else None
    return EVENTS_LOST if gone_for >= GONE_LIMIT else None


def fate_unreachable(call: Call, *, away_for: float) -> str | None:
    """The same while nobody can ask the switch, since ``away_for`` seconds: it holds the call's
    limits by itself, so the call has ended when all of them are over, and not before."""
    longest = UNSENT_LIMIT + 2 * (_ring_time(call) + MARGIN) + call.call_duration
    return None if call.state is State.ENDED or away_for < longest else SWITCH_UNREACHABLE


def is_doubtful(call: Call, call_states: dict[str, str]) -> bool:
    """Whether the switch's list of channels, their call states by uuid, shows other than what is
    known of the call, or something is still to be hung up."""
    if _asked(call) is not None or not any(leg.uuid in call_states for leg in call.legs):
        return True
    for leg in call.legs:
        state = call_states.get(leg.uuid)
        if (state is None and leg.live) or (state is not None and _lacks(leg, state)):
            return True
        # Of a parking lot the list says nothing.
        if is_unsent(leg) or (leg.parked_by is not None and leg.ended is None):
            return True
    talking = any(call_states.get(leg.uuid) in _TALKING for leg in call.destinations)
    return talking and call.bridged is None


def is_unsent(leg: Leg) -> bool:
    """Whether an action was to bring it in at once, and it has no channel yet. Of a party with
    several ways the others come later, or never."""
    if leg.action in (None, Action.PARK) or leg.id != leg.party:
        return False
    return leg.created is None and leg.ended is None


_TALKING = frozenset({"ACTIVE", "HELD", "UNHELD"})
# RING_WAIT: a source that has answered, while the destination rings.
_ANSWERED = _TALKING | {"RING_WAIT"}


def _lacks(leg: Leg, state: str) -> bool:
    if state in _ANSWERED:
        return leg.answered is None or leg.on_hold is not (state == "HELD")
    if state == "RINGING":
        return leg.ringing is None
    if state == "EARLY":
        return leg.early_media is None
    return leg.created is None
