"""A channel: one leg of a call, from CHANNEL_CREATE to CHANNEL_DESTROY."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from . import causes
from .clock import TICK, microseconds
from .events import SwitchEvent, Value
from .media import Media
from .originated import Originated
from .profile import Profile, Times, stamp
from .switch import SwitchCore
from .telephones import Manner

Step = tuple[str, str]
"""An application and its argument."""
Work = Callable[["Channel"], Awaitable[None]]
"""Something that a channel does. It ends by itself, or when the channel is not `ready` any more."""

_STATE_NUMBERS = {
    "CS_NONE": "0",
    "CS_INIT": "2",
    "CS_SOFT_EXECUTE": "3",
    "CS_EXECUTE": "4",
    "CS_EXCHANGE_MEDIA": "5",
    "CS_PARK": "6",
    "CS_CONSUME_MEDIA": "7",
}
_HANGUP, _REPORTING, _DESTROY = "10", "11", "12"

_CODECS = {
    f"Channel-{way}-Codec-{what}": value
    for way in ("Read", "Write")
    for what, value in (("Name", "PCMU"), ("Rate", "8000"), ("Bit-Rate", "64000"))
}
_MEDIA_VARIABLES = {
    "variable_rtp_use_codec_string": "PCMU",
    "variable_read_codec": "PCMU",
    "variable_read_rate": "8000",
    "variable_write_codec": "PCMU",
    "variable_write_rate": "8000",
    "variable_dtmf_type": "rfc2833",
    "variable_local_media_ip": "127.0.0.1",
    "variable_remote_media_ip": "127.0.0.1",
}


_PROFILE_HEADERS = """
    Direction Logical-Direction Dialplan Caller-ID-Name Caller-ID-Number Orig-Caller-ID-Name
    Orig-Caller-ID-Number Callee-ID-Name Callee-ID-Number Network-Addr ANI Destination-Number
    Unique-ID Source Context Channel-Name Profile-Index Profile-Created-Time Channel-Created-Time
    Channel-Answered-Time Channel-Progress-Time Channel-Progress-Media-Time Channel-Hangup-Time
    Channel-Transfer-Time Channel-Resurrect-Time Channel-Bridged-Time Channel-Last-Hold
    Channel-Hold-Accum Screen-Bit Privacy-Hide-Name Privacy-Hide-Number
""".split()
_CALLER = tuple(f"Caller-{name}" for name in _PROFILE_HEADERS)
_OTHER_LEG = tuple(f"Other-Leg-{name}" for name in _PROFILE_HEADERS)


class Channel:
    """One leg. It calls its `watchers` after every change of its state."""

    def __init__(
        self,
        switch: "SwitchCore[Channel]",
        uuid: str,
        name: str,
        profile: Profile,
        manner: Manner,
        variables: dict[str, Value],
        *,
        sip: bool = True,
    ) -> None:
        self.switch = switch
        self.uuid = uuid
        self.name = name
        self.profile = profile
        self.initial_caller_id = profile.caller_id_name, profile.caller_id_number
        self.manner = manner
        self.sip = sip
        self.times = Times()
        self.state = "CS_INIT"
        self.state_number = _STATE_NUMBERS["CS_INIT"]
        self.call_state = "DOWN"
        self.answer_state = "ringing"
        self.hit_dialplan = "false"
        self.cause: str | None = None
        self.record: Originated | None = None
        """The originate command that dialled this channel."""
        self.disposition: str | None = None
        self.other_leg: dict[str, str] = {}
        self.watchers: list[Callable[[], None]] = []
        self.variables: dict[str, Value] = {
            "variable_direction": "outbound",
            "variable_is_outbound": "true",
            "variable_uuid": uuid,
            "variable_call_uuid": uuid,
            "variable_session_id": str(switch.next_session_id()),
            **variables,
        }
        self.partner: Channel | None = None
        """The channel that it is bridged to."""
        self.driven = False
        """Whether `execution.drive` runs its work and ends it."""
        self.turn: Work | None = None
        """The work that a command wants it to do instead of its present work."""
        self.steps: deque[Step] = deque()
        """The applications that it has yet to execute."""
        self.recordings: list[str] = []
        """The files into which it is recorded."""
        self.keys = ""
        """The keys that its telephone pressed and that nothing has read."""
        self._media: dict[str, str] = {}
        self.audio = Media(switch.clock, manner.sound)
        self._audio_timer: asyncio.TimerHandle | None = None
        self._audio_report: dict[str, str] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._keepers = 0
        self._hangup_time = 0
        self._finished = False

    def __repr__(self) -> str:
        return f"<Channel {self.name} {self.uuid}>"

    # Variables

    def get(self, variable: str) -> str | None:
        """The value of a variable, or the first of several values."""
        value = self.variables.get("variable_" + variable)
        return value[0] if isinstance(value, list) else value

    def set(self, variable: str, value: str | None) -> None:
        """Set a variable. None or an empty value deletes it."""
        name = "variable_" + variable
        if value:
            self.variables[name] = value
        else:
            self.variables.pop(name, None)

    def push(self, variable: str, value: str) -> None:
        """Add a value to a variable. A second value makes it an array."""
        name = "variable_" + variable
        known = self.variables.get(name)
        if known is None:
            self.variables[name] = value
        else:
            self.variables[name] = [*([known] if isinstance(known, str) else known), value]

    # State

    @property
    def answered(self) -> bool:
        return bool(self.times.answered)

    @property
    def early(self) -> bool:
        return bool(self.times.progress_media)

    @property
    def progressed(self) -> bool:
        return bool(self.times.progress or self.times.progress_media)

    @property
    def up(self) -> bool:
        """Whether it is not hung up."""
        return self.cause is None

    @property
    def ready(self) -> bool:
        """Whether it is neither hung up nor moved, so that its work may go on."""
        return self.cause is None and self.turn is None

    def enter(self, state: str) -> None:
        self.state = state
        if self.up:
            self.state_number = _STATE_NUMBERS[state]

    def changed(self) -> None:
        """Tell every watcher to look again."""
        for watcher in tuple(self.watchers):
            watcher()

    def later(self, seconds: float, step: Callable[[], object]) -> None:
        """Call `step` in so many seconds, unless the channel is hung up before."""
        self._timers.append(self.switch.clock.call_later(seconds, step))

    # The called telephone

    def launch(self) -> None:
        """Announce the channel and call the telephone."""
        self.times.created = self.times.profile_created = microseconds()
        self.fire("CHANNEL_CREATE")
        self.fire("CHANNEL_ORIGINATE")
        self.enter("CS_CONSUME_MEDIA")
        manner, begun = self.manner, TICK + self.switch.busy()
        if manner.rings:
            self.later(begun + manner.rings_after, self._ring)
        if manner.early_media:
            self.later(begun, self._send_early_media)
        if manner.answer_after is not None:
            self.later(begun + manner.answer_after, self._answer)
        elif manner.refusal:
            self.later(begun + manner.refuse_after, self._refuse)

    def _reached(self) -> None:
        profile = self.profile
        if self.sip:
            profile.callee_id_name = profile.callee_id_number
            profile.network_addr = "127.0.0.1"
            number = profile.destination_number
            self.variables |= {
                "variable_sip_network_ip": "127.0.0.1",
                "variable_sip_network_port": "5090",
                "variable_sip_from_user": profile.caller_id_number,
                "variable_sip_to_user": number,
                "variable_sip_call_id": self.uuid,
            }

    def _ring(self) -> None:
        self._reached()
        self.switch.note("ring", uuid=self.uuid)
        self.times.progress = microseconds()
        if self.other_leg:
            # The switch writes the leg's own progress into its copy of the caller's times.
            self.other_leg["Other-Leg-Channel-Progress-Time"] = str(self.times.progress)
        self.fire("CHANNEL_PROGRESS")
        self.call_state = "RINGING"
        self.changed()

    def _send_early_media(self) -> None:
        self._reached()
        self.times.progress_media = microseconds()
        self.answer_state = "early"
        self.set("endpoint_disposition", "EARLY MEDIA")
        self.fire("CHANNEL_PROGRESS_MEDIA")
        self.call_state = "EARLY"
        self._start_media()
        self.changed()

    def api_on(self, what: str) -> None:
        """Run the api commands of the variables that begin with ``api_on_<what>``."""
        for name, command in tuple(self.variables.items()):
            if name.startswith(f"variable_api_on_{what}") and isinstance(command, str):
                self.switch.run(command)

    def hears_ringing(self) -> None:
        """Note that the leg that this channel dials rings."""
        if self.answered:
            self.call_state = "RING_WAIT"
        if not self.times.progress and (not self.answered or self.get("transfer_ringback")):
            self.times.progress = microseconds()

    def hears(self, sound: Media | None) -> None:
        """Hear a sound from now on, instead of what was heard before."""
        self.audio.part()
        if sound is not None:
            self.audio.join(sound)

    def hears_tone(self) -> None:
        """Hear what ``transfer_ringback`` has the switch play."""
        if self.answered and self.get("transfer_ringback"):
            tone = Media(self.switch.clock, None)
            tone.begin()
            self.hears(tone)

    def hears_early_media(self) -> None:
        """Note that the leg that this channel dials sends early media."""
        self.times.progress_media = microseconds()
        self.call_state = "RING_WAIT"

    def _answer(self) -> None:
        self._reached()
        self.switch.note("answer", uuid=self.uuid)
        self.times.answered = microseconds()
        self.answer_state = "answered"
        self._start_media()
        self.watch_audio(read=True)
        self.fire("CHANNEL_ANSWER")
        self.set("endpoint_disposition", "ANSWER")
        if command := self.get("execute_on_answer"):
            self.switch.execute_on_answer(self, command)
        self.api_on("answer")
        self.call_state = "ACTIVE"
        for seconds, key in self.manner.presses:
            self.later(seconds, partial(self.press, key))
        if self.up and self.manner.talk is not None:
            clock = self.switch.clock
            if self.manner.talk_whole_seconds:
                timer = clock.call_at_second(
                    clock.second() + round(self.manner.talk), self._far_hangup
                )
            else:
                timer = clock.call_later(self.manner.talk, self._far_hangup)
            self._timers.append(timer)
        self.changed()

    def press(self, keys: str) -> None:
        """Take the keys that the telephone presses."""
        self.keys += keys
        self.changed()

    def _start_media(self) -> None:
        self._media = _CODECS
        self.variables |= _MEDIA_VARIABLES
        if self.sip:
            self.audio.begin()

    def watch_audio(self, *, read: bool = False) -> None:
        """Look for RTP anew, after its limits or the state of the channel have changed. With `read`
        the limits are read from the variables, as at each INVITE."""
        if read:
            limits = self.get("media_timeout_audio"), self.get("media_hold_timeout_audio")
            self.audio.read_limits(*limits)
        if self._audio_timer is not None:
            self._audio_timer.cancel()
            self._audio_timer = None
        if (seconds := self.audio.due_in(held=self.call_state == "HELD")) is not None:
            end = partial(self.hangup, "MEDIA_TIMEOUT")
            self._audio_timer = self.switch.clock.call_later(max(0.0, seconds), end)

    def _far_hangup(self) -> None:
        if reason := self.manner.reason:
            self.set("sip_reason", reason)
            if partner := self.switch.channels.get(self.get("signal_bond") or ""):
                partner.set("sip_reason", reason)
        self.hangup(self.manner.talk_ends, "recv_bye")

    def _refuse(self) -> None:
        cause = self.manner.refusal
        assert cause is not None
        status, _, phrase = self.manner.status.partition(" ")
        if self.sip:
            self.profile.network_addr = "127.0.0.1"
            self.set("sip_hangup_disposition", "recv_refuse")
            self.set("sip_invite_failure_status", status)
            self.set("sip_invite_failure_phrase", phrase)
            self.set("sip_term_status", status)
            self.set("proto_specific_hangup_cause", f"sip:{status}")
            self.set("sip_term_cause", str(causes.q850(cause)))
        self.hangup(cause, "recv_refuse")

    # The end

    def hangup(self, cause: str, disposition: str | None = None) -> None:
        """Hang up. Only the first call counts.

        This sends CHANNEL_HANGUP; the other events follow a moment later. `disposition` tells which
        side ended the channel, by default this one.
        """
        if not self.up:
            return
        self.switch.note("hangup", uuid=self.uuid, cause=cause)
        self.cause = cause
        self.state_number = _HANGUP
        self.answer_state = "hangup"
        self._hangup_time = microseconds()
        self.disposition = disposition or ("send_bye" if self.answered else "send_cancel")
        for timer in self._timers:
            timer.cancel()
        if self._audio_timer is not None:
            self._audio_timer.cancel()
        if self.sip:
            # Before its partner leaves the bridge.
            self._audio_report = self.audio.variables()
        self.fire("CHANNEL_HANGUP")
        if self.sip and disposition == "recv_bye":
            self.set("sip_term_status", "200")
            self.set("proto_specific_hangup_cause", "sip:200")
            self.set("sip_term_cause", str(causes.q850(cause)))
            self.set("sip_hangup_disposition", disposition)
        partner = self.switch.channels.get(
            self.get("signal_bond") or self.get("originate_signal_bond") or ""
        )
        if partner:
            partner.set("last_bridge_hangup_cause", cause)
        if not self.driven:
            self.switch.clock.call_later(TICK / 2, self.finish)
        self.changed()

    def finish(self) -> None:
        """Send CHANNEL_HANGUP_COMPLETE, and CHANNEL_DESTROY unless something keeps the channel."""
        if self._finished or self.cause is None:
            return
        self._finished = True
        self.times.hangup = self._hangup_time
        if self.recordings:
            self.state = "CS_HANGUP"
            self.stop_recordings()
        self.state, self.state_number = "CS_REPORTING", _REPORTING
        self.call_state = "HANGUP"
        self.set("hangup_cause", self.cause)
        self.set("hangup_cause_q850", str(causes.q850(self.cause)))
        self.variables |= self._report()
        if self.sip:
            self.set("sip_hangup_disposition", self.disposition)
            if self.disposition == "send_cancel":
                self.set("sip_invite_failure_status", "487")
                self.set("sip_invite_failure_phrase", "CANCEL")
            self.variables.setdefault("variable_sip_call_id", self.uuid)
            self.variables |= self._audio_report
        self.fire("CHANNEL_HANGUP_COMPLETE", before={"Hangup-Cause": self.cause})
        self.state_number = _DESTROY
        self.changed()
        self._destroy()

    def keep(self) -> None:
        """Keep the channel from its CHANNEL_DESTROY until `release`."""
        self._keepers += 1

    def release(self) -> None:
        """Allow the CHANNEL_DESTROY that `keep` put off."""
        self._keepers -= 1
        self._destroy()

    def _destroy(self) -> None:
        if self._finished and not self._keepers and self.uuid in self.switch.channels:
            del self.switch.channels[self.uuid]
            self.fire("CHANNEL_DESTROY")

    def _report(self) -> dict[str, str]:
        report = self.times.report()
        if application := self.get("current_application"):
            report["variable_last_app"] = application
            if argument := self.get("current_application_data"):
                report["variable_last_arg"] = argument
        name, number = self.profile.caller_id_name, self.profile.caller_id_number
        report["variable_caller_id"] = f'"{name}" <{number}>' if name else number
        return report

    def created_stamp(self) -> str:
        """The local time of creation, as in `show channels`."""
        return stamp(self.times.created // 1_000_000)

    # Applications

    def enter_execution(self) -> None:
        """Begin to execute applications."""
        self.enter("CS_EXECUTE")
        self.flip_caller_id()

    def renew_profile(self) -> None:
        """Begin another caller profile, without the times of bridge and hold."""
        times = self.times
        times.profile_created = microseconds()
        times.bridged = times.last_hold = times.hold_accum = 0

    def put_on_hold(self) -> None:
        self.call_state = "HELD"
        self.times.last_hold = microseconds()
        self.fire("CHANNEL_HOLD")
        self.watch_audio()

    def take_off_hold(self) -> None:
        self.call_state = "UNHELD"
        self.times.hold_accum += microseconds() - self.times.last_hold
        self.fire("CHANNEL_UNHOLD")
        self.call_state = "ACTIVE"
        self.audio.begin_again()
        self.watch_audio()

    def stop_recordings(self, *files: str) -> bool:
        """Stop recording into these files, by default all. Returns false if there is none."""
        stopped = [each for each in self.recordings if each in files or not files]
        for file in stopped:
            self.recordings.remove(file)
            self.switch.note("recorded", uuid=self.uuid, file=file)
            self.fire("RECORD_STOP", after={"Record-File-Path": file})
        return bool(stopped)

    # Events

    def fire(
        self,
        name: str,
        *,
        before: dict[str, str] | None = None,
        after: dict[str, str] | None = None,
    ) -> None:
        """Send an event of this channel, with more headers before or after its own."""
        headers = self.switch.event_headers(name)
        if headers is None:
            return
        if before:
            headers |= before
        self.add_headers(headers)
        if after:
            headers |= after
        self.switch.fire(SwitchEvent(name, headers))

    def add_headers(self, headers: dict[str, Value]) -> None:
        """Add all headers and variables of the channel to those of an event."""
        headers["Channel-State"] = self.state
        headers["Channel-Call-State"] = self.call_state
        headers["Channel-State-Number"] = self.state_number
        headers["Channel-Name"] = self.name
        headers["Unique-ID"] = self.uuid
        headers["Call-Direction"] = headers["Presence-Call-Direction"] = "outbound"
        headers["Channel-HIT-Dialplan"] = self.hit_dialplan
        headers["Channel-Call-UUID"] = self.variables.get("variable_call_uuid", self.uuid)
        headers["Answer-State"] = self.answer_state
        if self.cause is not None:
            headers.setdefault("Hangup-Cause", self.cause)
        headers.update(self._media)
        headers.update(self._profile_headers(_CALLER, self.times))
        headers.update(self.other_leg)
        headers.update(self.variables)

    def _profile_headers(self, names: tuple[str, ...], times: Times) -> dict[str, str]:
        profile = self.profile
        values = (
            "outbound",
            "outbound" if names is _CALLER else "inbound",
            profile.dialplan,
            profile.caller_id_name,
            profile.caller_id_number,
            profile.orig_caller_id_name,
            profile.orig_caller_id_number,
            profile.callee_id_name,
            profile.callee_id_number,
            profile.network_addr,
            profile.ani,
            profile.destination_number,
            self.uuid,
            profile.source,
            profile.context,
            self.name,
            "1" if names is _CALLER else "",
            str(times.profile_created),
            str(times.created),
            str(times.answered),
            str(times.progress),
            str(times.progress_media),
            str(times.hangup),
            "0",
            "0",
            str(times.bridged),
            str(times.last_hold),
            str(times.hold_accum),
            "true",
            "false",
            "false",
        )
        return {name: value for name, value in zip(names, values, strict=True) if value}

    def as_originator(self) -> dict[str, str]:
        """The Other-Leg-* headers of a leg that this channel calls, without times."""
        return {"Other-Type": "originator"} | self._profile_headers(_OTHER_LEG, Times())

    def as_originatee(self) -> dict[str, str]:
        """The Other-Leg-* headers of the channel that called this leg, with the times so far."""
        return {"Other-Type": "originatee"} | self._profile_headers(_OTHER_LEG, self.times)

    def flip_caller_id(self) -> None:
        """Show the called party as the caller, as an outbound channel does in an application."""
        if self.hit_dialplan == "true":
            return
        profile = self.profile
        self.set("pre_transfer_caller_id_name", profile.caller_id_name)
        self.set("pre_transfer_caller_id_number", profile.caller_id_number)
        self.set("channel_cid_flipped", "yes")
        self.profile = replace(
            profile,
            caller_id_name=profile.callee_id_name,
            caller_id_number=profile.callee_id_number,
            callee_id_name="" if self.partner else profile.caller_id_name,
            callee_id_number="" if self.partner else profile.caller_id_number,
        )
        self.hit_dialplan = "true"
