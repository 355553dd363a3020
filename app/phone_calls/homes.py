"""The homes of new calls: on which switch each is to be dialled."""

import math
import time
from collections.abc import Mapping, Sequence

from app.accounts.model import Accounts, Organization
from app.calls import homes
from app.calls.homes import Wish
from app.calls.model import Call, Leg, NumberKind, evolve
from app.store.calls import CallStore
from app.store.registrations import Registrations

# Seconds for which this process remembers whether there are several switches.
_SWITCHES_AGE = 1.0


class Homes:
    """The finder of homes."""

    def __init__(self, store: CallStore, wait: int) -> None:
        """A call waits ``wait`` seconds for a home that takes no calls."""
        self._registrations = Registrations(store.redis, store.keys)
        self._now = store.now
        self._wait = wait
        self._several = False
        self._asked = -math.inf

    def placed(
        self, calls: Sequence[Call], accounts: Accounts, organization: Organization
    ) -> list[Call]:
        """The new calls of an organization with their homes."""
        phones = {
            phone: None
            for call in calls
            for leg in call.legs
            if (phone := _phone(leg, accounts)) is not None
        }
        registered = self._registered(list(phones))
        return [
            call if home is None else evolve(call, home=home)
            for call in calls
            for home in [self._home(call, accounts, organization, registered)]
        ]

    def _registered(self, phones: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        if not phones:
            return {}
        if (at := time.monotonic()) - self._asked >= _SWITCHES_AGE:
            self._asked = at
            self._several = self._registrations.has_several_switches()
        # With one switch every phone is there.
        return self._registrations.switches(phones, self._now()) if self._several else {}

    def _home(
        self,
        call: Call,
        accounts: Accounts,
        organization: Organization,
        registered: Mapping[str, tuple[str, ...]],
    ) -> str | None:
        first_ways = [leg for leg in call.legs if leg.id == leg.party]
        wishes = [_wish(leg, accounts, registered) for leg in first_ways]
        return homes.home(wishes, organization.wish, room=call.conference, wait=self._wait)


def _phone(leg: Leg, accounts: Accounts) -> str | None:
    """The phone whose registration counts for a leg: the accounts say nothing of its switch."""
    if leg.kind is not NumberKind.EXTENSION:
        return None
    extension = accounts.extensions.get(leg.number)
    if extension is not None and extension.wish != Wish():
        return None
    return homes.phone_of(leg.dial_string)


def _wish(leg: Leg, accounts: Accounts, registered: Mapping[str, tuple[str, ...]]) -> Wish:
    extension = accounts.extensions.get(leg.number)
    if leg.kind is NumberKind.EXTENSION and extension is not None:
        if extension.wish != Wish():
            return extension.wish
        if switches := registered.get(homes.phone_of(leg.dial_string) or ""):
            return Wish(switches)
    return Wish() if leg.trunk is None else accounts.gateway(leg.trunk).wish
