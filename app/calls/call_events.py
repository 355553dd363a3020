"""What a change of a call tells the web hooks of the extensions in it.

See docs/internals/uapi.md#call-events. Pure: an event is what holds of the new call and did not
hold of the old one, and what once holds does for good, so that a call gives an extension each type
of event once, however often or late the switch's own events come.
"""

from collections.abc import Iterable, Sequence

from app.calls.model import LOST_THE_RACE, SAYS_NOTHING, Call, Leg, NumberKind, Role, State
from app.calls.transitions import FAULTS

# The types of a PhoneCallEvent: answers are those of an incoming and of an outgoing call.
TYPES = DIAL_IN, DIAL_OUT, HANGUP, ANSWER_IN, ANSWER_OUT = range(5)

# CallStatus (docs/internals/uapi.md#what-a-url-is-told). A call that Ringback lost sight of has
# UNKNOWN, which VoipNow's knowledge base names.
_CALLING, _ANSWER, _CANCEL, _UNKNOWN = "CALLING", "ANSWER", "CANCEL", "UNKNOWN"
_OTHER = "CONGESTION"
_STATUSES = {
    "USER_BUSY": "BUSY",
    "CALL_REJECTED": "BUSY",
    "NO_ANSWER": "NOANSWER",
    "NO_USER_RESPONSE": "NOANSWER",
    "PROGRESS_TIMEOUT": "NOANSWER",
    "ALLOTTED_TIMEOUT": "NOANSWER",
    "ORIGINATOR_CANCEL": _CANCEL,
    LOST_THE_RACE: _CANCEL,
    # The caller hung up before the answer.
    "NORMAL_CLEARING": _CANCEL,
    "UNALLOCATED_NUMBER": "CHANUNAVAIL",
    "NUMBER_CHANGED": "CHANUNAVAIL",
    "SUBSCRIBER_ABSENT": "CHANUNAVAIL",
    "USER_NOT_REGISTERED": "CHANUNAVAIL",
    "NO_ROUTE_DESTINATION": "CHANUNAVAIL",
    "DESTINATION_OUT_OF_ORDER": "CHANUNAVAIL",
    "INVALID_GATEWAY": "CHANUNAVAIL",
    "GATEWAY_DOWN": "CHANUNAVAIL",
}


def outbox(old: Call | None, new: Call) -> Sequence[tuple[str, dict[str, str]]]:
    """The entries for the outbox stream, each with the extension whose hooks it is for.

    An entry holds ``type``, ``extension`` and the parameters that a URL is told
    (docs/internals/uapi.md#what-a-url-is-told), those without a value as empty words. Nothing is
    told of a call after its end, nor of an extension that has left it: what late events say comes
    too late for whoever follows them.
    """
    if old is None or old.state is State.ENDED:
        return ()
    if new.state is not State.ENDED and _same(old, new):
        return ()
    before = _facts(old)
    return [
        (extension, _entry(new, kind, extension, *party))
        for (kind, extension), party in _facts(new).items()
        if (kind, extension) not in before and (HANGUP, extension) not in before
    ]


def _same(old: Call, new: Call) -> bool:
    """Whether it is soon seen that nothing is to be told: most changes are of that kind."""
    room = new.conference is not None
    if len(old.legs) != len(new.legs):
        return False
    for before, leg in zip(old.legs, new.legs, strict=True):
        if before is not leg and _stage(before, room) != _stage(leg, room):
            return False
    return True


def _stage(leg: Leg, room: bool) -> tuple[bool, ...]:
    """All of a leg that an event comes from."""
    answered, ended = leg.answered is not None, leg.ended is not None
    if leg.role is Role.SOURCE and not room:
        return leg.created is not None or _rings(leg), answered, ended
    if leg.kind is NumberKind.EXTENSION or room:
        return leg.created is not None and room, _rings(leg), answered, ended
    return (answered,)


# Whether an extension calls or is called, and its legs on that side.
_Party = tuple[bool, list[Leg]]


def _facts(call: Call) -> dict[tuple[int, str], _Party]:
    """The events that the call has come to, by type and extension, in the order in which they
    are told."""
    callers, called = _parties(call)
    facts: dict[tuple[int, str], _Party] = {}
    dialled: dict[str, _Party] = {}
    for extension, legs in callers.items():
        for leg in legs:
            if leg.created is not None or _rings(leg):
                facts[DIAL_OUT, extension] = dialled[extension] = True, legs
                break
    for extension, legs in called.items():
        for leg in legs:
            if _rings(leg):
                facts[DIAL_IN, extension] = False, legs
                dialled.setdefault(extension, (False, legs))
                break
    if dialled and _is_answered(call.far_end):
        for extension, legs in callers.items():
            if any(leg.won for leg in legs):
                facts[ANSWER_OUT, extension] = True, legs
    for extension, legs in called.items():
        if _is_answered(legs):
            facts[ANSWER_IN, extension] = False, legs
    ended = call.state is State.ENDED
    for extension, party in dialled.items():
        own = callers.get(extension, []) + called.get(extension, [])
        if ended or _has_left(own):
            facts[HANGUP, extension] = party
    return facts


def _parties(call: Call) -> tuple[dict[str, list[Leg]], dict[str, list[Leg]]]:
    """The legs of each extension that calls, and of each that is called.

    A source that is no extension counts as the charged one's, unless that is called itself. Into a
    conference the charged one calls all. Who is brought in later is called.
    """
    callers: dict[str, list[Leg]] = {}
    called: dict[str, list[Leg]] = {}
    room, others = call.conference is not None, []
    for leg in call.legs:
        calls = leg.role is Role.SOURCE and not room
        if leg.kind is NumberKind.EXTENSION:
            (callers if calls else called).setdefault(leg.number, []).append(leg)
        elif calls:
            others.append(leg)
    charged = call.extension
    if room:
        callers[charged] = list(call.sources)
    elif others and not any(leg.role is Role.DESTINATION for leg in called.get(charged, ())):
        callers.setdefault(charged, []).extend(others)
    return callers, called


def _is_answered(legs: Iterable[Leg]) -> bool:
    return any(leg.answered is not None for leg in legs)


def _has_left(legs: list[Leg]) -> bool:
    """Whether the extension is in the call no more. Who comes back, brought in by an action, does
    not leave a second time."""
    first = [leg for leg in legs if leg.role is not Role.THIRD]
    first = first or [leg for leg in legs if leg.party == legs[0].party]
    return all(leg.ended is not None for leg in first)


def _rings(leg: Leg) -> bool:
    """Whether it has rung: a phone may answer without a word of ringing."""
    return (leg.ringing or leg.early_media or leg.answered) is not None


def _entry(call: Call, kind: int, extension: str, out: bool, legs: list[Leg]) -> dict[str, str]:
    called = _called(call) if out else legs[0]
    calling = extension if out else _extension(call.winner)
    if calling is None or call.conference is not None:
        calling = call.extension
    name, _, number = (call.caller_id_destination or "").rpartition("<")
    return {
        "type": str(kind),
        "extension": extension,
        "CallID": call.id,
        "CallerIDNum": number.rstrip(">"),
        "CallerIDName": name.strip(),
        # The accounts know of no public number that leads to an extension.
        "CalledDID": "",
        "CalledExtension": _extension(called) or "",
        "CallerExtension": calling,
        "CallStatus": _status(call, kind, out, legs),
        "CallFlow": "OUT" if out else "IN",
        "CalledNumber": called.number if called else "",
        "CallAPIID": call.id,
    }


def _called(call: Call) -> Leg | None:
    """Who answered of those that the call is made to, else the first."""
    legs = call.far_end
    return next(iter([*(leg for leg in legs if leg.won), *legs]), None)


def _extension(leg: Leg | None) -> str | None:
    return leg.number if leg is not None and leg.kind is NumberKind.EXTENSION else None


def _status(call: Call, kind: int, out: bool, legs: list[Leg]) -> str:
    if kind in (DIAL_IN, DIAL_OUT):
        return _CALLING
    if kind != HANGUP:
        return _ANSWER
    if any(leg.won for leg in legs) and (not out or _is_answered(call.far_end)):
        return _ANSWER
    if call.ended_by in FAULTS:
        return _UNKNOWN
    if call.hangup_requested is not None or any(leg.hangup_requested for leg in legs):
        return _CANCEL
    # What became of dialling the destination says more than how the source was hung up.
    causes = [cause for leg in legs for cause in (leg.originate_disposition, leg.cause)]
    if out:
        causes.insert(0, call.hangup_cause)
    return _STATUSES.get(next((c for c in causes if c and c not in SAYS_NOTHING), ""), _OTHER)
