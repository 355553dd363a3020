"""How a leg ended, in the words of its network, and how its audio was: what a reader is shown.

Phrases and Reason headers come from the network. ``clean`` makes them safe to keep; a page still
escapes them.
"""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from app.calls.model import Leg

# The most characters that are kept of a text from the network.
PHRASE_LENGTH = 100
REASON_LENGTH = 300
# The marks of ``quality``: the far end sent no audio to speak of, and the audio was bad.
ONE_WAY, LOW_QUALITY = "one_way", "low_quality"
# Unicode's categories of control, format and unassigned characters, surrogates, and separators of
# lines and paragraphs.
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# What became of a leg that was dialled, for statistics of its gateway.
OUTCOMES = (
    *("answered", "busy", "declined", "no_answer", "blocked"),
    *("cancelled", "failed", "unknown"),
)
_OUTCOMES = {
    None: "unknown",
    "USER_BUSY": "busy",
    "CALL_REJECTED": "declined",
    "NO_ANSWER": "no_answer",
    "NO_USER_RESPONSE": "no_answer",
    "ALLOTTED_TIMEOUT": "no_answer",
    # Ringback or the other party gave it up, or another leg won.
    "ORIGINATOR_CANCEL": "cancelled",
    "LOSE_RACE": "cancelled",
    "NORMAL_CLEARING": "cancelled",
    "MANAGER_REQUEST": "cancelled",
    "PICKED_OFF": "cancelled",
}


def outcome(leg: Leg) -> str | None:
    """What became of a leg that has ended, one of OUTCOMES; None for one that was never dialled."""
    if leg.created is None:
        return None
    if leg.answered is not None:
        return "answered"
    if leg.sip_status == 480:
        return "no_answer"
    return "blocked" if is_blocked(leg) else _OUTCOMES.get(leg.cause, "failed")


def audio(leg: Leg) -> str | None:
    """The audio of a leg in one word: good, one_way or low_quality; None without a measured
    talk."""
    if leg.quality is None:
        return None
    marks = (quality(leg) or {}).get("marks")
    return marks[0] if marks else "good"


def clean(text: str, most: int) -> str | None:
    """The text without control characters, with at most ``most`` characters; None if none is
    left."""
    if not (text.isascii() and text.isprintable()):
        # A text may be as long as a SIP message: the look at each character has an end too.
        cut = text[: 4 * most]
        text = "".join(each for each in cut if unicodedata.category(each) not in _DROPPED)
    return text.strip()[:most].strip() or None


def is_blocked(leg: Leg) -> bool:
    """Whether the call was blocked by analytics of the network: 603+ (ATIS-1000099) or SIP 608
    (RFC 8688).

    FreeSWITCH 1.10 tells the Reason header of no refusal, so the phrase of a 603+ is enough.
    """
    if leg.sip_status == 608:
        return True
    said = (leg.sip_phrase or "").casefold() == "network blocked"
    return leg.sip_status == 603 and (said or "v=analytics" in (leg.reason or ""))


def post_dial_delay(leg: Leg) -> float | None:
    """The seconds from the INVITE to the first 18x; None without one."""
    first = _first_sign(leg)
    if first is None or leg.created is None:
        return None
    return round(max(0.0, first - leg.created), 3)


def ring_seconds(leg: Leg) -> float | None:
    """The seconds from the first 18x to the answer or the end; None if the leg did not ring."""
    first, over = _first_sign(leg), leg.answered or leg.ended
    return None if first is None or over is None else round(max(0.0, over - first), 3)


def _first_sign(leg: Leg) -> float | None:
    """When the first 18x came."""
    return min(filter(None, (leg.ringing, leg.early_media)), default=None)


def quality(leg: Leg) -> dict[str, Any] | None:
    """How the leg's audio was, as :func:`dump_quality` wrote it."""
    return None if leg.quality is None else json.loads(leg.quality)


def dump_quality(found: Mapping[str, Any]) -> str:
    return json.dumps(found, separators=(",", ":"))


def of_leg(leg: Leg) -> dict[str, Any]:
    """What the record says of the end of a leg; None for a value that is unknown."""
    return {
        "sip_status": leg.sip_status,
        "sip_phrase": leg.sip_phrase,
        "q850_cause": leg.q850_cause,
        "reason": leg.reason,
        "blocked": True if is_blocked(leg) else None,
        "sip_call_id": leg.sip_call_id,
        "post_dial_delay": post_dial_delay(leg),
        "ring_seconds": ring_seconds(leg),
        "quality": quality(leg),
    }


# The names of these values in the API.
_API = {
    "sip_status": "sipStatus",
    "sip_phrase": "sipPhrase",
    "q850_cause": "q850Cause",
    "sip_call_id": "sipCallId",
    "post_dial_delay": "postDialDelay",
    "ring_seconds": "ringSeconds",
    "loss_percent": "lossPercent",
    "jitter_ms": "jitterMs",
    "packets_in": "packetsIn",
    "packets_out": "packetsOut",
}


def as_api(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the names that the API gives to the values of :func:`of_leg`."""
    found = {_API.get(name, name): value for name, value in row.items()}
    if found.get("quality") is not None:
        found["quality"] = as_api(found["quality"])
    return found


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the values of its ``quality`` beside the others, for a table."""
    return {name: value for name, value in row.items() if name != "quality"} | (
        row.get("quality") or {}
    )


def in_words(cause: str | None, found: Mapping[str, Any]) -> str | None:
    """The end of a leg in one line, for a timeline: ``USER_BUSY, SIP 486 Busy Here``. ``found`` has
    the fields of a leg that its last event gave."""
    said = [cause] if cause else []
    if (status := found.get("sip_status")) is not None and status != 200:
        said.append(" ".join(filter(None, ("SIP", str(status), found.get("sip_phrase")))))
    if reason := found.get("reason"):
        said.append(f"Reason {reason}")
    if audio := found.get("quality"):
        said += json.loads(audio).get("marks", ())
    return ", ".join(said) or None
