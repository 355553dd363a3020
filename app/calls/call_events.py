"""Call events: what a change of a call tells the webhooks of the extensions in it.

See docs/internals/uapi.md#call-events. The functions are pure. An event is a fact of the new call
that was no fact of the old one, and a fact stays one. So a call gives a holder of webhooks each
type of event once, however often or late the switch's own events come.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from app.calls.model import LOST_THE_RACE, SAYS_NOTHING, Call, Leg, NumberKind, Role, State
from app.calls.sight import organization_of
from app.calls.transitions import FAULTS

# The types of a PhoneCallEvent. An incoming and an outgoing call have different answer types.
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


def outbox(old: Call | None, new: Call) -> Sequence[tuple[list[str], dict[str, str]]]:
    """The entries for the outbox stream, each with the holders of the webhooks that it is for.

    A holder is an extension, or has all calls of a user, an organization or an app (:func:`wide`).
    An entry holds ``type``, ``extension``, ``owner`` (the id of the user whose extension it is in
    this call), ``organization`` (the number of the one that is charged), ``for`` (the holders with
    blanks between) and the parameters that a URL is told
    (docs/internals/uapi.md#what-a-url-is-told); a parameter without a value is empty. There is no
    entry after a call's end, nor for a holder that has left the call: the receiver has its Hangup
    already.
    """
    if old is None or old.state is State.ENDED:
        return ()
    if new.state is not State.ENDED and not _moved(old, new):
        return ()
    old_parties, parties = _parties(old), _parties(new)
    before, after = _facts(old, *old_parties), _facts(new, *parties)
    gone = _wide_hangups(new, after, *parties)
    if len(after) == len(before) and not gone:
        return ()
    gone_before = _wide_hangups(old, before, *old_parties)
    told_before = {(kind, holder) for kind, of in before for holder in _wide(old, of)}
    told = []
    for (kind, extension), party in after.items():
        is_new = (kind, extension) not in before
        holders = [extension] if is_new and (HANGUP, extension) not in before else []
        if kind == HANGUP:
            holders += [h for h, of in gone.items() if of == extension and h not in gone_before]
        elif is_new:
            fresh = [h for h in _wide(new, extension) if (kind, h) not in told_before]
            told_before.update((kind, holder) for holder in fresh)
            holders += [holder for holder in fresh if holder not in gone_before]
        if holders:
            told.append((holders, _entry(new, kind, extension, holders, *party)))
    return told


def wide(*, user: str = "", organization: str = "", app: str = "") -> str:
    """The name of the holder that has all calls of a user (its id), of an organization (its number)
    or of an app (its id). No extension has such a name."""
    if user:
        return "user:" + user
    return "organization:" + organization if organization else "app:" + app


def kind_of(holder: str) -> tuple[str, str]:
    """What has the calls of a holder, and its name: ``("user", "12")``. Of an extension the first
    is empty."""
    kind, _, name = holder.rpartition(":")
    return kind, name


# The facts of a leg that bring events; False for a fact that brings none for this leg.
_Stage = tuple[bool, bool, bool, bool, bool]
# A phone of the calling side is dialled; a phone of the called side rings.
_DIALS, _RINGS, _ANSWERED, _WON, _ENDED = range(5)


def _moved(old: Call, new: Call) -> bool:
    """Whether a leg has come, or has changed its stage. Most changes of a call do neither."""
    if len(old.legs) != len(new.legs):
        return True
    room = new.conference is not None
    for before, leg in zip(old.legs, new.legs, strict=True):
        # A change leaves the other legs' objects as they are.
        if leg is not before and _stage(leg, room) != _stage(before, room):
            return True
    return False


def _stage(leg: Leg, room: bool) -> _Stage:
    extension, calls = leg.kind is NumberKind.EXTENSION, _calls(leg, room)
    answered = leg.taken is not None
    # A phone may answer without an event that it rings.
    rang = leg.answered is not None or leg.ringing is not None or leg.early_media is not None
    # In a conference the charged extension calls all others.
    dials = (calls or room) and (rang or leg.created is not None)
    rings = rang and extension and not calls
    ended = leg.ended is not None and (extension or calls or room)
    return dials, rings, answered, leg.won, ended


def _had_won(leg: Leg, at: float) -> bool:
    """Whether the leg had answered and was not dropped by the time ``at``. What the switch drops
    later changes no fact."""
    dropped = leg.cause == LOST_THE_RACE and leg.ended is not None and leg.ended <= at
    return leg.taken is not None and not dropped


def _calls(leg: Leg, room: bool) -> bool:
    """Whether the leg is on the calling side. A conference's room calls its sources."""
    return leg.role is Role.SOURCE and not room


# Whether an extension calls or is called, and its legs on that side.
_Party = tuple[bool, list[Leg]]


def _facts(
    call: Call, callers: dict[str, list[Leg]], called: dict[str, list[Leg]]
) -> dict[tuple[int, str], _Party]:
    """The facts of the call by type and extension, in the order in which receivers are told. Of
    the changes of a leg, only its stage counts."""
    room = call.conference is not None
    stages = {leg.id: _stage(leg, room) for leg in call.legs}
    facts: dict[tuple[int, str], _Party] = {}
    dialled: dict[str, _Party] = {}
    for extension, legs in callers.items():
        for leg in legs:
            if stages[leg.id][_DIALS]:
                facts[DIAL_OUT, extension] = dialled[extension] = True, legs
                break
    for extension, legs in called.items():
        for leg in legs:
            if stages[leg.id][_RINGS]:
                facts[DIAL_IN, extension] = False, legs
                dialled.setdefault(extension, (False, legs))
                break
    answers = [leg.taken for leg in call.far_end if leg.taken is not None]
    if dialled and answers:
        for extension, legs in callers.items():
            if any(_had_won(leg, min(answers)) for leg in legs):
                facts[ANSWER_OUT, extension] = True, legs
    for extension, legs in called.items():
        if any(stages[leg.id][_ANSWERED] for leg in legs):
            facts[ANSWER_IN, extension] = False, legs
    ended = call.state is State.ENDED
    for extension, party in dialled.items():
        own = callers.get(extension, []) + called.get(extension, [])
        if ended or all(stages[leg.id][_ENDED] for leg in _first(own)):
            facts[HANGUP, extension] = party
    return facts


def _wide_hangups(
    call: Call,
    facts: Iterable[tuple[int, str]],
    callers: dict[str, list[Leg]],
    called: dict[str, list[Leg]],
) -> dict[str, str]:
    """The wide holders that have left the call, each with the extension whose Hangup tells it: one
    that talked, if there is one.

    A holder has left when all its extensions have that the call began with. Those that an action
    brings in count only if it began with none.
    """
    hung_up = [extension for kind, extension in facts if kind == HANGUP]
    if not hung_up:
        return {}
    found: dict[str, str] = {}
    legs = {number: callers.get(number, []) + called.get(number, []) for number in callers | called}
    talked = [number for number in hung_up if any(leg.won for leg in legs[number])]
    for extension in (*talked, *hung_up):
        for holder in _wide(call, extension):
            if holder not in found:
                found[holder] = extension
    if call.state is State.ENDED:
        return found
    for number, of in legs.items():
        if any(leg.role is not Role.THIRD and leg.ended is None for leg in _first(of)):
            for holder in _wide(call, number):
                found.pop(holder, None)
    return found


def _wide(call: Call, extension: str) -> list[str]:
    """The wide holders that an extension of the call belongs to."""
    owner = _owner(call, extension)
    return [
        *([] if owner is None else [wide(user=owner)]),
        wide(organization=organization_of(extension)),
        wide(app=call.app),
    ]


def _owner(call: Call, extension: str) -> str | None:
    """The id of the user whose extension it is in this call."""
    owners = (leg.owner for leg in call.legs if leg.owner is not None and leg.number == extension)
    return next(owners, call.user if extension == call.extension else None)


def _parties(call: Call) -> tuple[dict[str, list[Leg]], dict[str, list[Leg]]]:
    """The legs of each calling extension, and of each called one.

    A source that is no extension counts as a leg of the charged extension, unless the charged
    extension is itself called. In a conference the charged extension calls all others. A third
    party is called.
    """
    callers: dict[str, list[Leg]] = {}
    called: dict[str, list[Leg]] = {}
    room, others = call.conference is not None, []
    for leg in call.legs:
        calls = _calls(leg, room)
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
    return any(leg.taken is not None for leg in legs)


def _first(legs: list[Leg]) -> list[Leg]:
    """The legs of an extension that must end before the extension has left the call.

    An extension that an action brings back does not leave a second time.
    """
    first = [leg for leg in legs if leg.role is not Role.THIRD]
    return first or [leg for leg in legs if leg.party == legs[0].party]


def _entry(
    call: Call, kind: int, extension: str, holders: Iterable[str], out: bool, legs: list[Leg]
) -> dict[str, str]:
    called = _called(call) if out else legs[0]
    calling = extension if out else _extension(call.winner)
    if calling is None or call.conference is not None:
        calling = call.extension
    name, _, number = (call.caller_id_destination or "").rpartition("<")
    return {
        "type": str(kind),
        "extension": extension,
        "owner": _owner(call, extension) or "",
        "organization": organization_of(call.extension),
        "for": " ".join(holders),
        "CallID": call.id,
        "CallerIDNum": number.rstrip(">"),
        "CallerIDName": name.strip(),
        # The accounts have no public numbers that lead to an extension.
        "CalledDID": "",
        "CalledExtension": _extension(called) or "",
        "CallerExtension": calling,
        "CallStatus": _status(call, kind, out, legs),
        "CallFlow": "OUT" if out else "IN",
        "CalledNumber": called.number if called else "",
        "CallAPIID": call.id,
        # From here on ours.
        "EventType": str(kind),
        "EventTime": moment(_happened(call, kind, legs)),
        "HangupCause": _cause(call, legs) if kind == HANGUP else "",
        "Nonce": call.nonce or "",
        **({"Metadata": call.metadata} if call.metadata else {}),
    }


def sample(kind: int, extension: str, call_id: str, at: float) -> dict[str, str]:
    """The parameters that a test tells: those of an event of this type, with ``Test`` beside them.
    ``at`` is in epoch seconds."""
    out = kind not in (DIAL_IN, ANSWER_IN)
    public = "+13235742879"
    return {
        "CallID": call_id,
        "CallerIDNum": extension.replace("*", "") if out else public,
        "CallerIDName": "Test",
        "CalledDID": "",
        "CalledExtension": "" if out else extension,
        "CallerExtension": extension,
        "CallStatus": _CALLING if kind in (DIAL_IN, DIAL_OUT) else _ANSWER,
        "CallFlow": "OUT" if out else "IN",
        "CalledNumber": public if out else extension,
        "CallAPIID": call_id,
        "EventType": str(kind),
        "EventTime": moment(at),
        "HangupCause": "NORMAL_CLEARING" if kind == HANGUP else "",
        "Nonce": "",
        "Test": "1",
    }


def moment(at: float) -> str:
    """An XML Schema dateTime in UTC, to the millisecond; ``at`` is in epoch seconds."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _happened(call: Call, kind: int, legs: list[Leg]) -> float:
    """When the fact came to be, in epoch seconds."""
    if kind == HANGUP:
        at = max((leg.ended for leg in legs if leg.ended is not None), default=call.ended)
    elif kind == ANSWER_OUT:
        # Both sides have answered by then.
        firsts = (_first_of(side, "answered") for side in (legs, call.far_end))
        at = max(filter(None, firsts), default=None)
    elif kind == ANSWER_IN:
        at = _first_of(legs, "answered")
    else:
        rang = ("ringing", "early_media", "answered")
        at = _first_of(legs, *(rang if kind == DIAL_IN else ("created", *rang)))
    return at or call.accepted


def _first_of(legs: Iterable[Leg], *names: str) -> float | None:
    times = (getattr(leg, name) for leg in legs for name in names)
    return min(filter(None, times), default=None)


def _cause(call: Call, legs: list[Leg]) -> str:
    """Why the call ended; before its end, why the extension left it."""
    return call.hangup_cause or next((leg.cause for leg in legs if leg.cause), "")


def _called(call: Call) -> Leg | None:
    """The leg of the far end that answered, else its first leg."""
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
    # How dialling the destination ended says more than how the source was hung up.
    causes = [cause for leg in legs for cause in (leg.originate_disposition, leg.cause)]
    if out:
        causes.insert(0, call.hangup_cause)
    return _STATUSES.get(next((c for c in causes if c and c not in SAYS_NOTHING), ""), _OTHER)
