"""Strangers: channels on a switch that belong to no live call. Ringback tells of those that came of
its own calls: nobody else looks after them, and each of them may cost money."""

import logging
import math
from collections.abc import Collection, Mapping

from app.calls.model import Call, State, call_id_of, is_leg_uuid
from app.store.unknown import Unknown, UnknownChannels
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from workers.channels import call_of, channel_of
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Channels that the switch is asked about at one comparison. Each channel of another program is
# asked about once.
MOST_ASKED = 200
# Comparisons for which the list of unknown channels is kept.
_KEPT = 4


class Strangers:
    """The strangers of one switch. Only its leader looks at them."""

    def __init__(self, runtime: Runtime, link: SwitchConnection) -> None:
        self._store = runtime.store
        self._list = UnknownChannels(runtime.redis, runtime.keys)
        self._kept = math.ceil(_KEPT * runtime.settings.reconcile_interval) + 1
        self._link = link
        self._name = link.address.name
        # The id of the call that a channel says it is of, "" for one of another program.
        self._of: dict[str, str] = {}
        # The unknown channels of the last look.
        self._known: dict[str, Unknown] = {}
        # Channels that came of a call, and that its end has left behind.
        self._left: frozenset[str] = frozenset()

    def look(self, strangers: Collection[str], states: Mapping[str, str]) -> None:
        """Find the unknown channels among the strangers, tell and keep them. ``states`` are the
        call states of all channels by uuid. Raises EventSocketError and errors of Redis."""
        self._of = {uuid: of for uuid, of in self._of.items() if uuid in states}
        asked = 0
        for uuid in sorted(strangers - self._of.keys()):
            if is_leg_uuid(uuid):
                self._of[uuid] = call_id_of(uuid)
            elif asked < MOST_ASKED:
                asked += 1
                event = commands.dump(self._link, uuid)
                if event is not None:
                    self._of[uuid] = call_of(event) or ""
        of = {uuid: self._of[uuid] for uuid in strangers if self._of.get(uuid)}
        unknown = self._unknown(of)
        found = [each for uuid, call in unknown.items() if (each := self._ask(uuid, call))]
        new = [each for each in found if each.uuid not in self._known]
        self._known = {each.uuid: each for each in found}
        self._list.tell(self._name, found, self._kept)
        if new:
            log.warning(
                "switch %s has %d channels that Redis does not know, new ones are %s. "
                "See `ringback calls unknown`",
                self._name,
                len(found),
                ", ".join(each.uuid for each in new[:5]),
            )

    def _unknown(self, of: Mapping[str, str]) -> dict[str, str]:
        """The channels, with their calls' ids, whose call Redis does not have, or that outlived
        their call twice."""
        ids = sorted(set(of.values()))
        calls = dict(zip(ids, self._store.get_many(ids), strict=True))
        # A call that this process cannot read is known all the same.
        lost = {i for i, call in calls.items() if call is None and not self._store.has(i)}
        left = frozenset(uuid for uuid, i in of.items() if _has_left(calls[i], uuid))
        known = left & self._left
        self._left = left
        return {uuid: i for uuid, i in of.items() if i in lost or uuid in known}

    def _ask(self, uuid: str, call_id: str) -> Unknown | None:
        """The channel as the switch has it now; None if it is gone: the list of channels lags."""
        event = commands.dump(self._link, uuid)
        if event is None:
            return None
        before = self._known.get(uuid)
        since = self._store.now() if before is None else before.since
        return channel_of(event, uuid, self._name, call_id, since)


def _has_left(call: Call | None, uuid: str) -> bool:
    """Whether a channel that is no leg outlives its call. Legs are hung up (Reconciler)."""
    return call is not None and call.state is State.ENDED and call.leg(uuid) is None
