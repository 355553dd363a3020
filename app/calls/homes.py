"""Homes: on which switch a call is dialled. Pure functions of what its parties want.

A phone that is registered at one switch cannot be reached from another, a gateway may stand beside
one of them, and a conference room is on one. A call keeps its home as a JSON object: ``switch``, or
``tags`` that a switch must have; ``room``, the conference; ``strict``, whether no other switch may
take it; ``wait``, the seconds for which it waits for a home that takes no calls.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# The limit of a lane that stands for the home of its calls (lines.lua) begins with this.
LIMIT = "home:"


@dataclass(frozen=True, slots=True)
class Wish:
    """Where one party of a call, or its organization, is to be dialled: on one of ``switches``, or
    on a switch that has all ``tags``. ``elsewhere`` says that any other will do if need be."""

    switches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    elsewhere: bool = False


def phone_of(dial_string: str | None) -> str | None:
    """The phone, ``210@example.com``, that a dial string looks up among the registrations of the
    switch; None for one that names a gateway or a host."""
    match (dial_string or "").split("/"):
        case ["user", phone] if phone.count("@") == 1:
            return phone.lower()
        case ["sofia", _, target] if target.count("%") == 1:
            return target.replace("%", "@").lower()
    return None


def home(
    parties: Sequence[Wish], organization: Wish, *, room: str | None = None, wait: int = 0
) -> str | None:
    """The home of a call as the call keeps it; None for one that any switch may take.

    The switch that most parties want counts, of several the one that the first of these parties
    wants. Without any it is the organization's.
    """
    voters = [each for each in parties if each.switches]
    if not voters and organization.switches:
        voters = [organization]
    found: dict[str, object] = {}
    if (switch := _most_wanted(voters)) is not None:
        found["switch"] = switch
        strict = any(not each.elsewhere for each in voters if switch in each.switches)
    else:
        tagged = [each for each in (*parties, organization) if each.tags]
        if tagged:
            found["tags"] = sorted({tag for each in tagged for tag in each.tags})
        strict = any(not each.elsewhere for each in tagged)
    if room is not None:
        found["room"] = room
    if not found:
        return None
    found |= {"strict": strict, "wait": wait}
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def _most_wanted(wishes: Iterable[Wish]) -> str | None:
    votes = Counter(name for each in wishes for name in each.switches)
    # A Counter keeps the order in which it has met the names.
    return max(votes, key=lambda name: votes[name], default=None)
