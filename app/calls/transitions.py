"""How a call changes: pure functions from a call and what happened to a call.

Events of one leg may come late, doubled or not at all, and those of different
legs in any order, so every event is read as a report of what is known of a leg
by now, and the call's state follows from what is known of all its legs. A call
only moves forward; what comes after its end fills in times, and the disposition of a
call that turns out to have talked.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.calls.model import Call, Leg, State, evolve

# ended_by: who or what ended the call.
BY_API = "api"
BY_SOURCE = "source"
BY_DESTINATION = "destination"
BY_TIMEOUT = "timeout"
BY_DURATION = "duration"
BY_SWITCH = "switch"
# ended_by: the faults. The call was ended by Ringback, which lost sight of it.
QUEUE_TIMEOUT = "queue_timeout"
WORKER_LOST = "worker_lost"
NOT_REPLICATED = "not_replicated"
SWITCH_RESTARTED = "switch_restarted"
SWITCH_UNREACHABLE = "switch_unreachable"
EVENTS_LOST = "events_lost"
FAULTS = frozenset(
    {
        QUEUE_TIMEOUT,
        WORKER_LOST,
        NOT_REPLICATED,
        SWITCH_RESTARTED,
        SWITCH_UNREACHABLE,
        EVENTS_LOST,
    }
)

# Dispositions of a PhoneCallView.
ANSWERED, BUSY, FAILED, NO_ANSWER, UNKNOWN, NOT_ALLOWED = range(6)

_DISPOSITIONS = {
    "USER_BUSY": BUSY,
    # A phone whose user declines (603) is busy, as Asterisk and so VoipNow count it.
    "CALL_REJECTED": BUSY,
    "NO_ANSWER": NO_ANSWER,
    "NO_USER_RESPONSE": NO_ANSWER,
    "PROGRESS_TIMEOUT": NO_ANSWER,
    "ORIGINATOR_CANCEL": NO_ANSWER,
    "ALLOTTED_TIMEOUT": NO_ANSWER,
    "NORMAL_CLEARING": NO_ANSWER,
    "OUTGOING_CALL_BARRED": NOT_ALLOWED,
    "BEARERCAPABILITY_NOTAUTH": NOT_ALLOWED,
}
_TIMEOUTS = frozenset({"NO_ANSWER", "PROGRESS_TIMEOUT", "NO_USER_RESPONSE"})
# The called party's own answer, or the network's for its number.
_REFUSALS = frozenset(
    {"USER_BUSY", "CALL_REJECTED", "UNALLOCATED_NUMBER", "NUMBER_CHANGED", "SUBSCRIBER_ABSENT"}
)
# Of several sources that all failed, the first cause in this order is the call's.
_TELLING = ("NO_ANSWER", "PROGRESS_TIMEOUT", "USER_BUSY", "CALL_REJECTED", "NO_USER_RESPONSE")
# Gateways that failed before another was tried; any other cause says more.
_SILENT = ("NORMAL_TEMPORARY_FAILURE", "GATEWAY_DOWN", "LOSE_RACE")
# originate_disposition of a source that says nothing of the destination.
_NO_DISPOSITION = frozenset({"SUCCESS", "success", "failure", "NONE", "ORIGINATOR_CANCEL"})


@dataclass(frozen=True, slots=True)
class LegReport:
    """What one event of the switch tells of one leg. Times in epoch seconds."""

    uuid: str
    created: float | None = None
    early_media: float | None = None
    ringing: float | None = None
    answered: float | None = None
    bridged: float | None = None
    ended: float | None = None
    cause: str | None = None
    sip_disposition: str | None = None
    originate_disposition: str | None = None
    # Channels that this one has dialled or is connected with, and the one it was bridged to.
    peers: tuple[str, ...] = ()
    bridged_to: str | None = None


def claim(call: Call, *, worker: str, switch: str, core_uuid: str, at: float) -> Call:
    """A worker takes the call, before it sends anything. Of a claimed call: unchanged."""
    if call.state is not State.QUEUED:
        return call
    return evolve(
        call, state=State.DIALING, worker=worker, switch=switch, core_uuid=core_uuid, claimed=at
    )


def mark_sent(call: Call, *, at: float) -> Call:
    """The switch has taken the originate."""
    return call if call.sent is not None else evolve(call, sent=at)


def report_leg(call: Call, report: LegReport) -> Call:
    """Take over what an event tells of a leg, then see where the call stands."""
    legs = {leg.uuid: leg for leg in call.legs}
    leg = legs.get(report.uuid)
    if leg is None:
        return call
    legs[leg.uuid] = merged = _merge(leg, report)
    at = max(filter(None, _times(merged)), default=call.accepted)
    for uuid in report.peers:
        # A leg that another's event names exists: the call is not over before it has ended.
        peer = legs.get(uuid)
        if peer is not None and peer.created is None:
            legs[uuid] = evolve(peer, created=at)
    if report.bridged is not None and report.bridged_to is not None:
        peer = legs.get(report.bridged_to)
        if peer is not None and peer.bridged is None:
            # Nobody is bridged who has not answered, whatever became of the event.
            answered = peer.answered or report.bridged
            legs[peer.uuid] = evolve(peer, answered=answered, bridged=report.bridged)
    found = tuple(legs.values())
    # Where the call stands follows from its legs.
    return call if found == call.legs else _settle(evolve(call, legs=found), at)


def _times(leg: Leg) -> tuple[float | None, ...]:
    return leg.created, leg.early_media, leg.ringing, leg.answered, leg.bridged, leg.ended


def _merge(leg: Leg, report: LegReport) -> Leg:
    """First word wins, so that a doubled or late event changes nothing."""
    found = {
        name: value
        for name in _MERGED
        if (value := getattr(report, name)) is not None and getattr(leg, name) is None
    }
    for name in ("created", "answered"):
        # What another leg's event made known of this one came later than the thing itself.
        at, before = getattr(report, name), getattr(leg, name)
        if at is not None and (before is None or at < before):
            found[name] = at
    return evolve(leg, **found) if found else leg


_MERGED = (
    "early_media",
    "ringing",
    "bridged",
    "ended",
    "cause",
    "sip_disposition",
    "originate_disposition",
)


def finish_originate(call: Call, *, error: str, at: float) -> Call:
    """The switch has refused or given up the originate, with a hang-up cause."""
    if call.originate_error is not None:
        return call
    return _settle(evolve(call, originate_error=error), at)


def request_hangup(call: Call, *, at: float) -> Call:
    """A client wants the call ended: at once while queued, else by a worker on the switch."""
    if call.state is State.ENDED or call.hangup_requested is not None:
        return call
    call = evolve(call, hangup_requested=at)
    if call.state is State.QUEUED:
        return _end(call, "ORIGINATOR_CANCEL", BY_API, at)
    return call


def hang_up_number(call: Call, number: str | None, *, at: float) -> Call:
    """A client wants one party out; without one left on a side, or with None, the call ended.

    A party that is alone on its side ends the call. Any other is marked: it is not dialled,
    or hung up on the switch as soon as it is there.
    """
    if number is None or call.state is State.ENDED:
        return request_hangup(call, at=at)
    if not any(leg.number == number for leg in call.legs):
        return call
    marked = call
    for leg in call.legs:
        if leg.number == number and leg.ended is None and leg.hangup_requested is None:
            marked = marked.with_leg(evolve(leg, hangup_requested=at))
    if not all(_in_play(side) for side in (marked.sources, marked.destinations)):
        return request_hangup(call, at=at)
    return marked


def _in_play(side: Iterable[Leg]) -> bool:
    return any(leg.ended is None and leg.hangup_requested is None for leg in side)


def is_unwanted(call: Call, leg: Leg) -> bool:
    """Whether a channel that is there has no business being there any more."""
    requested = call.hangup_requested is not None or leg.hangup_requested is not None
    return call.state is State.ENDED or requested


def end(call: Call, fault: str, *, at: float, cause: str = "NORMAL_UNSPECIFIED") -> Call:
    """End a call that no event will end; ``fault`` is one of :data:`FAULTS`."""
    if call.state is State.ENDED:
        return call
    by = BY_API if call.hangup_requested is not None else fault
    return _end(call, cause, by, at)


def end_queued(call: Call, *, at: float) -> Call:
    """End a call that nobody has claimed in its time; of a claimed one: unchanged."""
    return end(call, QUEUE_TIMEOUT, at=at) if call.state is State.QUEUED else call


def _settle(call: Call, at: float) -> Call:
    winner, state = call.winner, call.state
    answered, bridged, disposition = call.answered, call.bridged, call.disposition
    if winner is not None:
        answered = min(filter(None, (answered, winner.answered)), default=None)
        bridged = bridged or winner.bridged
    if state is State.ENDED:
        # What late events say of a call that was ended without them: that it was answered, that
        # it talked.
        if bridged != call.bridged:
            disposition = ANSWERED
    elif winner is not None:
        state = State.BRIDGED if winner.bridged is not None else State.ANSWERED
    elif any(leg.ringing or leg.early_media for leg in call.sources):
        state = State.RINGING
    elif any(leg.created for leg in call.legs):
        # Its channels exist, whatever became of the note that it was sent.
        state = State.DIALING
    if state.rank < call.state.rank:
        state = call.state
    found = state, answered, bridged, disposition
    if found != (call.state, call.answered, call.bridged, call.disposition):
        call = evolve(
            call, state=state, answered=answered, bridged=bridged, disposition=disposition
        )
    return _finish(call, at) if state is not State.ENDED and _is_over(call) else call


def _is_over(call: Call) -> bool:
    if any(leg.live for leg in call.legs):
        return False
    if call.originate_error is not None or call.winner is not None:
        return True
    return all(leg.ended is not None for leg in call.sources)


def _finish(call: Call, at: float) -> Call:
    cause = _cause(call)
    ended = max((leg.ended for leg in call.legs if leg.ended is not None), default=at)
    return _end(call, cause, _ended_by(call, cause), ended)


def _cause(call: Call) -> str:
    winner = call.winner
    if winner is not None:
        dialled = winner.originate_disposition
        if winner.bridged is None and dialled is not None and dialled not in _NO_DISPOSITION:
            # The destination failed: its cause, not that of the source hung up for it.
            return dialled
        if winner.bridged is None and any(
            leg.cause == "ALLOTTED_TIMEOUT" for leg in call.destinations
        ):
            # The ringing of several destinations was over (leg_timeout), not the call's time:
            # that would have cancelled them.
            return "NO_ANSWER"
        return winner.cause or "NORMAL_UNSPECIFIED"
    if call.originate_error is not None:
        return call.originate_error
    causes = [leg.cause for leg in call.sources if leg.cause is not None]
    for telling in _TELLING:
        if telling in causes:
            return telling
    spoken = [cause for cause in causes if cause not in _SILENT]
    return next(iter([*spoken, *causes]), "NORMAL_UNSPECIFIED")


def _ended_by(call: Call, cause: str) -> str:
    if call.hangup_requested is not None:
        return BY_API
    winner = call.winner
    if winner is None:
        # By the cause alone: the switch's reply may come before the legs' events.
        if cause in _TIMEOUTS:
            return BY_TIMEOUT
        return BY_SOURCE if cause in _REFUSALS else BY_SWITCH
    if cause == "ALLOTTED_TIMEOUT":
        return BY_DURATION
    if winner.sip_disposition == "recv_bye":
        return BY_SOURCE
    if winner.bridged is None and cause in _TIMEOUTS:
        return BY_TIMEOUT
    theirs = "recv_refuse" if winner.bridged is None else "recv_bye"
    if _has(call.destinations, theirs):
        return BY_DESTINATION
    return BY_SWITCH


def _has(legs: Iterable[Leg], sip_disposition: str) -> bool:
    return any(leg.sip_disposition == sip_disposition for leg in legs)


def _end(call: Call, cause: str, by: str, at: float) -> Call:
    if call.bridged is not None:
        disposition = ANSWERED
    elif by in FAULTS:
        disposition = FAILED if by in (QUEUE_TIMEOUT, NOT_REPLICATED) else UNKNOWN
    elif by == BY_API:
        disposition = NO_ANSWER
    else:
        disposition = _DISPOSITIONS.get(cause, FAILED)
    return evolve(
        call, state=State.ENDED, ended=at, hangup_cause=cause, ended_by=by, disposition=disposition
    )
