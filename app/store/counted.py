"""The commands that count a call for caps: pure functions of two versions of the call.

They run in the step that writes the call. Sets and hashes name the legs, so a count cannot drift,
and what has ended is added to its day once, because a change is made once.
"""

from collections.abc import Iterator

from app.calls import cost
from app.calls.cost import Rate, Running
from app.calls.model import Call, Leg, Role, State
from app.store.keys import Keys

# Seconds of a day, and for which the counts of a day are kept.
DAY = 86_400
_KEPT = 3 * DAY

# A leg for one of the holders that count it: the holder, and the leg's uuid.
_Counted = tuple[str, str]


def holders(call: Call, kind: str, leg: Leg | None = None) -> list[str]:
    """The holders whose caps of a kind (``legs``, ``time``, ``waiting``, ``calls``) count the
    call, or a leg of it. A third party counts for who asked for it."""
    counted = leg.counted if leg is not None and leg.role is Role.THIRD else call.counted
    words = counted.split(",") if counted else ()
    return [word.removeprefix(f"{kind}:") for word in words if word.startswith(f"{kind}:")]


def timed_holders(call: Call) -> set[str]:
    """The holders whose minutes or cost count a leg of the call."""
    if call.counted is None and not any(leg.counted for leg in call.legs):
        return set()
    return {name for leg in call.legs for name in holders(call, "time", leg)}


def commands(keys: Keys, old: Call | None, new: Call) -> Iterator[tuple[str, ...]]:
    """The commands of the step from ``old`` (None: a new call) to ``new``."""
    if new.counted is None and not any(leg.counted for leg in new.legs):
        return
    waited = old is not None and old.state is State.QUEUED
    if old is None or (waited and new.state is not State.QUEUED):
        for holder in holders(new, "waiting"):
            yield "SREM" if waited else "SADD", keys.taken(f"waiting:{holder}"), new.id
    if old is not None and old.legs is new.legs and new.state is not State.ENDED:
        # A claim changes no leg.
        return
    was, now = _open(old), _open(new)
    for command, pairs in (("SADD", now - was), ("SREM", was - now)):
        for holder, uuids in _by_holder(pairs).items():
            yield command, keys.taken(f"legs:{holder}"), *uuids
    talked, talks = _running(old), _running(new)
    for (holder, uuid), text in talks.items():
        if talked.get((holder, uuid)) != text:
            yield "HSET", keys.running(holder), uuid, text
    for holder, uuids in _by_holder(talked.keys() - talks.keys()).items():
        yield "HDEL", keys.running(holder), *uuids
    for (holder, day), amounts in _spent(old, new).items():
        key = keys.quota(day, holder)
        for field, amount in zip(("seconds", "cost"), amounts, strict=True):
            if amount:
                yield "HINCRBY", key, field, str(amount)
        yield "EXPIRE", key, str(_KEPT)


def _by_holder(pairs: set[_Counted]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for holder, uuid in sorted(pairs):
        found.setdefault(holder, []).append(uuid)
    return found


def _open(call: Call | None) -> set[_Counted]:
    """The parties that are, or may yet be, in the call. A party has the uuid of its first leg."""
    if call is None or call.state is State.ENDED:
        return set()
    parties = {leg.party for leg in call.legs if leg.ended is None}
    return {
        (holder, leg.uuid)
        for leg in call.legs
        if leg.id == leg.party
        and leg.party in parties
        # A party that was dropped while the call waited is never dialled.
        and (leg.hangup_requested is None or _dialled_by(call, leg.hangup_requested))
        for holder in holders(call, "legs", leg)
    }


def _dialled_by(call: Call, at: float) -> bool:
    return call.claimed is not None and call.claimed < at


def _running(call: Call | None) -> dict[_Counted, str]:
    if call is None or call.state is State.ENDED:
        return {}
    return {
        (holder, leg.uuid): Running(leg.answered, Rate.loads(leg.rate)).dumps()
        for leg in call.legs
        if leg.answered is not None and leg.ended is None and cost.is_charged(leg)
        for holder in holders(call, "time", leg)
    }


def _spent(old: Call | None, new: Call) -> dict[tuple[str, int], tuple[int, int]]:
    """What the step adds to days (UTC, counted from 1970) of holders, in seconds and millionths.
    A leg counts on the day on which it ends. A late event may correct what was added."""
    before = {leg.uuid: cost.used(old, leg) for leg in old.legs} if old is not None else {}
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for leg in new.legs:
        seconds, money = cost.used(new, leg)
        had = before.get(leg.uuid, (0, 0))
        if (seconds, money) != had:
            day = int((leg.ended or new.ended or 0.0) // DAY)
            for holder in holders(new, "time", leg):
                more = found.get((holder, day), (0, 0))
                found[holder, day] = more[0] + seconds - had[0], more[1] + money - had[1]
    return found
