"""Transitions: pure functions that make the next call from a call and what happened.

Events of one leg may come late, twice or not at all, and events of different legs in any order
(docs/internals/freeswitch.md#events). So each event is read as a report of all that is known about
a leg by now, and the state of the call follows from all its legs. A call only moves forward.
Events after its end fill in times, and the disposition if the parties talked after all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.calls.model import (
    LOST_THE_RACE,
    SAYS_NOTHING,
    Action,
    Call,
    Leg,
    Role,
    State,
    evolve,
    uuid_again,
)

# ended_by: the party, client, limit or fault that ended the call.
BY_API = "api"
BY_SOURCE = "source"
BY_DESTINATION = "destination"
# A party that an action brought in.
BY_THIRD_PARTY = "third_party"
BY_TIMEOUT = "timeout"
BY_DURATION = "duration"
# A cap on minutes or cost was reached. The switch's timer ends the leg with this cause.
BY_QUOTA = "quota"
QUOTA_CAUSE = "FACILITY_NOT_SUBSCRIBED"
# A far end sent no RTP any more, and the switch ended its leg with this cause.
BY_MEDIA = "media_lost"
MEDIA_CAUSE = "MEDIA_TIMEOUT"
BY_SWITCH = "switch"
# Who answered did not accept the call.
BY_NOT_ACCEPTED = "not_accepted"
# The dial policy, when a worker was about to dial the call.
BY_POLICY = "policy"
# ended_by: the faults. Ringback ended the call because it lost sight of it.
QUEUE_TIMEOUT = "queue_timeout"
# The switch that the call has to be dialled on takes no calls.
HOME_UNAVAILABLE = "home_unavailable"
WORKER_LOST = "worker_lost"
NOT_REPLICATED = "not_replicated"
SWITCH_RESTARTED = "switch_restarted"
SWITCH_UNREACHABLE = "switch_unreachable"
EVENTS_LOST = "events_lost"
# An operator has declared the switch dead.
SWITCH_DEAD = "switch_dead"
FAULTS = frozenset(
    {
        QUEUE_TIMEOUT,
        HOME_UNAVAILABLE,
        WORKER_LOST,
        NOT_REPLICATED,
        SWITCH_RESTARTED,
        SWITCH_UNREACHABLE,
        EVENTS_LOST,
        SWITCH_DEAD,
    }
)

# Dispositions of a PhoneCallView.
ANSWERED, BUSY, FAILED, NO_ANSWER, UNKNOWN, NOT_ALLOWED = range(6)
# The words for these dispositions, for logs and metrics.
DISPOSITION_NAMES = ("answered", "busy", "failed", "no_answer", "unknown", "not_allowed")

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
# The causes with which a switch refuses an originate before it makes a channel.
REFUSALS = frozenset(
    {
        "CHAN_NOT_IMPLEMENTED",
        "DESTINATION_OUT_OF_ORDER",
        "GATEWAY_DOWN",
        "INVALID_GATEWAY",
        "INVALID_PROFILE",
        "INVALID_URL",
        "NETWORK_OUT_OF_ORDER",
        "NORMAL_TEMPORARY_FAILURE",
        "SWITCH_CONGESTION",
        "USER_NOT_REGISTERED",
    }
)
_TIMEOUTS = frozenset({"NO_ANSWER", "PROGRESS_TIMEOUT", "NO_USER_RESPONSE"})
# The called party, or the network for its number, refused the call.
_REFUSALS = frozenset(
    {"USER_BUSY", "CALL_REJECTED", "UNALLOCATED_NUMBER", "NUMBER_CHANGED", "SUBSCRIBER_ABSENT"}
)
# If all sources failed, the call's cause is the first of these that a source has.
_TELLING = ("NO_ANSWER", "PROGRESS_TIMEOUT", "USER_BUSY", "CALL_REJECTED", "NO_USER_RESPONSE")
# The causes of a leg at the end of its ringing, from leg_timeout and from the task that ends all
# gateways of a party.
_RANG_OUT = frozenset({"ALLOTTED_TIMEOUT", "NO_ANSWER"})
# The cause of an attempt that brought no 18x in time. Once there was one, the switch reports it for
# the whole originate, whatever came of the next attempt (seen).
_LEFT_IN_TIME = "PROGRESS_TIMEOUT"
# Causes of a gateway that failed before the switch tried the next one. Any other cause says more.
_SILENT = ("NORMAL_TEMPORARY_FAILURE", "GATEWAY_DOWN", LOST_THE_RACE)
# Who ended a call of which no source took the call, by its cause alone.
_BY_CAUSE = frozenset({BY_SOURCE, BY_TIMEOUT, BY_SWITCH})
# Values of a source's originate_disposition that are not the cause of the call's end. After
# ORIGINATOR_CANCEL the source hung up first, and its own cause says how.
_NO_DISPOSITION = SAYS_NOTHING | {"ORIGINATOR_CANCEL"}


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of a leg in one event: when hold, parking and recording last began and ended."""

    held: float | None = None
    unheld: float | None = None
    parked: float | None = None
    unparked: float | None = None
    parked_pos: str | None = None
    # When a look found the leg in a lot, if the time of its parking is unknown.
    stands_parked: float | None = None
    recording: float | None = None
    recorded: float | None = None
    recording_file: str | None = None


@dataclass(frozen=True, slots=True)
class LegReport:
    """The facts about one leg in one event of the switch. Times are in epoch seconds."""

    uuid: str
    created: float | None = None
    early_media: float | None = None
    ringing: float | None = None
    answered: float | None = None
    # When the leg is known to have accepted the call, if it must.
    accepted: float | None = None
    bridged: float | None = None
    ended: float | None = None
    cause: str | None = None
    sip_disposition: str | None = None
    originate_disposition: str | None = None
    # Channels that this one has dialled or is connected to, and the one that it was bridged to.
    peers: tuple[str, ...] = ()
    bridged_to: str | None = None
    marks: Marks | None = None
    # The fields of a leg that say how it ended, in its last event.
    ending: Mapping[str, Any] | None = None


def claim(call: Call, *, worker: str, switch: str, core_uuid: str, at: float) -> Call:
    """A worker claims the call before it sends anything. A claimed call stays unchanged."""
    if not call.waits:
        return call
    return evolve(
        call, state=State.DIALING, worker=worker, switch=switch, core_uuid=core_uuid, claimed=at
    )


def recover(call: Call, *, core_uuid: str) -> Call:
    """Another run of the switch has brought the call back. An ended call stays unchanged."""
    return call if call.state is State.ENDED else evolve(call, core_uuid=core_uuid)


def mark_sent(call: Call, *, at: float, job_uuid: str) -> Call:
    """The switch has taken the originate with this Job-UUID. A call that has ended, or that is
    dialled again by now, stays unchanged."""
    if call.sent is not None or call.state is State.ENDED:
        return call
    return call if call.job_uuid != job_uuid else evolve(call, sent=at)


def may_dial_again(call: Call) -> bool:
    """Whether a claimed call may be dialled again if its switch made no channel: nothing of it was
    heard, nobody wants it hung up, and it was not dialled again before."""
    if call.state is not State.DIALING or call.refused_by is not None or call.switch is None:
        return False
    if call.originate_error is not None or call.hangup_requested is not None:
        return False
    touched = (
        each is not None
        for leg in call.legs
        for each in (leg.created, leg.ended, leg.hangup_requested, leg.action)
    )
    return not any(touched)


def refuse(call: Call, *, error: str, job_uuid: str, at: float, again: bool) -> Call:
    """The switch refused the originate with this Job-UUID. With ``again`` it made no channel, for
    certain: the call waits for a claim on another switch, once, with uuids of its own. Otherwise it
    ends. A call that is dialled again by now stays unchanged."""
    if call.job_uuid != job_uuid:
        return call
    if not (again and may_dial_again(call)):
        return finish_originate(call, error=error, at=at)
    return evolve(
        call,
        refused=at,
        refused_by=call.switch,
        refused_cause=error,
        sent=None,
        job_uuid=uuid_again(call.job_uuid),
        legs=tuple(evolve(leg, uuid=uuid_again(leg.uuid)) for leg in call.legs),
    )


def report_leg(call: Call, report: LegReport) -> Call:
    """An event reported facts about a leg: add them, and set the state that follows."""
    legs = {leg.uuid: leg for leg in call.legs}
    leg = legs.get(report.uuid)
    if leg is None:
        return call
    legs[leg.uuid] = merged = _merge(leg, report)
    at = max(filter(None, _times(merged)), default=call.accepted)
    for uuid in report.peers:
        # A leg that another leg's event names exists: the call ends only after it.
        peer = legs.get(uuid)
        if peer is not None and peer.created is None:
            legs[uuid] = evolve(peer, created=at)
    if report.bridged is not None and report.bridged_to is not None:
        peer = legs.get(report.bridged_to)
        if peer is not None and peer.bridged is None:
            # A bridged leg has answered, even if that event was lost.
            bridged = LegReport(
                peer.uuid, answered=peer.answered or report.bridged, bridged=report.bridged
            )
            legs[peer.uuid] = _merge(peer, bridged)
    found = tuple(legs.values())
    # Only a change of the legs can change the state.
    return call if found == call.legs else _settle(evolve(call, legs=found), at)


def _times(leg: Leg) -> tuple[float | None, ...]:
    return leg.created, leg.early_media, leg.ringing, leg.answered, leg.bridged, leg.ended


def _merge(leg: Leg, report: LegReport) -> Leg:
    """The leg with a report's facts. The first value stays, so that a repeated or late event
    changes nothing."""
    found = {
        name: value
        for name in _MERGED
        if (value := getattr(report, name)) is not None and getattr(leg, name) is None
    }
    if leg.ended is not None and leg.cause is None and report.cause and report.ended is not None:
        # Ringback noticed the end by a look. Now the switch says when it was, and why.
        found["ended"] = report.ended
    if leg.accept is not None and (accepted := _accepted(leg, report)) is not None:
        found["accepted"] = accepted
    for name in ("created", "answered"):
        # A time that came from another leg's event is later than the leg's own time.
        at, before = getattr(report, name), getattr(leg, name)
        if at is not None and (before is None or at < before):
            found[name] = at
    if report.ending is not None:
        known = report.ending.items()
        found |= {name: value for name, value in known if getattr(leg, name) is None}
    if report.marks is not None:
        found |= _marks(leg, report.marks)
    return evolve(leg, **found) if found else leg


def _accepted(leg: Leg, report: LegReport) -> float | None:
    """When a leg has accepted, by a report that knows it better than the leg."""
    # A bridged leg has accepted, even if the event that said so was lost. One that had hung up by
    # then has not.
    times = [report.bridged]
    if (accepted := report.accepted) is not None:
        if leg.ended is None:
            times.append(min(accepted, report.ended or accepted))
        elif accepted <= leg.ended:
            times.append(accepted)
    at = min(filter(None, times), default=None)
    return at if at is not None and (leg.accepted is None or at < leg.accepted) else None


def _marks(leg: Leg, marks: Marks) -> dict[str, float | str]:
    """The fields that a report's marks change. The last begin and its end win, so that events
    give the same result in any order."""
    found: dict[str, float | str] = {}
    if marks.stands_parked is not None and not leg.in_lot:
        found = {"parked": marks.stands_parked, "parked_pos": marks.parked_pos or ""}
    for begin, over, with_it in _MARKS:
        begun, at = getattr(leg, begin), getattr(marks, begin)
        if at is not None and (begun is None or at > begun):
            found[begin] = begun = at
            if (text := getattr(marks, with_it, None)) is not None:
                found[with_it] = text
        was, at = getattr(leg, over), getattr(marks, over)
        if at is not None and begun is not None and at >= begun and (was is None or was < begun):
            found[over] = at
    return found


_MARKS = (
    ("held", "unheld", ""),
    ("parked", "unparked", "parked_pos"),
    ("recording", "recorded", "recording_file"),
)


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
    """The switch has rejected the originate or given it up. ``error`` is the hang-up cause."""
    if call.originate_error is not None:
        return call
    return _settle(evolve(call, originate_error=error), at)


def end_leg(call: Call, uuid: str, *, cause: str, at: float) -> Call:
    """A leg will not come up: the switch rejected it, or the worker never asked for it."""
    leg = call.leg(uuid)
    if leg is None or leg.created is not None or leg.ended is not None:
        return call
    attempts = [each for each in call.legs if each.party == leg.party and each.created is None]
    for each in attempts:
        call = call.with_leg(evolve(each, ended=at, cause=cause))
    return _settle(call, at)


def request_hangup(call: Call, *, at: float) -> Call:
    """A client asked to hang up the call. A call that waits ends at once; a worker hangs up any
    other on the switch."""
    if call.state is State.ENDED or call.hangup_requested is not None:
        return call
    waits = call.waits
    call = evolve(call, hangup_requested=at)
    if waits:
        return _end(call, "ORIGINATOR_CANCEL", BY_API, at)
    return call


def hang_up_number(call: Call, number: str | None, *, at: float) -> Call:
    """A client asked to hang up the party with ``number``, or with None the call.

    The call ends too if this leaves a side without a party. Otherwise the party's legs are
    marked: a worker hangs them up as soon as the switch has them. In a queued call they end.
    """
    if number is None or call.state is State.ENDED:
        return request_hangup(call, at=at)
    of_number = [
        leg
        for leg in call.legs
        # An unused leg for the way back of a parked call is not a party that is there.
        if leg.number == number
        and leg.ended is None
        and not (leg.action is Action.PARK and leg.created is None)
    ]
    marked = call
    # No worker will dial a leg of a call that still waits, so the leg ends here. It gets no cause.
    over = at if call.waits else None
    for leg in of_number:
        if leg.hangup_requested is None:
            marked = marked.with_leg(evolve(leg, hangup_requested=at, ended=over))
    if all(leg.listens for leg in of_number):
        return marked
    if any(leg.live and not leg.listens for leg in call.thirds):
        # A party that is left alone has nobody to talk to.
        alone = len([leg for leg in marked.parties if leg.live and _in_play(leg)]) < 2
    else:
        sides = (marked.sources, marked.destinations) if call.destinations else (marked.sources,)
        alone = not all(any(map(_in_play, side)) for side in sides)
    return request_hangup(call, at=at) if alone else marked


def _in_play(leg: Leg) -> bool:
    return leg.ended is None and leg.hangup_requested is None


def is_unwanted(call: Call, leg: Leg) -> bool:
    """Whether a channel on the switch should be hung up."""
    requested = call.hangup_requested is not None or leg.hangup_requested is not None
    return call.state is State.ENDED or requested or _is_pointless(call, leg)


def _is_pointless(call: Call, leg: Leg) -> bool:
    """Whether a phone rings to take over a party that it can no longer take over."""
    if leg.action not in (Action.PICK_UP, Action.UN_PARK) or leg.answered is not None:
        return False
    of = call.leg_named(leg.of)
    if of is None or of.ended is not None:
        return True
    return of.bridged is not None if leg.action is Action.PICK_UP else not of.in_lot


def end(call: Call, fault: str, *, at: float, cause: str = "NORMAL_UNSPECIFIED") -> Call:
    """End a call that no event will end. ``fault`` is one of :data:`FAULTS`, BY_POLICY or
    BY_QUOTA."""
    if call.state is State.ENDED:
        return call
    by = BY_API if call.hangup_requested is not None else fault
    return _end(_without_live_legs(call, at), cause, by, at)


def _without_live_legs(call: Call, at: float) -> Call:
    """The call after the channels of all its legs went unheard, at ``at`` at the latest: the switch
    itself ends a call after ``call_duration``. These legs get no cause."""
    if call.answered is not None:
        at = min(at, call.answered + call.call_duration + call.prompt_seconds)
    legs = tuple(
        evolve(leg, ended=max(filter(None, (at, *_times(leg))))) if leg.live else leg
        for leg in call.legs
    )
    return evolve(call, legs=legs)


def give_up(
    call: Call,
    by: str,
    *,
    worker: str | None,
    claimed: float | None,
    at: float,
    cause: str = "NORMAL_UNSPECIFIED",
) -> Call:
    """End a call that this worker has claimed and does not send. A call that another worker has
    claimed, and may have sent, stays unchanged."""
    if (call.worker, call.claimed) != (worker, claimed) or call.sent is not None:
        return call
    return end(call, by, at=at, cause=cause)


def end_for_quota(call: Call, *, at: float) -> Call:
    """End a claimed call that is not dialled: caps leave nothing for it."""
    return end(call, BY_QUOTA, at=at, cause=QUOTA_CAUSE)


def end_queued(call: Call, *, at: float, fault: str = QUEUE_TIMEOUT) -> Call:
    """End a call that no worker claimed in time; one that a switch refused ends by that. A claimed
    call stays unchanged."""
    if call.state is not State.QUEUED and call.waits:
        return finish_originate(call, error=call.refused_cause or "", at=at)
    return end(call, fault, at=at) if call.waits else call


def _settle(call: Call, at: float) -> Call:
    winner, state = call.winner, call.state
    answered, bridged, disposition = call.answered, call.bridged, call.disposition
    sent = call.sent
    if sent is None:
        # The worker notes what it sent later, or never. This time is by the switch's clock.
        created = min((leg.created for leg in call.legs if leg.created is not None), default=None)
        sent = created and max(created, call.claimed or created)
    if winner is not None:
        answered = min(filter(None, (answered, winner.taken)), default=None)
        bridged = bridged or _connected(call, winner)
    if state is State.ENDED:
        # Late events show that the parties of an ended call talked.
        if bridged != call.bridged:
            disposition = ANSWERED
        elif call.ended_by in _BY_CAUSE:
            unaccepted = _not_accepted(call.sources)
            if unaccepted is not None and unaccepted.cause is not None:
                # The switch's reply came before the events of the leg.
                return _end(call, _cause(call), BY_NOT_ACCEPTED, call.ended or at)
    elif winner is not None:
        state = State.ANSWERED if bridged is None else State.BRIDGED
    elif any(leg.rang for leg in call.sources):
        state = State.RINGING
    elif any(leg.created for leg in call.legs):
        # The channels exist, even if the note that the originate was sent is missing.
        state = State.DIALING
    if state.rank < call.state.rank:
        state = call.state
    found = state, sent, answered, bridged, disposition
    if found != (call.state, call.sent, call.answered, call.bridged, call.disposition):
        call = evolve(
            call,
            state=state,
            sent=sent,
            answered=answered,
            bridged=bridged,
            disposition=disposition,
        )
    return _finish(call, at) if state is not State.ENDED and _is_over(call) else call


def _connected(call: Call, winner: Leg) -> float | None:
    """The time when the winner began to talk: in a conference room at its answer."""
    return winner.taken if call.conference is not None else winner.bridged


def _not_accepted(legs: Iterable[Leg]) -> Leg | None:
    """The first leg that answered and did not accept, while no other leg took the call. A leg whose
    source had left was not asked to the end."""
    legs = tuple(legs)
    if any(leg.won for leg in legs):
        return None
    unaccepted = (leg for leg in legs if leg.unaccepted and leg.cause != "ORIGINATOR_CANCEL")
    return min(unaccepted, key=lambda leg: leg.answered or 0.0, default=None)


def _is_over(call: Call) -> bool:
    if any(leg.live and not leg.listens for leg in call.legs):
        return False
    if call.originate_error is not None or call.winner is not None:
        return True
    return all(leg.ended is not None for leg in call.sources)


def _finish(call: Call, at: float) -> Call:
    cause = _cause(call)
    ended = max((leg.ended for leg in call.legs if leg.ended is not None), default=at)
    return _end(call, cause, _ended_by(call, cause), ended)


def _is_out_of_quota(call: Call) -> bool:
    """Whether the switch's timer ended a leg. A far end may give the same cause."""
    ended = [leg for leg in call.parties if leg.cause == QUOTA_CAUSE and leg.answered is not None]
    return bool(ended) and not any(leg.sip_disposition == "recv_bye" for leg in ended)


def _is_media_lost(call: Call) -> bool:
    """Whether the switch ended a leg for want of RTP. A far end may give the same cause."""
    ended = [leg for leg in call.parties if leg.cause == MEDIA_CAUSE and leg.answered is not None]
    return bool(ended) and not any(leg.sip_disposition == "recv_bye" for leg in ended)


def _cause(call: Call) -> str:
    winner = call.winner
    if _is_out_of_quota(call):
        return QUOTA_CAUSE
    if (last := _last_of_others(call)) is not None:
        called = _called_in_vain(call)
        cause = (called or last).cause or "NORMAL_UNSPECIFIED"
        return _without_limit(cause) if called else cause
    if winner is not None:
        dialled = winner.originate_disposition
        talked = _connected(call, winner) is not None
        if not talked and dialled is not None and dialled not in _NO_DISPOSITION:
            # The destination failed: its cause counts, not the cause of the source.
            return _without_limit(_cause_of(call.destinations, dialled))
        causes = {leg.cause for leg in call.destinations}
        if not talked and causes & _RANG_OUT and "ORIGINATOR_CANCEL" not in causes:
            # The time of several destinations was over. The end of the call's own time would have
            # cancelled them.
            return "NO_ANSWER"
        return winner.cause or "NORMAL_UNSPECIFIED"
    if (unaccepted := _not_accepted(call.sources)) is not None:
        return _without_limit(unaccepted.cause or "NO_ANSWER")
    return _without_limit(_cause_of(call.sources, call.originate_error))


def _cause_of(side: Iterable[Leg], reported: str | None) -> str:
    """The cause for a side of which no leg answered: what the switch has reported, or what its
    parties' last legs say."""
    if reported is not None and reported != _LEFT_IN_TIME:
        return reported
    last = {leg.party: _without_limit(leg.cause) for leg in side if leg.cause is not None}
    causes = [*last.values()]
    for telling in _TELLING:
        if telling in causes:
            return telling
    spoken = [cause for cause in causes if cause not in _SILENT]
    return next(iter([*spoken, *causes]), reported or "NORMAL_UNSPECIFIED")


def _without_limit(cause: str) -> str:
    """The cause of a leg that never took the call. The switch's limits of its ringing and of its
    prompt end it with ALLOTTED_TIMEOUT, as the end of the call's own time does."""
    return "NO_ANSWER" if cause == "ALLOTTED_TIMEOUT" else cause


def _ended_by(call: Call, cause: str) -> str:
    if call.hangup_requested is not None:
        return BY_API
    if _is_out_of_quota(call):
        return BY_QUOTA
    if cause == MEDIA_CAUSE and _is_media_lost(call):
        return BY_MEDIA
    winner = call.winner
    if winner is None:
        if _not_accepted(call.sources) is not None:
            return BY_NOT_ACCEPTED
        # Only the cause is sure: the switch's reply may come before the legs' events.
        if cause in _TIMEOUTS:
            return BY_TIMEOUT
        theirs = BY_SOURCE if call.conference is None else BY_DESTINATION
        return theirs if cause in _REFUSALS else BY_SWITCH
    if cause == "ALLOTTED_TIMEOUT":
        return BY_DURATION
    if call.conference is not None:
        # The invited party hung up: the room never does.
        return BY_DESTINATION if winner.sip_disposition == "recv_bye" else BY_SWITCH
    if (last := _last_of_others(call)) is not None:
        gone = [leg for leg in call.parties if leg.sip_disposition == "recv_bye"]
        hung_up = max(gone, key=lambda leg: leg.ended or 0.0, default=None)
        if hung_up is not None and hung_up.cause == last.cause:
            return _BY[hung_up.role]
        called = _called_in_vain(call)
        if called is not None and cause in _TIMEOUTS:
            return BY_TIMEOUT
        refused = called is not None and called.sip_disposition == "recv_refuse"
        return BY_THIRD_PARTY if refused else BY_SWITCH
    if winner.sip_disposition == "recv_bye":
        return BY_SOURCE
    talked = _connected(call, winner) is not None
    if not talked and _not_accepted(call.destinations) is not None:
        return BY_NOT_ACCEPTED
    if not talked and cause in _TIMEOUTS:
        return BY_TIMEOUT
    # One that hung up during an announcement has answered, and never talked.
    ends = ("recv_bye",) if talked else ("recv_bye", "recv_refuse")
    if any(_has(call.destinations, each) for each in ends):
        return BY_DESTINATION
    return BY_SWITCH


_BY = {
    Role.SOURCE: BY_SOURCE,
    Role.DESTINATION: BY_DESTINATION,
    Role.THIRD: BY_THIRD_PARTY,
}


def _last_of_others(call: Call) -> Leg | None:
    """The last leg of a call that went on without its source or its destination: with a third
    party, a parking lot or a mailbox. None for any other call."""
    moved = any(leg.parked is not None or leg.voicemail is not None for leg in call.legs)
    if not moved and not any(_joins(leg) for leg in call.thirds):
        return None
    return max(call.parties, key=lambda leg: leg.ended or 0.0)


def _called_in_vain(call: Call) -> Leg | None:
    """The third party that was called last, if it never answered; else None."""
    called = [leg for leg in call.thirds if leg.created is not None and not leg.listens]
    last = max(called, key=lambda leg: leg.created or 0.0, default=None)
    if last is None or last.answered or last.action not in (Action.TRANSFER, Action.PARK):
        return None
    return last


def _joins(leg: Leg) -> bool:
    """Whether a third party became a party of the call. One that takes over a party does so by
    its answer."""
    if leg.listens or leg.created is None:
        return False
    return leg.answered is not None or leg.action is Action.TRANSFER


def _has(legs: Iterable[Leg], sip_disposition: str) -> bool:
    return any(leg.sip_disposition == sip_disposition for leg in legs)


def _end(call: Call, cause: str, by: str, at: float) -> Call:
    if call.bridged is not None:
        disposition = ANSWERED
    elif by in FAULTS:
        undialled = (QUEUE_TIMEOUT, HOME_UNAVAILABLE, NOT_REPLICATED)
        disposition = FAILED if by in undialled else UNKNOWN
    elif by == BY_QUOTA:
        disposition = NOT_ALLOWED
    elif by in (BY_API, BY_NOT_ACCEPTED):
        disposition = NO_ANSWER
    else:
        disposition = _DISPOSITIONS.get(cause, FAILED)
    return evolve(
        call, state=State.ENDED, ended=at, hangup_cause=cause, ended_by=by, disposition=disposition
    )
