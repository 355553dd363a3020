"""Leg endings: what the last event of a leg says of its end, and of its audio.

A leg's own event also has words that are about its partner: the switch copies the status and the
phrase of a refusal and the Reason of a BYE to the partner (mod_sofia's ``…_partner``; seen on
1.10.12). So each value is taken only where the leg's own disposition says that its far end sent it.
"""

import math
import re
from typing import Any

from app.calls import endings
from freeswitch.events import Event

# The dispositions of a leg that its far end ended.
_RECEIVED = ("recv_refuse", "recv_bye", "recv_cancel")
# With this cause the switch gives up a leg whose far end answered 3xx. It does not tell the status
# (seen on 1.10.12).
_REDIRECTED = "REQUESTED_CHAN_UNAVAIL"
_MICROS = re.compile(r"[0-9]{1,18}", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_CALL_ID_LENGTH = 200
# Seconds of a talk from which on it may be one-way.
_TELLING = 3.0
# A phone that suppresses silence sends a packet a second at least; one that sends less than one for
# fifty that it gets sends nothing to speak of.
_NOTHING = 50
# From these on people complain: MOS of ITU-T G.107 ("many users dissatisfied"), percent.
_LOW_MOS, _HIGH_LOSS = 3.6, 3.0


def leg_ending(event: Event) -> dict[str, Any]:
    """The fields of a leg that its CHANNEL_HANGUP_COMPLETE gives, without those it does not tell.

    A leg that no SIP reaches (loopback) has neither status nor Call-ID.
    """
    get = event.headers.get
    found: dict[str, Any] = {}
    if (cause := _whole(get("variable_hangup_cause_q850"))) is not None and cause <= 127:
        found["q850_cause"] = cause
    if call_id := _text(get("variable_sip_call_id"), _CALL_ID_LENGTH):
        found["sip_call_id"] = call_id
        _add_sip(found, event)
    if audio := _quality(event):
        found["quality"] = endings.dump_quality(audio)
    return found


def _add_sip(found: dict[str, Any], event: Event) -> None:
    get = event.headers.get
    disposition = get("variable_sip_hangup_disposition")
    if get("Caller-Channel-Answered-Time", "0") != "0":
        found["sip_status"] = 200
    elif disposition == "recv_refuse":
        said = get("variable_sip_term_status")
        if (status := _whole(said)) is not None and 300 <= status <= 699:
            found["sip_status"] = status
            phrase = _text(get("variable_sip_invite_failure_phrase"), endings.PHRASE_LENGTH)
            if phrase and get("variable_sip_invite_failure_status") == said:
                found["sip_phrase"] = phrase
    elif disposition == "send_cancel" and get("Hangup-Cause") != _REDIRECTED:
        # What a far end answers to a cancelled INVITE (RFC 3261).
        found["sip_status"] = 487
    if disposition in _RECEIVED:
        # FreeSWITCH 1.11 has the Reason of a 603+ in a variable of its own.
        said = get("variable_sip_603plus_reason") or get("variable_sip_reason")
        if reason := _text(said, endings.REASON_LENGTH):
            found["reason"] = reason


def _quality(event: Event) -> dict[str, Any] | None:
    """How the audio of a talk was; None if the leg did not talk, or its RTP bypassed the switch."""
    get = event.headers.get
    packets_in = _whole(get("variable_rtp_audio_in_packet_count"))
    packets_out = _whole(get("variable_rtp_audio_out_packet_count"))
    if packets_in is None or packets_out is None or not packets_in + packets_out:
        return None
    begun = _micros(get("Caller-Channel-Bridged-Time"))
    if not begun and (get("variable_last_bridge_to") or get("variable_conference_name")):
        # A transfer takes the time of the last bridge away, and a conference has none.
        begun = _micros(get("Caller-Channel-Answered-Time"))
    if not begun:
        return None
    seconds = (_micros(get("Caller-Channel-Hangup-Time")) - begun) / 1e6
    found: dict[str, Any] = {}
    marks = []
    if _micros(get("Caller-Channel-Last-Hold")):
        # A phone that holds sends nothing, and the switch counts that as loss.
        pass
    elif seconds >= _TELLING and packets_in * _NOTHING < packets_out:
        marks.append(endings.ONE_WAY)
    # Without packets the switch says MOS 4.5.
    elif packets_in:
        mos = _number(get("variable_rtp_audio_in_mos"))
        missed = _whole(get("variable_rtp_audio_in_flaw_total"))
        variance = _number(get("variable_rtp_audio_in_jitter_max_variance"))
        loss = None if missed is None else round(100 * missed / (packets_in + missed), 2)
        found |= {"mos": mos, "loss_percent": loss}
        found["jitter_ms"] = None if variance is None else round(math.sqrt(variance), 2)
        if (mos is not None and mos < _LOW_MOS) or (loss is not None and loss > _HIGH_LOSS):
            marks.append(endings.LOW_QUALITY)
    found |= {"packets_in": packets_in, "packets_out": packets_out, "marks": marks or None}
    return {name: value for name, value in found.items() if value is not None}


def _text(value: object, most: int) -> str | None:
    """A text of the network. A header that came several times is a list: the first counts."""
    first = value[0] if isinstance(value, list) and value else value
    return endings.clean(first, most) if isinstance(first, str) else None


def _whole(text: object) -> int | None:
    return int(text) if isinstance(text, str) and _DIGITS.fullmatch(text) else None


def _number(text: object) -> float | None:
    return float(text) if isinstance(text, str) and _DECIMAL.fullmatch(text) else None


def _micros(text: object) -> int:
    return int(text) if isinstance(text, str) and _MICROS.fullmatch(text) else 0
