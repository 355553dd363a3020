"""Quotas: what a request takes from the caps that refuse, as plain values.

A cap that refuses is a number that an account sets (``calls_per_day = 500``). Whoever places calls
or brings a party into a call lists what it takes, as checks, and quota.lua takes all of them or
none, in the same step as the change of the call.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum


class Count(StrEnum):
    """What a check counts, and how (quota.lua)."""

    # What was taken within the last ``seconds``: one entry for each of ``members``.
    WINDOW = "window"
    # What was taken on this day (UTC): ``taken`` more.
    DAY = "day"
    # How much of this day's ``seconds`` or ``cost`` is used, by legs that have ended and by those
    # that talk now. The check itself takes nothing.
    SPENT = "spent"
    # The members of a set, or of a line of waiting calls, with ``taken`` more. The change of the
    # call adds them.
    SET = "set"
    LINE = "line"
    # The calls of an organization that Redis keeps: those that were accepted within the last
    # ``seconds``, live or ended, with ``taken`` more. ``of`` is the organization's number.
    KEPT = "kept"
    # The members that were not seen within 30 days before, by day (UTC).
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one cap.

    ``holder`` is the account or policy that sets the cap, such as ``organization:3``, ``user:12``,
    ``app:crm`` or ``policy:office``. ``name`` is the cap's name there, ``calls_per_day``. Checks
    with the same holder, name and ``of`` share one count. ``of`` is what the cap counts apart: for
    ``calls_to_number_per_hour`` the number. ``limit`` is the most that may be taken; for SPENT it
    is in seconds, or in millionths of the currency.

    The checks of a policy are these, for a request that calls a number in each of its calls::

        Check("policy:office", "calls_to_number_per_hour", Count.WINDOW, 3, seconds=3600,
              of="+15550100", members=(call.id,))
        Check("policy:office", "new_countries_per_day", Count.NEW, 2, members=("US", "DE"))
    """

    holder: str
    name: str
    count: Count
    limit: int
    of: str = ""
    seconds: int = 0
    taken: int = 0
    members: tuple[str, ...] = ()

    @property
    def cap(self) -> str:
        """The name of the cap, as errors show it."""
        return f"{self.holder} {self.name}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refusal of a check: how much was used before, and when there is room again (epoch
    seconds); None if only the end of a call makes room, or nothing does."""

    check: Check
    used: int
    free: float | None


@dataclass(frozen=True, slots=True)
class Crossing:
    """A cap of which so many percent, 80 or 100, are used now, for the first time in its day or
    window."""

    check: Check
    percent: int
    used: int


@dataclass(frozen=True, slots=True)
class Wait:
    """A limit of pace that has no room for what an action dials: its name (``gateway:pstn``), its
    kind (``legs_per_second``, ``max_legs``), what it allows and what is taken, and the seconds
    after which to come again."""

    limit: str
    kind: str
    most: float
    taken: float
    seconds: float


def dumps(why: Wait | Refusal) -> str:
    """The result of a job that found no room."""
    return f"{type(why).__name__} {json.dumps(asdict(why))}"


def loads(text: str) -> Wait | Refusal | None:
    """What :func:`dumps` has written; None for any other result."""
    kind, _, values = text.partition(" ")
    if kind == Wait.__name__:
        return Wait(**json.loads(values))
    if kind == Refusal.__name__:
        found = json.loads(values)
        check = {**found["check"], "count": Count(found["check"]["count"])}
        check["members"] = tuple(check["members"])
        return Refusal(Check(**check), found["used"], found["free"])
    return None


class NoRoom(Exception):
    """A limit of pace has no room yet: nothing was taken and nothing written."""

    def __init__(self, wait: Wait) -> None:
        super().__init__(f"{wait.limit} {wait.kind} has no room yet")
        self.wait = wait


class QuotaExceeded(Exception):
    """A cap has no room: nothing was taken and nothing written."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.check.cap} has no room")
        self.refusal = refusal
