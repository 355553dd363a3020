"""The commands that count a call for caps: pure functions of two versions of the call.

They run in the step that writes the call. Sets and hashes name the legs, so a count cannot drift,
and what has ended is added to its day once, because a change is made once.
"""

from collections.abc import Iterator

from app.calls import cost
from app.calls.cost import Rate, Running
from app.calls.model import Call, State
from app.store.keys import Keys

# Seconds of a day, and for which the counts of a day are kept.
DAY = 86_400
_KEPT = 3 * DAY


def holders(call: Call, kind: str) -> list[str]:
    """The holders whose caps of a kind (``legs``, ``time``, ``waiting``, ``calls``) count the
    call."""
    words = (call.counted or "").split(",")
    return [word.removeprefix(f"{kind}:") for word in words if word.startswith(f"{kind}:")]


def commands(keys: Keys, old: Call | None, new: Call) -> Iterator[tuple[str, ...]]:
    """The commands of the step from ``old`` (None: a new call) to ``new``."""
    if new.counted is None:
        return
    waited = old is not None and old.state is State.QUEUED
    if old is None or (waited and new.state is not State.QUEUED):
        for holder in holders(new, "waiting"):
            yield "SREM" if waited else "SADD", keys.taken(f"waiting:{holder}"), new.id
    if old is not None and old.legs is new.legs and new.state is not State.ENDED:
        # A claim changes no leg.
        return
    was, now = _open(old), _open(new)
    for holder in holders(new, "legs"):
        for command, uuids in (("SADD", now - was), ("SREM", was - now)):
            if uuids:
                yield command, keys.taken(f"legs:{holder}"), *sorted(uuids)
    yield from _time(keys, old, new)


def _time(keys: Keys, old: Call | None, new: Call) -> Iterator[tuple[str, ...]]:
    talked, talks = _running(old), _running(new)
    begun = {uuid: text for uuid, text in talks.items() if talked.get(uuid) != text}
    over = talked.keys() - talks.keys()
    spent = _spent(old, new)
    for holder in holders(new, "time"):
        running = keys.running(holder)
        if begun:
            yield "HSET", running, *(word for item in begun.items() for word in item)
        if over:
            yield "HDEL", running, *sorted(over)
        for day, amounts in spent.items():
            key = keys.quota(day, holder)
            for field, amount in zip(("seconds", "cost"), amounts, strict=True):
                if amount:
                    yield "HINCRBY", key, field, str(amount)
            yield "EXPIRE", key, str(_KEPT)


def _open(call: Call | None) -> set[str]:
    """The uuids of the call's parties that are, or may yet be, in it. A party has the uuid of its
    first leg."""
    if call is None or call.state is State.ENDED:
        return set()
    parties = {leg.party for leg in call.legs if leg.ended is None}
    return {
        leg.uuid
        for leg in call.legs
        if leg.id == leg.party
        and leg.party in parties
        # A party that was dropped while the call waited is never dialled.
        and (leg.hangup_requested is None or _dialled_by(call, leg.hangup_requested))
    }


def _dialled_by(call: Call, at: float) -> bool:
    return call.claimed is not None and call.claimed < at


def _running(call: Call | None) -> dict[str, str]:
    if call is None or call.state is State.ENDED:
        return {}
    return {
        leg.uuid: Running(leg.answered, Rate.loads(leg.rate)).dumps()
        for leg in call.legs
        if leg.answered is not None and leg.ended is None and cost.is_charged(leg)
    }


def _spent(old: Call | None, new: Call) -> dict[int, tuple[int, int]]:
    """What the step adds to days (UTC, counted from 1970), in seconds and millionths. A leg counts
    on the day on which it ends. A late event may correct what was added."""
    before = {leg.uuid: cost.used(old, leg) for leg in old.legs} if old is not None else {}
    found: dict[int, tuple[int, int]] = {}
    for leg in new.legs:
        seconds, money = cost.used(new, leg)
        had = before.get(leg.uuid, (0, 0))
        if (seconds, money) != had:
            day = int((leg.ended or new.ended or 0.0) // DAY)
            more = found.get(day, (0, 0))
            found[day] = more[0] + seconds - had[0], more[1] + money - had[1]
    return found
