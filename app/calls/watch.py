"""Watching calls that no event changes: when to look at one, and when it is over. These are pure
functions of the call, of the switch's channels, and of time.

Durations that can end a call are seconds of a monotonic clock: the wall clocks of several machines
differ, and are stepped.
"""

from app.calls.model import GATEWAY_FAILURES, Action, Call, Leg, Role, State
from app.calls.transitions import EVENTS_LOST, SWITCH_RESTARTED, SWITCH_UNREACHABLE, WORKER_LOST

# Seconds. A worker begins to send the originate at most SEND_WITHIN after the claim. The event
# socket gives up a command after COMMAND_LIMIT, and bytes that the switch's host does not
# acknowledge after its own DELIVERY_LIMIT of 5.
SEND_WITHIN = 3.0
COMMAND_LIMIT = 4.0
# So a call without a channel for longer than all three was never sent.
UNSENT_LIMIT = 13.0
# A sent call without a channel for this long is over. Its first channels take a moment to appear,
# and its last events to arrive.
GONE_LIMIT = 6.0
# The most that one look adds to such an absence: the time between two looks proves nothing.
LOOK_LIMIT = 3.0
# Seconds until the watchdog looks at a call that is queued, that is claimed and not sent, or that
# a client wants hung up.
QUEUE_LOOK = 5.0
UNSENT_LOOK = 2.0
HANG_UP_LOOK = 5.0
# Seconds between two looks at a call whose switch cannot be asked, at least and at most. Once
# the switch is back, the comparison has them looked at at once.
UNREACHABLE_LEAST, UNREACHABLE_LOOK = 2.0, 600.0
# Seconds beyond the limits that the switch itself enforces.
MARGIN = 15.0
# Seconds after the end of the ringing until Ringback hangs up a party that still rings through one
# of several gateways. The switch's own task for it may come 1.5 s late.
RING_MARGIN = 0.3


def queued_until(call: Call) -> float:
    """The time when the call ends unless a worker claims it, in epoch seconds."""
    return call.accepted + call.queue_timeout


def deadline(call: Call) -> float | None:
    """The time to look at the call, in epoch seconds; None once it has ended."""
    if call.state is State.ENDED:
        return None
    if call.waits or call.claimed is None:
        return min((call.refused or call.accepted) + QUEUE_LOOK, queued_until(call))
    if call.sent is None:
        return call.claimed + UNSENT_LOOK
    until = min([limit(call), *_ringing_until(call).values()])
    asked = _asked(call)
    return until if asked is None else min(asked + HANG_UP_LOOK, until)


def _ringing_until(call: Call) -> dict[str, float]:
    """When the parties have rung for as long as the client asked, by the switch's clock: those with
    several gateways, for each of which the switch starts its own clock anew."""
    several = {leg.party for leg in call.legs if leg.id != leg.party and leg.action is None}
    found: dict[str, float] = {}
    for party in several:
        legs = [leg for leg in call.legs if leg.party == party]
        if any(leg.live for leg in legs) and not any(leg.answered for leg in legs):
            begun = min(leg.created for leg in legs if leg.created is not None)
            found[party] = begun + call.wait_for_pickup + RING_MARGIN
    return found


def rang_too_long(call: Call, at: float) -> list[Leg]:
    """The legs that ring, and whose party has rung for as long as the client asked. ``at`` is by
    the switch's clock."""
    over = {party for party, until in _ringing_until(call).items() if until <= at}
    return [leg for leg in call.legs if leg.party in over and leg.live]


def _asked(call: Call) -> float | None:
    """The time of the first request to hang up the call or a live leg; None if there is none."""
    parties = (leg.hangup_requested for leg in call.legs if leg.live)
    return min((at for at in (call.hangup_requested, *parties) if at is not None), default=None)


def is_hang_up_pending(call: Call) -> bool:
    """Whether something that a client wants hung up may still ring or talk."""
    if call.state is State.ENDED or call.waits:
        return False
    return call.hangup_requested is not None or any(
        leg.hangup_requested is not None and _may_be_there(call, leg) for leg in call.legs
    )


def _may_be_there(call: Call, leg: Leg) -> bool:
    """Whether a leg has a channel, or may yet get one."""
    if leg.created is not None or leg.ended is not None:
        return leg.live
    # The switch rings a side no longer once one of its parties has taken the call.
    if leg.role is Role.SOURCE and call.conference is None and call.winner is not None:
        return False
    if leg.role is Role.DESTINATION and call.bridged is not None:
        return False
    # An end that is no failure of a gateway ends all ways to the party.
    causes = [each.cause for each in call.legs if each.party == leg.party and each.ended]
    return all(cause is None or cause in GATEWAY_FAILURES for cause in causes)


def limit(call: Call) -> float:
    """The time by which the switch itself has ended the ringing or the call, in epoch seconds. Once
    the call has a channel, this is by the switch's clock."""
    if call.bridged is not None:
        length = call.call_duration + call.prompt_seconds
        return (call.answered or call.bridged) + length + MARGIN
    created = min((leg.created for leg in call.legs if leg.created is not None), default=None)
    begun = call.answered or created or call.sent or call.claimed or call.accepted
    return begun + _ring_time(call) + MARGIN


def _ring_time(call: Call) -> int:
    return call.wait_for_pickup + call.prompt_seconds


def may_recover(call: Call, core_uuid: str) -> bool:
    """Whether another run of the switch may have brought the call back (`sofia recover`), or yet
    does. A call that is being set up is not brought back as it was: the switch would dial its
    destination again."""
    return call.core_uuid != core_uuid and call.state is State.BRIDGED


def fate(
    call: Call,
    *,
    core_uuid: str,
    there: bool,
    gone_for: float,
    new_for: float = 0.0,
    recover_wait: float = 0.0,
) -> str | None:
    """The fault that ends a claimed call, by what its switch says; None while the call may go on.

    ``core_uuid`` is the run of the switch that answered, asked after the call was read. ``there``
    says whether the run has a channel of the call, ``gone_for`` for how many seconds it had none.
    ``new_for`` is the age of the run, as far as it is known, and ``recover_wait`` the age at which
    a switch has recovered what it can. All are seconds.
    """
    if call.state is State.ENDED:
        return None
    if may_recover(call, core_uuid) and (there or new_for < recover_wait):
        return None
    if call.core_uuid != core_uuid:
        return SWITCH_RESTARTED
    if there:
        return None
    if call.sent is None:
        return WORKER_LOST if gone_for >= UNSENT_LIMIT else None
    return EVENTS_LOST if gone_for >= GONE_LIMIT else None


def fate_unreachable(call: Call, *, unreachable_for: float) -> str | None:
    """The fault that ends a claimed call whose switch has been unreachable for so many seconds;
    None while the call may go on. The switch enforces the call's limits by itself, so the call
    has ended once all of them are over, and not before."""
    over = call.state is State.ENDED or unreachable_for < longest(call)
    return None if over else SWITCH_UNREACHABLE


def longest(call: Call) -> float:
    """The seconds after which the switch itself has ended the call, however far it was."""
    # Accepting may take its time on each side, and lengthens the talk.
    limits = 2 * (_ring_time(call) + MARGIN) + call.call_duration + call.prompt_seconds
    return UNSENT_LIMIT + limits


def next_look_unreachable(call: Call, *, unreachable_for: float) -> float:
    """The seconds until the next look at a call whose switch has been unreachable for so many
    seconds: no look before its end would find anything."""
    return min(max(UNREACHABLE_LEAST, longest(call) - unreachable_for), UNREACHABLE_LOOK)


def is_doubtful(call: Call, call_states: dict[str, str]) -> bool:
    """Whether the call needs a look: the switch's list of channels, call states by uuid, differs
    from the call, or something is still to be hung up."""
    if _asked(call) is not None or not any(leg.uuid in call_states for leg in call.legs):
        return True
    for leg in call.legs:
        state = call_states.get(leg.uuid)
        if (state is None and leg.live) or (state is not None and _lacks(leg, state)):
            return True
        # The list does not show parking lots.
        if is_unsent(leg) or (leg.parked_by is not None and leg.ended is None):
            return True
    talking = any(call_states.get(leg.uuid) in _TALKING for leg in call.destinations)
    return talking and call.bridged is None


def is_unsent(leg: Leg) -> bool:
    """Whether an action brings in the leg at once, and the leg has no channel yet. Of a party with
    several ways, only the first comes at once."""
    if leg.action in (None, Action.PARK) or leg.id != leg.party:
        return False
    return leg.created is None and leg.ended is None


_TALKING = frozenset({"ACTIVE", "HELD", "UNHELD"})
# RING_WAIT is an answered source while the destination rings.
_ANSWERED = _TALKING | {"RING_WAIT"}


def _lacks(leg: Leg, state: str) -> bool:
    if state in _ANSWERED:
        return leg.answered is None or leg.on_hold is not (state == "HELD")
    if state == "RINGING":
        return leg.ringing is None
    if state == "EARLY":
        return leg.early_media is None
    return leg.created is None
