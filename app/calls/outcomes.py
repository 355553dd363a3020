"""Outcomes: what a change of a call says of its switch, and of the switch's gateways.

A leg that rings, answers, or ends by the doing of its callee shows that switch and gateway work. A
leg that ends with one of FAULTS shows that they may not: app.store.ejection compares the switch
with the others. Pure functions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.calls.model import Call, Leg, NumberKind, State

# What stands for a gateway of legs that go through none: phones by an operator's dial string.
NO_GATEWAY = "*"
# The causes of one gateway, or of the phones registered at a switch. The rest of the switch works.
_OF_GATEWAY = frozenset({"GATEWAY_DOWN", "INVALID_GATEWAY", "USER_NOT_REGISTERED"})
# The causes that may be the doing of a switch or of a gateway.
FAULTS = _OF_GATEWAY | frozenset(
    {
        "CHAN_NOT_IMPLEMENTED",
        "DESTINATION_OUT_OF_ORDER",
        "INVALID_PROFILE",
        "NETWORK_OUT_OF_ORDER",
        "NORMAL_CIRCUIT_CONGESTION",
        "NORMAL_TEMPORARY_FAILURE",
        "RECOVERY_ON_TIMER_EXPIRE",
        "SWITCH_CONGESTION",
    }
)
# The causes that a callee, or the network for its number, gives.
_OF_CALLEE = frozenset(
    {
        "CALL_REJECTED",
        "INVALID_NUMBER_FORMAT",
        "NO_ANSWER",
        "NO_ROUTE_DESTINATION",
        "NUMBER_CHANGED",
        "UNALLOCATED_NUMBER",
        "USER_BUSY",
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one leg says of a gateway on its switch; without ``gateway``, of the switch alone.

    ``fault`` is the hang-up cause, None if it works. With ``whole`` it says the same of the whole
    switch."""

    gateway: str | None
    fault: str | None
    whole: bool = True


def outcomes(old: Call, new: Call) -> Iterator[Outcome]:
    """What the step from ``old`` to ``new`` says of the call's switch."""
    known = {leg.id: leg for leg in old.legs}
    for leg in new.legs:
        before = known.get(leg.id)
        if before is leg or leg.kind is NumberKind.SANDBOX or leg.created is None:
            continue
        if _is_well(leg):
            if before is None or not _is_well(before):
                yield Outcome(_gateway(leg), None)
        elif leg.cause in FAULTS and (before is None or before.cause != leg.cause):
            yield _fault(_gateway(leg), leg.cause)
    if new.originate_error != old.originate_error and new.originate_error in FAULTS:
        yield from _refused(new.sources, new.originate_error)
    if new.state is State.ENDED and old.state is not State.ENDED and new.winner is not None:
        # A destination that got no channel.
        cause = new.winner.originate_disposition
        if cause in FAULTS:
            yield from _refused(new.destinations, cause)


def _is_well(leg: Leg) -> bool:
    return leg.rang or leg.answered is not None or leg.cause in _OF_CALLEE


def _refused(side: tuple[Leg, ...], cause: str) -> Iterator[Outcome]:
    """What a side says that got no channel at all."""
    if any(leg.created is not None for leg in side):
        return
    gateways = {_gateway(leg) for leg in side if leg.kind is not NumberKind.SANDBOX}
    if cause not in _OF_GATEWAY:
        # Whatever the gateway: the switch made no channel.
        yield Outcome(None, cause)
    elif len(gateways) == 1:
        yield _fault(gateways.pop(), cause)


def _fault(gateway: str, cause: str) -> Outcome:
    return Outcome(gateway, cause, cause not in _OF_GATEWAY)


def _gateway(leg: Leg) -> str:
    return leg.trunk or NO_GATEWAY
