"""Hanging up so many calls at once that a worker marks them, as what its job carries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from app.calls import actions
from app.calls.model import HANG_UP, Asked, Call


@dataclass(frozen=True, slots=True)
class EndMany:
    """What a client wants hung up. ``calls`` has the numbers of the parties by each call's id, none
    for the whole call. ``at`` is epoch seconds, and ``who`` the fields of app.store.audit.Who."""

    id: str
    at: float
    who: Mapping[str, str | None]
    calls: Mapping[str, Sequence[str]]

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "EndMany":
        return cls(**json.loads(text))

    def applied(self, call: Call) -> Call:
        """The call with what is wanted marked. Raises KeyError for a call that is not wanted."""
        for number in self.calls[call.id] or (None,):
            by = {name: self.who.get(name) for name in ("app", "user")}
            asked = Asked(self.id, HANG_UP, self.at, **by, number=number)
            call = actions.hang_up(call, number, asked)
        return call
