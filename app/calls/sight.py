"""The users, extensions and organizations that a call shows to now: pure functions of a call.

A call shows to its charged user, extension and organization for its whole life. It shows to any
other from the ring of one of their legs to the end of that leg. The indexes of live calls
(app.store.writes) and the rights of apps (app.accounts.rights) both follow these functions, so that
a list holds just the calls that an app may see.
"""

from app.calls.model import Call, Leg, NumberKind, Role, State, evolve

# Seconds from the end of a leg to the end of its call within which the leg was in the call to the
# end: the switch hangs up the legs of a call one after the other.
_LAST = 2.0


def legs_in(call: Call) -> tuple[Leg, ...]:
    """The legs to whose owners the call shows: those that ring or talk. A call that has ended goes
    on showing to the parties that were in it to the end.

    A leg that lost the race is not in the call, though its end may not have been heard yet.
    """
    ended = call.state is State.ENDED
    if not ended and not any(leg.live for leg in call.legs):
        return ()
    kept = {} if call.conference is not None else {role: _kept(call, role) for role in _SIDES}
    return tuple(
        leg
        for leg in call.legs
        if (_stayed(call, leg) if ended else leg.live) and kept.get(leg.role) in (None, leg.party)
    )


_SIDES = (Role.SOURCE, Role.DESTINATION)


def _kept(call: Call, role: Role) -> str | None:
    """The party that the switch kept of a side; None while none has answered. In a conference all
    of them stay."""
    answered = [leg for leg in call.legs if leg.role is role and leg.won]
    return min(answered, key=lambda leg: leg.taken or 0.0).party if answered else None


def _stayed(call: Call, leg: Leg) -> bool:
    if not leg.won:
        return False
    return leg.ended is None or (call.ended or leg.ended) - leg.ended <= _LAST


def users(call: Call) -> tuple[str, ...]:
    """The ids of the users that the call shows to, the charged one first."""
    owners = (leg.owner for leg in legs_in(call) if leg.owner is not None)
    return tuple(dict.fromkeys((call.user, *owners)))


def extensions(call: Call) -> tuple[str, ...]:
    """The extensions that list the call, the charged one first. Those of the charged user list it
    from the beginning."""
    there = legs_in(call)
    numbers = (
        leg.number
        for leg in call.legs
        if leg.kind is NumberKind.EXTENSION and (leg.owner == call.user or leg in there)
    )
    return tuple(dict.fromkeys((call.extension, *numbers)))


def extensions_in(call: Call) -> tuple[str, ...]:
    """The extensions that ring or talk."""
    there = (leg.number for leg in legs_in(call) if leg.kind is NumberKind.EXTENSION)
    return tuple(dict.fromkeys(there))


def organizations(call: Call) -> tuple[str, ...]:
    """The numbers of the organizations that the call shows to, the charged one first."""
    there = (leg.number for leg in legs_in(call) if leg.kind is NumberKind.EXTENSION)
    return tuple(dict.fromkeys(map(organization_of, (call.extension, *there))))


def others(call: Call) -> tuple[str, ...]:
    """All that the call may ever show to beside its charged user, extension and organization, in
    words such as ``user:13``, ``extension:0004*200`` and ``organization:0004``."""
    found: dict[str, None] = {}
    own = organization_of(call.extension)
    for leg in call.legs:
        if leg.owner not in (None, call.user):
            found[f"user:{leg.owner}"] = None
        if leg.kind is NumberKind.EXTENSION and leg.number != call.extension:
            found[f"extension:{leg.number}"] = None
            if (number := organization_of(leg.number)) != own:
                found[f"organization:{number}"] = None
    return tuple(found)


def organization_of(extension: str) -> str:
    """The number of an extension's organization, ``0003`` of ``0003*210``."""
    return extension.partition("*")[0]


def as_left(call: Call, legs: tuple[Leg, ...]) -> Call:
    """The call as the owner of these legs is told of their end: with these legs alone, and ended
    with the last of them."""
    last = max(legs, key=lambda leg: leg.ended or 0.0)
    return evolve(
        call,
        legs=legs,
        state=State.ENDED,
        answered=min((leg.taken for leg in legs if leg.taken), default=None),
        ended=last.ended,
        hangup_cause=last.cause,
        ended_by=None,
        disposition=None,
    )
