"""The actor carries out the action of a PUT on the call's switch."""

import logging
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from app.accounts import caps, rights
from app.accounts.guard import CALLER_ID_ENTRY, Guard
from app.accounts.guard import checks as checks_of_numbers
from app.accounts.model import Accounts
from app.calls import actions, quota, transitions, watch
from app.calls.actions import Request
from app.calls.model import Action, Call, Leg, NumberKind
from app.calls.quota import Check, NoRoom, QuotaExceeded
from app.calls.transitions import LegReport, Marks
from app.store.writes import Note
from app.telemetry import counting, tracing
from freeswitch import commands, dialstring
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from freeswitch.pool import SwitchPool
from workers import media
from workers.dial_command import MediaTimeout, caller_id, parties
from workers.quota import left_for
from workers.runtime import CALL_VARIABLE, Runtime

log = logging.getLogger(__name__)

# The positions of an organization's parking lot.
FIRST_POSITION, LAST_POSITION = 5901, 5999


class Refused(Exception):
    """The action was not done; the text is a sentence for a developer."""


@dataclass(frozen=True)
class Actor:
    """The actor of a worker process, with the switches that it may send commands to."""

    runtime: Runtime
    pool: SwitchPool

    def act(self, call_id: str, text: str) -> str | None:
        """Carry out a request. Returns '' once the switch has taken it, the reason if it was
        refused, or None if the outcome is unknown. A second run dials nothing.

        If a limit has no room yet, or a cap has none, the result says so (``quota.loads``), and
        nothing was done.
        """
        request = Request.loads(text)
        store = self.runtime.store
        try:
            call = store.get(call_id)
            if call is None:
                raise Refused("Redis no longer keeps the call.")
            with self._traced(call, request):
                said = self._carry_out(call, request)
        except NoRoom as error:
            # Nothing was done. The API asks again.
            return quota.dumps(error.wait)
        except QuotaExceeded as error:
            counting.action(request.action, "refused")
            cap = error.refusal.check.cap
            note = Note("reply", request.action, data=f"refused: {cap} has no room")
            self._settle(call_id, request, "refused", note)
            return quota.dumps(error.refusal)
        except Refused as error:
            counting.action(request.action, "refused")
            note = Note("reply", request.action, data=f"refused: {error}")
            self._settle(call_id, request, "refused", note)
            return str(error)
        except EventSocketError as error:
            # The switch may have carried it out or not: the events will tell.
            counting.action(request.action, "unknown")
            about = {"call": call_id, "leg": request.leg}
            log.warning("call %s, %s: %s", call_id, request.action, error, extra=about)
            note = Note("reply", request.action, data=f"unknown: {error}")
            self._settle(call_id, request, "unknown", note)
            return None
        counting.action(request.action, "done")
        note = Note("command", request.action, leg=request.leg, data=said)
        self._settle(call_id, request, "done", note)
        return ""

    def _settle(self, call_id: str, request: Request, result: str, note: Note) -> None:
        """Write the result into the call if the request was begun, and else only the note."""
        store = self.runtime.store
        settle = partial(actions.settle, request=request, result=result)
        call = store.get(call_id)
        if call is None or settle(call) is call:
            store.note(call_id, note)
        else:
            store.change(call, settle, note)

    def _traced(self, call: Call, request: Request) -> AbstractContextManager[None]:
        about = {
            "ringback.action": request.action,
            "ringback.leg.id": request.leg,
            "ringback.switch": call.switch,
        }
        name, now = f"action {request.action}", self.runtime.store.now
        # The span begins with the PUT: the action is a job, and waits for a worker.
        return tracing.span(call.id, call.traceparent, name, now, about, since=request.asked)

    def _carry_out(self, call: Call, request: Request) -> str:
        store = self.runtime.store
        if actions.is_begun(call, request):
            # A worker died while it carried this out. The events tell what it sent.
            return "begun before"
        if store.now() > request.asked + actions.TOO_LATE:
            raise Refused("It was too late: no worker took the action in time.")
        most = self.runtime.settings.max_third_parties
        if (why := actions.refusal(call, request, most_thirds=most)) is not None:
            raise Refused(why)
        # The API may have read a change that this process has not, and a right may be gone since.
        accounts = self.runtime.accounts.latest(fresh=True)
        if (why := accounts.barred(call.extension, request.app or "")) is not None:
            raise Refused(why)
        self._check_rights(accounts, call, request)
        users, apps = [call.user, request.user], [call.app, request.app or ""]
        guard = Guard.of(accounts, call.extension, users, apps)
        _check_policy(guard, call, request)
        connection = self.pool.reach(call.switch or "")
        if connection is None:
            raise Refused(actions.UNREACHABLE)
        leg = call.leg_named(request.leg)
        assert leg is not None, "no refusal without it"
        if request.action is Action.ON_HOLD and leg.on_hold:
            # The switch would reply with an error.
            return "already on hold"
        if not commands.exists(connection, leg.uuid):
            raise Refused("That party has just left the call.")
        at, send_before = store.now(), time.monotonic() + watch.SEND_WITHIN
        note = Note("command", "claim", data=request.action)
        counts, checks = _caps(guard, call, request)
        call = store.begin(
            call,
            lambda c: actions.begin(c, request, at=at, counted=counts, most_thirds=most),
            note,
            checks,
        )
        mine = actions.third_legs(call, request)
        if any(each.brought != at for each in mine):
            return "begun by another worker"
        if not mine and (why := actions.refusal(call, request, most_thirds=most)) is not None:
            # The call changed at this moment, so `begin` did nothing.
            raise Refused(why)
        if time.monotonic() > send_before:
            # This process stood still. By now the listener may count the legs as never sent.
            raise Refused("It was too late: the worker stood still.")
        try:
            moved = call.leg_named(leg.id) or leg
            said = self._send(connection, call, moved, request, mine, guard)
        except ValueError as error:
            raise Refused(str(error)) from error
        if said.startswith("-"):
            raise Refused(f"The switch refused it: {said}")
        return said

    def _check_rights(self, accounts: Accounts, call: Call, request: Request) -> None:
        """Check the app's right again: the accounts may have changed since the API did. A right
        that rests on a leg was checked with the call. Raises Refused."""
        app = accounts.apps.get(request.app or "")
        if request.app is None:
            # An older API sent the request.
            return
        if app is None or not app.counts(self.runtime.store.now):
            raise Refused("The app that asked for it is no longer in the accounts.")
        if request.own is None and not rights.supervises(app, accounts, call):
            raise Refused("The app has no right to supervise the call any more.")

    def _send(
        self,
        connection: SwitchConnection,
        call: Call,
        leg: Leg,
        request: Request,
        brought: tuple[Leg, ...],
        guard: Guard,
    ) -> str:
        """Send the action to the switch, and return the reply or the command. Raises ValueError,
        EventSocketError."""
        action = request.action
        if action in (Action.ON_HOLD, Action.OFF_HOLD):
            off = action is Action.OFF_HOLD
            said = commands.hold(connection, leg.uuid, off=off)
            for other in () if said.startswith("-") else call.parties:
                # The switch itself does not count while a phone holds, but on the other side. A
                # party that was parked is not watched again.
                there = other.live and other.answered is not None and other.parked is None
                if there and other is not leg:
                    self._watch_media(connection, call, other, guard.accounts, watched=off)
            return said
        if action is Action.START_RECORDING:
            return commands.start_recording(connection, leg.uuid, request.file or "")
        if action is Action.STOP_RECORDING:
            said = commands.stop_recording(connection, leg.uuid, leg.recording_file or "")
            if said.startswith("-"):
                # The recording had ended, and its event was lost.
                marks = Marks(recorded=max(self.runtime.store.now(), leg.recording or 0.0))
                over = partial(transitions.report_leg, report=LegReport(leg.uuid, marks=marks))
                self.runtime.store.change(call, over, Note("reply", action, data=said))
            return "+OK"
        if action in actions.MOVING:
            return self._move(connection, call, leg, request, brought, guard)
        (party,) = parties(brought, self._media_timeout(call, guard.accounts))
        command = dialstring.bring_in(
            party,
            _application(leg, request),
            variables={CALL_VARIABLE: call.id},
            ring_timeout=request.wait_for_pickup,
            duration=self._left(call),
            shows=caller_id(request.caller_id, call.extension),
        )
        connection.bgapi(command, brought[0].uuid)
        return command

    def _move(
        self,
        connection: SwitchConnection,
        call: Call,
        leg: Leg,
        request: Request,
        brought: tuple[Leg, ...],
        guard: Guard,
    ) -> str:
        """Send a party elsewhere. The switch hangs up the party that it talked to."""
        if request.action is Action.TRANSFER_TO_VOICEMAIL:
            there = dialstring.voicemail_inline(request.mailbox or "")
            if not commands.has_module(connection, "mod_voicemail"):
                raise Refused("The call's switch has no voicemail.")
        else:
            (party,) = parties(brought, self._media_timeout(call, guard.accounts))
            there = dialstring.bridge_inline(
                party,
                variables={CALL_VARIABLE: call.id},
                ring_timeout=request.wait_for_pickup,
                shows=_shown_by(guard, call, leg, request),
            )
        # The time limit of the call is on the source, and the source may be the party that leaves.
        commands.limit_duration(connection, leg.uuid, self._left(call))
        # The source has a call_timeout for its destination, which would limit this ringing too.
        limit = dialstring.whole_seconds(request.wait_for_pickup)
        commands.set_variable(connection, leg.uuid, "call_timeout", limit)
        if call.counted is not None or any(each.counted for each in brought):
            self._limit_next(connection, call, leg, brought)
        if request.action is Action.PARK:
            self._watch_media(connection, call, leg, guard.accounts, watched=False)
            # The switch knows the way back, so that it needs no process of Ringback.
            for name, value in (
                ("valet_announce_slot", "false"),
                ("valet_parking_timeout", str(request.max_in_parking)),
                ("valet_parking_orbit_dialplan", "inline"),
                ("valet_parking_orbit_exten", there),
            ):
                commands.set_variable(connection, leg.uuid, name, value)
            lot = f"ringback-{call.organization}"
            parked = dialstring.valet_park_inline(lot, FIRST_POSITION, LAST_POSITION)
            # If the lot is full, the party goes back at once.
            there = f"{parked},{there}"
        return commands.transfer(connection, leg.uuid, there)

    def _limit_next(
        self, connection: SwitchConnection, call: Call, leg: Leg, brought: tuple[Leg, ...]
    ) -> None:
        """Have the switch limit who the leg is bridged to next to what caps leave. What the leg was
        dialled with is about another party."""
        left = left_for(self.runtime.store, call, brought)
        if left == 0:
            raise Refused("The caps on minutes or cost leave nothing for this party.")
        values = dialstring.limit_of_next(left) if left is not None else ("", "")
        names = dialstring.BRIDGE_APP, dialstring.BRIDGE_DATA
        for name, value in zip(names, values, strict=True):
            commands.set_variable(connection, leg.uuid, name, value)

    def _media_timeout(self, call: Call, accounts: Accounts) -> MediaTimeout:
        return partial(media.timeout_of, call, accounts=accounts, settings=self.runtime.settings)

    def _watch_media(
        self,
        connection: SwitchConnection,
        call: Call,
        leg: Leg,
        accounts: Accounts,
        *,
        watched: bool,
    ) -> None:
        """Have the switch look at the RTP of a leg or not, if its media has a limit at all."""
        if seconds := self._media_timeout(call, accounts)(leg):
            media.watch(connection, leg.uuid, seconds if watched else 0)

    def _left(self, call: Call) -> int:
        """The seconds until the end of the call's time."""
        begun = call.answered or self.runtime.store.now()
        duration = min(call.call_duration, self.runtime.settings.max_call_duration)
        return max(1, int(begun + duration - self.runtime.store.now()))


def _application(leg: Leg, request: Request) -> dialstring.Application:
    if request.action in (Action.PICK_UP, Action.UN_PARK):
        return dialstring.intercept(leg.uuid)
    if request.action is Action.BARGE_IN:
        return dialstring.listen(leg.uuid, to_it=True, to_other=True)
    return dialstring.listen(leg.uuid, to_it=request.action is Action.WHISPER, deaf=request.private)


def _caps(guard: Guard, call: Call, request: Request) -> tuple[str | None, list[Check]]:
    """What counts the party that the request brings in, and what it takes from caps: those of the
    user and the app that ask."""
    target, accounts = request.target, guard.accounts
    if target is None:
        return None, []
    holders = caps.holders(
        guard.organization,
        accounts.users.get(request.charged or call.user),
        accounts.apps.get(request.app or call.app),
    )
    public = target.kind is NumberKind.PUBLIC
    found = caps.checks_of_party(holders, charged=public)
    if public and request.action is not Action.PARK:
        # A parked party goes back to a number that was called before.
        found += checks_of_numbers(guard, {request.id: [target.number]})
    return caps.counted_leg(holders), found


def _check_policy(guard: Guard, call: Call, request: Request) -> None:
    """Check the target and the caller id again: the accounts may have changed since the API did.
    Raises Refused."""
    if request.target is None:
        return
    shown = request.caller_id
    # That of the call itself was checked with the call.
    if shown is not None and shown != call.caller_id and not guard.may_show(shown):
        counting.barred(None, CALLER_ID_ENTRY)
        raise Refused(f"{shown} must not be shown as caller id.")
    if request.target.kind is not NumberKind.PUBLIC:
        return
    if (rule := guard.judge(request.target.number).barred) is not None:
        counting.barred(rule.policy, rule.entry)
        raise Refused(f"The dial policy bars this number ({rule.rule}). {rule.reason}")


def _shown_by(guard: Guard, call: Call, leg: Leg, request: Request) -> str:
    """The number that a party shows which is sent elsewhere: its own, if it may be shown out
    there."""
    public = request.target is not None and request.target.kind is NumberKind.PUBLIC
    if public and not guard.may_show(leg.number):
        return caller_id(request.caller_id, call.extension).number
    return leg.number
