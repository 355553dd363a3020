"""The one originate command of a call."""

import json
from collections.abc import Callable, Mapping

from app.accounts import ringback
from app.accounts.model import PROGRESS_TIMEOUT
from app.accounts.prompts import Prompt
from app.calls.model import MAX_ANNOUNCEMENT, Accept, Call, Leg, NumberKind, Role, evolve
from app.settings import Settings
from freeswitch import dialstring
from freeswitch.dialstring import Ringback
from freeswitch.prompts import Gate, Sound
from workers.quota import NO_CAP, Left
from workers.runtime import CALL_VARIABLE


def within_maxima(call: Call, settings: Settings) -> Call:
    """The call with its times within the operator's maxima: they may have changed since it was
    accepted."""
    wait = min(call.wait_for_pickup, settings.max_wait_for_pickup)
    duration = min(call.call_duration, settings.max_call_duration)
    if (wait, duration) == (call.wait_for_pickup, call.call_duration):
        return call
    return evolve(call, wait_for_pickup=wait, call_duration=duration)


# The seconds without RTP after which a leg is dead, 0 for never (workers.media).
MediaTimeout = Callable[[Leg], int]


def prompts_of(call: Call) -> set[str]:
    """The names of the prompts that legs of the call hear."""
    accepts = (Accept.loads(leg.accept).prompt for leg in call.legs if leg.accept)
    word, _, name = (call.ringback or "").partition(" ")
    heard = {name} if word == ringback.FILE else set()
    return {*accepts, *heard, *(leg.announce for leg in call.legs if leg.announce)}


def originate_command(
    call: Call,
    video_codecs: str,
    left: Left = NO_CAP,
    media_timeout: MediaTimeout | None = None,
    prompts: Mapping[str, Prompt] | None = None,
    music: str = "",
) -> str:
    """The originate command of a call, with what caps leave to it. ``prompts`` are those of the
    accounts. Raises ValueError if the call cannot be dialled."""
    headers = json.loads(call.sip_headers) if call.sip_headers else {}
    prompts = prompts or {}
    if call.conference is not None:
        return dialstring.conference_invite(
            parties(call.sources),
            call.conference,
            variables={CALL_VARIABLE: call.id},
            ring_timeout=call.wait_for_pickup,
            duration=call.call_duration,
            shows=caller_id(call.caller_id, call.extension),
            left=left.source,
            headers=headers.get("destination", {}),
        )
    announcement = next((leg.announce for leg in call.sources if leg.announce), None)
    return dialstring.originate(
        parties(call.sources, media_timeout, prompts),
        parties(call.destinations, media_timeout, prompts),
        variables={CALL_VARIABLE: call.id},
        ring_timeout=call.wait_for_pickup,
        duration=call.call_duration,
        source_sees=caller_id(call.caller_id, call.extension),
        destination_sees=caller_id(call.caller_id_destination, call.extension),
        video_codecs=video_codecs if call.video else None,
        source_left=left.source,
        destination_left=left.destination,
        hears=_hears(call.ringback, music, prompts),
        source_headers=headers.get("source", {}),
        destination_headers=headers.get("destination", {}),
        announcement=None if announcement is None else _sound(announcement, prompts),
    )


def _hears(kept: str | None, music: str, prompts: Mapping[str, Prompt]) -> Ringback:
    """What the source hears, by what the call keeps (app.accounts.ringback.heard). ``music`` is the
    switch's music on hold."""
    word, _, name = (kept or ringback.DEFAULT).partition(" ")
    if word == ringback.NETWORK:
        return Ringback(ringback.TONES[name], at_once=False)
    if word == ringback.FILE:
        return Ringback(_sound(name, prompts).file or "", network=False)
    if word in (ringback.MUSIC, ringback.NONE):
        plays = music if word == ringback.MUSIC else ""
        return Ringback(plays, at_once=bool(plays), network=False)
    return Ringback(ringback.TONES[word])


def parties(
    legs: tuple[Leg, ...],
    media_timeout: MediaTimeout | None = None,
    prompts: Mapping[str, Prompt] | None = None,
) -> list[list[dialstring.Attempt]]:
    """The ways to reach each party, without parties that a client hung up while the call was
    queued."""
    found: dict[str, list[dialstring.Attempt]] = {}
    for leg in legs:
        if leg.hangup_requested is None:
            attempt = dialstring.Attempt(
                leg.uuid,
                _target(leg),
                PROGRESS_TIMEOUT if leg.progress_timeout is None else leg.progress_timeout,
                media_timeout(leg) if media_timeout is not None else 0,
                _gate(leg, prompts or {}),
            )
            found.setdefault(leg.party, []).append(attempt)
    return list(found.values())


def _gate(leg: Leg, prompts: Mapping[str, Prompt]) -> Gate | None:
    """What keeps a leg out of the call once it has answered. The source that takes the call hears
    its announcement afterwards."""
    announcement = None
    if leg.announce is not None and leg.role is Role.DESTINATION:
        announcement = _sound(leg.announce, prompts)
    if leg.accept is None:
        return None if announcement is None else Gate(announcement)
    accept = Accept.loads(leg.accept)
    longer = 0 if announcement is None else MAX_ANNOUNCEMENT
    return Gate(announcement, accept.key, _sound(accept.prompt, prompts), accept.seconds + longer)


def _sound(name: str, prompts: Mapping[str, Prompt]) -> Sound:
    prompt = prompts.get(name)
    if prompt is None:
        raise ValueError(f"the accounts have no prompt {name!r}")
    return Sound(prompt.file, prompt.text, prompt.voice, prompt.language)


def _target(leg: Leg) -> str:
    if leg.dial_string:
        return dialstring.check_target(leg.dial_string)
    if leg.kind is NumberKind.SANDBOX:
        return dialstring.sandbox_target(leg.number)
    return dialstring.gateway_target(leg.gateway or "", leg.dialled or leg.number)


def caller_id(text: str | None, extension: str) -> dialstring.CallerId:
    """The caller id ``Name <number>`` in its parts, or if there is none the extension."""
    name, angle, number = (text or extension).rpartition("<")
    if not angle:
        return dialstring.CallerId(number)
    return dialstring.CallerId(number.rstrip(">"), name.strip())
