"""The actions of PUT (docs/internals/uapi.md#actions).

Each action is a job. The answer waits for the switch, at most RINGBACK_ACTION_TIMEOUT.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import OneOf, Range, Regexp

from app.accounts import rights
from app.accounts.caller import Caller
from app.accounts.guard import Guard
from app.accounts.model import Extension, ExtensionType
from app.calls import actions, quota
from app.calls.actions import Request, Target, Way
from app.calls.model import Action, Call, Leg, NumberKind
from app.calls.quota import Refusal
from app.calls.sight import organization_of
from app.errors import ApiError, api_error
from app.phone_calls import maxima
from app.phone_calls.schemas import DEFAULT_WAIT, caller_id
from app.phone_calls.services import PhoneCalls, checked_caller_id, number_in
from app.settings import Settings
from app.store.audit import Entry, command, plain
from app.store.calls import CallStore
from app.store.queue import JobQueue
from app.store.writes import Note, note_command
from app.web.fields import BaseQuery, BaseRequest, WholeNumber, coded, phone_number
from app.web.quota import no_room_error, quota_error

_NEED_VIEW = frozenset(
    {
        Action.ON_HOLD,
        Action.OFF_HOLD,
        Action.PARK,
        Action.UN_PARK,
        Action.MONITOR,
        Action.START_RECORDING,
        Action.STOP_RECORDING,
    }
)
_NEED_TARGET = actions.RINGING | {Action.TRANSFER, Action.TRANSFER_TO_VOICEMAIL}
_NEED_PARTY = {Action.TRANSFER, Action.TRANSFER_TO_VOICEMAIL}
_TRANSFER_NUMBERS = ("transferFromNumber", "transferNumber")
# Seconds that an attempt at a request takes a worker: the last one ends before the answer is due.
_ATTEMPT = 0.5
# Seconds after which a client may ask again for what a switch that is down did not do.
_RETRY_AFTER = 5
# File extensions by format. FreeSWITCH writes no WAV around GSM (wav49), so a .gsm file holds it.
_EXTENSIONS = {"wav": "wav", "wav49": "gsm"}


_NOT_OWN = (
    "You may act only on your own party while it is in the call. To act on others needs the right "
    "to supervise the call."
)
_NO_PUBLIC_TARGET = (
    "You may transfer your own party only to an extension. A public number needs the right to "
    "supervise the call."
)


class ActionSchema(BaseRequest):
    """The schema of PhoneCallAction (docs/internals/uapi.md#phonecallaction)."""

    aliases: ClassVar = {"waitForPickUp": "waitForPickup"}

    action = fields.Enum(Action, by_value=True, required=True, metadata=coded("pc_action_invalid"))
    phoneCallViewId = fields.String(
        validate=Regexp(r"\A[0-9]{2,3}\Z"), metadata=coded("pc_view_invalid")
    )
    sendCallTo = phone_number("pc_sendcallto_invalid")
    callerId = caller_id()
    waitForPickup = WholeNumber(
        load_default=DEFAULT_WAIT, validate=Range(1, 600), metadata=coded("pc_timeout_invalid")
    )
    maxInParking = WholeNumber(
        load_default=180, validate=Range(10, 3600), metadata=coded("pc_parking_invalid")
    )
    private = fields.Boolean(load_default=False, metadata=coded("pc_private_invalid"))
    format = fields.String(
        load_default="wav", validate=OneOf(_EXTENSIONS), metadata=coded("pc_format_invalid")
    )
    transferFromNumber = phone_number("pc_transfernumber_invalid")
    transferNumber = phone_number("pc_transfernumber_invalid")

    @validates_schema(skip_on_field_errors=True)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if data["action"] in _NEED_VIEW and "phoneCallViewId" not in data:
            raise ValidationError("Is required.", "phoneCallViewId")
        if data["action"] in _NEED_TARGET and "sendCallTo" not in data:
            raise ValidationError("Is required.", "sendCallTo")


class ActionQuery(BaseQuery):
    """The query of a PUT: the fields of the answer."""


class PhoneCallActions:
    """The service that carries out actions through the workers."""

    def __init__(
        self, settings: Settings, calls: PhoneCalls, store: CallStore, queue: JobQueue
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._store = store
        self._queue = queue

    def act(
        self,
        caller: Caller,
        user: str,
        extension: str,
        call_id: str,
        body: dict[str, Any],
        *,
        once: str | None = None,
    ) -> tuple[Call, bool]:
        """Do an action. Returns the call once it shows the effect or the time is over, and whether
        it shows the effect. Raises ApiError.

        ``once`` is the id of the RQ job that asks. RQ may run it again: no second run acts.
        """
        found = self._calls.find(caller, user, extension, call_id)
        if not found:
            raise api_error(
                "pc_phonecall_invalid", cause="unknown", field="phoneCallId", value=call_id
            )
        end = time.monotonic() + self._settings.action_timeout
        call = found[0]
        caller.check_suspended(organization_of(call.extension), "pc_action_invalid")
        maxima.check_wait(self._settings, body, "/waitForPickup")
        # A job's id takes only letters, digits, - and _ in RQ.
        end_of_id = secrets.token_hex(6)
        if once is not None:
            end_of_id = hashlib.sha256(once.encode()).hexdigest()[:32]
        request_id = f"{call.id}_{end_of_id}"
        if begun := [leg for leg in call.legs if leg.action_id == request_id]:
            return call, any(leg.created or leg.ended for leg in begun)
        request = self._request(caller, user, extension, call, body, request_id)
        most = self._settings.max_third_parties
        if (why := actions.refusal(call, request, most_thirds=most)) is not None:
            raise api_error("pc_action_invalid", why, cause="refused")
        asked = self._asked(caller, call, request)
        outcome = self._outcome(call, request, asked, end)
        if outcome == actions.UNREACHABLE:
            raise api_error("switch_unreachable", retry_after=_RETRY_AFTER)
        if outcome:
            raise api_error("pc_action_invalid", outcome, cause="refused")

        def done(current: Call) -> bool:
            return outcome is not None and actions.is_done(current, request)

        now = self._store.wait(call.id, done, max(0.0, end - time.monotonic())) or call
        return now, done(now)

    def _asked(self, caller: Caller, call: Call, request: Request) -> Sequence[Sequence[str]]:
        """The commands that note the request in the call's timeline and in the audit."""
        who, keys, at = caller.who(request.user), self._store.keys, request.asked
        number = request.target.number if request.target else request.mailbox
        note = Note("request", request.action, leg=request.leg, data=number, who=who)
        party = call.leg_named(request.leg)
        about = [text for text in (party.number if party else None, number) if text]
        entry = Entry(
            *(who, request.action, call.id, organization_of(call.extension)),
            data=plain(" > ".join(about)) or None,
        )
        return (
            note_command(keys, call.id, note, f"{at:.6f}"),
            command(keys, entry, at, self._settings.audit_retention),
        )

    def _outcome(
        self, call: Call, request: Request, asked: Sequence[Sequence[str]], end: float
    ) -> str | None:
        """What became of the request by the monotonic ``end``, of the queue's outcomes. Where a
        limit has no room, ask again until then; no worker waits meanwhile. Raises ApiError."""
        attempt = 0
        while True:
            # The request is noted once.
            job = self._queue.act(call, request, () if attempt else asked, attempt)
            outcome = self._queue.outcome(job, end - time.monotonic())
            why = quota.loads(outcome) if outcome else None
            if isinstance(why, Refusal):
                raise quota_error(why, self._store.now())
            if why is None:
                return outcome
            if time.monotonic() + why.seconds + _ATTEMPT >= end:
                raise no_room_error(why)
            time.sleep(why.seconds)
            # A worker takes what was asked a short time ago.
            request = replace(request, asked=self._store.now())
            attempt += 1

    def _request(
        self,
        caller: Caller,
        user: str,
        extension: str,
        call: Call,
        body: dict[str, Any],
        request_id: str,
    ) -> Request:
        action: Action = body["action"]
        leg, by, asks = self._legs(caller, extension, call, body)
        own = None if caller.supervises(call) else _own_leg(caller, call, action, asks)
        asking = caller.asking_user(user)
        users, apps = [call.user, asking], [call.app, caller.app.id]
        guard = Guard.of(caller.accounts, call.extension, users, apps)
        shown = call.caller_id
        if "callerId" in body:
            charged = self._charged(caller, call)
            shown = checked_caller_id(guard, charged, body["callerId"], "/callerId")
        target = mailbox = file = None
        recorded: tuple[str, ...] = ()
        if action is Action.PARK and by is not None:
            target = _back_to(call, by)
        elif action is Action.TRANSFER_TO_VOICEMAIL:
            mailbox = self._terminal(caller, call, body["sendCallTo"]).voicemail
            if mailbox is None:
                raise _no_target("mailbox", body["sendCallTo"])
        elif action in _NEED_TARGET:
            if action is not Action.TRANSFER:
                self._terminal(caller, call, body["sendCallTo"])
            target = self._target(caller, guard, body["sendCallTo"])
            if own is not None and target.kind is NumberKind.PUBLIC:
                raise caller.lacks_right(call, _NO_PUBLIC_TARGET)
            if action is Action.TRANSFER and not _may_transfer(call, target):
                raise api_error("pc_transfer_invalid", cause="public", field="/sendCallTo")
        elif action is Action.START_RECORDING:
            recorded = self._recorded(caller, call)
            file = self._file(call, leg, body["format"])
        if action in _NEED_PARTY and not body.keys() & {*_TRANSFER_NUMBERS, "phoneCallViewId"}:
            # One of the two would leave the call, and nothing says which.
            field = "/transferFromNumber"
            raise api_error("pc_transfernumber_invalid", cause="missing", field=field)
        return Request(
            id=request_id,
            action=action,
            leg=leg.id,
            by=by.number if by else None,
            target=target,
            caller_id=shown,
            wait_for_pickup=maxima.wait_of(self._settings, body["waitForPickup"]),
            max_in_parking=body["maxInParking"],
            private=body["private"],
            file=file,
            mailbox=mailbox,
            asked=self._store.now(),
            app=caller.app.id,
            user=asking,
            own=own.id if own else None,
            charged=_charged_user(call, target, asking),
            recorded=recorded,
        )

    def _legs(
        self, caller: Caller, extension: str, call: Call, body: dict[str, Any]
    ) -> tuple[Leg, Leg | None, Leg]:
        """The leg that the action acts on; for an action that moves it the leg that asks; and the
        leg of the party in whose name the request speaks."""
        action: Action = body["action"]
        numbers = [
            (number_in(caller, body[name], call) or body[name]) if name in body else None
            for name in _TRANSFER_NUMBERS
        ]
        if action in _NEED_PARTY and any(numbers):
            legs = [number and actions.leg_of_number(call, number) for number in numbers]
            for name, number, leg in zip(_TRANSFER_NUMBERS, numbers, legs, strict=True):
                if number and not leg:
                    raise api_error(
                        "pc_transfernumber_invalid",
                        "No party that talks has this number.",
                        field=f"/{name}",
                        value=body[name],
                    )
            by, moved = legs
            by = by or (moved and actions.other_party(call, moved))
            moved = moved or (by and actions.other_party(call, by))
            if not by or not moved or by is moved:
                raise api_error(
                    "pc_transfernumber_invalid",
                    "The transfer needs two parties that talk to each other.",
                    field="/transferFromNumber" if numbers[0] else "/transferNumber",
                )
            return moved, by, by if numbers[0] else moved
        leg = self._of_view(caller, extension, call, body.get("phoneCallViewId"))
        if action is Action.PICK_UP:
            # The view of the ringing phone names the same party.
            leg = actions.leg_of_view(call, "00") or leg
        if action in actions.MOVING:
            other = actions.other_party(call, leg)
            if other is None:
                raise api_error(
                    "pc_action_invalid",
                    "That party does not talk to one other party.",
                    cause="refused",
                )
            return other, leg, leg
        if action is Action.UN_PARK and not leg.in_lot:
            # The view of the party that parked it names the same party.
            leg = next((each for each in call.parties if each.in_lot and not each.ended), leg)
        return leg, None, leg

    def _of_view(self, caller: Caller, extension: str, call: Call, view: str | None) -> Leg:
        if view is None:
            own = actions.leg_of_number(call, caller.extended(extension))
            leg = own or actions.leg_of_view(call, "01" if call.conference else "00")
        else:
            leg = actions.leg_of_view(call, view)
        if leg is None:
            raise api_error(
                "pc_view_invalid",
                "The call has no such view." if view else "The extension is no party of the call.",
                field="/phoneCallViewId",
                value=view,
            )
        return leg

    def _target(self, caller: Caller, guard: Guard, text: str) -> Target:
        found = self._calls.ways(caller, guard, text, "pc_sendcallto_invalid", "/sendCallTo")
        (kind, number), ways = found
        extension = caller.accounts.extensions.get(number)
        may_record = extension is None or extension.may_record
        rate = guard.rate(number) if kind is NumberKind.PUBLIC else None
        return Target(number, kind, tuple(Way(**way) for way in ways), may_record, rate)

    def _terminal(self, caller: Caller, call: Call, number: str) -> Extension:
        """The phone terminal with a number in the call's organization. Raises ApiError."""
        extension = caller.accounts.extensions.get(caller.extended(number))
        if (
            extension is None
            or extension.type is not ExtensionType.PHONE_TERMINAL
            or extension.organization != organization_of(call.extension)
        ):
            raise _no_target("terminal", number)
        return extension

    def _charged(self, caller: Caller, call: Call) -> Extension:
        extension = caller.accounts.extensions.get(call.extension)
        if extension is None:
            raise api_error("extension_invalid", cause="gone", value=call.extension)
        return extension

    def _recorded(self, caller: Caller, call: Call) -> tuple[str, ...]:
        """The numbers of the parties that a recording hears. Raises ApiError if one of them must
        not be recorded. Where none is an extension, the charged extension decides."""
        numbers = tuple(leg.number for leg in actions.heard(call))
        known = caller.accounts.extensions
        found = [known[number] for number in numbers if number in known]
        for extension in found or [self._charged(caller, call)]:
            if not extension.may_record:
                text = f"Extension {extension.number} must not be recorded."
                raise api_error("pc_action_invalid", text, cause="refused")
        return numbers

    def _file(self, call: Call, leg: Leg, name: str) -> str:
        now = datetime.fromtimestamp(self._store.now(), UTC)
        return self._settings.recordings.format(
            organization=call.organization,
            user=call.user,
            call=call.id,
            view=actions.view_id(call, leg),
            date=f"{now:%Y-%m-%d}",
            time=f"{now:%H%M%S%f}",
            format=_EXTENSIONS[name],
        )


def _own_leg(caller: Caller, call: Call, action: Action, asks: Leg) -> Leg:
    """The app's own leg on which its right to an action rests, where it does not supervise the
    call. Raises ApiError if there is none."""
    if action in rights.SUPERVISING:
        raise caller.lacks_right(call, f"{action} needs the right to supervise.")
    # PickUp needs only sight of the call, which any leg of one's own gives.
    legs = call.legs if action is Action.PICK_UP else (asks,)
    own = next((leg for leg in legs if caller.acts(call, leg)), None)
    if own is None:
        raise caller.lacks_right(call, _NOT_OWN)
    return own


def _no_target(cause: str, number: str) -> ApiError:
    """The error for an extension that an action does not take."""
    return api_error("pc_sendcallto_invalid", cause=cause, field="/sendCallTo", value=number)


def _charged_user(call: Call, target: Target | None, asking: str | None) -> str | None:
    """The user that pays for a public target in place of the call's own: the one that asks."""
    public = target is not None and target.kind is NumberKind.PUBLIC
    return asking if public and asking != call.user else None


def _back_to(call: Call, by: Leg) -> Target:
    """The way back to the party that parked the other one: the way that reached it before."""
    way = Way(by.gateway, by.dial_string, by.owner, by.dialled)
    return Target(by.number, by.kind, (way,), rate=by.rate)


def _may_transfer(call: Call, target: Target) -> bool:
    public = [
        leg
        for leg in call.parties
        if leg.kind is NumberKind.PUBLIC and leg.answered and not leg.ended
    ]
    return call.allow_public_transfer or target.kind is not NumberKind.PUBLIC or not public
