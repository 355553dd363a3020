"""The dialler: `originate` and the dialling of `bridge`, in FreeSWITCH's order of things.

Read from switch_ivr_originate.c and measured on FreeSWITCH 1.10.12.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from urllib.parse import unquote

from . import endpoints
from .channel import Channel
from .clock import TICK
from .dialstring import (
    DialString,
    DialStringError,
    Peer,
    Variables,
    enterprise_parts,
    parse,
    split,
)
from .execution import run, wait
from .originated import DialledLeg, Originated
from .profile import Profile
from .switch import SwitchCore
from .values import is_true, whole_number

DEFAULT_TIMEOUT = 60
"""Seconds that an attempt may take, unless the command or a variable sets others."""

_DIAL_STATUS = {
    "ORIGINATOR_CANCEL": "CANCEL",
    "USER_BUSY": "BUSY",
    "NO_ANSWER": "NOANSWER",
    "DESTINATION_OUT_OF_ORDER": "INVALIDARGS",
    "INVALID_PROFILE": "INVALIDARGS",
    "CALL_REJECTED": "DONTCALL",
}
# Variables of the caller that also count for the channels that it dials.
_INHERITED = (
    *("fail_on_single_reject", "ignore_early_media", "bridge_early_media", "instant_ringback"),
    "language",
    *(f"group_confirm_{name}" for name in ("key", "file", "timeout")),
)
# After these causes of a failed bridge, a channel goes on with its next application.
_NOT_FATAL = ("NO_ANSWER", "NO_USER_RESPONSE", "ORIGINATOR_CANCEL")
# What a destination that failed leaves on its caller.
_FAILURE = ("sip_invite_failure_status", "sip_invite_failure_phrase")
_CONTAINS_VARIABLE = re.compile(r"\$\\*\{")


class Cancellation:
    """A way to end an attempt when another was faster."""

    def __init__(self) -> None:
        self.cause: str | None = None
        self.watchers: list[Callable[[], None]] = []

    def cancel(self, cause: str) -> None:
        self.cause = cause
        for watcher in tuple(self.watchers):
            watcher()


@dataclass(slots=True)
class DialRequest:
    """A request to dial, with its caller and its limits."""

    switch: SwitchCore[Channel]
    record: Originated | None = None
    caller: Channel | None = None
    """The channel that dials, in a bridge."""
    timeout: int = 0
    """Seconds, 0 for the default."""
    variables: Variables = field(default_factory=dict)
    profile: Profile | None = None
    """The caller profile that the legs get, if not the caller's."""
    cancellation: Cancellation = field(default_factory=Cancellation)
    enterprise_caller: Channel | None = None
    """The channel that dials, in a part of an enterprise originate."""


async def originate(request: DialRequest, text: str) -> tuple[Channel | None, str]:
    """Dial a dial string until a leg answers.

    Returns the channel or None, and the cause. The caller of this function must `release` the
    channel.
    """
    caller = request.caller
    try:
        enterprise = enterprise_parts(text)
        if enterprise is not None:
            return await _enterprise(request, *enterprise)
        dial_string = parse(text)
    except DialStringError as error:
        if caller:
            _set_disposition(caller, error.cause)
        return None, error.cause
    if caller:
        caller.set("originate_disposition", "failure")
        caller.set("DIALSTATUS", "INVALIDARGS")
        for name in _FAILURE:
            caller.set(name, None)
    return await _Origination(request, dial_string).run()


async def _enterprise(
    request: DialRequest, variables: Variables, parts: list[str]
) -> tuple[Channel | None, str]:
    """Run every part as an originate of its own, all at once. The first answer wins."""
    caller, switch = request.caller, request.switch
    variables = request.variables | variables
    if caller:
        for name in ("name", "number"):
            if shown := caller.get(f"effective_caller_id_{name}"):
                variables.setdefault(f"origination_caller_id_{name}", shown)
        variables["ent_originate_aleg_uuid"] = caller.uuid
    variables["ignore_early_media"] = "true"
    requests = [
        DialRequest(
            switch,
            request.record,
            timeout=request.timeout,
            variables=dict(variables),
            profile=caller.profile if caller else request.profile,
            enterprise_caller=caller,
        )
        for _ in parts
    ]
    tasks = [
        asyncio.create_task(originate(part_request, part))
        for part_request, part in zip(requests, parts, strict=True)
    ]
    wake = asyncio.Event()
    for task in tasks:
        task.add_done_callback(lambda _: wake.set())
    if caller:
        caller.watchers.append(wake.set)
    request.cancellation.watchers.append(wake.set)
    winner: Channel | None = None
    while True:
        cancelled = request.cancellation.cause
        if cancelled or (caller and not caller.ready):
            break
        winner = next(
            (task.result()[0] for task in tasks if task.done() and task.result()[0]), None
        )
        if winner or all(task.done() for task in tasks):
            break
        wake.clear()
        await wake.wait()
    # The switch looks at one part every 10 ms.
    await switch.clock.sleep(0.01 * len(parts))
    for part_request in requests:
        part_request.cancellation.cancel(
            cancelled or ("LOSE_RACE" if winner else "ORIGINATOR_CANCEL")
        )
    cause = "NO_ANSWER"
    for channel, part_cause in await asyncio.gather(*tasks):
        if channel and channel is not winner:
            channel.set("group_dial_status", "loser")
            channel.hangup("LOSE_RACE")
            channel.release()
        elif not channel and part_cause not in ("LOSE_RACE", "NO_PICKUP"):
            cause = part_cause
        if caller and not winner:
            # The source ends with the first cause; the last one is reported.
            handle_failure(caller, part_cause)
    if caller:
        caller.watchers.remove(wake.set)
        if winner:
            winner.other_leg = caller.as_originator()
            _join(caller, winner)
        caller.set("originate_disposition", "success" if winner else "failure")
        if not winner:
            caller.set("hangup_cause", cause)
    return winner, "SUCCESS" if winner else cause


def _is_registered(switch: SwitchCore[Channel], phone: str) -> bool:
    return switch.registered is None or switch.registered.get(phone, 0.0) > time.time()


class _Rejection:
    """The variable `fail_on_single_reject`.

    It is `true`, or a list of causes that end the attempt; after a `!`, all but these do. The
    switch looks for the name of the cause anywhere in the value.
    """

    def __init__(self, value: str | None) -> None:
        self.given = bool(value)
        self.any = is_true(value)
        self._value = (value or "").upper()

    def matches(self, cause: str) -> bool:
        return (cause in self._value) != self._value.startswith("!")


class _Origination:
    """One originate, which tries its alternatives in order."""

    def __init__(self, request: DialRequest, dial_string: DialString) -> None:
        self.request = request
        self.switch = request.switch
        self.caller = request.caller
        self.dial_string = dial_string
        self.variables = request.variables | dial_string.variables
        if self.caller:
            for name in _INHERITED:
                value = self.caller.get(name)
                if value:
                    self.variables.setdefault(name, value)
            for name in filter(None, (self.caller.get("export_vars") or "").split(",")):
                if value := self.caller.get(name):
                    self.variables.setdefault(name.removeprefix("nolocal:"), value)
        self.early_answers = not self._ignores_early_media()
        self.variables["originate_early_media"] = "true" if self.early_answers else "false"
        self.rejection = _Rejection(self.variables.get("fail_on_single_reject"))
        limit = request.timeout
        if self.caller:
            limit = whole_number(self.caller.get("call_timeout")) or limit
        self.limit = (
            whole_number(self.variables.get("originate_timeout")) or limit or DEFAULT_TIMEOUT
        )
        self.force: str | None = None

    def _ignores_early_media(self) -> bool:
        value = self.variables.get("ignore_early_media")
        bridged = is_true(self.variables.get("bridge_early_media"))
        return bridged or is_true(value) or value in ("consume", "ring_ready")

    async def run(self) -> tuple[Channel | None, str]:
        cause = "DESTINATION_OUT_OF_ORDER"
        for peers in self.dial_string.alternatives:
            if self.request.cancellation.cause or (self.caller and not self.caller.ready):
                break
            attempt = _Attempt(self, peers)
            winner = await attempt.run()
            cause = attempt.cause
            if winner:
                if self.caller:
                    _join(self.caller, winner)
                    self.caller.set("signal_bond", winner.uuid)
                return winner, cause
            if attempt.final:
                break
        return None, self.force or cause

    def outgoing(self, peer: Peer) -> Channel:
        """Make the channel to a peer. Raises EndpointError."""
        switch = self.switch
        merged = self.variables | peer.variables
        channel_uuid = merged.get("origination_uuid") or str(uuid.uuid4())
        error: endpoints.EndpointError | None = None
        if peer.endpoint == "user" and not _is_registered(switch, peer.data):
            raise endpoints.EndpointError("USER_NOT_REGISTERED")
        try:
            destination = endpoints.find(peer.endpoint, peer.data, switch.gateways, switch.luck)
        except endpoints.EndpointError as raised:
            if not raised.announced:
                raise
            error = raised
        else:
            if switch.faults.fail and destination.sip:
                destination = endpoints.failing(destination, switch.faults.fail)
        unlimited = is_true(self.variables.get("no_throttle_limits"))
        if not switch.admits(channel_uuid, unlimited=unlimited):
            raise endpoints.EndpointError("DESTINATION_OUT_OF_ORDER")
        if error:
            switch.announce_stillborn(channel_uuid)
            raise error
        channel = Channel(
            switch,
            channel_uuid,
            destination.channel_name,
            self._profile(destination, merged),
            destination.manner,
            {f"variable_{name}": value for name, value in destination.variables.items()},
            sip=destination.sip,
        )
        self._set_variables(channel, peer)
        switch.note(
            "create", uuid=channel_uuid, number=destination.number, gateway=destination.gateway
        )
        record = self.request.record
        channel.record = record
        if record:
            profile = channel.profile
            record.legs.append(
                DialledLeg(
                    channel_uuid,
                    destination.number,
                    peer.endpoint,
                    destination.gateway,
                    unquote(_clean(profile.caller_id_name)),
                    profile.caller_id_number,
                    time.time(),
                )
            )
        return channel

    def _profile(self, destination: endpoints.Destination, merged: Variables) -> Profile:
        base = self.request.profile or (self.caller and self.caller.profile)
        name = self.variables.get("origination_caller_id_name")
        number = self.variables.get("origination_caller_id_number")
        if base:
            profile = replace(base, callee_id_name="Outbound Call")
        else:
            number = number or "0000000000"
            shown = _clean(name or "")
            profile = Profile("", "", shown, number, shown, number, number)
        if self.caller:
            name = name or self.caller.get("effective_caller_id_name")
            number = number or self.caller.get("effective_caller_id_number")
        name = merged.get("origination_caller_id_name") or name
        number = merged.get("origination_caller_id_number") or number
        return replace(
            profile,
            destination_number=destination.number,
            callee_id_number=destination.callee_number,
            caller_id_name=name or profile.caller_id_name,
            caller_id_number=number or profile.caller_id_number,
            dialplan=destination.dialplan,
            source=destination.source,
            context=destination.context,
        )

    def _set_variables(self, channel: Channel, peer: Peer) -> None:
        caller = self.caller or self.request.enterprise_caller
        if self.caller:
            channel.set("max_forwards", "70")
            channel.set("originator", self.caller.uuid)
            channel.set("signal_bond", self.caller.uuid)
            channel.variables["variable_call_uuid"] = self.caller.get("call_uuid") or ""
            channel.other_leg = self.caller.as_originator()
            self.caller.set("originate_signal_bond", channel.uuid)
            if is_true(self.caller.get("sip_copy_custom_headers") or "true"):
                # mod_sofia: the next leg sends the headers of the one that dials it.
                for name, value in self.caller.variables.items():
                    if name.startswith("variable_sip_h_"):
                        channel.variables[name] = value
        # Without local_var_clobber the switch sets the variables of {} last, and they win.
        sets = [peer.variables, self.variables]
        if is_true(self.variables.get("local_var_clobber")):
            sets.reverse()
        for variables in sets:
            for name, value in variables.items():
                if self.dial_string.nested_variables or not _CONTAINS_VARIABLE.search(value):
                    channel.set(name, value)
        if caller:
            channel.set("originating_leg_uuid", caller.uuid)
            profile = channel.profile
            caller.push(
                "originated_legs",
                f"{channel.uuid};{profile.callee_id_name};{profile.callee_id_number}",
            )
        channel.set("originate_endpoint", peer.endpoint)
        channel.api_on("originate")


class _End(Enum):
    """How an attempt ended."""

    NONE_LEFT = 1
    ANSWERED = 2
    TIMEOUT = 3
    CANCELLED = 4


class _Attempt:
    """Peers that ring at once until one answers, none is left or the time is up."""

    def __init__(self, origination: _Origination, peers: list[Peer]) -> None:
        self.origination = origination
        self.caller = origination.caller
        self.clock = origination.switch.clock
        self.peers = peers
        self.legs: list[Channel] = []
        self.winner: Channel | None = None
        self.cause = "DESTINATION_OUT_OF_ORDER"
        self.final = False
        """Whether the switch tries no other alternative after this one."""
        self._reason: str | None = None
        self._wake = asyncio.Event()
        self._leg_limits: dict[Channel, int] = {}
        self._progress_limits: dict[Channel, int] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._asked: set[Channel] = set()
        """The legs that were answered and must accept (group_confirm_key)."""
        self._accepted: set[Channel] = set()
        self._ring_passed_on = False
        self._checks_rejection = True
        self._start = self.clock.second()
        self._timed_out = False

    async def run(self) -> Channel | None:
        cancellation = self.origination.request.cancellation
        cancellation.watchers.append(self._wake.set)
        if self.caller:
            self.caller.watchers.append(self._wake.set)
            if is_true(self.origination.variables.get("instant_ringback")):
                self.caller.hears_tone()
        try:
            if self._launch():
                limit = self.origination.limit
                of_legs = (*self._leg_limits.values(), *self._progress_limits.values())
                moments = {limit, limit + 1, *(each + 1 for each in of_legs)}
                for moment in moments:
                    self._wake_at(moment)
                end = await self._watch()
                self._hang_up_others(end)
                # The switch looks again at its next frame.
                await self.clock.sleep(TICK)
                self._conclude(end)
        finally:
            for timer in self._timers:
                timer.cancel()
            cancellation.watchers.remove(self._wake.set)
            if self.caller:
                self.caller.watchers.remove(self._wake.set)
                self.caller.hears(None)
            for leg in self.legs:
                leg.watchers.remove(self._wake.set)
                if leg is not self.winner:
                    leg.release()
        return self.winner

    def _wake_at(self, second: int) -> None:
        self._timers.append(self.clock.call_at_second(self._start + second, self._wake.set))

    def _launch(self) -> bool:
        """Make the channels. Returns false if there are none."""
        rejection = self.origination.rejection
        for peer in self.peers:
            try:
                leg = self.origination.outgoing(peer)
            except endpoints.EndpointError as error:
                self._reason = error.cause
                if rejection.given:
                    self._checks_rejection = False
                    if rejection.any or rejection.matches(error.cause):
                        self.origination.force = error.cause
                        self.final = True
                        for started in self.legs:
                            started.hangup(error.cause)
                        break
                continue
            self.legs.append(leg)
            leg.keep()
            leg.watchers.append(self._wake.set)
            if seconds := whole_number(leg.get("leg_timeout")):
                self._leg_limits[leg] = seconds
            if seconds := whole_number(leg.get("leg_progress_timeout")):
                self._progress_limits[leg] = seconds
            self.origination.switch.add(leg)
            leg.launch()
        if self.final or not self.legs:
            self.cause = self._reason or "DESTINATION_OUT_OF_ORDER"
            if self.caller:
                _set_disposition(self.caller, self.cause)
                self._report_causes(self.caller)
            return False
        return True

    async def _watch(self) -> _End:
        while True:
            end = self._look()
            if end:
                return end
            self._wake.clear()
            await self._wake.wait()

    def _look(self) -> _End | None:
        """Do one round of the switch's waiting loop."""
        if self.caller:
            if not self.caller.ready:
                return _End.CANCELLED
            self._pass_on_ringing(self.caller)
        stands_still = self._stands_still()
        for leg in self.legs:
            early = leg.early and self.origination.early_answers
            if leg.up and (leg.answered or early) and self._has_accepted(leg):
                self.winner = leg
                return _End.ANSWERED
        if stands_still:
            return None
        if not any(leg.up for leg in self.legs):
            return _End.NONE_LEFT
        cancelled = self.origination.request.cancellation.cause
        if cancelled:
            self.origination.force = self.origination.force or cancelled
            return _End.CANCELLED
        elapsed = self.clock.second() - self._start
        self._timed_out = elapsed >= self.origination.limit
        for leg, limit in self._progress_limits.items():
            if elapsed > limit and leg.up and not leg.progressed:
                leg.hangup("PROGRESS_TIMEOUT")
                self.origination.force = "PROGRESS_TIMEOUT"
        for leg, limit in self._leg_limits.items():
            if elapsed > limit:
                leg.hangup("ALLOTTED_TIMEOUT")
        return self._time_is_up(elapsed)

    def _has_accepted(self, leg: Channel) -> bool:
        """Whether an answered leg may win: at once, or with group_confirm_key when it has pressed
        that key, or with the key `exec` has run an application."""
        key, file = leg.get("group_confirm_key"), leg.get("group_confirm_file") or ""
        if not key:
            return True
        if leg not in self._asked:
            self._asked.add(leg)
            extension = leg.get("group_confirm_timeout") or ""
            if seconds := whole_number(extension):
                # From now on, and for this leg alone.
                self._leg_limits[leg] = self.clock.second() - self._start + seconds
                self._wake_at(self._leg_limits[leg] + 1)
            elif extension:
                self._leg_limits.pop(leg, None)
            if key == "exec":
                self.origination.switch.spawn(self._execute(leg, *split(file, " ", 2)))
        if key != "exec":
            while len(leg.keys) >= len(key) and leg not in self._accepted:
                pressed, leg.keys = leg.keys[: len(key)], leg.keys[len(key) :]
                if pressed == key:
                    self._accept(leg)
        if leg not in self._accepted:
            return False
        for name in ("key", "file", "error_file", "cancel_timeout", "read_timeout"):
            leg.set(f"group_confirm_{name}", None)
        return True

    def _accept(self, leg: Channel) -> None:
        self._accepted.add(leg)
        leg.set("group_dial_status", "winner")

    async def _execute(self, leg: Channel, name: str, argument: str = "") -> None:
        application = self.origination.switch.applications.get(name.lower())
        if application is None:
            leg.hangup("DESTINATION_OUT_OF_ORDER")
            return

        async def to_its_end(channel: Channel, argument: str) -> str | None:
            # The last event of a channel that is hung up meanwhile mostly comes first, and what was
            # cut off counts as played (seen on 1.10.12).
            response = await application(channel, argument)
            if channel.up:
                return response
            await wait(lambda: channel.state == "CS_REPORTING", channel)
            return "FILE PLAYED"

        leg.set("current_application", name)
        leg.set("current_application_data", argument)
        leg.keep()
        await run(to_its_end, leg, name, argument)
        if leg.up:
            self._accept(leg)
            leg.changed()
        leg.release()

    def _time_is_up(self, elapsed: int) -> _End | None:
        rejection = self.origination.rejection
        down = [leg.cause for leg in self.legs if leg.cause is not None]
        heard = self._ring_passed_on or any(leg.early for leg in self.legs)
        if elapsed > self.origination.limit and not heard:
            self.origination.force = self.origination.force or "PROGRESS_TIMEOUT"
            return _End.TIMEOUT
        if self._timed_out or (rejection.given and down):
            # A list of causes replaces the time limit: then only one of these causes ends the
            # attempt. So once the caller hears ringing, nothing else ends it.
            if rejection.given and not rejection.any:
                return _End.TIMEOUT if any(map(rejection.matches, down)) else None
            return _End.TIMEOUT
        return None

    def _pass_on_ringing(self, caller: Channel) -> None:
        """Tell the caller once that a leg rings or sends early media."""
        if not self._ring_passed_on and any(leg.times.progress for leg in self.legs):
            self._ring_passed_on = True
            caller.hears_tone()
            if len(self.legs) == 1:
                _pass_callee_id(self.legs[0], caller)
            caller.hears_ringing()
        if not caller.early and any(leg.early for leg in self.legs):
            caller.hears_early_media()
            if is_true(self.origination.variables.get("bridge_early_media")):
                caller.hears(next(leg.audio for leg in self.legs if leg.early))

    def _stands_still(self) -> bool:
        """Whether the switch waits for a frame of a caller that sends none, and sees nothing else.

        Only an answer or the caller's own end wakes it. `rtp_timer_name=soft` prevents this.
        """
        caller = self.caller
        return (
            caller is not None
            and caller.sip
            and caller.get("rtp_timer_name") != "soft"
            and any(leg.progressed for leg in self.legs)
        )

    def _hang_up_others(self, end: _End) -> None:
        force = self.origination.force
        if end is _End.TIMEOUT or self._timed_out:
            reason = "NO_ANSWER"
        elif end is _End.CANCELLED:
            reason = "ORIGINATOR_CANCEL"
        else:
            reason = "LOSE_RACE" if len(self.legs) > 1 else "NO_ANSWER"
        for leg in self.legs:
            if leg is not self.winner and leg.up:
                if "LOSE_RACE" in (force, reason):
                    leg.set("group_dial_status", "loser")
                leg.hangup(force or reason)

    def _conclude(self, end: _End) -> None:
        caller = self.caller
        if self.winner and caller and not caller.ready:
            self.winner.hangup("ORIGINATOR_CANCEL")
            self.winner = None
            end = _End.CANCELLED
        if self.winner and not self.winner.up:
            self.winner = None
            end = _End.NONE_LEFT
        if self.winner:
            self.cause = "SUCCESS"
        elif end is _End.CANCELLED:
            self.cause = "ORIGINATOR_CANCEL"
        elif end is _End.TIMEOUT:
            self.cause = "NO_ANSWER"
        else:
            self.cause = self.legs[0].cause or "ORIGINATOR_CANCEL"
        if caller:
            if caller.up and caller.answered:
                caller.call_state = "ACTIVE"
            _set_disposition(caller, self.cause)
            self._report_causes(caller)
        rejection = self.origination.rejection
        rejected = (
            self._checks_rejection
            and rejection.given
            and not rejection.any
            and any(rejection.matches(leg.cause) for leg in self.legs if leg.cause)
        )
        self.final = self._timed_out or rejected

    def _report_causes(self, caller: Channel) -> None:
        for leg in self.legs:
            caller.push("originate_causes", f"{leg.uuid};{leg.cause or 'NONE'}")
            if leg.disposition == "send_cancel":
                continue
            for name in _FAILURE:
                if value := leg.get(name):
                    caller.set(name, value)


def handle_failure(caller: Channel, cause: str) -> None:
    """Hang up a caller after its destination failed, unless the caller goes on after this cause."""
    listed = caller.get("continue_on_fail")
    goes_on = _NOT_FATAL if listed is None else listed.upper().split(",")
    if cause not in goes_on and not is_true(listed):
        caller.hangup(cause)


def _set_disposition(caller: Channel, cause: str) -> None:
    caller.set("originate_disposition", cause)
    caller.set("DIALSTATUS", _DIAL_STATUS.get(cause, cause))


def _pass_callee_id(leg: Channel, caller: Channel) -> None:
    caller.profile.callee_id_name = leg.profile.callee_id_name
    caller.profile.callee_id_number = leg.profile.callee_id_number


def _join(caller: Channel, leg: Channel) -> None:
    """Tell the caller which leg answered."""
    _pass_callee_id(leg, caller)
    caller.other_leg = leg.as_originatee()
    caller.set("originate_signal_bond", None)


def _clean(name: str) -> str:
    """A caller name as it leaves the switch, without variables and control characters."""
    name = re.sub(r"\$(?=\\*\{)", "%", name)
    return "".join(" " if ord(c) < 32 and c not in "\r\n" else c for c in name)
