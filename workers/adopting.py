"""Adopting: a channel that Redis does not know becomes a call, with all that belongs to it."""

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from app.accounts.model import Accounts, Extension
from app.calls import transitions
from app.calls.model import (
    Call,
    Leg,
    NumberKind,
    Role,
    State,
    call_id_of,
    evolve,
    is_leg_uuid,
    job_uuid,
    leg_id,
)
from app.settings import Settings
from app.store.audit import Who
from app.store.unknown import UnknownChannels
from app.store.writes import Note
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.events import Event
from freeswitch.pool import SwitchPool
from workers.channels import call_of, caller_of, number_of, others, text
from workers.dial_command import caller_id
from workers.leg_reports import leg_report
from workers.runtime import CALL_VARIABLE, Runtime

log = logging.getLogger(__name__)

# The most channels that one call is adopted with.
MOST = 20


class Refused(Exception):
    """Nothing was done; the text is a sentence for an operator."""


@dataclass(frozen=True)
class Adopter:
    """The adopter of a worker process, with the switches that it may send commands to."""

    runtime: Runtime
    pool: SwitchPool

    def adopt(self, switch: str, uuid: str, extension: str, who: Who) -> str:
        """Make a call of a channel and the channels that it belongs to. Returns the call's id.

        ``extension`` is the extended number of the extension that pays, or "" for the one that the
        channels name. A second run adopts nothing. Raises Refused, EventSocketError and errors of
        Redis.
        """
        link, store = self._reach(switch), self.runtime.store
        event = self._channel(link, switch, uuid)
        call_id = call_of(event) or secrets.token_hex(10)
        known = store.get(call_id)
        if known is not None and known.leg(uuid) is not None:
            if known.state is not State.ENDED:
                # The job ran twice.
                return call_id
            raise Refused(f"Its call {call_id} has ended, so it is hung up at the next comparison.")
        if known is not None:
            # The channel outlived its call, or has left it.
            call_id = secrets.token_hex(10)
        found = self._belonging(link, call_id, event)
        accounts = self.runtime.accounts.latest()
        call = _adopted(
            accounts,
            self.runtime.settings,
            call_id,
            found,
            extension,
            store.now(),
        )
        call = evolve(call, worker=self.runtime.name, switch=switch, core_uuid=link.core_uuid or "")
        for each in found.values():
            # The switch sends the events of channels with this variable alone.
            if text(each, f"variable_{CALL_VARIABLE}") != call_id:
                commands.set_variable(link, text(each, "Unique-ID"), CALL_VARIABLE, call_id)
        for leg in call.legs:
            # Nobody knows which limits the channel has. The first of several counts.
            left = call.accepted + call.call_duration - store.now()
            commands.limit_duration(link, leg.uuid, int(left))
        note = Note("request", "adopted", data=",".join(found), who=who, audited="adopt")
        if not store.adopt(call, note):
            raise Refused(f"Another process has just written the call {call_id}.")
        UnknownChannels(self.runtime.redis, self.runtime.keys).forget(switch, found)
        log.info("call %s: adopted from switch %s", call_id, switch)
        return call_id

    def hang_up(self, switch: str, uuid: str) -> str:
        """Hang up a channel that Redis does not know. Returns what the switch says, also of one
        that is gone. Raises Refused, EventSocketError and errors of Redis."""
        link = self._reach(switch)
        event = commands.dump(link, uuid)
        call = self.runtime.store.get((event and call_of(event)) or "")
        if call is not None and call.state is not State.ENDED and call.leg(uuid) is not None:
            raise Refused(f"The channel belongs to the live call {call.id}: hang that up.")
        said = commands.kill(link, uuid)
        UnknownChannels(self.runtime.redis, self.runtime.keys).forget(switch, [uuid])
        return said

    def _reach(self, switch: str) -> SwitchConnection:
        link = self.pool.reach(switch)
        if link is None:
            raise Refused(f"The worker does not reach switch {switch}. Retry later.")
        return link

    def _channel(self, link: SwitchConnection, switch: str, uuid: str) -> Event:
        event = commands.dump(link, uuid)
        if event is None:
            raise Refused(f"Switch {switch} has no channel {uuid} any more.")
        return event

    def _belonging(self, link: SwitchConnection, call_id: str, event: Event) -> dict[str, Event]:
        """The channels of the call, by uuid: this one, those that are connected to it, and those
        whose uuids name the same call."""
        found = {text(event, "Unique-ID"): event}
        states = commands.call_states(link)
        named = [uuid for uuid in states if is_leg_uuid(uuid) and call_id_of(uuid) == call_id]
        wanted = [*others(event), *named]
        while wanted and len(found) < MOST:
            uuid = wanted.pop(0)
            if uuid in found or uuid not in states:
                continue
            if (other := commands.dump(link, uuid)) is not None:
                found[uuid] = other
                wanted += others(other)
        return found


def _adopted(
    accounts: Accounts,
    settings: Settings,
    call_id: str,
    found: Mapping[str, Event],
    extension: str,
    now: float,
) -> Call:
    legs = tuple(_legs(accounts, call_id, found))
    reports = [report for event in found.values() if (report := leg_report(event))]
    begun = min((report.created for report in reports if report.created), default=now)
    of = accounts.extensions.get(extension) or _paying(accounts, legs, list(found.values()))
    if of is None:
        raise Refused(
            f"There is no extension {extension}."
            if extension
            else "Its channels name no extension that pays for it: say which by --extension."
        )
    user = accounts.users[of.owner]
    organization = accounts.organizations[user.organization]
    call = Call(
        id=call_id,
        kind="simple",
        app="@command-line",
        user=user.id,
        organization=organization.id,
        organization_name=organization.name,
        extension=of.number,
        accepted=begun,
        claimed=begun,
        sent=begun,
        state=State.DIALING,
        wait_for_pickup=settings.max_call_duration,
        # From now on as long as any other call.
        call_duration=int(now - begun) + settings.call_duration,
        queue_timeout=settings.queue_timeout,
        retention=settings.retention,
        cdr_retention=settings.cdr_retention,
        job_uuid=job_uuid(call_id),
        caller_id=of.default_caller_id,
        caller_id_destination=of.default_caller_id,
        legs=legs,
    )
    for report in reports:
        call = transitions.report_leg(call, report)
    return call


def _legs(accounts: Accounts, call_id: str, found: Mapping[str, Event]) -> Iterator[Leg]:
    """The legs, with the ids that their uuids name where they do. The first leg of a call without a
    source is its source."""
    named = {uuid: _named(uuid, call_id) for uuid in found}
    has_source = any(of is not None and of[0] is Role.SOURCE for of in named.values())
    taken = {leg_id(*of) for of in named.values() if of is not None}
    for uuid, event in found.items():
        of = named[uuid]
        if of is None or not has_source:
            role = Role.DESTINATION if has_source else Role.SOURCE
            has_source = True
            party = next(n for n in range(1, 100) if leg_id(role, n, 1) not in taken)
            of = role, party, 1
            taken.add(leg_id(*of))
        known = _extension_of(accounts, event)
        yield Leg(
            id=leg_id(*of),
            role=of[0],
            number=known.number if known else number_of(event),
            kind=NumberKind.EXTENSION if known else NumberKind.PUBLIC,
            uuid=uuid,
            gateway=text(event, "variable_sip_gateway_name") or None,
            owner=known.owner if known else None,
        )


def _named(uuid: str, call_id: str) -> tuple[Role, int, int] | None:
    """The role, party and attempt in the uuid of a source or destination of this call."""
    if not is_leg_uuid(uuid) or call_id_of(uuid) != call_id:
        return None
    letter, party, attempt = uuid[-5], int(uuid[-4:-2]), int(uuid[-2:])
    roles = {role.letter: role for role in (Role.SOURCE, Role.DESTINATION)}
    return (roles[letter], party, attempt) if letter in roles else None


def _extension_of(accounts: Accounts, event: Event) -> Extension | None:
    """The extension that the channel rang, if there is only one."""
    user, domain = text(event, "variable_dialed_user"), text(event, "variable_dialed_domain")
    gateway = text(event, "variable_sip_gateway_name")
    ways = f"user/{user}@{domain}", f"sofia/gateway/{gateway}/{number_of(event)}"
    return _only(each for each in accounts.extensions.values() if each.dial_string in ways)


def _paying(accounts: Accounts, legs: Sequence[Leg], events: Sequence[Event]) -> Extension | None:
    """The extension that pays: the first that is a party, or else the only one that has the number
    which a party was shown."""
    for leg in sorted(legs, key=lambda leg: leg.id):
        if leg.number in accounts.extensions:
            return accounts.extensions[leg.number]
    shown = set(map(caller_of, events))
    return _only(
        each
        for each in accounts.extensions.values()
        if each.number in shown or caller_id(each.caller_id, each.number).number in shown
    )


def _only(found: Iterable[Extension]) -> Extension | None:
    some = list(islice(found, 2))
    return some[0] if len(some) == 1 else None
