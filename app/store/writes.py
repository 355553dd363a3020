"""The commands that a change of a call sends to Redis: pure functions of two calls and a time.

change.lua runs these commands in one step, unless another change of the call came first. A waiting
call carries the commands of its claim with it, and pace.lua runs them.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.calls import call_events, cdr, homes, sight, status_callback, transitions, watch
from app.calls.model import SECRETS, Call, Leg, State, changed_fields, evolve
from app.store import audit, counted, marks, metadata_index
from app.store.audit import Who
from app.store.keys import Keys

# A command of Redis or of change.lua, its key and its further words.
Command = tuple[str, ...]

# The entries kept in the stream of all calls' changes, and the seconds for which it keeps more than
# these, so that one organization's flood does not push out what others have not read yet. Listeners
# see to both. The last is the end where no listener runs.
EVENTS_KEPT = 100_000
EVENTS_FRESH = 300.0
EVENTS_MOST = 1_000_000
# The seconds for which a call is kept that ended before any worker claimed it.
UNDIALLED_KEPT = 3_600
# Seconds for which the outbox keeps what no process reads. Its end is by time, so that one app's
# flood pushes out nobody else's.
OUTBOX_KEPT = 86_400
# The entries kept in the timeline of one call.
TIMELINE_KEPT = 1000
_EVENTS_OPTIONS = ("MAXLEN", "~", str(EVENTS_MOST), "*")
_TIMELINE_OPTIONS = ("MAXLEN", "~", str(TIMELINE_KEPT), "*")


@dataclass(frozen=True, slots=True)
class Note:
    """A note in a timeline: ``kind`` is command, reply, event or request. A request says who asked.

    With ``audited`` the change that the note is about is in the audit under that name too.
    """

    kind: str
    name: str
    leg: str | None = None
    data: str | None = None
    who: Who | None = None
    audited: str | None = None


def end_note(call: Call) -> Note:
    """The note about the end of a call that no worker claimed in time."""
    if call.refused_by is not None:
        return Note("event", "no other switch", data=call.refused_by)
    return Note("event", transitions.QUEUE_TIMEOUT)


def stamp() -> str:
    """A random name for one version of a call: 8 hex digits."""
    return f"{random.getrandbits(32):08x}"


def version_of(call: Call | None) -> str:
    """The version and stamp that change.lua compares with the call's hash; "" for a new call."""
    return f"{call.version}:{call.stamp or ''}" if call is not None else ""


def entry(note: Note, at: Any) -> dict[str, str]:
    """The fields of a timeline entry. ``at`` is epoch seconds as text, or the mark of a time."""
    fields = {"at": at, "kind": note.kind, "name": note.name, "leg": note.leg, "data": note.data}
    if (who := note.who) is not None:
        fields |= {"app": who.app, "user": who.user, "address": who.address}
    return {name: text for name, text in fields.items() if text}


def note_command(keys: Keys, call_id: str, note: Note, at: str) -> Command:
    """The command that adds an entry to the timeline of a call, if the call is still kept.

    ``at`` is epoch seconds as text.
    """
    options = ("NOMKSTREAM", *_TIMELINE_OPTIONS)
    return _command("XADD", keys.timeline(call_id), entry(note, at), options)


def arguments(
    keys: Keys, old: Call | None, new: Call, notes: Sequence[Note], now: float
) -> tuple[list[str], list[str]]:
    """KEYS and ARGV of change.lua for the step from ``old`` (None: a new call) to ``new``.

    ``now`` is epoch seconds by Redis' clock.
    """
    return packed(old, list(commands(keys, old, new, notes, now)))


def packed(old: Call | None, written: Sequence[Command]) -> tuple[list[str], list[str]]:
    """KEYS and ARGV of change.lua for the commands of a step from ``old``, that on the call's own
    hash first."""
    names = list(dict.fromkeys(key for _, key, *_ in written))
    numbers = {key: number for number, key in enumerate(names, start=1)}
    words = [(name, numbers[key], *rest) for name, key, *rest in written]
    return names, [version_of(old), orjson.dumps(words).decode()]


def adopted(keys: Keys, call: Call, note: Note, now: float) -> tuple[list[str], list[str]]:
    """KEYS and ARGV of change.lua for a call that is on its switch, and that Redis does not
    know."""
    before = evolve(call, switch=None)
    return packed(None, [*commands(keys, None, call, [note], now), *_places(keys, before, call)])


def claim_of(keys: Keys, call: Call) -> str:
    """The claim of a waiting call, as pace.lua reads it: a JSON array of until when the call waits
    (epoch seconds), of its version and stamp, and of the commands; of a call that a switch has
    refused also ``{"not": SWITCH}``.

    The call's own HSET comes last, so that a command that Redis refuses leaves the call unclaimed.
    """
    claimed = transitions.claim(
        call, worker=marks.WORKER, switch=marks.SWITCH, core_uuid=marks.RUN, at=marks.NOW
    )
    claimed = evolve(claimed, version=call.version + 1, stamp=marks.STAMP)
    note = Note("command", "claim", data=marks.WORKER + " on " + marks.SWITCH)
    own, *others = commands(keys, call, claimed, [note], marks.NOW)
    claim: list[Any] = [watch.queued_until(call), version_of(call), [*others, own]]
    if call.refused_by is not None:
        claim.append({"not": call.refused_by})
    return marks.dumps(claim)


def lane_of(call: Call) -> str:
    """The lane that a waiting call waits in (lines.lua): a JSON array of its organization, how many
    legs its claim dials, and what it takes of which limit but its switch's.

    Of each limit it has the name, how much is taken of what is live at a time (calls of an
    organization, a user and an app that has a limit, legs of a gateway), and how many legs of what
    is dialled per second. Calls that have a home wait for it at a limit of its name, the last one,
    that nothing takes from.
    """
    legs = [leg for leg in call.legs if _is_dialled(leg)]
    gateways = Counter(leg.trunk for leg in legs if leg.trunk is not None)
    limits = [
        (f"organization:{call.organization}", 1, len(legs)),
        (f"user:{call.user}", 1, len(legs)),
        *((name, 1, len(legs)) for name in counted.holders(call, "calls")),
        *((f"gateway:{name}", count, count) for name, count in sorted(gateways.items())),
        *([(homes.LIMIT + call.home, 0, 0)] if call.home else ()),
    ]
    return orjson.dumps([call.organization, len(legs), limits]).decode()


def takes_of(old: Call, new: Call) -> list[tuple[str, int, int]]:
    """What the third parties that a step brings in take of which limit, as in a lane."""
    known = {leg.id for leg in old.legs}
    legs = [leg for leg in new.legs if leg.id not in known and leg.id == leg.party]
    if not legs:
        return []
    gateways = Counter(leg.trunk for leg in legs if leg.trunk is not None)
    return [
        # The call itself is one of its calls already.
        (f"organization:{new.organization}", 0, len(legs)),
        *((f"gateway:{name}", count, count) for name, count in sorted(gateways.items())),
        (f"switch:{new.switch}", len(legs), len(legs)),
    ]


def line_arguments(keys: Keys, call: Call) -> tuple[list[str], list[str]]:
    """KEYS and ARGV of change.lua to put a queued call in line, with nothing else changed."""
    name, _, *words = _enter(keys, call)
    text = orjson.dumps([[name, 2, *words]]).decode()
    return [keys.call(call.id), keys.waiting], [version_of(call), text]


def change_event(new: Call, at: Any, changed: Any) -> dict[str, Any]:
    """The entry of the stream of changes that says what ``changed`` (a JSON document) in a call."""
    return {
        "call": new.id,
        "version": str(new.version),
        "at": at,
        "state": new.state.value,
        "user": new.user,
        "organization": new.organization,
        "extension": new.extension,
        "app": new.app,
        # Always there: Redis keeps the names of fields once where entries have the same ones.
        "others": orjson.dumps(there).decode() if (there := sight.others(new)) else "",
        "changed": changed,
    }


def commands(
    keys: Keys, old: Call | None, new: Call, notes: Sequence[Note], now: Any
) -> Iterator[Command]:
    """All commands of the step, the HSET of the call first. ``now`` is epoch seconds, or
    ``marks.NOW`` for a stored claim.

    change.lua has four commands of its own, and says what they do: HOOK, ENTER, LEAVE and ROOM.
    """
    is_known = isinstance(now, float)
    at: Any = f"{now:.6f}" if is_known else now
    fields = changed_fields(old, new)
    # The stream of changes has more readers than may know this.
    shown = {n: v for n, v in fields.items() if n not in SECRETS} if old is None else fields
    changed = orjson.dumps(shown).decode() if is_known else marks.json_of(shown)
    event = change_event(new, at, changed)
    call, timeline = keys.call(new.id), keys.timeline(new.id)
    yield _command("HSET", call, fields)
    entries = [entry(note, at) for note in notes]
    if old is None or old.state is not new.state:
        entries.append({"at": at, "kind": "change", "name": new.state.value})
    for each in entries:
        yield _command("XADD", timeline, each, _TIMELINE_OPTIONS)
    yield _command("XADD", keys.events, event, _EVENTS_OPTIONS)
    for note in notes:
        if note.audited and note.who is not None:
            number = new.extension.partition("*")[0]
            made = audit.Entry(note.who, note.audited, new.id, number, data=note.data)
            yield audit.command(keys, made, now, new.retention)
    yield from _index(keys, old, new)
    # A claim tells nothing.
    oldest = int((now - OUTBOX_KEPT) * 1000) if is_known else 0
    outbox_options = ("MINID", "~", str(max(0, oldest)), "*")
    for holders, told in call_events.outbox(old, new):
        yield "HOOK", keys.hooked, *holders
        yield _command("XADD", keys.outbox, told, outbox_options)
    for told in status_callback.outbox(old, new):
        yield _command("XADD", keys.outbox, told, outbox_options)
    if new.state is State.ENDED:
        yield from _record(keys, old, new, now)
        # One nonce may stand for several calls, and another of them may last up to a day longer.
        kept = [(call, 0), (timeline, 0)]
        if new.nonce:
            kept.append((keys.nonce(new.app, new.nonce), 90_000))
        retention = new.retention
        if new.claimed is None:
            retention = min(retention, UNDIALLED_KEPT)
        for key, more in kept:
            yield "EXPIRE", key, str(retention + more)


def _index(keys: Keys, old: Call | None, new: Call) -> Iterator[Command]:
    """The commands that keep the call in the indexes of readers."""
    deadline = watch.deadline(new)
    place = _watched_in(keys, new)
    before = None if old is None else _watched_in(keys, old)
    if before is not None and (deadline is None or place != before):
        yield "ZREM", before, new.id
    if deadline is not None and (old is None or place != before or deadline != watch.deadline(old)):
        # A claim's deadline is a mark.
        text: Any = str(deadline) if isinstance(deadline, float) else deadline
        yield "ZADD", place, text, new.id
    # The indexes change when the call begins, is claimed, gets another leg, when a leg rings or
    # ends, and when the call ends.
    if deadline is None:
        if old is None or old.state is not State.ENDED:
            for key in every_index(keys, new):
                yield "ZREM", key, new.id
    elif old is None or _on_switch(old) != _on_switch(new) or _shows_to_others(old, new):
        known = indexes(keys, old) if old is not None else []
        now = indexes(keys, new)
        for key in now:
            if key not in known:
                yield "ZADD", key, str(new.accepted), new.id
        for key in known:
            if key not in now:
                yield "ZREM", key, new.id
    yield from metadata_index.commands(keys, old, new)
    yield from _places(keys, old, new)
    yield from counted.commands(keys, old, new)


def _on_switch(call: Call) -> str | None:
    """The switch that the call is dialled on. None while the call waits, also after a refusal."""
    return None if call.waits else call.switch


def _watched_in(keys: Keys, call: Call) -> str:
    """The key of the deadlines that a call's own stands among."""
    switch = _on_switch(call)
    return keys.queued if switch is None else keys.deadlines(switch)


def _shows_to_others(old: Call, new: Call) -> bool:
    """Whether the call shows to others than before. Only its legs decide that."""
    if old.legs is new.legs:
        return False
    there = [[leg.id for leg in sight.legs_in(call)] for call in (old, new)]
    return len(old.legs) != len(new.legs) or there[0] != there[1]


def indexes(keys: Keys, call: Call) -> list[str]:
    """The keys of the indexes that hold a live call now."""
    return [
        keys.calls,
        keys.charged_calls(call.extension),
        *map(keys.organization_calls, sight.organizations(call)),
        *map(keys.user_calls, sight.users(call)),
        *map(keys.extension_calls, sight.extensions(call)),
        *map(keys.calls_in, sight.extensions_in(call)),
        *([keys.switch_calls(switch)] if (switch := _on_switch(call)) else ()),
    ]


def every_index(keys: Keys, call: Call) -> list[str]:
    """The keys of all indexes that may ever have held the call."""
    return [
        keys.calls,
        keys.charged_calls(call.extension),
        *map(keys.organization_calls, call.organizations),
        *map(keys.user_calls, call.users),
        *map(keys.extension_calls, call.extensions),
        *map(keys.calls_in, call.called_extensions),
        *([keys.switch_calls(call.switch)] if call.switch else ()),
    ]


def _record(keys: Keys, old: Call | None, new: Call, now: float) -> Iterator[Command]:
    """The commands that write the record of an ended call, and again if a late event changes the
    record."""
    found = cdr.record(new)
    was_ended = old is not None and old.state is State.ENDED
    if old is not None and was_ended and cdr.record(old) == found:
        return
    until = f"{new.accepted + new.cdr_retention:.0f}"
    text = orjson.dumps({**found, "saved": now}).decode()
    yield "SET", keys.record(new.id), text, "EXAT", until
    # `ringback records export` makes the stream, if there is a database of records.
    kept = str(max(0, int((now - new.cdr_retention) * 1000)))
    unexported = ("NOMKSTREAM", "MINID", "~", kept, "*", "id", new.id)
    yield "XADD", keys.unexported, *unexported
    # An entry of an older record is gone from the indexes if that record has been exported.
    organization = keys.organization_records(new.extension.partition("*")[0])
    gone = str(now - new.cdr_retention)
    for key in (keys.records, organization, keys.user_records(new.user)):
        yield "ZADD", key, str(new.accepted), new.id
        # A record that Redis has expired leaves the index with the next record, or all do with
        # the last one.
        yield "ZREMRANGEBYSCORE", key, "-inf", gone
        yield "EXPIRE", key, str(new.cdr_retention)


def _places(keys: Keys, old: Call | None, new: Call) -> Iterator[Command]:
    """The commands that put a waiting call in line, and that take and give back the places of any
    other: of the switch one for each party, of a gateway one for each attempt through it."""
    if new.waits:
        if old is not None and not old.waits:
            # A switch has refused it: it gives back all that it took.
            yield from _places(keys, old, evolve(old, state=State.ENDED))
        yield _enter(keys, new)
        return
    if old is None or old.state is State.ENDED:
        return
    ended = new.state is State.ENDED
    begun = old.waits and not ended
    if begun or ended:
        take = "SADD" if begun else "SREM"
        own = (f"organization:{new.organization}", f"user:{new.user}")
        for name in (*own, *counted.holders(new, "calls")):
            yield take, keys.taken(name), new.id
            if ended:
                yield "ROOM", keys.waiting, name
        if new.conference is not None and begun:
            yield "HSET", keys.conference(new.conference), new.id, new.switch or ""
        elif new.conference is not None:
            yield "HDEL", keys.conference(new.conference), new.id
    if old.waits:
        yield "LEAVE", keys.waiting, new.id
    if new.switch is None:
        return
    switch = "switch:" + new.switch
    took: dict[str, list[str]] = {}
    gave: dict[str, list[str]] = {}
    was_open = {leg.id for leg in old.legs if leg.ended is None}
    is_open = {leg.party for leg in new.legs if leg.ended is None}
    created = {leg.id for leg in old.legs if leg.created is not None}
    known = {leg.id for leg in old.legs}
    for leg in new.legs:
        first = leg.id == leg.party
        over = ended or (leg.ended is not None and leg.id in was_open)
        # A third party counts from the moment at which its action begins.
        dialled = (begun and _is_dialled(leg)) or (first and leg.id not in known and not over)
        if dialled:
            took.setdefault(switch, []).append(leg.uuid)
        elif (ended and first) or (over and leg.party not in is_open):
            gave.setdefault(switch, []).append(leg.uuid if first else _first_uuid(new, leg))
        if (gateway := leg.trunk) is None:
            continue
        if over:
            gave.setdefault(f"gateway:{gateway}", []).append(leg.uuid)
        elif dialled or (leg.created is not None and leg.id not in created):
            took.setdefault(f"gateway:{gateway}", []).append(leg.uuid)
    for name, uuids in took.items():
        yield "SADD", keys.taken(name), *uuids
    for name, uuids in gave.items():
        yield "SREM", keys.taken(name), *uuids
        if name != switch:
            yield "ROOM", keys.waiting, name


def _enter(keys: Keys, call: Call) -> Command:
    claim = claim_of(keys, call)
    return "ENTER", keys.waiting, call.id, str(call.accepted), lane_of(call), claim


def _is_dialled(leg: Leg) -> bool:
    """Whether the claim dials the leg: the first way to a party that nobody has dropped."""
    return leg.id == leg.party and leg.hangup_requested is None


def _first_uuid(call: Call, leg: Leg) -> str:
    return next(first.uuid for first in call.legs if first.id == leg.party)


def _command(name: str, key: str, fields: dict[str, str], options: tuple[str, ...] = ()) -> Command:
    return name, key, *options, *(text for item in fields.items() for text in item)
