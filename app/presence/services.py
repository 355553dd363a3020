"""The Presence service without its HTTP. Only calls that Ringback placed count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from app.accounts.caller import SELF, Caller
from app.accounts.model import Extension
from app.calls.model import Call, Leg, NumberKind, Phase
from app.store.calls import CallStore
from app.web.listing import Listing
from app.web.turns import in_pieces

# The values of status in 4PSA's Presence resource. An extension without a call counts as online.
ONLINE, RINGING, BUSY = 1, 2, 3
_TALKING = (Phase.ANSWERED, Phase.BRIDGED)
# The extensions read at once.
_CHUNK = 50


@dataclass(frozen=True, slots=True)
class Presence:
    """The presence of an extension: ``since`` is when it began to ring or talk, in epoch seconds,
    and ``calls`` is the number of calls that it is in."""

    extension: str
    status: int = ONLINE
    calls: int = 0
    since: float | None = None


def presence(number: str, calls: Iterable[Call]) -> Presence:
    """The presence of an extension by its live calls. A call that the extension only pays for does
    not count."""
    legs = [leg for call in calls for leg in call.legs if _is_there(leg, number)]
    if talking := [leg for leg in legs if leg.phase in _TALKING]:
        since = filter(None, (leg.answered or leg.bridged for leg in talking))
        return Presence(number, BUSY, len(legs), min(since))
    since = filter(None, (leg.created for leg in legs))
    return Presence(number, RINGING, len(legs), min(since)) if legs else Presence(number)


def _is_there(leg: Leg, number: str) -> bool:
    return leg.live and leg.kind is NumberKind.EXTENSION and leg.number == number


class PresenceService:
    """The service that finds the presence of extensions."""

    def __init__(self, store: CallStore) -> None:
        self._store = store

    def page(
        self, caller: Caller, user_name: str, extension: str, asked: Listing
    ) -> tuple[list[Presence], int]:
        """The presence of an extension, or (``@self``) a page of all extensions that can ring in
        the order of their numbers; and the number of extensions. Raises ApiError."""
        numbers = sorted(e.number for e in self._extensions(caller, user_name, extension))
        if asked.filter is not None:
            numbers = list(filter(asked.filter.matches, numbers))
        if asked.newest_first:
            numbers.reverse()
        page, found = asked.cut(numbers), []
        for first in range(0, len(page), _CHUNK):
            found += self._of(page[first : first + _CHUNK])
        return found, len(numbers)

    def _extensions(self, caller: Caller, user_name: str, extension: str) -> Iterable[Extension]:
        user = caller.user(user_name)
        if extension != SELF:
            return [caller.extension(extension, user)]
        return (e for e in caller.extensions(user) if e.type.rings)

    def _of(self, numbers: Sequence[str]) -> list[Presence]:
        keys = self._store.keys
        with self._store.redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.zrange(keys.calls_in(number), 0, -1)
            ids: list[Any] = [[one.decode() for one in some] for some in pipe.execute()]
        known = dict.fromkeys(call_id for some in ids for call_id in some)
        found = in_pieces(list(known), self._store.get_many)
        calls = {call.id: call for call in found if call is not None}
        return [
            presence(number, (calls[call_id] for call_id in some if call_id in calls))
            for number, some in zip(numbers, ids, strict=True)
        ]
